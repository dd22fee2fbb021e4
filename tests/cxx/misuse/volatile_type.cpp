// expect first: cannot be volatile: leave that out
#include <percpu/percpu.hpp>

PERCPU_DEFINE(volatile int, x, 0);
