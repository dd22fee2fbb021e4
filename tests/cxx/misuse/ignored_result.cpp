// expect: nodiscard
#include <percpu/percpu.hpp>

void f() { percpu::init_in_place(); }
