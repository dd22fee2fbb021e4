// expect: PERCPU_DEFINE
#include <percpu/percpu.hpp>

inline PERCPU_DEFINE(int, x, 1);
