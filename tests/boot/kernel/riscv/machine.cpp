// Machine mode: the core-local interruptor (CLINT) has a word for interrupts between harts, and a timer.
#include "mode.hpp"

namespace {

constexpr uintptr_t clint = 0x0200'0000;
constexpr uintptr_t clint_timers = clint + 0x4000;

volatile uint32_t& word(uintptr_t address) { return *reinterpret_cast<volatile uint32_t*>(address); }

}  // namespace

namespace mode {

// Here CPU numbers are hart numbers, and entry.S takes the one for the other.
void start(size_t hart, size_t) {
    asm volatile("fence rw, o" : : : "memory");
    word(clint + 4 * hart) = 1;
}

void set_timer(uint64_t time) {
    uintptr_t hart;
    asm volatile("csrr %0, mhartid" : "=r"(hart));
    const uintptr_t low = clint_timers + 8 * hart, high = low + 4;
    // In halves, as RV32 has to, and never with an early time in between.
    word(low) = ~uint32_t{0};
    word(high) = static_cast<uint32_t>(time >> 32);
    word(low) = static_cast<uint32_t>(time);
}

}  // namespace mode
