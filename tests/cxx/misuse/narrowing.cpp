// expect: narrowing|cannot be narrowed
#include <percpu/percpu.hpp>

PERCPU_DEFINE(unsigned char, x, 300);
