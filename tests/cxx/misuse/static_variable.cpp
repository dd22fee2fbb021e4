// expect: PERCPU_DEFINE
#include <percpu/percpu.hpp>

static PERCPU_DEFINE(int, x, 1);
