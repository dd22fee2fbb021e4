// base-register=user: the base in the MSR of fs, for a kernel that has gs in other use and will not take
// the prefix of fs either. (MSR IA32_FS_BASE: Intel SDM vol. 4, 2.1.)
#pragma once

#include <stdint.h>

inline uintptr_t percpu_user_base() noexcept {
    uint32_t low, high;
    asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(0xc0000100) : "memory");
    return static_cast<uintptr_t>(high) << 32 | low;
}

inline void percpu_user_set_base(uintptr_t value) noexcept {
    const auto low = static_cast<uint32_t>(value), high = static_cast<uint32_t>(value >> 32);
    asm volatile("wrmsr" : : "c"(0xc0000100), "a"(low), "d"(high) : "memory");
}
