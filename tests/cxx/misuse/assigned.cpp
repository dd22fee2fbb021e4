// expect: no match|no viable
#include <percpu/percpu.hpp>

PERCPU_DEFINE(int, x);
void f() { x = 1; }
