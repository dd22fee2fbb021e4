// Accessing one per-CPU variable. `PERCPU_DEFINE(T, name, ...)` makes `name` an object of this class;
// it has no state, and every member is static.
//
// Which accessor do I want?
//
//   a scalar, this CPU's copy         read_current  write_current  add_current ...
//   one that does not change          read_current_stable, which the compiler may do once for several
//   anything else, this CPU's copy    with_current(f), or current_ref() for a scope
//   another CPU's copy                remote_ref(cpu_id), for_each(f), sum()
//   the initial value again           reset_to_init()
//
// A scalar (scalar.hpp) is an integer, bool, enum, pointer or floating-point number.
//
//   operation                      on                          gives
//   read  write                    every scalar                the value; nothing
//   exchange  compare_exchange     every scalar, bit by bit    the old value; whether it stored
//   add  sub  fetch_add            integer, float, pointer     nothing; nothing; the old value
//   and  or  xor                   integer, bool, enum         nothing
//
// What they are safe against. An update is every operation but read and write; a handler is one that
// updates the same variable on the same CPU; "guard" needs the feature `preempt`. The first row that fits holds.
//
//                                  preemption, migration    a handler       other CPUs' reads   writes
//   with_current, current_ref      guard                    mask it         torn                no
//   words wider than a register    guard; _raw: caller's    mask it         torn                no
//   sp-naive: all, also _raw       yes, atomics             yes             (one CPU)           (one CPU)
//     but updates that have none   guard; _raw: caller's    mask it
//       (GCC, RISC-V: 1, 2 bytes)
//   base-register=user: read and   guard; _raw: caller's    yes             whole values        no
//     write; updates as "other"
//   x86_64: all, also _raw         yes, one instruction     yes             whole values        no
//   restartable: all, also _raw    yes, restarted           yes             whole values        no
//   near read, write, also _raw,   yes, one instruction     yes             whole values        no
//     RISC-V, LoongArch64, x18
//   other read, write              guard                    yes             whole values        no
//   other updates                  guard                    mask it         whole values        no
//   other _raw                     the caller's affair      as above        whole values        no
//
// The last column: no accessor is atomic towards another CPU that writes this CPU's copy. An update of a
// floating-point number repeats a compare_exchange until it stores, and is as safe as that.
//
// -finstrument-functions instruments accessors, too, also where they are inlined: a hook of a tracer that uses one
// would call itself. It leaves them out with GCC's -finstrument-functions-exclude-file-list=include/percpu/, and with
// Clang by `#pragma clang attribute push(__attribute__((no_instrument_function)), apply_to = function)` in front of
// the #include and `#pragma clang attribute pop` behind it.

#pragma once

#include "arch/current.hpp"
#include "area.hpp"
#include "preempt.hpp"
#include "result.hpp"
#include "scalar.hpp"

namespace percpu {

enum class RemoteError : uint8_t {
    InvalidCpu,  // no area was made for that CPU number
};

// This CPU's copy of a variable, with the CPU held against preemption as long as the handle lives.
template <class T>
class [[nodiscard, maybe_unused]] CurrentRef {
public:
    // The guard comes first: the address is this CPU's only once the CPU is held.
    template <class Locate>
    explicit CurrentRef(Locate locate) noexcept : value_(locate()) {}

    T& operator*() const noexcept { return *value_; }
    T* operator->() const noexcept { return value_; }

private:
    PreemptGuard guard_;
    T* value_;
};

namespace detail {

struct NameText {
    char characters[64];
};

// The variable's C++ name, cut out of the compiler's spelling of this function.
template <auto* Storage>
constexpr NameText cut_name() noexcept {
    NameText text{};
    const char* at = __PRETTY_FUNCTION__;
    const auto skip = [&](const char* prefix) {
        const char* rest = at;
        for (; *prefix != '\0' && *rest == *prefix; ++prefix) ++rest;
        if (*prefix == '\0') at = rest;
        return *prefix == '\0';
    };
    while (*at != '\0' && !skip("percpu_storage_") && !skip("percpu_near_")) ++at;
    for (size_t i = 0; i + 1 < sizeof text.characters; ++i, ++at) {
        const bool in_name = (*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') ||
                             (*at >= '0' && *at <= '9') || *at == '_';
        if (!in_name) break;
        text.characters[i] = *at;
    }
    return text;
}

// For messages of a checked build.
template <auto* Storage>
inline constexpr NameText variable_name = cut_name<Storage>();

}  // namespace detail

template <class T, auto* Storage, auto* Initialize, Reach reach>
class Variable {
    static constexpr ScalarKind kind = detail::kind_of<T>;
    static constexpr bool counts =
        kind == ScalarKind::integer || kind == ScalarKind::floating || kind == ScalarKind::pointer;
    static constexpr bool has_bits =
        kind == ScalarKind::integer || kind == ScalarKind::boolean || kind == ScalarKind::enumeration;

    using AccessGuard = typename detail::GuardUnless<arch::access_is_one_step<reach, sizeof(T)>>::type;
    using UpdateGuard = typename detail::GuardUnless<arch::update_is_one_step<reach, sizeof(T)>>::type;
    using Value = typename detail::ValueOf<T>::type;
    using Word = typename detail::ValueOf<T>::word;
    using Addend = typename detail::ValueOf<T>::addend;

    static Word to_word(Value value) noexcept { return __builtin_bit_cast(Word, value); }
    static Value to_value(Word word) noexcept { return __builtin_bit_cast(Value, word); }

    static Word addend(Addend count) noexcept {
        if constexpr (kind == ScalarKind::pointer) {
            static_assert(requires(T pointer) { sizeof(*pointer), pointer + 1; },
                          "percpu: add_current is for pointers to objects, whose size it counts in");
            return static_cast<Word>(count * static_cast<ptrdiff_t>(sizeof(decltype(*T{}))));
        }
        else
            return static_cast<Word>(count);
    }

    static void check_current() noexcept {
#if defined(PERCPU_CHECKED) && !defined(PERCPU_SP_NAIVE)
        detail::check_current(detail::variable_name<Storage>.characters);
#endif
    }

    // For what takes several steps, or gives an address, without a guard of its own.
    static void check_held([[maybe_unused]] bool one_step = false) noexcept {
#if defined(PERCPU_CHECKED) && !defined(PERCPU_SP_NAIVE)
        if (!one_step) detail::check_held(detail::variable_name<Storage>.characters);
#endif
    }
    static void check_update() noexcept {
        check_held(arch::update_is_one_step<reach, sizeof(T)>);
        check_current();
    }

    static size_t count_areas() noexcept {
#if defined(PERCPU_CHECKED) && !defined(PERCPU_SP_NAIVE)
        detail::check_made(detail::variable_name<Storage>.characters);
#endif
        return detail::area_count();
    }

public:
    using value_type = T;

    // The link-time address of the variable's storage in the template, the same for all CPUs. In the
    // zero-VMA layout it is the offset.
    static uintptr_t symbol_vma() noexcept { return arch::symbol_address<Storage, reach>(); }

    // The variable's place in every area, in bytes from the area's beginning.
    static size_t offset() noexcept {
#if defined(PERCPU_SP_NAIVE)
        return symbol_vma();
#else
        return symbol_vma() - detail::template_address();
#endif
    }

    // The current CPU's copy.
    //
    // The caller holds the CPU against preemption as long as the address is used.
    static T* current_ptr() noexcept {
        check_held();
        check_current();
        return reinterpret_cast<T*>(arch::pointer<Storage, reach>());
    }

    // The current CPU's copy, to read.
    //
    // The caller holds the CPU against preemption as long as the reference is used.
    static const T& current_ref_raw() noexcept { return *current_ptr(); }

    // The current CPU's copy, to change.
    //
    // The caller holds the CPU against preemption as long as the reference is used, and has no other
    // reference to the same copy meanwhile, in an interrupt handler for example.
    static T& current_ref_mut_raw() noexcept { return *current_ptr(); }

    // A handle on the current CPU's copy. It keeps the CPU pinned while it lives.
    static CurrentRef<T> current_ref() noexcept { return CurrentRef<T>{current_ptr}; }

    // Calls f with a reference to the current CPU's copy, with the CPU held, and returns what f returns.
    template <class F>
    static decltype(auto) with_current(F&& f) {
        const PreemptGuard guard;
        return static_cast<F&&>(f)(*current_ptr());
    }

    // Gives the current CPU's copy its initial value again, with the CPU held. For a constructed
    // variable that runs the constructor again, on top of the old object.
    static void reset_to_init() noexcept {
        const PreemptGuard guard;
        Initialize(static_cast<void*>(current_ptr()));
    }

    // The copy of CPU `cpu_id`.
    //
    // The caller ensures that an area was made for that CPU, and that nobody changes the copy while
    // it is used in a way that is a data race.
    static T* remote_ptr(size_t cpu_id) noexcept {
#if defined(PERCPU_CHECKED) && !defined(PERCPU_SP_NAIVE)
        detail::check_cpu(detail::variable_name<Storage>.characters, cpu_id);
#endif
        return reinterpret_cast<T*>(percpu_area_base(cpu_id) + offset());
    }

    // The copy of CPU `cpu_id`, to read. The caller ensures what remote_ptr states.
    static const T& remote_ref_raw(size_t cpu_id) noexcept { return *remote_ptr(cpu_id); }

    // The copy of CPU `cpu_id`, to change. The caller ensures what remote_ptr states.
    static T& remote_ref_mut_raw(size_t cpu_id) noexcept { return *remote_ptr(cpu_id); }

    // The copy of CPU `cpu_id`, or InvalidCpu if no area was made for it.
    //
    // The caller ensures that nobody changes the copy while it is used in a way that is a data race.
    static Result<T&, RemoteError> remote_ref(size_t cpu_id) noexcept {
        if (cpu_id >= count_areas()) return Unexpected{RemoteError::InvalidCpu};
        return *remote_ptr(cpu_id);
    }

    // Calls f(cpu_id, copy) or f(copy) for the copy of each CPU for which an area was made, in order.
    //
    // The caller ensures what remote_ptr states, for all CPUs.
    template <class F>
    static void for_each(F&& f) {
        const size_t count = count_areas();
        for (size_t cpu_id = 0; cpu_id < count; ++cpu_id) {
            if constexpr (requires(T& copy) { f(cpu_id, copy); })
                f(cpu_id, *remote_ptr(cpu_id));
            else
                f(*remote_ptr(cpu_id));
        }
    }

    // The sum of all CPUs' copies, as a long long, unsigned long long or double. Each copy is read
    // once, and whole where it fits a register; the copies are not read at one moment, so while others
    // count up the sum is one that lies between the sum before and the sum after. A copy of 8 bytes is read
    // in two halves on a 32-bit CPU: a carry between them may be seen in one of them only.
    static auto sum() noexcept {
        static_assert(kind == ScalarKind::integer || kind == ScalarKind::floating,
                      "percpu: sum() is for integers and floating-point numbers; use for_each for other types");
        using Total = typename detail::Sum<T>::type;
        Total total = 0;
        for_each([&](const volatile T& copy) { total += static_cast<Total>(copy); });
        return total;
    }

    // Reads the current CPU's copy.
    static Value read_current() noexcept {
        const AccessGuard guard;
        return read_current_raw();
    }

    // Reads the current CPU's copy.
    //
    // The caller holds the CPU against preemption, or can use the value of a CPU that it has left.
    static Value read_current_raw() noexcept {
        static_assert(Scalar<T>, "percpu: read_current is for scalars; use with_current for other types");
        check_current();
        return to_value(arch::read<Storage, reach, Word>());
    }

    // Reads the current CPU's copy, or uses what a read_current_stable gave since the last guard or accessor
    // that writes, in whichever variable: for a value that is written once, as a CPU's number.
    //
    // The caller holds the CPU against preemption, by a PreemptGuard or by hooks that are barriers for the
    // compiler, from the first such read to the last use; and no interrupt handler changes the copy in that time.
    static Value read_current_stable() noexcept {
        static_assert(Scalar<T>, "percpu: read_current_stable is for scalars; use with_current for other types");
        check_held();
        check_current();
        return to_value(arch::read_stable<Storage, reach, Word>());
    }

    // Writes the current CPU's copy.
    static void write_current(Value value) noexcept {
        const AccessGuard guard;
        write_current_raw(value);
    }

    // Writes the current CPU's copy.
    //
    // The caller holds the CPU against preemption.
    static void write_current_raw(Value value) noexcept {
        static_assert(Scalar<T>, "percpu: write_current is for scalars; use with_current for other types");
        check_held(arch::access_is_one_step<reach, sizeof(T)>);
        check_current();
        arch::write<Storage, reach, Word>(to_word(value));
    }

    // Adds to the current CPU's copy: a number, or to a pointer a number of elements. Integers wrap.
    static void add_current(Addend operand) noexcept {
        const UpdateGuard guard;
        add_current_raw(operand);
    }

    // Adds to the current CPU's copy. The caller holds the CPU against preemption.
    static void add_current_raw(Addend operand) noexcept {
        static_assert(counts, "percpu: add_current is for integers, floating-point numbers and pointers");
        check_update();
        if constexpr (kind == ScalarKind::floating)
            repeat([operand](Value old) { return old + operand; });
        else
            arch::add<Storage, reach, Word>(addend(operand));
    }

    // Subtracts from the current CPU's copy, as add_current adds.
    static void sub_current(Addend operand) noexcept {
        const UpdateGuard guard;
        sub_current_raw(operand);
    }

    // Subtracts from the current CPU's copy. The caller holds the CPU against preemption.
    static void sub_current_raw(Addend operand) noexcept {
        static_assert(counts, "percpu: sub_current is for integers, floating-point numbers and pointers");
        check_update();
        if constexpr (kind == ScalarKind::floating)
            repeat([operand](Value old) { return old - operand; });
        else if (__builtin_constant_p(operand))
            // RISC-V and LoongArch have no sub with a number in the instruction.
            arch::add<Storage, reach, Word>(static_cast<Word>(0 - addend(operand)));
        else
            arch::sub<Storage, reach, Word>(addend(operand));
    }

    // Clears the bits of the current CPU's copy that are clear in the operand.
    static void and_current(Value operand) noexcept {
        const UpdateGuard guard;
        and_current_raw(operand);
    }

    // As and_current. The caller holds the CPU against preemption.
    static void and_current_raw(Value operand) noexcept {
        static_assert(has_bits, "percpu: and_current is for integers, bool and enums");
        check_update();
        arch::bit_and<Storage, reach, Word>(to_word(operand));
    }

    // Sets the bits of the current CPU's copy that are set in the operand.
    static void or_current(Value operand) noexcept {
        const UpdateGuard guard;
        or_current_raw(operand);
    }

    // As or_current. The caller holds the CPU against preemption.
    static void or_current_raw(Value operand) noexcept {
        static_assert(has_bits, "percpu: or_current is for integers, bool and enums");
        check_update();
        arch::bit_or<Storage, reach, Word>(to_word(operand));
    }

    // Flips the bits of the current CPU's copy that are set in the operand.
    static void xor_current(Value operand) noexcept {
        const UpdateGuard guard;
        xor_current_raw(operand);
    }

    // As xor_current. The caller holds the CPU against preemption.
    static void xor_current_raw(Value operand) noexcept {
        static_assert(has_bits, "percpu: xor_current is for integers, bool and enums");
        check_update();
        arch::bit_xor<Storage, reach, Word>(to_word(operand));
    }

    // Adds to the current CPU's copy as add_current does, and returns its value before.
    static Value fetch_add_current(Addend operand) noexcept {
        const UpdateGuard guard;
        return fetch_add_current_raw(operand);
    }

    // As fetch_add_current. The caller holds the CPU against preemption.
    static Value fetch_add_current_raw(Addend operand) noexcept {
        static_assert(counts, "percpu: fetch_add_current is for integers, floating-point numbers and pointers");
        check_update();
        if constexpr (kind == ScalarKind::floating)
            return repeat([operand](Value old) { return old + operand; });
        else
            return to_value(arch::fetch_add<Storage, reach, Word>(addend(operand)));
    }

    // Writes the current CPU's copy, and returns its value before.
    static Value exchange_current(Value value) noexcept {
        const UpdateGuard guard;
        return exchange_current_raw(value);
    }

    // As exchange_current. The caller holds the CPU against preemption.
    static Value exchange_current_raw(Value value) noexcept {
        static_assert(Scalar<T>, "percpu: exchange_current is for scalars; use with_current for other types");
        check_update();
        return to_value(arch::exchange<Storage, reach, Word>(to_word(value)));
    }

    // Writes `desired` to the current CPU's copy if that holds `expected`, bit by bit, and returns
    // true; else puts the copy's value into `expected` and returns false.
    static bool compare_exchange_current(Value& expected, Value desired) noexcept {
        const UpdateGuard guard;
        return compare_exchange_current_raw(expected, desired);
    }

    // As compare_exchange_current. The caller holds the CPU against preemption.
    static bool compare_exchange_current_raw(Value& expected, Value desired) noexcept {
        static_assert(Scalar<T>, "percpu: compare_exchange_current is for scalars; use with_current for other types");
        check_update();
        Word word = to_word(expected);
        const bool stored = arch::compare_exchange<Storage, reach, Word>(word, to_word(desired));
        expected = to_value(word);
        return stored;
    }

private:
    // Stores change(value) when the value is still the one that was read, and returns that one. Each
    // try is right on whatever CPU it ends, as it stores only where it finds the value it computed from.
    template <class Change>
    static Value repeat(Change change) noexcept {
        Word old = arch::read<Storage, reach, Word>();
        while (!arch::compare_exchange<Storage, reach, Word>(old, to_word(change(to_value(old))))) {
        }
        return to_value(old);
    }
};

}  // namespace percpu
