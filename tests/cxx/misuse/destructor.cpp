// expect: use PERCPU_DEFINE_CONSTRUCTED
#include <percpu/percpu.hpp>

struct S {
    ~S() {}
    int value;
};
PERCPU_DEFINE(S, x);
