// The operations of the RISC architectures: short sequences that find the current CPU's copy, work on
// it, and end in one load or store, the commit. What differs between the architectures is text, which
// their headers define before they include this one:
//
//   PERCPU_NEAR_LOCATE  PERCPU_FAR_LOCATE              make the address, in %[base] and %[place]
//   PERCPU_NEAR_LOAD(to)  PERCPU_FAR_LOAD(to)          to and from: names of operands
//   PERCPU_NEAR_STORE(from)  PERCPU_FAR_STORE(from)
//   PERCPU_NEAR_POINTER  PERCPU_FAR_POINTER            the copy's address in %[place]
//   PERCPU_NEAR_SYMBOL  PERCPU_FAR_SYMBOL              the storage's address in %[place]
//   PERCPU_ADD  PERCPU_SUB  PERCPU_AND  PERCPU_OR  PERCPU_XOR    (to, from, operand)
//   PERCPU_ADD_OPERAND  PERCPU_BITS_OPERAND  PERCPU_STORED_OPERAND    constraints
//   PERCPU_STORAGE_OPERAND                             the constraint of %[storage], if it is not "i"
//   PERCPU_UNLESS_EQUAL(a, b, label)                   branch
//   PERCPU_ENTER  PERCPU_LEAVE                         assembler state around a sequence
//   PERCPU_SIZE                                        operand [size], printed as a bare number
//   PERCPU_HAS_NEAR(reach, size)                       whether the near form is there
//
// and in percpu::arch: read_base_register, write_base_register, stable_base_register (which the compiler
// may reuse), and in_register(word), the word as a load extends it.
//
// A sequence changes nothing before its commit that running it again would not change again. So a
// trap handler that interrupted it before the commit may send it back to its start (restart.hpp),
// and it happens as a whole or not at all. For that, the feature `restartable` lists (start, length) of
// each sequence in a table. The table's section is tied to the section of the sequence's code
// (SHF_LINK_ORDER, flag "o"): the linker sorts the entries by the address of the code, and drops them
// with it. The start is relative to the entry, so the table needs no relocation at run time. (GNU as
// manual, ".section"; System V gABI, "Sections".)

#pragma once

#include "../config.hpp"
#include "by_pointer.hpp"
#include "reusable.hpp"

#ifndef PERCPU_STORAGE_OPERAND
#define PERCPU_STORAGE_OPERAND "i"
#endif

// A section can be tied to a named label only; %= makes the names unique.
#if defined(PERCPU_RESTARTABLE)
#define PERCPU_START ".Lpercpu_start%=:\n\t"
#define PERCPU_COMMIT ".Lpercpu_commit%=:\n\t"
#define PERCPU_ENTRY                                                                    \
    ".Lpercpu_end%=:\n\t"                                                               \
    ".pushsection percpu_restart, \"ao\", %%progbits, .Lpercpu_start%=\n\t"             \
    ".balign 4\n\t"                                                                     \
    ".long .Lpercpu_start%= - ., .Lpercpu_commit%= - .Lpercpu_start%=\n\t"              \
    ".popsection\n\t"
#else
#define PERCPU_START
#define PERCPU_COMMIT
#define PERCPU_ENTRY ".Lpercpu_end%=:\n\t"
#endif
#define PERCPU_SEQUENCE(text) PERCPU_ENTER PERCPU_START text PERCPU_ENTRY PERCPU_LEAVE

// One text for words of 1, 2, 4 and 8 bytes: the assembler takes the line of the operand %[size].
// `asm inline` tells the compiler that this is shorter than it looks.
#define PERCPU_BY_SIZE(one, two, four, eight) \
    ".if " PERCPU_SIZE " == 1\n\t" one "\n\t"        \
    ".elseif " PERCPU_SIZE " == 2\n\t" two "\n\t"    \
    ".elseif " PERCPU_SIZE " == 4\n\t" four "\n\t"   \
    ".else\n\t" eight "\n\t"                  \
    ".endif\n\t"

// `body(LOAD, STORE)` as a near or far sequence.
#define PERCPU_NEAR_FORM(body) PERCPU_SEQUENCE(PERCPU_NEAR_LOCATE body(PERCPU_NEAR_LOAD, PERCPU_NEAR_STORE))
#define PERCPU_FAR_FORM(body) PERCPU_SEQUENCE(PERCPU_FAR_LOCATE body(PERCPU_FAR_LOAD, PERCPU_FAR_STORE))

namespace percpu::arch {

template <Reach reach, size_t size>
inline constexpr bool is_near = PERCPU_HAS_NEAR(reach, size);

// The next word wider than a register takes several loads or stores.
template <size_t size>
inline constexpr bool fits_register = size <= sizeof(uintptr_t);

#if defined(PERCPU_RESTARTABLE)
inline constexpr bool sequences_restart = true;
#else
inline constexpr bool sequences_restart = false;
#endif

template <Reach reach, size_t size>
inline constexpr bool access_is_one_step =
    fits_register<size> && (sequences_restart || (PERCPU_NEAR_IS_ONE_INSTRUCTION && is_near<reach, size>));
template <Reach reach, size_t size>
inline constexpr bool update_is_one_step = fits_register<size> && sequences_restart;

inline void adopt_area(uintptr_t) noexcept {}

// An arch header may put a better form of an operation beside these, in percpu::arch itself.
namespace sequence {

template <auto* Storage, Reach reach>
inline uintptr_t symbol_address() noexcept {
    uintptr_t place;
    if constexpr (is_near<reach, sizeof(uintptr_t)>)
        asm inline(PERCPU_ENTER PERCPU_NEAR_SYMBOL PERCPU_LEAVE : [place] "=r"(place) : [storage] PERCPU_STORAGE_OPERAND(Storage));
    else
        asm inline(PERCPU_ENTER PERCPU_FAR_SYMBOL PERCPU_LEAVE : [place] "=r"(place) : [storage] PERCPU_STORAGE_OPERAND(Storage));
    return place;
}

template <auto* Storage, Reach reach>
inline uintptr_t pointer() noexcept {
    uintptr_t place;
    [[maybe_unused]] uintptr_t base;
    if constexpr (is_near<reach, sizeof(uintptr_t)>)
        asm inline volatile(PERCPU_ENTER PERCPU_NEAR_POINTER PERCPU_LEAVE
                            : [place] "=&r"(place), [base] "=&r"(base)
                            : [storage] PERCPU_STORAGE_OPERAND(Storage)
                            : "memory");
    else
        asm inline volatile(PERCPU_ENTER PERCPU_FAR_POINTER PERCPU_LEAVE
                            : [place] "=&r"(place), [base] "=&r"(base)
                            : [storage] PERCPU_STORAGE_OPERAND(Storage)
                            : "memory");
    return place;
}

#define PERCPU_READ_BODY(LOAD, STORE) PERCPU_COMMIT LOAD("value")

template <auto* Storage, Reach reach, class U>
inline U read() noexcept {
    if constexpr (!fits_register<sizeof(U)>) {
        return by_pointer::read<U>(pointer<Storage, reach>());
    } else {
        uintptr_t value;
        [[maybe_unused]] uintptr_t base, place;
        if constexpr (is_near<reach, sizeof(U)>)
            asm inline volatile(PERCPU_NEAR_FORM(PERCPU_READ_BODY)
                                : [value] "=r"(value), [base] "=&r"(base)
                                : [storage] PERCPU_STORAGE_OPERAND(Storage), [size] "i"(sizeof(U))
                                : "memory");
        else
            asm inline volatile(PERCPU_FAR_FORM(PERCPU_READ_BODY)
                                : [value] "=r"(value), [base] "=&r"(base), [place] "=&r"(place)
                                : [storage] PERCPU_STORAGE_OPERAND(Storage), [size] "i"(sizeof(U))
                                : "memory");
        return static_cast<U>(value);
    }
}

// GCC does an assembly again, rather than once, if it has several results. With the base in a general
// register one is enough; else it is fetched by itself, and the compiler makes the load.
template <auto* Storage, Reach reach, class U>
inline U read_stable() noexcept {
#if PERCPU_NEAR_IS_ONE_INSTRUCTION
    if constexpr (fits_register<sizeof(U)>) {
        uintptr_t place;
        if constexpr (is_near<reach, sizeof(U)>)
            asm inline(PERCPU_ENTER PERCPU_NEAR_LOCATE PERCPU_NEAR_LOAD("place") PERCPU_LEAVE
                       : [place] "=r"(place)
                       : [storage] PERCPU_STORAGE_OPERAND(Storage), [size] "i"(sizeof(U)), PERCPU_REUSABLE);
        else
            asm inline(PERCPU_ENTER PERCPU_FAR_LOCATE PERCPU_FAR_LOAD("place") PERCPU_LEAVE
                       : [place] "=r"(place)
                       : [storage] PERCPU_STORAGE_OPERAND(Storage), [size] "i"(sizeof(U)), PERCPU_REUSABLE);
        return static_cast<U>(place);
    }
#endif
    using Word __attribute__((may_alias)) = U;
    return *reinterpret_cast<const Word*>(stable_base_register() + symbol_address<Storage, reach>());
}

#define PERCPU_WRITE_BODY(LOAD, STORE) PERCPU_COMMIT STORE("operand")

template <auto* Storage, Reach reach, class U>
inline void write(U operand) noexcept {
    if constexpr (!fits_register<sizeof(U)>) {
        by_pointer::write<U>(pointer<Storage, reach>(), operand);
    } else {
        [[maybe_unused]] uintptr_t base, place;
        if constexpr (is_near<reach, sizeof(U)>)
            asm inline volatile(PERCPU_NEAR_FORM(PERCPU_WRITE_BODY)
                                : [base] "=&r"(base)
                                : [operand] PERCPU_STORED_OPERAND(static_cast<uintptr_t>(operand)),
                                  [storage] PERCPU_STORAGE_OPERAND(Storage), [size] "i"(sizeof(U))
                                : "memory");
        else
            asm inline volatile(PERCPU_FAR_FORM(PERCPU_WRITE_BODY)
                                : [base] "=&r"(base), [place] "=&r"(place)
                                : [operand] PERCPU_STORED_OPERAND(static_cast<uintptr_t>(operand)),
                                  [storage] PERCPU_STORAGE_OPERAND(Storage), [size] "i"(sizeof(U))
                                : "memory");
    }
}

#define PERCPU_UPDATE(name, whole, body, constraint)                                                          \
    template <auto* Storage, Reach reach, class U>                                                     \
    inline void name(U operand) noexcept {                                                             \
        if constexpr (!fits_register<sizeof(U)>) {                                                     \
            by_pointer::whole<U>(pointer<Storage, reach>(), operand);                                  \
        } else {                                                                                       \
            uintptr_t value;                                                                           \
            [[maybe_unused]] uintptr_t base, place;                                                    \
            if constexpr (is_near<reach, sizeof(U)>)                                                   \
                asm inline volatile(PERCPU_NEAR_FORM(body)                                             \
                                    : [value] "=&r"(value), [base] "=&r"(base)                         \
                                    : [operand] constraint(static_cast<uintptr_t>(operand)),           \
                                      [storage] PERCPU_STORAGE_OPERAND(Storage), [size] "i"(sizeof(U))                    \
                                    : "memory");                                                       \
            else                                                                                       \
                asm inline volatile(PERCPU_FAR_FORM(body)                                              \
                                    : [value] "=&r"(value), [base] "=&r"(base), [place] "=&r"(place)   \
                                    : [operand] constraint(static_cast<uintptr_t>(operand)),           \
                                      [storage] PERCPU_STORAGE_OPERAND(Storage), [size] "i"(sizeof(U))                    \
                                    : "memory");                                                       \
        }                                                                                              \
    }

#define PERCPU_ADD_BODY(LOAD, STORE) \
    LOAD("value") PERCPU_ADD("value", "value", "operand") PERCPU_COMMIT STORE("value")
#define PERCPU_SUB_BODY(LOAD, STORE) \
    LOAD("value") PERCPU_SUB("value", "value", "operand") PERCPU_COMMIT STORE("value")
#define PERCPU_AND_BODY(LOAD, STORE) \
    LOAD("value") PERCPU_AND("value", "value", "operand") PERCPU_COMMIT STORE("value")
#define PERCPU_OR_BODY(LOAD, STORE) \
    LOAD("value") PERCPU_OR("value", "value", "operand") PERCPU_COMMIT STORE("value")
#define PERCPU_XOR_BODY(LOAD, STORE) \
    LOAD("value") PERCPU_XOR("value", "value", "operand") PERCPU_COMMIT STORE("value")

PERCPU_UPDATE(add, add, PERCPU_ADD_BODY, PERCPU_ADD_OPERAND)
PERCPU_UPDATE(bit_and, bit_and, PERCPU_AND_BODY, PERCPU_BITS_OPERAND)
PERCPU_UPDATE(bit_or, bit_or, PERCPU_OR_BODY, PERCPU_BITS_OPERAND)
PERCPU_UPDATE(bit_xor, bit_xor, PERCPU_XOR_BODY, PERCPU_BITS_OPERAND)

PERCPU_UPDATE(sub, sub, PERCPU_SUB_BODY, "r")

#define PERCPU_FETCH_ADD_BODY(LOAD, STORE) \
    LOAD("old") PERCPU_ADD("value", "old", "operand") PERCPU_COMMIT STORE("value")

template <auto* Storage, Reach reach, class U>
inline U fetch_add(U operand) noexcept {
    if constexpr (!fits_register<sizeof(U)>) {
        return by_pointer::fetch_add<U>(pointer<Storage, reach>(), operand);
    } else {
        uintptr_t old, value;
        [[maybe_unused]] uintptr_t base, place;
        if constexpr (is_near<reach, sizeof(U)>)
            asm inline volatile(PERCPU_NEAR_FORM(PERCPU_FETCH_ADD_BODY)
                                : [old] "=&r"(old), [value] "=&r"(value), [base] "=&r"(base)
                                : [operand] PERCPU_ADD_OPERAND(static_cast<uintptr_t>(operand)),
                                  [storage] PERCPU_STORAGE_OPERAND(Storage), [size] "i"(sizeof(U))
                                : "memory");
        else
            asm inline volatile(PERCPU_FAR_FORM(PERCPU_FETCH_ADD_BODY)
                                : [old] "=&r"(old), [value] "=&r"(value), [base] "=&r"(base), [place] "=&r"(place)
                                : [operand] PERCPU_ADD_OPERAND(static_cast<uintptr_t>(operand)),
                                  [storage] PERCPU_STORAGE_OPERAND(Storage), [size] "i"(sizeof(U))
                                : "memory");
        return static_cast<U>(old);
    }
}

#define PERCPU_EXCHANGE_BODY(LOAD, STORE) LOAD("old") PERCPU_COMMIT STORE("operand")

template <auto* Storage, Reach reach, class U>
inline U exchange(U operand) noexcept {
    if constexpr (!fits_register<sizeof(U)>) {
        return by_pointer::exchange<U>(pointer<Storage, reach>(), operand);
    } else {
        uintptr_t old;
        [[maybe_unused]] uintptr_t base, place;
        if constexpr (is_near<reach, sizeof(U)>)
            asm inline volatile(PERCPU_NEAR_FORM(PERCPU_EXCHANGE_BODY)
                                : [old] "=&r"(old), [base] "=&r"(base)
                                : [operand] PERCPU_STORED_OPERAND(static_cast<uintptr_t>(operand)),
                                  [storage] PERCPU_STORAGE_OPERAND(Storage), [size] "i"(sizeof(U))
                                : "memory");
        else
            asm inline volatile(PERCPU_FAR_FORM(PERCPU_EXCHANGE_BODY)
                                : [old] "=&r"(old), [base] "=&r"(base), [place] "=&r"(place)
                                : [operand] PERCPU_STORED_OPERAND(static_cast<uintptr_t>(operand)),
                                  [storage] PERCPU_STORAGE_OPERAND(Storage), [size] "i"(sizeof(U))
                                : "memory");
        return static_cast<U>(old);
    }
}

// The branch leaves the sequence, before its commit and with nothing stored.
#define PERCPU_COMPARE_EXCHANGE_BODY(LOAD, STORE)                                         \
    LOAD("old") PERCPU_UNLESS_EQUAL("old", "expected", ".Lpercpu_end%=")                   \
        PERCPU_COMMIT STORE("operand")

template <auto* Storage, Reach reach, class U>
inline bool compare_exchange(U& expected, U desired) noexcept {
    if constexpr (!fits_register<sizeof(U)>) {
        return by_pointer::compare_exchange<U>(pointer<Storage, reach>(), expected, desired);
    } else {
        const uintptr_t wanted = in_register(expected);
        uintptr_t old;
        [[maybe_unused]] uintptr_t base, place;
        if constexpr (is_near<reach, sizeof(U)>)
            asm inline volatile(PERCPU_NEAR_FORM(PERCPU_COMPARE_EXCHANGE_BODY)
                                : [old] "=&r"(old), [base] "=&r"(base)
                                : [operand] PERCPU_STORED_OPERAND(static_cast<uintptr_t>(desired)),
                                  [expected] "r"(wanted), [storage] PERCPU_STORAGE_OPERAND(Storage), [size] "i"(sizeof(U))
                                : "cc", "memory");
        else
            asm inline volatile(PERCPU_FAR_FORM(PERCPU_COMPARE_EXCHANGE_BODY)
                                : [old] "=&r"(old), [base] "=&r"(base), [place] "=&r"(place)
                                : [operand] PERCPU_STORED_OPERAND(static_cast<uintptr_t>(desired)),
                                  [expected] "r"(wanted), [storage] PERCPU_STORAGE_OPERAND(Storage), [size] "i"(sizeof(U))
                                : "cc", "memory");
        expected = static_cast<U>(old);
        return old == wanted;
    }
}

}  // namespace sequence
using namespace sequence;

}  // namespace percpu::arch
