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
//   PERCPU_AND_OPERAND  PERCPU_BITS_OPERAND_8          constraints for `and` and for 8 bytes, if they are others
//   PERCPU_STORAGE_OPERAND                             the constraint of %[storage], if it is not "i"
//   PERCPU_UNLESS_EQUAL(a, b, label)                   branch
//   PERCPU_EQUAL_FLAG                                  constraint of the answer that it leaves in the flags, if any
//   PERCPU_ENTER  PERCPU_LEAVE                         assembler state around a sequence
//   PERCPU_SIZE                                        operand [size], printed as a bare number
//   PERCPU_HAS_NEAR(reach, size)                       whether the near form is there
//
// and in percpu::arch: read_base_register, write_base_register, stable_base_register (which the compiler
// may reuse), and in_register(word), the word as a load extends it, as wide as PERCPU_UNLESS_EQUAL compares.
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
#ifndef PERCPU_AND_OPERAND
#define PERCPU_AND_OPERAND PERCPU_BITS_OPERAND
#endif
#ifndef PERCPU_BITS_OPERAND_8
#define PERCPU_BITS_OPERAND_8 PERCPU_BITS_OPERAND
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

// The results of a sequence, and the registers in which it finds the copy: a base that is a general register
// itself takes no other.
#if PERCPU_NEAR_IS_ONE_INSTRUCTION
#define PERCPU_NEAR_RESULTS(...) __VA_ARGS__
#define PERCPU_FAR_RESULTS(...) __VA_ARGS__ __VA_OPT__(, ) [place] "=&r"(place)
#else
#define PERCPU_NEAR_RESULTS(...) __VA_ARGS__ __VA_OPT__(, ) [base] "=&r"(base)
#define PERCPU_FAR_RESULTS(...) __VA_ARGS__ __VA_OPT__(, ) [base] "=&r"(base), [place] "=&r"(place)
#endif
#define PERCPU_OPERANDS(...) \
    __VA_ARGS__ __VA_OPT__(, ) [storage] PERCPU_STORAGE_OPERAND(Storage), [size] "i"(sizeof(U))

// The sequence of `body`, with its results and its operands in parentheses, then what it clobbers. An operand is of
// the word's own type, so that no compiler extends what the store drops again.
#define PERCPU_PERFORM(body, results, operands, ...)                                                         \
    do {                                                                                                     \
        [[maybe_unused]] uintptr_t base, place;                                                              \
        if constexpr (is_near<reach, sizeof(U)>)                                                             \
            asm inline volatile(PERCPU_NEAR_FORM(body)                                                       \
                                : PERCPU_NEAR_RESULTS results                                                \
                                : PERCPU_OPERANDS operands                                                   \
                                : __VA_ARGS__);                                                              \
        else                                                                                                 \
            asm inline volatile(PERCPU_FAR_FORM(body)                                                        \
                                : PERCPU_FAR_RESULTS results                                                 \
                                : PERCPU_OPERANDS operands                                                   \
                                : __VA_ARGS__);                                                              \
    } while (false)

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
                            : PERCPU_NEAR_RESULTS([place] "=&r"(place))
                            : [storage] PERCPU_STORAGE_OPERAND(Storage)
                            : "memory");
    else
        asm inline volatile(PERCPU_ENTER PERCPU_FAR_POINTER PERCPU_LEAVE
                            : PERCPU_FAR_RESULTS()
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
        PERCPU_PERFORM(PERCPU_READ_BODY, ([value] "=r"(value)), (), "memory");
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
    return *reinterpret_cast<const typename Alias<sizeof(U)>::type*>(stable_base_register() + symbol_address<Storage, reach>());
}

#define PERCPU_WRITE_BODY(LOAD, STORE) PERCPU_COMMIT STORE("operand")

template <auto* Storage, Reach reach, class U>
inline void write(U operand) noexcept {
    if constexpr (!fits_register<sizeof(U)>) {
        by_pointer::write<U>(pointer<Storage, reach>(), operand);
    } else {
        PERCPU_PERFORM(PERCPU_WRITE_BODY, (), ([operand] PERCPU_STORED_OPERAND(operand)), "memory");
    }
}

#define PERCPU_UPDATE(name, whole, body, constraint, constraint_8)                                             \
    template <auto* Storage, Reach reach, class U>                                                            \
    inline void name(U operand) noexcept {                                                                    \
        if constexpr (!fits_register<sizeof(U)>) {                                                            \
            by_pointer::whole<U>(pointer<Storage, reach>(), operand);                                         \
        } else if constexpr (sizeof(U) == 8) {                                                                \
            uintptr_t value;                                                                                  \
            PERCPU_PERFORM(body, ([value] "=&r"(value)), ([operand] constraint_8(operand)), "memory");        \
        } else {                                                                                              \
            uintptr_t value;                                                                                  \
            PERCPU_PERFORM(body, ([value] "=&r"(value)), ([operand] constraint(operand)), "memory");          \
        }                                                                                                     \
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

PERCPU_UPDATE(add, add, PERCPU_ADD_BODY, PERCPU_ADD_OPERAND, PERCPU_ADD_OPERAND)
PERCPU_UPDATE(sub, sub, PERCPU_SUB_BODY, "r", "r")
PERCPU_UPDATE(bit_and, bit_and, PERCPU_AND_BODY, PERCPU_AND_OPERAND, PERCPU_BITS_OPERAND_8)
PERCPU_UPDATE(bit_or, bit_or, PERCPU_OR_BODY, PERCPU_BITS_OPERAND, PERCPU_BITS_OPERAND_8)
PERCPU_UPDATE(bit_xor, bit_xor, PERCPU_XOR_BODY, PERCPU_BITS_OPERAND, PERCPU_BITS_OPERAND_8)

#define PERCPU_FETCH_ADD_BODY(LOAD, STORE) \
    LOAD("old") PERCPU_ADD("value", "old", "operand") PERCPU_COMMIT STORE("value")

template <auto* Storage, Reach reach, class U>
inline U fetch_add(U operand) noexcept {
    if constexpr (!fits_register<sizeof(U)>) {
        return by_pointer::fetch_add<U>(pointer<Storage, reach>(), operand);
    } else {
        uintptr_t old, value;
        PERCPU_PERFORM(PERCPU_FETCH_ADD_BODY, ([old] "=&r"(old), [value] "=&r"(value)),
                       ([operand] PERCPU_ADD_OPERAND(operand)), "memory");
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
        PERCPU_PERFORM(PERCPU_EXCHANGE_BODY, ([old] "=&r"(old)), ([operand] PERCPU_STORED_OPERAND(operand)), "memory");
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
        const auto wanted = in_register(expected);
        uintptr_t old;
#if defined(PERCPU_EQUAL_FLAG)
        // The flags of the comparison outlive the sequence, on either way out of it.
        bool stored;
        PERCPU_PERFORM(PERCPU_COMPARE_EXCHANGE_BODY, ([old] "=&r"(old), PERCPU_EQUAL_FLAG(stored)),
                       ([operand] PERCPU_STORED_OPERAND(desired), [expected] "r"(wanted)), "memory");
#else
        PERCPU_PERFORM(PERCPU_COMPARE_EXCHANGE_BODY, ([old] "=&r"(old)),
                       ([operand] PERCPU_STORED_OPERAND(desired), [expected] "r"(wanted)), "cc", "memory");
        const bool stored = static_cast<decltype(in_register(expected))>(old) == wanted;
#endif
        expected = static_cast<U>(old);
        return stored;
    }
}

}  // namespace sequence
using namespace sequence;

}  // namespace percpu::arch
