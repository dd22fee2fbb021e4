// expect: read_current is for scalars; use with_current
#include <percpu/percpu.hpp>

struct S {
    int a, b;
};
PERCPU_DEFINE(S, x);
int f() { return x.read_current().a; }
