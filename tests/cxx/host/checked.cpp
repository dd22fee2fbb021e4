// A checked build: the misuse that argv[1] names stops with a message that names the variable or the area.
#include <percpu/percpu.hpp>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

PERCPU_DEFINE(uint32_t, queue_length, 7);
PERCPU_DEFINE(uint8_t[8], name, 'c', 'p', 'u');

static bool preemptible = false;
extern "C" bool percpu_preemptible() noexcept { return preemptible; }
extern "C" void percpu_preempt_disable() noexcept { preemptible = false; }
extern "C" void percpu_preempt_enable() noexcept { preemptible = true; }

extern "C" char _percpu_front_guard[], _percpu_back_guard[], _percpu_load_start[];

// The guard of CPU 2's area that `symbol` is in the template.
static uint8_t* guard_of_cpu_2(const char* symbol) {
    return reinterpret_cast<uint8_t*>(percpu::percpu_area_base(2)) + (symbol - _percpu_load_start);
}

extern "C" void percpu_panic(const char* message) noexcept {
    puts(message);
    exit(42);
}

int main(int, char** argv) {
    if (strcmp(argv[1], "before-init") == 0) queue_length.add_current(1);
    if (strcmp(argv[1], "remote-before-init") == 0) queue_length.remote_ptr(1);
    if (strcmp(argv[1], "sum-before-init") == 0) return static_cast<int>(queue_length.sum());
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

    if (strcmp(argv[1], "guard-behind") == 0) {
        percpu::init_percpu_reg(2);
        // One step too far, in what is meant to be the last variable.
        memset(guard_of_cpu_2(_percpu_back_guard), 0, 1);
        queue_length.add_current(1);
    }
    if (strcmp(argv[1], "guard-in-front") == 0) {
        guard_of_cpu_2(_percpu_front_guard)[3] ^= 0x80;
        percpu::init_percpu_reg(2);
    }
    if (strcmp(argv[1], "guard-of-a-remote-area") == 0) {
        guard_of_cpu_2(_percpu_back_guard)[0] ^= 1;
        queue_length.for_each([](uint32_t& copy) { ++copy; });
    }
    if (strcmp(argv[1], "raw-preemptible") == 0) {
        preemptible = true;
        ++queue_length.current_ref_mut_raw();
    }
    if (strcmp(argv[1], "raw-update-preemptible") == 0) {
        preemptible = true;
        queue_length.add_current_raw(1);
        queue_length.sub_current_raw(1);
    }
    if (strcmp(argv[1], "raw-held") == 0) {
        preemptible = true;
        const percpu::PreemptGuard guard;
        name.current_ref_mut_raw()[0] = 'C';
        queue_length.add_current_raw(1);
        queue_length.sub_current_raw(1);
    }
    if (strcmp(argv[1], "guarded") == 0) {
        preemptible = true;
        name.with_current([](uint8_t (&it)[8]) { it[0] = 'C'; });
        queue_length.add_current(1);
        queue_length.sub_current(queue_length.read_current() - queue_length.read_current_raw() + 1);
    }
    return queue_length.remote_ref_raw(1) == 8 ? 0 : 1;
}
