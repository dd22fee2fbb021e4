// expect first: use PERCPU_DEFINE_CONSTRUCTED
#include <percpu/percpu.hpp>

struct S {
    ~S() = delete;
    int value;
};
PERCPU_DEFINE(S, x);
