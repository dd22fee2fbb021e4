// expect: constant
#include <percpu/percpu.hpp>

int f();
PERCPU_DEFINE(int, x, f());
