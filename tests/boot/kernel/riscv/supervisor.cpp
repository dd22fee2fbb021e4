// Supervisor mode: OpenSBI starts harts and sets timers (RISC-V SBI specification, HSM and TIME).
#include "mode.hpp"

extern "C" const char start_hart[];

namespace {

constexpr uintptr_t sbi_hsm = 0x48534d;
constexpr uintptr_t sbi_hart_start = 0;
constexpr uintptr_t sbi_time = 0x54494d45;
constexpr uintptr_t sbi_set_timer = 0;

void sbi(uintptr_t extension, uintptr_t function, uintptr_t first, uintptr_t second = 0, uintptr_t third = 0) {
    register uintptr_t a0 asm("a0") = first;
    register uintptr_t a1 asm("a1") = second;
    register uintptr_t a2 asm("a2") = third;
    register uintptr_t a6 asm("a6") = function;
    register uintptr_t a7 asm("a7") = extension;
    asm volatile("ecall" : "+r"(a0), "+r"(a1) : "r"(a2), "r"(a6), "r"(a7) : "memory");
}

}  // namespace

namespace mode {

// The hart begins with its own number in a0 and our third argument in a1.
void start(size_t hart, size_t cpu) {
    sbi(sbi_hsm, sbi_hart_start, hart, reinterpret_cast<uintptr_t>(start_hart), cpu);
}

void set_timer(uint64_t time) { sbi(sbi_time, sbi_set_timer, time); }

}  // namespace mode
