// Starts CPUs by start-up IPIs (Intel SDM vol. 3, 9.4 "Multiple-Processor (MP) Initialization").
#include "../memory.hpp"
#include "apic.hpp"
#include "bring_up.hpp"
#include "ports.hpp"

namespace {

constexpr size_t stack_size = 16 * 1024;
constexpr uintptr_t trampoline = 0x8000;  // as in entry.S
constexpr uint16_t delay_port = 0x80;     // writing to it takes about a microsecond
constexpr uint32_t send_init = 0x4500;
constexpr uint32_t send_startup = 0x4600;

alignas(16) char stacks[max_cpus][stack_size];

void delay(unsigned microseconds) {
    for (; microseconds > 0; --microseconds) out8(delay_port, 0);
}

void send(size_t cpu, uint32_t command) {
    write(Apic::command_target, static_cast<uint32_t>(cpu) << 24);  // QEMU: APIC id == CPU number
    write(Apic::command, command);
}

}  // namespace

extern "C" {
// Read by entry.S for the CPU that is on its way.
constinit size_t starting_cpu = 0;
constinit char* starting_stack = stacks[0] + stack_size;

extern const char trampoline_start[], trampoline_end[];
}

void bring_up(size_t cpu) {
    memcpy(reinterpret_cast<void*>(trampoline), trampoline_start,
           static_cast<size_t>(trampoline_end - trampoline_start));
    starting_cpu = cpu;
    starting_stack = stacks[cpu] + stack_size;
    send(cpu, send_init);
    delay(10'000);
    send(cpu, send_startup | trampoline >> 12);
}
