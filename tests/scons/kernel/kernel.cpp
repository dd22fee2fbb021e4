// The smallest kernel that uses what the runtime has: it is linked and judged here, and never started.

#include <percpu/percpu.hpp>

PERCPU_DEFINE(size_t, cpu_id, 7);

size_t count(size_t events);

extern "C" void kernel_entry() {
    if (percpu::init_in_place().has_value()) {
        percpu::init_percpu_reg(0);
        cpu_id.write_current(count(cpu_id.read_current()));
    }
    for (;;) {
    }
}
