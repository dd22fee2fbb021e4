// One CPU (feature sp-naive): every variable is an ordinary global, and no base register is used.
//
// Reads and writes are volatile, because an interrupt handler may change the variable between two of
// them. Updates are the compiler's relaxed atomics, the only form in which the language promises that
// no interrupt comes between the load and the store; one CPU needs no stronger order. Words of which the
// compiler has no atomic of its own (wider than a register; 1 and 2 bytes with GCC on RISC-V) take several
// steps under a guard, for it would call a library that kernels do not have.

#pragma once

#include "../config.hpp"
#include "by_pointer.hpp"

namespace percpu::arch {

template <size_t size>
inline constexpr bool has_atomic = __atomic_always_lock_free(size, nullptr);

template <Reach reach, size_t size>
inline constexpr bool access_is_one_step = size <= sizeof(void*);
template <Reach reach, size_t size>
inline constexpr bool update_is_one_step = has_atomic<size>;

inline uintptr_t read_base_register() noexcept { return 0; }
inline void write_base_register(uintptr_t) noexcept {}
inline void adopt_area(uintptr_t) noexcept {}

template <auto* Storage, Reach reach>
inline uintptr_t symbol_address() noexcept {
    return reinterpret_cast<uintptr_t>(Storage);
}

template <auto* Storage, Reach reach>
inline uintptr_t pointer() noexcept {
    return reinterpret_cast<uintptr_t>(Storage);
}

template <auto* Storage, class U>
inline volatile typename Alias<sizeof(U)>::type* word() noexcept {
    return reinterpret_cast<volatile typename Alias<sizeof(U)>::type*>(Storage);
}

template <auto* Storage, Reach reach, class U>
inline U read() noexcept {
    return *word<Storage, U>();
}
template <auto* Storage, Reach reach, class U>
inline U read_stable() noexcept {
    return read<Storage, reach, U>();
}
template <auto* Storage, Reach reach, class U>
inline void write(U operand) noexcept {
    *word<Storage, U>() = operand;
}
template <auto* Storage, Reach reach, class U>
inline U fetch_add(U operand) noexcept {
    if constexpr (!has_atomic<sizeof(U)>)
        return by_pointer::fetch_add<U>(pointer<Storage, reach>(), operand);
    else
        return __atomic_fetch_add(word<Storage, U>(), operand, __ATOMIC_RELAXED);
}
template <auto* Storage, Reach reach, class U>
inline void add(U operand) noexcept {
    fetch_add<Storage, reach, U>(operand);
}
template <auto* Storage, Reach reach, class U>
inline void sub(U operand) noexcept {
    fetch_add<Storage, reach, U>(static_cast<U>(0 - operand));
}
template <auto* Storage, Reach reach, class U>
inline void bit_and(U operand) noexcept {
    if constexpr (!has_atomic<sizeof(U)>)
        return by_pointer::bit_and<U>(pointer<Storage, reach>(), operand);
    else
        __atomic_fetch_and(word<Storage, U>(), operand, __ATOMIC_RELAXED);
}
template <auto* Storage, Reach reach, class U>
inline void bit_or(U operand) noexcept {
    if constexpr (!has_atomic<sizeof(U)>)
        return by_pointer::bit_or<U>(pointer<Storage, reach>(), operand);
    else
        __atomic_fetch_or(word<Storage, U>(), operand, __ATOMIC_RELAXED);
}
template <auto* Storage, Reach reach, class U>
inline void bit_xor(U operand) noexcept {
    if constexpr (!has_atomic<sizeof(U)>)
        return by_pointer::bit_xor<U>(pointer<Storage, reach>(), operand);
    else
        __atomic_fetch_xor(word<Storage, U>(), operand, __ATOMIC_RELAXED);
}
template <auto* Storage, Reach reach, class U>
inline U exchange(U operand) noexcept {
    if constexpr (!has_atomic<sizeof(U)>)
        return by_pointer::exchange<U>(pointer<Storage, reach>(), operand);
    else
        return __atomic_exchange_n(word<Storage, U>(), operand, __ATOMIC_RELAXED);
}
template <auto* Storage, Reach reach, class U>
inline bool compare_exchange(U& expected, U desired) noexcept {
    if constexpr (!has_atomic<sizeof(U)>)
        return by_pointer::compare_exchange<U>(pointer<Storage, reach>(), expected, desired);
    else
        return __atomic_compare_exchange_n(word<Storage, U>(), &expected, desired, false,
                                           __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

}  // namespace percpu::arch
