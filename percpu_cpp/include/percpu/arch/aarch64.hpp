// AArch64: the base is in a thread ID register of the exception level, or in x18 for kernels that
// reserve it (-ffixed-x18).

#pragma once

#include "../config.hpp"
#include "reusable.hpp"

#if PERCPU_BASE_REGISTER_IS(x18)
#define PERCPU_GET_BASE
#define PERCPU_BASE "x18"
#if defined(__has_feature)
#if __has_feature(shadow_call_stack)
#error \
    "percpu: -fsanitize=shadow-call-stack keeps its pointer in x18, the base register: choose another one, or compile without it"
#endif
#endif
#elif PERCPU_BASE_REGISTER_IS(TPIDR_EL1) || PERCPU_BASE_REGISTER_IS(TPIDR_EL2) || \
    PERCPU_BASE_REGISTER_IS(TPIDR_EL0) || PERCPU_BASE_REGISTER_IS(TPIDRRO_EL0)
#define PERCPU_BASE_NAME PERCPU_DETAIL_STRING(PERCPU_BASE_REGISTER)
#define PERCPU_GET_BASE "mrs %[base], " PERCPU_BASE_NAME "\n\t"
#define PERCPU_BASE "%[base]"
#else
#error "percpu: the base register of AArch64 is TPIDR_EL1, TPIDR_EL2, TPIDR_EL0, TPIDRRO_EL0, x18 or user"
#endif

// A symbol: unlike "i", which GCC takes for a symbol only in code that is bound to its address.
#define PERCPU_STORAGE_OPERAND "S"
#define PERCPU_SIZE "%c[size]"
#define PERCPU_ENTER
#define PERCPU_LEAVE

// The immediate of a load holds an address's low 12 bits, unsigned.
#if defined(PERCPU_NON_ZERO_VMA)
#define PERCPU_HAS_NEAR(reach, size) false
#else
#define PERCPU_HAS_NEAR(reach, size) (reach == Reach::near)
#endif
#if PERCPU_BASE_REGISTER_IS(x18)
#define PERCPU_NEAR_IS_ONE_INSTRUCTION true
#else
#define PERCPU_NEAR_IS_ONE_INSTRUCTION false
#endif

// Registers of 32 bits for the narrow words.
#define PERCPU_LOAD_FROM(to, address) \
    PERCPU_BY_SIZE("ldrb %w[" to "], " address, "ldrh %w[" to "], " address, "ldr %w[" to "], " address, "ldr %x[" to "], " address)
#define PERCPU_STORE_TO(from, address) \
    PERCPU_BY_SIZE("strb %w[" from "], " address, "strh %w[" from "], " address, "str %w[" from "], " address, "str %x[" from "], " address)

#define PERCPU_NEAR_LOCATE PERCPU_GET_BASE
#define PERCPU_NEAR_LOAD(to) PERCPU_LOAD_FROM(to, "[" PERCPU_BASE ", #:lo12:%c[storage]]")
#define PERCPU_NEAR_STORE(from) PERCPU_STORE_TO(from, "[" PERCPU_BASE ", #:lo12:%c[storage]]")
#define PERCPU_NEAR_POINTER PERCPU_GET_BASE "add %[place], " PERCPU_BASE ", #:lo12:%c[storage]\n\t"
#define PERCPU_NEAR_SYMBOL "movz %[place], #:abs_g0:%c[storage]\n\t"

// One movz holds an offset below 64 KiB. It is the checked :abs_g0:, so that the link fails for a larger
// template (:abs_g0_nc: would silently drop the upper bits); PERCPU_LARGE_TEMPLATE takes another
// instruction and reaches 4 GiB.
#if defined(PERCPU_NON_ZERO_VMA)
#define PERCPU_FAR_LOCATE "adrp %[place], %c[storage]\n\t" PERCPU_GET_BASE "add %[place], %[place], " PERCPU_BASE "\n\t"
#define PERCPU_FAR_ADDRESS "[%[place], #:lo12:%c[storage]]"
#define PERCPU_FAR_POINTER PERCPU_FAR_LOCATE "add %[place], %[place], #:lo12:%c[storage]\n\t"
#define PERCPU_FAR_SYMBOL "adrp %[place], %c[storage]\n\tadd %[place], %[place], #:lo12:%c[storage]\n\t"
#else
#if defined(PERCPU_LARGE_TEMPLATE)
#define PERCPU_FAR_SYMBOL "movz %[place], #:abs_g1:%c[storage]\n\tmovk %[place], #:abs_g0_nc:%c[storage]\n\t"
#else
#define PERCPU_FAR_SYMBOL "movz %[place], #:abs_g0:%c[storage]\n\t"
#endif
#define PERCPU_FAR_LOCATE PERCPU_FAR_SYMBOL PERCPU_GET_BASE
#define PERCPU_FAR_ADDRESS "[" PERCPU_BASE ", %[place]]"
#define PERCPU_FAR_POINTER PERCPU_FAR_LOCATE "add %[place], " PERCPU_BASE ", %[place]\n\t"
#endif
#define PERCPU_FAR_LOAD(to) PERCPU_LOAD_FROM(to, PERCPU_FAR_ADDRESS)
#define PERCPU_FAR_STORE(from) PERCPU_STORE_TO(from, PERCPU_FAR_ADDRESS)

#define PERCPU_BY_WIDTH(narrow, eight) PERCPU_BY_SIZE(narrow, narrow, narrow, eight)
#define PERCPU_COMPUTE(name, to, from, operand)                           \
    PERCPU_BY_WIDTH(name " %w[" to "], %w[" from "], %w[" operand "]",     \
                    name " %x[" to "], %x[" from "], %x[" operand "]")
#define PERCPU_ADD(to, from, operand) PERCPU_COMPUTE("add", to, from, operand)
#define PERCPU_SUB(to, from, operand) PERCPU_COMPUTE("sub", to, from, operand)
#define PERCPU_AND(to, from, operand) PERCPU_COMPUTE("and", to, from, operand)
#define PERCPU_OR(to, from, operand) PERCPU_COMPUTE("orr", to, from, operand)
#define PERCPU_XOR(to, from, operand) PERCPU_COMPUTE("eor", to, from, operand)
// "J" is a negative number: assemblers take `add` of it for `sub`.
#define PERCPU_ADD_OPERAND "rIJ"
#define PERCPU_BITS_OPERAND "rK"
#define PERCPU_BITS_OPERAND_8 "rL"
// A 0, for which the zero register is stored.
#if defined(__clang__)
#define PERCPU_STORED_OPERAND "rz"
#else
#define PERCPU_STORED_OPERAND "rZ"
#endif
#define PERCPU_UNLESS_EQUAL(a, b, label) \
    PERCPU_BY_WIDTH("cmp %w[" a "], %w[" b "]", "cmp %x[" a "], %x[" b "]") "b.ne " label "\n\t"
// Clang brings flags into a register to test them there, and so compares again at no more cost.
#if !defined(__clang__)
#define PERCPU_EQUAL_FLAG "=@cceq"
#endif

namespace percpu::arch {

inline uintptr_t read_base_register() noexcept {
    uintptr_t value;
#if PERCPU_BASE_REGISTER_IS(x18)
    asm volatile("mov %0, x18" : "=r"(value) : : "memory");
#else
    asm volatile("mrs %0, " PERCPU_BASE_NAME : "=r"(value) : : "memory");
#endif
    return value;
}
inline uintptr_t stable_base_register() noexcept {
    uintptr_t value;
#if PERCPU_BASE_REGISTER_IS(x18)
    asm("mov %0, x18" : "=r"(value) : PERCPU_REUSABLE);
#else
    asm("mrs %0, " PERCPU_BASE_NAME : "=r"(value) : PERCPU_REUSABLE);
#endif
    return value;
}
inline void write_base_register(uintptr_t value) noexcept {
#if PERCPU_BASE_REGISTER_IS(x18)
    asm volatile("mov x18, %0" : : "r"(value) : "memory");
#else
    asm volatile("msr " PERCPU_BASE_NAME ", %0" : : "r"(value) : "memory");
#endif
}

// The narrow loads extend by zeros, as the promotion to int does.
template <class U>
inline auto in_register(U word) noexcept {
    return +word;
}

}  // namespace percpu::arch

#include "sequence.hpp"
