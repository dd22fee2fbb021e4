// expect: read_current is for scalars; use with_current
#include <percpu/percpu.hpp>

PERCPU_DEFINE(int[2], x);
void f() { x.read_current(); }
