// QEMU's RISC-V `virt`, 32 and 64 bit: UART, test device, and timer interrupts. What depends on the mode in
// which the kernel runs is in machine.cpp and supervisor.cpp.
#include "../board.hpp"

#include <percpu/restart.hpp>

#include "../console.hpp"
#include "../fw_cfg.hpp"
#include "mode.hpp"

// What entry.S saves of an interrupted thread. The base register is not in it.
struct TrapFrame {
    uintptr_t ra, t0, t1, t2, a0, a1, a2, a3, a4, a5, a6, a7, t3, t4, t5, t6;
    uintptr_t pc;
    uintptr_t status;
};

namespace {

constexpr size_t max_cpus = 64;
constexpr uint32_t time_frequency = 10'000'000;  // of the time CSR
constexpr uintptr_t interrupt_bit = ~(~uintptr_t{0} >> 1);

volatile uint8_t* const uart = reinterpret_cast<volatile uint8_t*>(0x1000'0000);
constexpr size_t uart_line_status = 5;
constexpr uint8_t transmitter_empty = 1 << 5;

volatile uint32_t* const test_device = reinterpret_cast<volatile uint32_t*>(0x10'0000);
constexpr uint32_t test_pass = 0x5555;         // QEMU's exit status is 0
constexpr uint32_t test_fail = 0x3333 | 1 << 16;  // ... is 1

constexpr uintptr_t fw_cfg = 0x1010'0000;

size_t boot_hart;
uint32_t tick_interval;
bool started[max_cpus];

// CPU 0 is the hart that booted, whichever it was. It and hart 0 change their numbers.
size_t hart_of(size_t cpu) { return cpu == 0 ? boot_hart : cpu == boot_hart ? 0 : cpu; }

uint64_t now() {
#if __riscv_xlen == 64
    uint64_t time;
    asm volatile("rdtime %0" : "=r"(time));
    return time;
#else
    uint32_t low, high, again;
    do
        asm volatile("rdtimeh %0\n\trdtime %1\n\trdtimeh %2" : "=r"(high), "=r"(low), "=r"(again));
    while (high != again);
    return uint64_t{high} << 32 | low;
#endif
}

}  // namespace

extern "C" {

alignas(16) char stacks[max_cpus][STACK_SIZE];

// Every CPU comes here from entry.S.
[[noreturn]] void cpu_start(size_t hart, size_t cpu) {
    if (cpu == 0) boot_hart = hart;
    __atomic_store_n(&started[cpu], true, __ATOMIC_RELEASE);
    if (cpu == 0)
        primary_main();
    else
        secondary_main(cpu);
    for (;;) asm volatile("wfi");
}

void trap(TrapFrame& frame) {
    const uintptr_t cause = READ_CSR(cause);
    if (cause != (interrupt_bit | TIMER_INTERRUPT)) {
        die_saying("FAILED: exception ", cause, " at ", hex(frame.pc), ", address ", hex(READ_CSR(tval)), "\n");
    }
    mode::set_timer(now() + tick_interval);
    on_tick();
    frame.pc = percpu::restart_pc(frame.pc);
}

}  // extern "C"

namespace board {

void put(char c) {
    while ((uart[uart_line_status] & transmitter_empty) == 0) relax();
    uart[0] = static_cast<uint8_t>(c);
}

size_t cpu_count() {
    const size_t count = fw_cfg_cpu_count(fw_cfg);
    return count < max_cpus ? count : max_cpus;
}

void start_cpu(size_t cpu) {
    mode::start(hart_of(cpu), cpu);
    while (!__atomic_load_n(&started[cpu], __ATOMIC_ACQUIRE)) relax();
}

void start_timer(unsigned ticks_per_second) {
    tick_interval = time_frequency / ticks_per_second;
    mode::set_timer(now() + tick_interval);
    SET_CSR(ie, uintptr_t{1} << TIMER_INTERRUPT);
}

void enable_interrupts() { SET_CSR(status, uintptr_t{INTERRUPTS_ENABLED}); }
void disable_interrupts() { CLEAR_CSR(status, uintptr_t{INTERRUPTS_ENABLED}); }
void wait_for_interrupt() { asm volatile("wfi" : : : "memory"); }
void relax() { asm volatile(".4byte 0x0100000f" : : : "memory"); }  // pause, of Zihintpause; else a fence

void exit(bool ok) {
    *test_device = ok ? test_pass : test_fail;
    for (;;) asm volatile("wfi");
}

}  // namespace board
