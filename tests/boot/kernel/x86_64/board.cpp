// QEMU's q35: COM1, the local APICs, and the isa-debug-exit device.
#include "../board.hpp"

#include "../console.hpp"
#include "apic.hpp"
#include "bring_up.hpp"
#include "ports.hpp"

namespace {

constexpr uint16_t com1 = 0x3f8;
constexpr uint16_t com1_line_status = com1 + 5;
constexpr uint8_t transmitter_empty = 1 << 5;
constexpr uint16_t pic_masks[] = {0x21, 0xa1};
constexpr uint16_t debug_exit = 0xf4;
constexpr uint16_t fw_cfg_selector = 0x510;
constexpr uint16_t fw_cfg_data = 0x511;
constexpr uint16_t fw_cfg_cpus = 5;

constexpr uint8_t timer_vector = 0x20;
constexpr uint8_t spurious_vector = 0xff;
constexpr uint32_t apic_enabled = 1 << 8;
constexpr uint32_t timer_periodic = 1 << 17;
constexpr uint32_t divide_by_16 = 3;
constexpr uint32_t timer_frequency = 1'000'000'000 / 16;  // QEMU's local APIC timer runs at 1 GHz

// Interrupts

struct InterruptFrame {
    uint64_t rip, cs, rflags, rsp, ss;
};

[[gnu::interrupt]] void timer_interrupt(InterruptFrame*) {
    write(Apic::end_of_interrupt, 0);
    on_tick();
}

[[gnu::interrupt]] void spurious_interrupt(InterruptFrame*) {}

[[noreturn]] void die(unsigned vector, const InterruptFrame& frame) {
    uint64_t fault_address;
    asm volatile("mov %%cr2, %0" : "=r"(fault_address));
    die_saying("FAILED: exception ", vector, " at ", hex(frame.rip), ", cr2 ", hex(fault_address), "\n");
}

template <unsigned Vector>
[[gnu::interrupt]] void exception(InterruptFrame* frame) {
    die(Vector, *frame);
}

template <unsigned Vector>
[[gnu::interrupt]] void exception_with_error_code(InterruptFrame* frame, uint64_t) {
    die(Vector, *frame);
}

struct [[gnu::packed]] Gate {
    uint16_t offset_0;
    uint16_t selector;
    uint8_t stack;
    uint8_t type;
    uint16_t offset_16;
    uint32_t offset_32;
    uint32_t reserved;
};

alignas(16) Gate gates[256];

// That of whoever made the descriptors: entry.S or the loader.
uint16_t code_selector() {
    uint16_t selector;
    asm("mov %%cs, %0" : "=r"(selector));
    return selector;
}

template <typename Handler>
void set_gate(unsigned vector, Handler* handler) {
    const auto address = reinterpret_cast<uintptr_t>(handler);
    gates[vector] = {.offset_0 = static_cast<uint16_t>(address),
                     .selector = code_selector(),
                     .stack = 0,
                     .type = 0x8e,  // present, ring 0, interrupt gate
                     .offset_16 = static_cast<uint16_t>(address >> 16),
                     .offset_32 = static_cast<uint32_t>(address >> 32),
                     .reserved = 0};
}

template <unsigned Vector = 0>
void set_exception_gates() {
    constexpr uint32_t with_error_code = 1 << 8 | 0x1f << 10 | 1 << 17 | 1 << 21;
    if constexpr ((with_error_code >> Vector & 1) != 0)
        set_gate(Vector, exception_with_error_code<Vector>);
    else
        set_gate(Vector, exception<Vector>);
    if constexpr (Vector < 31) set_exception_gates<Vector + 1>();
}

void load_gates() {
    const struct [[gnu::packed]] {
        uint16_t limit;
        const void* base;
    } pointer = {sizeof gates - 1, gates};
    asm volatile("lidt %0" : : "m"(pointer));
}

void enable_fsgsbase() {
#ifdef __FSGSBASE__
    constexpr uint64_t cr4_fsgsbase = 1 << 16;
    uint64_t cr4;
    asm volatile("mov %%cr4, %0" : "=r"(cr4));
    asm volatile("mov %0, %%cr4" : : "r"(cr4 | cr4_fsgsbase));
#endif
}

bool started[max_cpus];

}  // namespace

extern "C" {

[[noreturn]] void cpu_start(size_t cpu) {
    if (cpu == 0) {
        for (const uint16_t mask : pic_masks) out8(mask, 0xff);  // the firmware's timer ticks there
        set_exception_gates();
        set_gate(timer_vector, timer_interrupt);
        set_gate(spurious_vector, spurious_interrupt);
    }
    load_gates();
    enable_fsgsbase();
    write(Apic::spurious, apic_enabled | spurious_vector);
    __atomic_store_n(&started[cpu], true, __ATOMIC_RELEASE);
    if (cpu == 0)
        primary_main();
    else
        secondary_main(cpu);
    for (;;) asm volatile("cli; hlt");
}

}  // extern "C"

namespace board {

void put(char c) {
    while ((in8(com1_line_status) & transmitter_empty) == 0) relax();
    out8(com1, static_cast<uint8_t>(c));
}

size_t cpu_count() {
    out16(fw_cfg_selector, fw_cfg_cpus);
    const size_t low = in8(fw_cfg_data);
    const size_t high = in8(fw_cfg_data);
    const size_t count = high << 8 | low;
    return count < max_cpus ? count : max_cpus;
}

void start_cpu(size_t cpu) {
    bring_up(cpu);
    while (!__atomic_load_n(&started[cpu], __ATOMIC_ACQUIRE)) relax();
}

void start_timer(unsigned ticks_per_second) {
    write(Apic::timer_divider, divide_by_16);
    write(Apic::timer, timer_periodic | timer_vector);
    write(Apic::timer_count, timer_frequency / ticks_per_second);
}

void enable_interrupts() { asm volatile("sti" : : : "memory"); }
void disable_interrupts() { asm volatile("cli" : : : "memory"); }
void wait_for_interrupt() { asm volatile("hlt" : : : "memory"); }
void relax() { asm volatile("pause" : : : "memory"); }

void exit(bool ok) {
    out32(debug_exit, ok ? 0x10 : 0x11);  // QEMU's exit status is 2 * value + 1
    for (;;) asm volatile("cli; hlt");
}

}  // namespace board
