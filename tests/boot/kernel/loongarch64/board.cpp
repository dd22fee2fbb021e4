// QEMU's virt machine for LoongArch64: UART, inter-processor interrupts, constant timers, ACPI power-off,
// and for a failure the pvpanic device.
#include "../board.hpp"

#include <percpu/restart.hpp>

#include "../console.hpp"
#include "../fw_cfg.hpp"

// What entry.S saves of an interrupted thread. The base register is not in it.
struct TrapFrame {
    uintptr_t ra, a0, a1, a2, a3, a4, a5, a6, a7, t1, t2, t3, t4, t5, t6, t7, t8, t0;
    uintptr_t mode;
    uintptr_t pc;
};

namespace {

constexpr size_t max_cpus = 64;
constexpr size_t stack_size = 16 * 1024;  // as in entry.S

// Devices, in the uncached window onto physical addresses

constexpr uintptr_t uncached = 0x8000'0000'0000'0000;

template <typename T>
volatile T& device(uintptr_t physical) {
    return *reinterpret_cast<volatile T*>(uncached | physical);
}

constexpr uintptr_t uart = 0x1fe001e0;
constexpr uintptr_t uart_line_status = uart + 5;
constexpr uint8_t transmitter_empty = 1 << 5;
constexpr uintptr_t fw_cfg = 0x1e020000;
constexpr uintptr_t acpi_sleep = 0x100e001c;
constexpr uint8_t enter_s5 = 5 << 2 | 1 << 5;  // SLP_TYP, SLP_EN

constexpr uintptr_t pci_config = 0x20000000;
constexpr uintptr_t pci_window = 0x40000000;
constexpr uintptr_t pvpanic = pci_config + (0x1f << 15);  // the slot that boards.py gives it
constexpr uintptr_t pci_command = 0x04;
constexpr uintptr_t pci_bar0 = 0x10;
constexpr uint16_t pci_memory = 1 << 1;
constexpr uint8_t panicked = 1 << 0;

// Control and status registers, and those between the CPUs (IOCSR)

enum class Csr : unsigned {
    mode = 0x0,                 // CRMD
    enabled_interrupts = 0x4,   // ECFG
    status = 0x5,               // ESTAT
    bad_address = 0x7,          // BADV
    timer = 0x41,               // TCFG
    timer_clear = 0x44,         // TICLR
    refill_bad_address = 0x89,  // TLBRBADV
    refill_return = 0x8a,       // TLBRERA
};

constexpr uintptr_t interrupts_on = 1 << 2;
constexpr uintptr_t timer_interrupt = 1 << 11;
constexpr uintptr_t timer_enabled = 1 << 0;
constexpr uintptr_t timer_periodic = 1 << 1;
constexpr uintptr_t timer_frequency = 100'000'000;
constexpr uintptr_t is_refill = 1 << 0;

constexpr unsigned send_ipi = 0x1040;
constexpr unsigned send_mail = 0x1048;
constexpr uint64_t wait_until_sent = 1u << 31;

template <Csr csr>
uintptr_t read() {
    uintptr_t value;
    asm volatile("csrrd %0, %1" : "=r"(value) : "i"(csr));
    return value;
}

template <Csr csr>
void write(uintptr_t value) {
    asm volatile("csrwr %0, %1" : "+r"(value) : "i"(csr) : "memory");
}

template <Csr csr>
void change(uintptr_t bits, uintptr_t mask) {
    asm volatile("csrxchg %0, %1, %2" : "+r"(bits) : "r"(mask), "i"(csr) : "memory");
}

// Puts 4 bytes of an address into the mailbox of a CPU; part 1 is the upper half.
void mail(size_t cpu, unsigned part, uintptr_t bytes) {
    const uint64_t value = bytes << 32 | wait_until_sent | cpu << 16 | part << 2;
    asm volatile("iocsrwr.d %0, %1" : : "r"(value), "r"(send_mail) : "memory");
}

// An address in no window is one for which there is no page table either: its exception has registers
// of its own.
[[noreturn]] void die_outside_windows() {
    die_saying("FAILED: exception outside the windows at ", hex(read<Csr::refill_return>() & ~is_refill),
                   ", address ", hex(read<Csr::refill_bad_address>()), "\n");
}

[[noreturn]] void die(uintptr_t pc) {
    die_saying("FAILED: exception ", read<Csr::status>() >> 16 & 0x3f, " at ", hex(pc), ", address ",
               hex(read<Csr::bad_address>()), "\n");
}

bool started[max_cpus];

bool has_started(size_t cpu) { return __atomic_load_n(&started[cpu], __ATOMIC_ACQUIRE); }

}  // namespace

extern "C" {

extern const char start_cpu[];

alignas(16) char stacks[max_cpus][stack_size];

// Every CPU comes here from entry.S.
[[noreturn]] void cpu_start(size_t cpu) {
    __atomic_store_n(&started[cpu], true, __ATOMIC_RELEASE);
    if (cpu == 0)
        primary_main();
    else
        secondary_main(cpu);
    for (;;) asm volatile("idle 0");
}

void trap(TrapFrame& frame) {
    if ((read<Csr::refill_return>() & is_refill) != 0) die_outside_windows();
    if ((read<Csr::status>() & timer_interrupt) == 0) die(frame.pc);
    write<Csr::timer_clear>(1);
    on_tick();
    // Last, for on_tick may have been away on another stack, and returned on another CPU.
    frame.pc = percpu::restart_pc(frame.pc);
}

}  // extern "C"

namespace board {

void put(char c) {
    while ((device<uint8_t>(uart_line_status) & transmitter_empty) == 0) relax();
    device<uint8_t>(uart) = static_cast<uint8_t>(c);
}

size_t cpu_count() {
    const size_t count = fw_cfg_cpu_count(uncached | fw_cfg);
    return count < max_cpus ? count : max_cpus;
}

void start_cpu(size_t cpu) {
    const auto entry = reinterpret_cast<uintptr_t>(::start_cpu);
    const auto ipi = static_cast<uint32_t>(wait_until_sent | cpu << 16);
    // Again and again: the machine's boot code empties the mailbox when the CPU comes there, which may be later.
    while (!has_started(cpu)) {
        mail(cpu, 1, entry >> 32);
        mail(cpu, 0, entry);
        asm volatile("iocsrwr.w %0, %1" : : "r"(ipi), "r"(send_ipi) : "memory");
        for (unsigned i = 0; i < 100'000 && !has_started(cpu); ++i) relax();
    }
}

void start_timer(unsigned ticks_per_second) {
    const uintptr_t interval = timer_frequency / ticks_per_second & ~uintptr_t{3};
    write<Csr::enabled_interrupts>(timer_interrupt);
    write<Csr::timer>(interval | timer_periodic | timer_enabled);
}

void enable_interrupts() { change<Csr::mode>(interrupts_on, interrupts_on); }
void disable_interrupts() { change<Csr::mode>(0, interrupts_on); }
void wait_for_interrupt() { asm volatile("idle 0" : : : "memory"); }
void relax() { asm volatile("nop" : : : "memory"); }

// Powering off always ends QEMU with status 0; a panic ends it with 1, by -action panic=exit-failure.
void exit(bool ok) {
    if (ok) {
        device<uint8_t>(acpi_sleep) = enter_s5;
    } else {
        device<uint32_t>(pvpanic + pci_bar0) = pci_window;
        device<uint16_t>(pvpanic + pci_command) = pci_memory;
        device<uint8_t>(pci_window) = panicked;
    }
    for (;;) asm volatile("idle 0");
}

}  // namespace board
