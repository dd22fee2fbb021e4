// expect first: use PERCPU_DEFINE_CONSTRUCTED
#include <percpu/percpu.hpp>

class S {
    ~S() = default;
};
PERCPU_DEFINE(S, x);
