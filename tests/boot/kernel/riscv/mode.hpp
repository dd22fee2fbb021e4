// What firmware does for a kernel in supervisor mode, and what a kernel in machine mode does itself.
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "mode.h"

#define CSR_TEXT(name) CSR_TEXT_OF(CSR(name))
#define CSR_TEXT_OF(name) CSR_TEXT_OF_EXPANDED(name)
#define CSR_TEXT_OF_EXPANDED(name) #name

#define READ_CSR(name)                                                       \
    ([] {                                                                    \
        uintptr_t value;                                                     \
        asm volatile("csrr %0, " CSR_TEXT(name) : "=r"(value) : : "memory"); \
        return value;                                                        \
    }())
#define SET_CSR(name, bits) asm volatile("csrs " CSR_TEXT(name) ", %0" : : "r"(bits) : "memory")
#define CLEAR_CSR(name, bits) asm volatile("csrc " CSR_TEXT(name) ", %0" : : "r"(bits) : "memory")

namespace mode {

// Makes a hart that waits go on in entry.S, at start_hart, as that CPU.
void start(size_t hart, size_t cpu);

// Has this hart's next timer interrupt come at that time, and none before.
void set_timer(uint64_t time);

}  // namespace mode
