// A checked build: the misuse that argv[1] names stops with a message that names the variable.
#include <percpu/percpu.hpp>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

PERCPU_DEFINE(uint32_t, queue_length, 7);

extern "C" void percpu_panic(const char* message) noexcept {
    puts(message);
    exit(42);
}

int main(int, char** argv) {
    if (strcmp(argv[1], "before-init") == 0) queue_length.add_current(1);
    if (strcmp(argv[1], "area-before-init") == 0) percpu::init_percpu_reg(0);
    if (strcmp(argv[1], "in-place-before-init") == 0) {
        extern char in_place[] asm("_percpu_start");
        percpu::write_percpu_reg(reinterpret_cast<uintptr_t>(in_place));
        return queue_length.read_current() == 7 ? 0 : 1;
    }
    if (strcmp(argv[1], "before-register") == 0) {
        const percpu::AreaLayout layout = percpu::percpu_area_layout_expected(4);
        if (!percpu::init(aligned_alloc(layout.alignment, layout.size), 4)) return 1;
        queue_length.with_current([](uint32_t& it) { ++it; });
    }
    if (!percpu::init_in_place()) return 1;
    if (strcmp(argv[1], "before-register-in-place") == 0) queue_length.add_current(1);
    if (strcmp(argv[1], "outside") == 0) {
        percpu::write_percpu_reg(percpu::percpu_area_base(1) + 8);
        queue_length.write_current(1);
    }
    percpu::init_percpu_reg(1);
    queue_length.add_current(1);
    if (strcmp(argv[1], "cpu-number") == 0) *queue_length.remote_ptr(4) = 1;
    if (strcmp(argv[1], "area-number") == 0) percpu::init_percpu_reg(4);
    return queue_length.remote_ref_raw(1) == 8 ? 0 : 1;
}
