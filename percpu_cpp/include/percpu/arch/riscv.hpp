// RISC-V, 32 and 64 bit: the base register is gp, or tp.
//
// Every sequence stands under `.option norelax`. Without it GNU ld takes the parts of an address near 0
// for an absolute one, and makes `lui; add; ld` and `ld %lo(v)(gp)` into a load relative to `zero`: an
// access to the template's own addresses in place of the CPU's area (RISC-V psABI, "Linker Relaxation").

#pragma once

#include "../config.hpp"
#include "reusable.hpp"

#if PERCPU_BASE_REGISTER_IS(gp)
#define PERCPU_BASE "gp"
#elif PERCPU_BASE_REGISTER_IS(tp)
#define PERCPU_BASE "tp"
#else
#error "percpu: the base register of RISC-V is gp, tp or user"
#endif

#if PERCPU_BASE_REGISTER_IS(gp) && defined(__has_feature)
#if __has_feature(shadow_call_stack)
#error \
    "percpu: -fsanitize=shadow-call-stack keeps its pointer in gp, the base register: compile with base-register=tp, or without it"
#endif
#endif

#define PERCPU_SIZE "%[size]"
#define PERCPU_ENTER ".option push\n\t.option norelax\n\t"
#define PERCPU_LEAVE ".option pop"

// One load reaches 2 KiB from the base register, for its immediate is signed.
#if defined(PERCPU_NON_ZERO_VMA)
#define PERCPU_HAS_NEAR(reach, size) false
#else
#define PERCPU_HAS_NEAR(reach, size) (reach == Reach::near)
#endif
#define PERCPU_NEAR_IS_ONE_INSTRUCTION true

#define PERCPU_LOAD_FROM(to, address) \
    PERCPU_BY_SIZE("lbu %[" to "], " address, "lhu %[" to "], " address, "lw %[" to "], " address, "ld %[" to "], " address)
#define PERCPU_STORE_TO(from, address) \
    PERCPU_BY_SIZE("sb %z[" from "], " address, "sh %z[" from "], " address, "sw %z[" from "], " address, "sd %z[" from "], " address)

#define PERCPU_NEAR_LOCATE
#define PERCPU_NEAR_LOAD(to) PERCPU_LOAD_FROM(to, "%%lo(%[storage])(" PERCPU_BASE ")")
#define PERCPU_NEAR_STORE(from) PERCPU_STORE_TO(from, "%%lo(%[storage])(" PERCPU_BASE ")")
#define PERCPU_NEAR_POINTER "addi %[place], " PERCPU_BASE ", %%lo(%[storage])\n\t"
#define PERCPU_NEAR_SYMBOL "addi %[place], zero, %%lo(%[storage])\n\t"

#if defined(PERCPU_NON_ZERO_VMA)
#define PERCPU_UPPER "773: auipc %[place], %%pcrel_hi(%[storage])\n\t"
#define PERCPU_LOWER "%%pcrel_lo(773b)"
#else
#define PERCPU_UPPER "lui %[place], %%hi(%[storage])\n\t"
#define PERCPU_LOWER "%%lo(%[storage])"
#endif
#define PERCPU_FAR_LOCATE PERCPU_UPPER "add %[place], %[place], " PERCPU_BASE "\n\t"
#define PERCPU_FAR_LOAD(to) PERCPU_LOAD_FROM(to, PERCPU_LOWER "(%[place])")
#define PERCPU_FAR_STORE(from) PERCPU_STORE_TO(from, PERCPU_LOWER "(%[place])")
#define PERCPU_FAR_POINTER PERCPU_FAR_LOCATE "addi %[place], %[place], " PERCPU_LOWER "\n\t"
#define PERCPU_FAR_SYMBOL PERCPU_UPPER "addi %[place], %[place], " PERCPU_LOWER "\n\t"

// The assembler takes `add` with a number for `addi`.
#define PERCPU_ADD(to, from, operand) "add %[" to "], %[" from "], %[" operand "]\n\t"
#define PERCPU_SUB(to, from, operand) "sub %[" to "], %[" from "], %[" operand "]\n\t"
#define PERCPU_AND(to, from, operand) "and %[" to "], %[" from "], %[" operand "]\n\t"
#define PERCPU_OR(to, from, operand) "or %[" to "], %[" from "], %[" operand "]\n\t"
#define PERCPU_XOR(to, from, operand) "xor %[" to "], %[" from "], %[" operand "]\n\t"
#define PERCPU_ADD_OPERAND "rI"
#define PERCPU_BITS_OPERAND "rI"
// Register `zero` holds a 0 to store.
#define PERCPU_STORED_OPERAND "rJ"
#define PERCPU_UNLESS_EQUAL(a, b, label) "bne %[" a "], %[" b "], " label "\n\t"

namespace percpu::arch {

inline uintptr_t read_base_register() noexcept {
    uintptr_t value;
    asm volatile("mv %0, " PERCPU_BASE : "=r"(value) : : "memory");
    return value;
}
inline uintptr_t stable_base_register() noexcept {
    uintptr_t value;
    asm("mv %0, " PERCPU_BASE : "=r"(value) : PERCPU_REUSABLE);
    return value;
}
inline void write_base_register(uintptr_t value) noexcept {
    asm volatile("mv " PERCPU_BASE ", %0" : : "r"(value) : "memory");
}

// lbu and lhu extend by zeros, lw by the sign.
template <class U>
inline uintptr_t in_register(U word) noexcept {
    if constexpr (sizeof(U) == 4) return static_cast<uintptr_t>(static_cast<int32_t>(word));
    return static_cast<uintptr_t>(word);
}

}  // namespace percpu::arch

#include "sequence.hpp"
