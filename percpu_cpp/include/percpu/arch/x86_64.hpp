// x86_64: the base of a segment register, gs or fs. Every access is one instruction with a segment
// prefix and a link-time displacement; the CPU adds the base.
//
// Sources: Intel SDM vol. 1, 3.3.7.1 (fs and gs bases in 64-bit mode), vol. 4, 2.1 (MSRs); arch_prctl(2).

#pragma once

#include "../config.hpp"
#include "reusable.hpp"

#if PERCPU_BASE_REGISTER_IS(gs)
#define PERCPU_X86_SEGMENT "%%gs:"
#elif PERCPU_BASE_REGISTER_IS(fs)
#define PERCPU_X86_SEGMENT "%%fs:"
#else
#error "percpu: the base register of x86_64 is gs or fs"
#endif

// With -mcmodel=large GCC takes no symbol for a displacement, and would say "operand is not a condition code" of every
// access; Clang takes it.
#if defined(__code_model_large__) && !defined(__clang__)
#error \
    "percpu: with -mcmodel=large GCC does not take a variable for the displacement of an access: compile with -mcmodel=kernel (or small), or with Clang"
#endif

// In the zero-VMA layout the displacement is the offset, an absolute number, wherever the code lies.
// In the in-image layout it is a distance from the instruction: that works in a PIE too, and the
// link-time address which the CPU computes is what the biased base expects.
#if defined(PERCPU_NON_ZERO_VMA)
#define PERCPU_X86_COPY(operand) PERCPU_X86_SEGMENT "%c[" #operand "](%%rip)"
#else
#define PERCPU_X86_COPY(operand) PERCPU_X86_SEGMENT "%c[" #operand "]"
#endif

// At gs:40 with -mcmodel=kernel, and at fs:40 else, GCC and Clang look for the stack protector's canary; options that no
// macro tells choose the other register (GCC manual, -mstack-protector-guard-reg). In the zero-VMA layout that is offset
// 40 of the area, and the header reserves it. In the in-image layout it is no address of ours.
#if (defined(__SSP__) || defined(__SSP_STRONG__) || defined(__SSP_ALL__)) && !PERCPU_LINUX_USER
#if defined(__code_model_kernel__)
#define PERCPU_X86_GUARD_IS_RELATIVE_TO_BASE PERCPU_BASE_REGISTER_IS(gs)
#else
#define PERCPU_X86_GUARD_IS_RELATIVE_TO_BASE PERCPU_BASE_REGISTER_IS(fs)
#endif
#if !defined(PERCPU_NON_ZERO_VMA)
#define PERCPU_X86_STACK_GUARD 1
#elif PERCPU_X86_GUARD_IS_RELATIVE_TO_BASE && !defined(PERCPU_STACK_GUARD_MOVED)
#error \
    "percpu: the stack protector reads offset 40 from the base register, which in the in-image layout lies outside every area: use -mstack-protector-guard=global (or -mstack-protector-guard-reg/-symbol) and define PERCPU_STACK_GUARD_MOVED, or -fno-stack-protector"
#endif
#endif
#ifndef PERCPU_X86_STACK_GUARD
#define PERCPU_X86_STACK_GUARD 0
#endif

namespace percpu::arch {

// First in every area. x86_64 has no instruction that gives the sum of a segment's base and an offset,
// so each area holds the base's value, and `pointer` adds to that.
struct Header {
    uintptr_t self;
#if PERCPU_X86_STACK_GUARD
    uintptr_t reserved[4];
    uintptr_t stack_guard;
#endif
};
extern Header percpu_storage_header __attribute__((visibility("hidden")));

template <Reach reach, size_t size>
inline constexpr bool access_is_one_step = true;
template <Reach reach, size_t size>
inline constexpr bool update_is_one_step = true;

inline uintptr_t read_base_register() noexcept {
    uintptr_t value;
#if defined(__FSGSBASE__)
#if PERCPU_BASE_REGISTER_IS(gs)
    asm volatile("rdgsbase %0" : "=r"(value) : : "memory");
#else
    asm volatile("rdfsbase %0" : "=r"(value) : : "memory");
#endif
#elif PERCPU_LINUX_USER
    constexpr long arch_prctl = 158;
    constexpr long get_base = PERCPU_BASE_REGISTER_IS(gs) ? 0x1004 : 0x1003;
    long status = arch_prctl;
    asm volatile("syscall" : "+a"(status) : "D"(get_base), "S"(&value) : "rcx", "r11", "memory");
    if (status != 0) __builtin_trap();
#else
    constexpr uint32_t msr = PERCPU_BASE_REGISTER_IS(gs) ? 0xc0000101 : 0xc0000100;
    uint32_t low, high;
    asm volatile("rdmsr" : "=a"(low), "=d"(high) : "c"(msr) : "memory");
    value = (static_cast<uintptr_t>(high) << 32) | low;
#endif
    return value;
}

inline void write_base_register(uintptr_t value) noexcept {
#if defined(__FSGSBASE__)
#if PERCPU_BASE_REGISTER_IS(gs)
    asm volatile("wrgsbase %0" : : "r"(value) : "memory");
#else
    asm volatile("wrfsbase %0" : : "r"(value) : "memory");
#endif
#elif PERCPU_LINUX_USER
    constexpr long arch_prctl = 158;
    constexpr long set_base = PERCPU_BASE_REGISTER_IS(gs) ? 0x1001 : 0x1002;
    long status = arch_prctl;
    asm volatile("syscall" : "+a"(status) : "D"(set_base), "S"(value) : "rcx", "r11", "memory");
    // Linux refuses a base that is no user address, which a biased base is if the area lies below the
    // image. The instruction takes it; Linux 5.9 and later let programs use it where the CPU has it.
#if PERCPU_BASE_REGISTER_IS(gs)
    if (status != 0) asm volatile("wrgsbase %0" : : "r"(value) : "memory");
#else
    if (status != 0) asm volatile("wrfsbase %0" : : "r"(value) : "memory");
#endif
#else
    constexpr uint32_t msr = PERCPU_BASE_REGISTER_IS(gs) ? 0xc0000101 : 0xc0000100;
    asm volatile("wrmsr"
                 :
                 : "c"(msr), "a"(static_cast<uint32_t>(value)), "d"(static_cast<uint32_t>(value >> 32))
                 : "memory");
#endif
    asm volatile("movq %[value], " PERCPU_X86_COPY(self)
                 :
                 : [value] "r"(value), [self] "i"(&percpu_storage_header.self)
                 : "memory");
}

template <auto* Storage, Reach reach>
inline uintptr_t symbol_address() noexcept {
    uintptr_t address;
#if defined(PERCPU_NON_ZERO_VMA)
    asm("leaq %c[storage](%%rip), %[address]" : [address] "=r"(address) : [storage] "i"(Storage));
#else
    asm("movl %[storage], %k[address]" : [address] "=r"(address) : [storage] "i"(Storage));
#endif
    return address;
}

inline void adopt_area(uintptr_t value) noexcept {
    // Under a script that is not ours the header may lie anywhere in the area: go by its address.
    const uintptr_t header = symbol_address<&percpu_storage_header, Reach::far>() + value;
    reinterpret_cast<Header*>(header)->self = value;
}

template <auto* Storage, Reach reach>
inline uintptr_t pointer() noexcept {
    uintptr_t address;
#if defined(PERCPU_NON_ZERO_VMA)
    asm volatile("leaq %c[storage](%%rip), %[address]\n\t"
                 "addq " PERCPU_X86_COPY(self) ", %[address]"
                 : [address] "=&r"(address)
                 : [storage] "i"(Storage), [self] "i"(&percpu_storage_header.self)
                 : "cc", "memory");
#else
    asm volatile("movq " PERCPU_X86_COPY(self) ", %[address]\n\t"
                 "addq %[storage], %[address]"
                 : [address] "=&r"(address)
                 : [storage] "i"(Storage), [self] "i"(&percpu_storage_header.self)
                 : "cc", "memory");
#endif
    return address;
}

// The narrow loads extend to 32 bits: a load into part of a register waits for the rest of it.
#define PERCPU_X86_LOAD_OP(name, qualifier, ...)                                                         \
    template <auto* Storage, Reach reach, class U>                                                       \
    inline U name() noexcept {                                                                           \
        if constexpr (sizeof(U) == 8) {                                                                  \
            uint64_t value;                                                                              \
            asm qualifier("movq " PERCPU_X86_COPY(storage) ", %[value]"                                  \
                          : [value] "=r"(value)                                                          \
                          : [storage] "i"(Storage)                                                       \
                          __VA_ARGS__);                                                                  \
            return value;                                                                                \
        } else {                                                                                         \
            uint32_t value;                                                                              \
            if constexpr (sizeof(U) == 4)                                                                \
                asm qualifier("movl " PERCPU_X86_COPY(storage) ", %[value]"                              \
                              : [value] "=r"(value)                                                      \
                              : [storage] "i"(Storage)                                                   \
                              __VA_ARGS__);                                                              \
            else if constexpr (sizeof(U) == 2)                                                           \
                asm qualifier("movzwl " PERCPU_X86_COPY(storage) ", %[value]"                            \
                              : [value] "=r"(value)                                                      \
                              : [storage] "i"(Storage)                                                   \
                              __VA_ARGS__);                                                              \
            else                                                                                         \
                asm qualifier("movzbl " PERCPU_X86_COPY(storage) ", %[value]"                            \
                              : [value] "=r"(value)                                                      \
                              : [storage] "i"(Storage)                                                   \
                              __VA_ARGS__);                                                              \
            return static_cast<U>(value);                                                                \
        }                                                                                                \
    }

PERCPU_X86_LOAD_OP(read, volatile, : "memory")
PERCPU_X86_LOAD_OP(read_stable, , , PERCPU_REUSABLE)

#undef PERCPU_X86_LOAD_OP

// `op storage, operand` in the four widths. An immediate is 32 bits, sign-extended ("e"), at most.
#define PERCPU_X86_STORE_OP(name, mnemonic)                                                     \
    template <auto* Storage, Reach reach, class U>                                              \
    inline void name(U operand) noexcept {                                                      \
        if constexpr (sizeof(U) == 8)                                                           \
            asm volatile(mnemonic "q %[operand], " PERCPU_X86_COPY(storage)                     \
                         :                                                                      \
                         : [operand] "re"(operand), [storage] "i"(Storage)                      \
                         : "cc", "memory");                                                     \
        else if constexpr (sizeof(U) == 4)                                                      \
            asm volatile(mnemonic "l %[operand], " PERCPU_X86_COPY(storage)                     \
                         :                                                                      \
                         : [operand] "ri"(operand), [storage] "i"(Storage)                      \
                         : "cc", "memory");                                                     \
        else if constexpr (sizeof(U) == 2)                                                      \
            asm volatile(mnemonic "w %[operand], " PERCPU_X86_COPY(storage)                     \
                         :                                                                      \
                         : [operand] "ri"(operand), [storage] "i"(Storage)                      \
                         : "cc", "memory");                                                     \
        else                                                                                    \
            asm volatile(mnemonic "b %[operand], " PERCPU_X86_COPY(storage)                     \
                         :                                                                      \
                         : [operand] "qi"(operand), [storage] "i"(Storage)                      \
                         : "cc", "memory");                                                     \
    }

PERCPU_X86_STORE_OP(write, "mov")
PERCPU_X86_STORE_OP(add, "add")
PERCPU_X86_STORE_OP(sub, "sub")
PERCPU_X86_STORE_OP(bit_and, "and")
PERCPU_X86_STORE_OP(bit_or, "or")
PERCPU_X86_STORE_OP(bit_xor, "xor")

#undef PERCPU_X86_STORE_OP

// No lock prefix: only this CPU writes its copy, and an interrupt comes between instructions.
template <auto* Storage, Reach reach, class U>
inline U fetch_add(U operand) noexcept {
    asm volatile("xadd %[operand], " PERCPU_X86_COPY(storage)
                 : [operand] "+q"(operand)
                 : [storage] "i"(Storage)
                 : "cc", "memory");
    return operand;
}

// xchg locks the bus by itself, prefix or not (Intel SDM vol. 3, 9.1.2.1).
template <auto* Storage, Reach reach, class U>
inline U exchange(U operand) noexcept {
    asm volatile("xchg %[operand], " PERCPU_X86_COPY(storage)
                 : [operand] "+q"(operand)
                 : [storage] "i"(Storage)
                 : "memory");
    return operand;
}

template <auto* Storage, Reach reach, class U>
inline bool compare_exchange(U& expected, U desired) noexcept {
    bool stored;
    asm volatile("cmpxchg %[desired], " PERCPU_X86_COPY(storage)
                 : "=@ccz"(stored), "+a"(expected)
                 : [desired] "q"(desired), [storage] "i"(Storage)
                 : "memory");
    return stored;
}

}  // namespace percpu::arch
