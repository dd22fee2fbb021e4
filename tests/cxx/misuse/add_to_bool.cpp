// expect: add_current is for integers, floating-point numbers and pointers
#include <percpu/percpu.hpp>

PERCPU_DEFINE(bool, x);
void f() { x.add_current(true); }
