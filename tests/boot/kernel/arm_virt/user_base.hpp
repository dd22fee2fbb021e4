// base-register=user for a kernel that has no register to spare: the base is the lowest word of each
// CPU's stack, found from the stack pointer.
#pragma once

#include <stdint.h>

#include "virt.hpp"

inline uintptr_t& percpu_user_place() noexcept {
    uintptr_t stack;
    asm volatile("mov %0, sp" : "=r"(stack));
    return *reinterpret_cast<uintptr_t*>(stack & ~(virt::stack_size - 1));
}

inline uintptr_t percpu_user_base() noexcept { return percpu_user_place(); }
inline void percpu_user_set_base(uintptr_t value) noexcept { percpu_user_place() = value; }
