// base-register=user: the base in the scratch CSR, for a kernel that has both gp and tp in other use.
#pragma once

#include <stdint.h>

#include "mode.hpp"

inline uintptr_t percpu_user_base() noexcept { return READ_CSR(scratch); }
inline void percpu_user_set_base(uintptr_t value) noexcept {
    asm volatile("csrw " CSR_TEXT(scratch) ", %0" : : "r"(value) : "memory");
}
