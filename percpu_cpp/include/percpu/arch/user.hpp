// PERCPU_BASE_REGISTER=user: the base is kept where two inline functions of the user's say, in the header
// that PERCPU_BASE_REGISTER_HEADER names:
//
//     inline uintptr_t percpu_user_base() noexcept;                  // 0 if it was never set
//     inline void percpu_user_set_base(uintptr_t value) noexcept;
//
// They keep the value as it is; in the in-image layout it is biased, and no address. For any
// architecture, in plain C++, and so every access is a few instructions more.

#pragma once

#include "../config.hpp"
#include "by_pointer.hpp"

#if !defined(PERCPU_BASE_REGISTER_HEADER)
#error "percpu: base-register=user needs -DPERCPU_BASE_REGISTER_HEADER='\"...\"', the header with percpu_user_base and percpu_user_set_base"
#else
#include PERCPU_BASE_REGISTER_HEADER
#endif

namespace percpu::arch {

template <Reach reach, size_t size>
inline constexpr bool access_is_one_step = false;
template <Reach reach, size_t size>
inline constexpr bool update_is_one_step = false;

inline uintptr_t read_base_register() noexcept { return percpu_user_base(); }
inline void write_base_register(uintptr_t value) noexcept { percpu_user_set_base(value); }
inline void adopt_area(uintptr_t) noexcept {}

#if defined(PERCPU_NON_ZERO_VMA)
template <auto* Storage, Reach reach>
inline uintptr_t symbol_address() noexcept {
    return reinterpret_cast<uintptr_t>(Storage);
}
#else
// Kept in a word, from which no compiler concludes anything, and which holds an address near 0 also where
// code could not reach it from the program counter.
template <auto* Storage>
inline const void* const volatile link_address = Storage;

template <auto* Storage, Reach reach>
inline uintptr_t symbol_address() noexcept {
    return reinterpret_cast<uintptr_t>(link_address<Storage>);
}
#endif

template <auto* Storage, Reach reach>
inline uintptr_t pointer() noexcept {
    return read_base_register() + symbol_address<Storage, reach>();
}

template <auto* Storage, Reach reach, class U>
inline U read() noexcept {
    return by_pointer::read<U>(pointer<Storage, reach>());
}
template <auto* Storage, Reach reach, class U>
inline U read_stable() noexcept {
    return read<Storage, reach, U>();
}
template <auto* Storage, Reach reach, class U>
inline void write(U operand) noexcept {
    by_pointer::write<U>(pointer<Storage, reach>(), operand);
}
template <auto* Storage, Reach reach, class U>
inline void add(U operand) noexcept {
    by_pointer::add<U>(pointer<Storage, reach>(), operand);
}
template <auto* Storage, Reach reach, class U>
inline void sub(U operand) noexcept {
    by_pointer::sub<U>(pointer<Storage, reach>(), operand);
}
template <auto* Storage, Reach reach, class U>
inline void bit_and(U operand) noexcept {
    by_pointer::bit_and<U>(pointer<Storage, reach>(), operand);
}
template <auto* Storage, Reach reach, class U>
inline void bit_or(U operand) noexcept {
    by_pointer::bit_or<U>(pointer<Storage, reach>(), operand);
}
template <auto* Storage, Reach reach, class U>
inline void bit_xor(U operand) noexcept {
    by_pointer::bit_xor<U>(pointer<Storage, reach>(), operand);
}
template <auto* Storage, Reach reach, class U>
inline U fetch_add(U operand) noexcept {
    return by_pointer::fetch_add<U>(pointer<Storage, reach>(), operand);
}
template <auto* Storage, Reach reach, class U>
inline U exchange(U operand) noexcept {
    return by_pointer::exchange<U>(pointer<Storage, reach>(), operand);
}
template <auto* Storage, Reach reach, class U>
inline bool compare_exchange(U& expected, U desired) noexcept {
    return by_pointer::compare_exchange<U>(pointer<Storage, reach>(), expected, desired);
}

}  // namespace percpu::arch
