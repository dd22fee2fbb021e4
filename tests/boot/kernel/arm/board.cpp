// QEMU's `virt` for ARM: the GICv2 and each CPU's generic timer.
//
// Sources: GIC architecture v2 (Arm IHI 0048), 4; Arm ARM (ARMv7-A, DDI 0406), B8.
#include "../board.hpp"

#include <percpu/restart.hpp>

#include "../arm_virt/virt.hpp"
#include "../console.hpp"

// Registers of coprocessor 15, by CRn, CRm and opcode 2.
#define READ(crn, crm, op2) \
    [] { uint32_t value; asm volatile("mrc p15, 0, %0, " #crn ", " #crm ", " #op2 : "=r"(value)); return value; }()
#define WRITE(crn, crm, op2, value) \
    asm volatile("mcr p15, 0, %0, " #crn ", " #crm ", " #op2 "\n\tisb" : : "r"(uint32_t{value}) : "memory")

namespace {

using virt::reg;

constexpr uintptr_t distributor_control = virt::gic_distributor;
constexpr uintptr_t distributor_enables = virt::gic_distributor + 0x100;  // of private interrupts: for each CPU
constexpr uintptr_t interface = 0x0801'0000;                              // the same
constexpr uintptr_t interface_control = interface;
constexpr uintptr_t interface_priority = interface + 0x4;
constexpr uintptr_t interface_acknowledge = interface + 0xc;
constexpr uintptr_t interface_end = interface + 0x10;
constexpr uint32_t number_mask = 0x3ff;

// entry.S stores it.
struct InterruptFrame {
    uint32_t registers[6];  // r0 to r3, r12, lr
    uint32_t pc;
    uint32_t status;
};

void start_interrupt_controller(size_t cpu) {
    if (cpu == 0) reg(distributor_control) = 1;
    reg(distributor_enables) = 1 << virt::timer_interrupt;
    reg(interface_priority) = 0xff;
    reg(interface_control) = 1;
}

uint32_t tick_interval;

uint32_t timer_frequency() { return READ(c14, c0, 0); }
void set_timer() { WRITE(c14, c2, 0, tick_interval); }

}  // namespace

extern "C" {

[[noreturn]] void cpu_start(size_t cpu) {
    start_interrupt_controller(cpu);
    virt::cpu_started(cpu);
    if (cpu == 0)
        primary_main();
    else
        secondary_main(cpu);
    for (;;) board::wait_for_interrupt();
}

void handle_interrupt(InterruptFrame& frame) {
    const uint32_t interrupt = reg(interface_acknowledge);
    const bool is_timer = (interrupt & number_mask) == virt::timer_interrupt;
    if (is_timer) set_timer();
    reg(interface_end) = interrupt;
    if (is_timer) on_tick();
    // Last, for on_tick may have been away on another stack, and returned on another CPU.
    frame.pc = percpu::restart_pc(frame.pc);
}

[[noreturn]] void die(unsigned exception, uint32_t return_address) {
    const uint32_t fault_address = READ(c6, c0, 0);
    die_saying("FAILED: exception ", exception, " before ", hex(return_address), ", dfar ", hex(fault_address), "\n");
}

}  // extern "C"

namespace board {

void start_timer(unsigned ticks_per_second) {
    tick_interval = timer_frequency() / ticks_per_second;
    set_timer();
    WRITE(c14, c2, 1, 1u);
}

void enable_interrupts() { asm volatile("cpsie i" : : : "memory"); }
void disable_interrupts() { asm volatile("cpsid i" : : : "memory"); }

}  // namespace board
