// Floating-point numbers that are kept where none is computed, as in a kernel without their registers.
#include <percpu/percpu.hpp>

struct Pair {
    float x, y;
};
PERCPU_DEFINE(float, single_precision, 1);
PERCPU_DEFINE(double, double_precision, 0.5);
PERCPU_DEFINE(Pair, pair, 1, 2);
PERCPU_DEFINE(Pair[2], pairs, {1, 2}, {3, 4});
PERCPU_DEFINE(double[3], numbers, 1, 2, 3);
PERCPU_DEFINE_STATIC(float, zero);
PERCPU_DEFINE_CONSTRUCTED(double, constructed, 3);

void use() { zero.reset_to_init(); }
