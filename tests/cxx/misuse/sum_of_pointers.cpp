// expect: use for_each
#include <percpu/percpu.hpp>

PERCPU_DEFINE(int*, x);
auto f() { return x.sum(); }
