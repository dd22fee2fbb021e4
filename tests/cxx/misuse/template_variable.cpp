// expect: PERCPU_DEFINE
#include <percpu/percpu.hpp>

template <class T>
PERCPU_DEFINE(T, x, 1);
