// A CPU's local APIC, in memory that is mapped where it is.
#pragma once

#include <stdint.h>

enum class Apic : uintptr_t {
    end_of_interrupt = 0x0b0,
    spurious = 0x0f0,
    command = 0x300,
    command_target = 0x310,
    timer = 0x320,
    timer_count = 0x380,
    timer_divider = 0x3e0,
};

inline void write(Apic reg, uint32_t value) {
    *reinterpret_cast<volatile uint32_t*>(0xfee00000 + static_cast<uintptr_t>(reg)) = value;
}
