// The operations through the address of a copy, for words that the architecture's own instructions
// cannot hold (8 bytes on a 32-bit CPU), and for base registers of the user's own. They take several
// steps, and so are done under a guard. Volatile, because an interrupt handler may change the copy.

#pragma once

#include "../config.hpp"

namespace percpu::arch::by_pointer {

template <class U>
inline volatile U& at(uintptr_t address) noexcept {
    using Word __attribute__((may_alias)) = U;
    return *reinterpret_cast<volatile Word*>(address);
}

template <class U>
inline U read(uintptr_t address) noexcept {
    return at<U>(address);
}
template <class U>
inline void write(uintptr_t address, U operand) noexcept {
    at<U>(address) = operand;
}
template <class U>
inline void add(uintptr_t address, U operand) noexcept {
    at<U>(address) = static_cast<U>(at<U>(address) + operand);
}
template <class U>
inline void sub(uintptr_t address, U operand) noexcept {
    at<U>(address) = static_cast<U>(at<U>(address) - operand);
}
template <class U>
inline void bit_and(uintptr_t address, U operand) noexcept {
    at<U>(address) = static_cast<U>(at<U>(address) & operand);
}
template <class U>
inline void bit_or(uintptr_t address, U operand) noexcept {
    at<U>(address) = static_cast<U>(at<U>(address) | operand);
}
template <class U>
inline void bit_xor(uintptr_t address, U operand) noexcept {
    at<U>(address) = static_cast<U>(at<U>(address) ^ operand);
}
template <class U>
inline U fetch_add(uintptr_t address, U operand) noexcept {
    const U old = at<U>(address);
    at<U>(address) = static_cast<U>(old + operand);
    return old;
}
template <class U>
inline U exchange(uintptr_t address, U operand) noexcept {
    const U old = at<U>(address);
    at<U>(address) = operand;
    return old;
}
template <class U>
inline bool compare_exchange(uintptr_t address, U& expected, U desired) noexcept {
    const U old = at<U>(address);
    const bool equal = old == expected;
    if (equal) at<U>(address) = desired;
    expected = old;
    return equal;
}

}  // namespace percpu::arch::by_pointer
