// expect: PERCPU_DEFINE
#include <percpu/percpu.hpp>

void f() {
    PERCPU_DEFINE(int, x, 1);
}
