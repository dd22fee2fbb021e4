// expect first: is an object of a complete type: no reference, void, function, or array without a size
#include <percpu/percpu.hpp>

PERCPU_DEFINE(int[], x, 1, 2);
