// What QEMU's `virt` machines for AArch64 and ARM have in common; virt.cpp has the code.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace virt {

#if defined(__aarch64__)
constexpr size_t max_cpus = 64;
#else
constexpr size_t max_cpus = 8;  // of a GICv2
#endif
constexpr size_t stack_size = 16 * 1024;  // as in entry.S

constexpr uintptr_t gic_distributor = 0x0800'0000;
constexpr unsigned timer_interrupt = 30;  // the non-secure physical timer's, private to each CPU

inline volatile uint32_t& reg(uintptr_t address) { return *reinterpret_cast<volatile uint32_t*>(address); }

// Tells start_cpu that the CPU runs.
void cpu_started(size_t cpu);

}  // namespace virt

extern "C" {

// In entry.S. A call of the firmware, by hvc or smc.
intptr_t psci(uintptr_t function, uintptr_t argument = 0, uintptr_t entry = 0, uintptr_t context = 0);
// In entry.S. A call of the one who runs the machine.
void semihosting(uintptr_t operation, const void* argument);
// In entry.S, for CPUs that psci starts: their number is the context.
extern const char secondary_entry[];

// Every CPU comes here from entry.S, with interrupts disabled.
[[noreturn]] void cpu_start(size_t cpu);

}
