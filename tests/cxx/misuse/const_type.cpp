// expect: cannot be const
#include <percpu/percpu.hpp>

PERCPU_DEFINE(const int, x, 1);
