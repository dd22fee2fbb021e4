// The operations through the address of a copy, for words that the architecture's own instructions
// cannot hold (8 bytes on a 32-bit CPU), and for base registers of the user's own. They take several
// steps, and so are done under a guard. Volatile, because an interrupt handler may change the copy.

#pragma once

#include "../config.hpp"

namespace percpu::arch {

// The storage holds a T, the operation sees its bytes as an unsigned integer of the same size. One by one: of a type
// that depends on a template's argument GCC drops the attribute.
template <size_t size>
struct Alias;
template <>
struct Alias<1> {
    using type __attribute__((may_alias)) = uint8_t;
};
template <>
struct Alias<2> {
    using type __attribute__((may_alias)) = uint16_t;
};
template <>
struct Alias<4> {
    using type __attribute__((may_alias)) = uint32_t;
};
template <>
struct Alias<8> {
    using type __attribute__((may_alias)) = uint64_t;
};

namespace by_pointer {

template <class U>
inline volatile typename Alias<sizeof(U)>::type* at(uintptr_t address) noexcept {
    return reinterpret_cast<volatile typename Alias<sizeof(U)>::type*>(address);
}

template <class U>
inline U read(uintptr_t address) noexcept {
    return *at<U>(address);
}
template <class U>
inline void write(uintptr_t address, U operand) noexcept {
    *at<U>(address) = operand;
}
template <class U>
inline void add(uintptr_t address, U operand) noexcept {
    *at<U>(address) = static_cast<U>(*at<U>(address) + operand);
}
template <class U>
inline void sub(uintptr_t address, U operand) noexcept {
    *at<U>(address) = static_cast<U>(*at<U>(address) - operand);
}
template <class U>
inline void bit_and(uintptr_t address, U operand) noexcept {
    *at<U>(address) = static_cast<U>(*at<U>(address) & operand);
}
template <class U>
inline void bit_or(uintptr_t address, U operand) noexcept {
    *at<U>(address) = static_cast<U>(*at<U>(address) | operand);
}
template <class U>
inline void bit_xor(uintptr_t address, U operand) noexcept {
    *at<U>(address) = static_cast<U>(*at<U>(address) ^ operand);
}
template <class U>
inline U fetch_add(uintptr_t address, U operand) noexcept {
    const U old = *at<U>(address);
    *at<U>(address) = static_cast<U>(old + operand);
    return old;
}
template <class U>
inline U exchange(uintptr_t address, U operand) noexcept {
    const U old = *at<U>(address);
    *at<U>(address) = operand;
    return old;
}
template <class U>
inline bool compare_exchange(uintptr_t address, U& expected, U desired) noexcept {
    const U old = *at<U>(address);
    const bool equal = old == expected;
    if (equal) *at<U>(address) = desired;
    expected = old;
    return equal;
}

}  // namespace by_pointer

}  // namespace percpu::arch
