// QEMU's `virt` for AArch64: the GICv3 and each CPU's generic timer.
//
// Sources: GIC architecture v3 (Arm IHI 0069), 12; Arm ARM (DDI 0487), D13.
#include "../board.hpp"

#include <percpu/restart.hpp>

#include "../arm_virt/virt.hpp"
#include "../console.hpp"

#ifdef KERNEL_EL2
#define EL(name) name "_el2"
#else
#define EL(name) name "_el1"
#endif
#define READ(name) \
    [] { uint64_t value; asm volatile("mrs %0, " name : "=r"(value)); return value; }()
#define WRITE(name, value) asm volatile("msr " name ", %0\n\tisb" : : "r"(uint64_t{value}) : "memory")

namespace {

using virt::reg;

constexpr uintptr_t redistributors = 0x080a'0000;  // two blocks of 64 KiB for each CPU
constexpr uintptr_t private_block = 0x10000;       // the second, for its private interrupts

constexpr uintptr_t distributor_control = virt::gic_distributor;
constexpr uint32_t group1_by_affinity = 1 << 4 | 1 << 1;

constexpr uintptr_t waker = 0x14;
constexpr uint32_t asleep = 1 << 2;
constexpr uintptr_t groups = private_block + 0x80;
constexpr uintptr_t enables = private_block + 0x100;

// entry.S stores it.
struct InterruptFrame {
    uint64_t registers[20];  // x0 to x17, x29, x30
    uint64_t pc;
    uint64_t status;
};

void start_interrupt_controller(size_t cpu) {
    if (cpu == 0) reg(distributor_control) = group1_by_affinity;
    const uintptr_t mine = redistributors + cpu * 2 * private_block;
    reg(mine + waker) = 0;
    while ((reg(mine + waker) & asleep) != 0) board::relax();
    reg(mine + groups) = ~uint32_t{0};
    reg(mine + enables) = 1 << virt::timer_interrupt;
    WRITE(EL("icc_sre"), 0xfu);
    WRITE("icc_pmr_el1", 0xffu);
    WRITE("icc_igrpen1_el1", 1u);
}

uint64_t tick_interval;

void set_timer() { WRITE("cntp_tval_el0", tick_interval); }

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
    const uint64_t interrupt = READ("icc_iar1_el1");
    if (interrupt == virt::timer_interrupt) set_timer();
    WRITE("icc_eoir1_el1", interrupt);
    if (interrupt == virt::timer_interrupt) on_tick();
    // Last, for on_tick may have been away on another stack, and returned on another CPU.
    frame.pc = percpu::restart_pc(frame.pc);
}

[[noreturn]] void die(uint64_t syndrome, uint64_t pc, uint64_t address) {
    die_saying("FAILED: exception ", syndrome >> 26, " at ", hex(pc), ", far ", hex(address), "\n");
}

}  // extern "C"

namespace board {

void start_timer(unsigned ticks_per_second) {
    tick_interval = READ("cntfrq_el0") / ticks_per_second;
    set_timer();
    WRITE("cntp_ctl_el0", 1u);
}

void enable_interrupts() { asm volatile("msr daifclr, #2" : : : "memory"); }
void disable_interrupts() { asm volatile("msr daifset, #2" : : : "memory"); }

}  // namespace board
