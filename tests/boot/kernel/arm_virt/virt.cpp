// QEMU's `virt` machines for AArch64 and ARM: the PL011 console, CPUs by PSCI, the exit by semihosting.
//
// Sources: PSCI 1.1 (Arm DEN 0022), 5.1; Semihosting for AArch32 and AArch64, 6.10; PL011 TRM, 3.3.
#include "virt.hpp"

#include "../board.hpp"

alignas(virt::stack_size) char stacks[virt::max_cpus][virt::stack_size];

namespace {

constexpr uintptr_t uart_data = 0x0900'0000;
constexpr uintptr_t uart_flags = uart_data + 0x18;
constexpr uint32_t transmitter_full = 1 << 5;

constexpr uintptr_t calling_convention = sizeof(uintptr_t) == 8 ? 0xc400'0000 : 0x8400'0000;
constexpr uintptr_t cpu_on = calling_convention + 3;
constexpr uintptr_t affinity_info = calling_convention + 4;

constexpr uintptr_t exit_extended = 0x20;
constexpr uintptr_t application_exit = 0x20026;

bool started[virt::max_cpus];

// QEMU puts 16 CPUs into a cluster: as many as a GICv3 reaches with one interrupt to several.
uintptr_t affinity(size_t cpu) { return cpu / 16 << 8 | cpu % 16; }

}  // namespace

void virt::cpu_started(size_t cpu) { __atomic_store_n(&started[cpu], true, __ATOMIC_RELEASE); }

namespace board {

void put(char c) {
    while ((virt::reg(uart_flags) & transmitter_full) != 0) relax();
    virt::reg(uart_data) = static_cast<uint8_t>(c);
}

size_t cpu_count() {
    size_t count = 1;
    while (count < virt::max_cpus && psci(affinity_info, affinity(count)) >= 0) ++count;
    return count;
}

void start_cpu(size_t cpu) {
    psci(cpu_on, affinity(cpu), reinterpret_cast<uintptr_t>(secondary_entry), cpu);
    while (!__atomic_load_n(&started[cpu], __ATOMIC_ACQUIRE)) relax();
}

void wait_for_interrupt() { asm volatile("wfi" : : : "memory"); }
void relax() { asm volatile("yield" : : : "memory"); }

void exit(bool ok) {
    // QEMU ends with 0 when a machine is reset or switched off, and with 1 when it cannot go on.
    const uintptr_t status[] = {application_exit, ok ? 33u : 35u};
    semihosting(exit_extended, status);
    for (;;) wait_for_interrupt();
}

}  // namespace board
