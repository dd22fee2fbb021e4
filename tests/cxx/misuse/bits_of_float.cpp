// expect: or_current is for integers, bool and enums
#include <percpu/percpu.hpp>

PERCPU_DEFINE(float, x);
void f() { x.or_current(1.0f); }
