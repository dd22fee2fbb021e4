// base-register=user: the base in a CSR that the architecture leaves to software (SAVE0), for a kernel that has
// both r21 and tp in other use.
#pragma once

#include <stdint.h>

inline uintptr_t percpu_user_base() noexcept {
    uintptr_t value;
    asm volatile("csrrd %0, 0x30" : "=r"(value) : : "memory");
    return value;
}

inline void percpu_user_set_base(uintptr_t value) noexcept {
    asm volatile("csrwr %0, 0x30" : "+r"(value) : : "memory");
}
