// ARM, 32 bit: the base is in a software thread ID register of coprocessor 15: TPIDRURO, which user space
// can read, or TPIDRPRW, which it cannot see. Where user space uses TLS, or the kernel is compiled
// with -mtp=cp15, TPIDRURO is taken: build with base-register=TPIDRPRW.
//
// Sources: ARM ARM (ARMv7-A), B4.1.148 and B4.1.150 (TPIDRPRW, TPIDRURO); ELF for the Arm Architecture, 5.6.

#pragma once

#include "../config.hpp"
#include "reusable.hpp"

#if !defined(__ARM_ARCH) || __ARM_ARCH < 7
#error "percpu: movw and movt, with which accesses make offsets, come with ARMv7: compile with -march=armv7-a or later"
#endif

// ACLE, "Target profile".
#if defined(__ARM_ARCH_PROFILE) && __ARM_ARCH_PROFILE == 'M'
#error "percpu: M-profile cores have no coprocessor 15 and so no register for the base: compile with base-register=user"
#endif

#if PERCPU_BASE_REGISTER_IS(TPIDRURO)
#define PERCPU_BASE_OPCODE "3"
#elif PERCPU_BASE_REGISTER_IS(TPIDRPRW)
#define PERCPU_BASE_OPCODE "4"
#else
#error "percpu: the base register of ARM is TPIDRURO, TPIDRPRW or user"
#endif
#define PERCPU_GET_BASE "mrc p15, 0, %[base], c13, c0, " PERCPU_BASE_OPCODE "\n\t"

// GCC takes no symbol for an operand in position-independent code. There the compiler itself makes the
// address, from the program counter, in a register.
#if defined(__pic__)
#if !defined(PERCPU_NON_ZERO_VMA)
#error "percpu: code that is position-independent cannot have a section at address 0: compile with -fno-pic, or add the feature non-zero-vma"
#endif
#define PERCPU_STORAGE_OPERAND "r"
#endif

#define PERCPU_SIZE "%c[size]"
#define PERCPU_ENTER
#define PERCPU_LEAVE

// A32 loads and stores of 1 and 4 bytes have an immediate of 12 bits for the offset. The relocation made for
// that, R_ARM_ABS12, is unknown to lld, so R_ARM_MOVW_ABS_NC, made for movw, stands in for it: it adds
// the symbol's value to a number of 16 bits, of which bits 0 to 11 lie where the immediate does, and bits 12
// to 15 where the number of the base register does. An offset in reach, below 4096, leaves the latter alone.
// Those of 2 bytes have an immediate of 8 bits, and Thumb's no such relocation: they take the far form.
#if defined(PERCPU_NON_ZERO_VMA) || defined(__thumb__)
#define PERCPU_HAS_NEAR(reach, size) false
#else
#define PERCPU_HAS_NEAR(reach, size) (reach == Reach::near && size != 2)
#endif
#define PERCPU_NEAR_IS_ONE_INSTRUCTION false

#define PERCPU_LOAD_FROM(to, address) \
    PERCPU_BY_SIZE("ldrb %[" to "], " address, "ldrh %[" to "], " address, "ldr %[" to "], " address, "")
#define PERCPU_STORE_TO(from, address) \
    PERCPU_BY_SIZE("strb %[" from "], " address, "strh %[" from "], " address, "str %[" from "], " address, "")

#define PERCPU_NEAR_LOCATE PERCPU_GET_BASE
#if defined(__clang__)
#define PERCPU_NEAR_ONLY_A32
#else
// GCC inlines A32 functions into Thumb ones (a target attribute, or LTO of files that differ), where this instruction
// would have other bits in the relocation's place. Only the assembler sees it, by the size of an instruction.
#define PERCPU_NEAR_ONLY_A32                                                                                        \
    ".pushsection .discard.percpu, \"e\", %%progbits\n77:\tnop\n\t.if . - 77b != 4\n\t"                           \
    ".error \"percpu: a near access of A32 was inlined into Thumb code: compile all that GCC optimizes together "  \
    "with -marm, or all with -mthumb\"\n\t.endif\n\t.popsection\n\t"
#endif
#define PERCPU_NEAR_IMMEDIATE PERCPU_NEAR_ONLY_A32 ".reloc ., R_ARM_MOVW_ABS_NC, %c[storage]\n\t"
#define PERCPU_NEAR_LOAD(to) PERCPU_NEAR_IMMEDIATE PERCPU_LOAD_FROM(to, "[%[base]]")
#define PERCPU_NEAR_STORE(from) PERCPU_NEAR_IMMEDIATE PERCPU_STORE_TO(from, "[%[base]]")
#define PERCPU_NEAR_SYMBOL "movw %[place], #:lower16:%c[storage]\n\t"
#define PERCPU_NEAR_POINTER PERCPU_NEAR_SYMBOL PERCPU_GET_BASE "add %[place], %[place], %[base]\n\t"

#if defined(__pic__)
#define PERCPU_FAR_SYMBOL "mov %[place], %[storage]\n\t"
#define PERCPU_FAR_LOCATE PERCPU_GET_BASE
#define PERCPU_FAR_PLACE "%[storage]"
#else
#define PERCPU_FAR_SYMBOL \
    "movw %[place], #:lower16:%c[storage]\n\tmovt %[place], #:upper16:%c[storage]\n\t"
#define PERCPU_FAR_LOCATE PERCPU_FAR_SYMBOL PERCPU_GET_BASE
#define PERCPU_FAR_PLACE "%[place]"
#endif
#define PERCPU_FAR_LOAD(to) PERCPU_LOAD_FROM(to, "[%[base], " PERCPU_FAR_PLACE "]")
#define PERCPU_FAR_STORE(from) PERCPU_STORE_TO(from, "[%[base], " PERCPU_FAR_PLACE "]")
#define PERCPU_FAR_POINTER PERCPU_FAR_LOCATE "add %[place], %[base], " PERCPU_FAR_PLACE "\n\t"

#define PERCPU_ADD(to, from, operand) "add %[" to "], %[" from "], %[" operand "]\n\t"
#define PERCPU_SUB(to, from, operand) "sub %[" to "], %[" from "], %[" operand "]\n\t"
#define PERCPU_AND(to, from, operand) "and %[" to "], %[" from "], %[" operand "]\n\t"
#define PERCPU_OR(to, from, operand) "orr %[" to "], %[" from "], %[" operand "]\n\t"
#define PERCPU_XOR(to, from, operand) "eor %[" to "], %[" from "], %[" operand "]\n\t"
// "L" is a number whose negative, "K" one whose complement an instruction can hold: assemblers take `add` of the
// one for `sub`, `and` of the other for `bic`.
#define PERCPU_ADD_OPERAND "rIL"
#define PERCPU_AND_OPERAND "rIK"
// `orr` and `eor` have no such other: 0x80 fits them, but not as a byte's number is extended, by the sign.
#define PERCPU_BITS_OPERAND(operand) "rI"(+operand)
#define PERCPU_STORED_OPERAND "r"
#define PERCPU_UNLESS_EQUAL(a, b, label) "cmp %[" a "], %[" b "]\n\tbne " label "\n\t"
// Clang knows no results in flags here.
#if !defined(__clang__)
#define PERCPU_EQUAL_FLAG "=@cceq"
#endif

namespace percpu::arch {

inline uintptr_t read_base_register() noexcept {
    uintptr_t value;
    asm volatile("mrc p15, 0, %0, c13, c0, " PERCPU_BASE_OPCODE : "=r"(value) : : "memory");
    return value;
}
inline uintptr_t stable_base_register() noexcept {
    uintptr_t value;
    asm("mrc p15, 0, %0, c13, c0, " PERCPU_BASE_OPCODE : "=r"(value) : PERCPU_REUSABLE);
    return value;
}
inline void write_base_register(uintptr_t value) noexcept {
    asm volatile("mcr p15, 0, %0, c13, c0, " PERCPU_BASE_OPCODE : : "r"(value) : "memory");
}

// The narrow loads extend by zeros, as the promotion to int does.
template <class U>
inline auto in_register(U word) noexcept {
    return +word;
}

}  // namespace percpu::arch

#include "sequence.hpp"
