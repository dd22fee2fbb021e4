// LoongArch64: the base register is $r21, which the ABI reserves and never uses (LoongArch ELF psABI,
// "Integer Register Usage Convention"), or $tp.

#pragma once

#include "../config.hpp"
#include "reusable.hpp"

#if PERCPU_BASE_REGISTER_IS(r21)
#define PERCPU_BASE "$r21"
#elif PERCPU_BASE_REGISTER_IS(tp)
#define PERCPU_BASE "$tp"
#else
#error "percpu: the base register of LoongArch64 is r21, tp or user"
#endif

#define PERCPU_SIZE "%[size]"
#define PERCPU_ENTER
#define PERCPU_LEAVE

// One load reaches 2 KiB from the base register, for its immediate is signed.
#if defined(PERCPU_NON_ZERO_VMA)
#define PERCPU_HAS_NEAR(reach, size) false
#else
#define PERCPU_HAS_NEAR(reach, size) (reach == Reach::near)
#endif
#define PERCPU_NEAR_IS_ONE_INSTRUCTION true

#define PERCPU_LOAD_FROM(to, address) \
    PERCPU_BY_SIZE("ld.bu %[" to "], " address, "ld.hu %[" to "], " address, "ld.w %[" to "], " address, "ld.d %[" to "], " address)
#define PERCPU_STORE_TO(from, address) \
    PERCPU_BY_SIZE("st.b %z[" from "], " address, "st.h %z[" from "], " address, "st.w %z[" from "], " address, "st.d %z[" from "], " address)
#define PERCPU_LOAD_INDEXED(to, address)                                                                 \
    PERCPU_BY_SIZE("ldx.bu %[" to "], " address, "ldx.hu %[" to "], " address, "ldx.w %[" to "], " address,       \
                   "ldx.d %[" to "], " address)
#define PERCPU_STORE_INDEXED(from, address)                                                              \
    PERCPU_BY_SIZE("stx.b %z[" from "], " address, "stx.h %z[" from "], " address, "stx.w %z[" from "], " address,   \
                   "stx.d %z[" from "], " address)

// %pc_lo12 is the name of the relocation that puts an address's low 12 bits into a load's immediate;
// nothing in it is relative to the program counter.
#define PERCPU_NEAR_LOCATE
#define PERCPU_NEAR_LOAD(to) PERCPU_LOAD_FROM(to, PERCPU_BASE ", %%pc_lo12(%[storage])")
#define PERCPU_NEAR_STORE(from) PERCPU_STORE_TO(from, PERCPU_BASE ", %%pc_lo12(%[storage])")
#define PERCPU_NEAR_POINTER "addi.d %[place], " PERCPU_BASE ", %%pc_lo12(%[storage])\n\t"
#define PERCPU_NEAR_SYMBOL "addi.d %[place], $zero, %%pc_lo12(%[storage])\n\t"

#if defined(PERCPU_NON_ZERO_VMA)
#define PERCPU_FAR_LOCATE "pcalau12i %[place], %%pc_hi20(%[storage])\n\tadd.d %[place], %[place], " PERCPU_BASE "\n\t"
#define PERCPU_FAR_LOAD(to) PERCPU_LOAD_FROM(to, "%[place], %%pc_lo12(%[storage])")
#define PERCPU_FAR_STORE(from) PERCPU_STORE_TO(from, "%[place], %%pc_lo12(%[storage])")
#define PERCPU_FAR_POINTER PERCPU_FAR_LOCATE "addi.d %[place], %[place], %%pc_lo12(%[storage])\n\t"
#define PERCPU_FAR_SYMBOL \
    "pcalau12i %[place], %%pc_hi20(%[storage])\n\taddi.d %[place], %[place], %%pc_lo12(%[storage])\n\t"
#else
#define PERCPU_FAR_LOCATE "lu12i.w %[place], %%abs_hi20(%[storage])\n\tori %[place], %[place], %%abs_lo12(%[storage])\n\t"
#define PERCPU_FAR_LOAD(to) PERCPU_LOAD_INDEXED(to, "%[place], " PERCPU_BASE)
#define PERCPU_FAR_STORE(from) PERCPU_STORE_INDEXED(from, "%[place], " PERCPU_BASE)
#define PERCPU_FAR_POINTER PERCPU_FAR_LOCATE "add.d %[place], %[place], " PERCPU_BASE "\n\t"
#define PERCPU_FAR_SYMBOL PERCPU_FAR_LOCATE
#endif

// With a number the mnemonics end in "i", which GCC's %i prints. Clang has no such modifier: there the
// operand is a register, and `add` with a number has a form of its own below.
#if defined(__clang__)
#define PERCPU_ADD(to, from, operand) "add.d %[" to "], %[" from "], %[" operand "]\n\t"
#define PERCPU_AND(to, from, operand) "and %[" to "], %[" from "], %[" operand "]\n\t"
#define PERCPU_OR(to, from, operand) "or %[" to "], %[" from "], %[" operand "]\n\t"
#define PERCPU_XOR(to, from, operand) "xor %[" to "], %[" from "], %[" operand "]\n\t"
#define PERCPU_ADD_OPERAND "r"
#define PERCPU_BITS_OPERAND "r"
#else
#define PERCPU_ADD(to, from, operand) "add%i[" operand "].d %[" to "], %[" from "], %[" operand "]\n\t"
#define PERCPU_AND(to, from, operand) "and%i[" operand "] %[" to "], %[" from "], %[" operand "]\n\t"
#define PERCPU_OR(to, from, operand) "or%i[" operand "] %[" to "], %[" from "], %[" operand "]\n\t"
#define PERCPU_XOR(to, from, operand) "xor%i[" operand "] %[" to "], %[" from "], %[" operand "]\n\t"
#define PERCPU_ADD_OPERAND "rI"
// "K" is a number without sign; a narrow one is extended by the sign if nobody else extends it.
#define PERCPU_BITS_OPERAND(operand) "rK"(+operand)
#endif
#define PERCPU_SUB(to, from, operand) "sub.d %[" to "], %[" from "], %[" operand "]\n\t"
#define PERCPU_STORED_OPERAND "rJ"
#define PERCPU_UNLESS_EQUAL(a, b, label) "bne %[" a "], %[" b "], " label "\n\t"

namespace percpu::arch {

inline uintptr_t read_base_register() noexcept {
    uintptr_t value;
    asm volatile("move %0, " PERCPU_BASE : "=r"(value) : : "memory");
    return value;
}
inline uintptr_t stable_base_register() noexcept {
    uintptr_t value;
    asm("move %0, " PERCPU_BASE : "=r"(value) : PERCPU_REUSABLE);
    return value;
}
inline void write_base_register(uintptr_t value) noexcept {
    asm volatile("move " PERCPU_BASE ", %0" : : "r"(value) : "memory");
}

// ld.bu and ld.hu extend by zeros, ld.w by the sign.
template <class U>
inline uintptr_t in_register(U word) noexcept {
    if constexpr (sizeof(U) == 4) return static_cast<uintptr_t>(static_cast<int32_t>(word));
    return static_cast<uintptr_t>(word);
}

}  // namespace percpu::arch

#include "sequence.hpp"

// Only an optimized build knows that the operand is a number in the place where the constraint wants one.
#if defined(__clang__) && defined(__OPTIMIZE__)
namespace percpu::arch {

#define PERCPU_ADD_NUMBER_BODY(LOAD, STORE) \
    LOAD("value") "addi.d %[value], %[value], %[operand]\n\t" PERCPU_COMMIT STORE("value")

PERCPU_UPDATE(add_number, add, PERCPU_ADD_NUMBER_BODY, "I", "I")

template <auto* Storage, Reach reach, class U>
inline void add(U operand) noexcept {
    // From -2048 to 2047, whatever the width in which a negative number wraps.
    if (__builtin_constant_p(operand) && static_cast<U>(operand + 2048) < 4096)
        add_number<Storage, reach, U>(operand);
    else
        sequence::add<Storage, reach, U>(operand);
}

}  // namespace percpu::arch
#endif
