// What a scalar is, and the unsigned integer of its size by which it travels to and from its storage.

#pragma once

#include "config.hpp"

namespace percpu {

enum class ScalarKind : uint8_t { none, boolean, integer, floating, pointer, enumeration };

namespace detail {

template <class T>
inline constexpr ScalarKind kind_of = __is_enum(T) ? ScalarKind::enumeration : ScalarKind::none;
template <class T>
inline constexpr ScalarKind kind_of<T*> = ScalarKind::pointer;
template <>
inline constexpr ScalarKind kind_of<bool> = ScalarKind::boolean;
template <>
inline constexpr ScalarKind kind_of<char> = ScalarKind::integer;
template <>
inline constexpr ScalarKind kind_of<signed char> = ScalarKind::integer;
template <>
inline constexpr ScalarKind kind_of<unsigned char> = ScalarKind::integer;
template <>
inline constexpr ScalarKind kind_of<wchar_t> = ScalarKind::integer;
#if defined(__cpp_char8_t)
template <>
inline constexpr ScalarKind kind_of<char8_t> = ScalarKind::integer;
#endif
template <>
inline constexpr ScalarKind kind_of<char16_t> = ScalarKind::integer;
template <>
inline constexpr ScalarKind kind_of<char32_t> = ScalarKind::integer;
template <>
inline constexpr ScalarKind kind_of<short> = ScalarKind::integer;
template <>
inline constexpr ScalarKind kind_of<unsigned short> = ScalarKind::integer;
template <>
inline constexpr ScalarKind kind_of<int> = ScalarKind::integer;
template <>
inline constexpr ScalarKind kind_of<unsigned> = ScalarKind::integer;
template <>
inline constexpr ScalarKind kind_of<long> = ScalarKind::integer;
template <>
inline constexpr ScalarKind kind_of<unsigned long> = ScalarKind::integer;
template <>
inline constexpr ScalarKind kind_of<long long> = ScalarKind::integer;
template <>
inline constexpr ScalarKind kind_of<unsigned long long> = ScalarKind::integer;
template <>
inline constexpr ScalarKind kind_of<float> = ScalarKind::floating;
template <>
inline constexpr ScalarKind kind_of<double> = ScalarKind::floating;

template <size_t size>
struct WordOfSize;
template <>
struct WordOfSize<1> {
    using type = uint8_t;
};
template <>
struct WordOfSize<2> {
    using type = uint16_t;
};
template <>
struct WordOfSize<4> {
    using type = uint32_t;
};
template <>
struct WordOfSize<8> {
    using type = uint64_t;
};

// What the scalar accessors take and give. For a type that is no scalar these stand in its place until
// the accessor's own static_assert says so: an array, for one, cannot be a parameter.
template <class T, bool scalar = kind_of<T> != ScalarKind::none>
struct ValueOf {
    using type = const T&;
    using word = uint8_t;
    using addend = const T&;
};
template <class T>
struct ValueOf<T, true> {
    using type = T;
    using word = typename WordOfSize<sizeof(T)>::type;
    using addend = T;
};
// To a pointer one adds a number of elements.
template <class T>
struct ValueOf<T*, true> {
    using type = T*;
    using word = typename WordOfSize<sizeof(T*)>::type;
    using addend = ptrdiff_t;
};

// The type in which copies of T are summed up without overflow in practice.
template <class T, ScalarKind kind = kind_of<T>>
struct Sum;
template <class T>
struct Sum<T, ScalarKind::floating> {
    using type = double;
};
template <class T>
    requires(T(-1) < T(0))
struct Sum<T, ScalarKind::integer> {
    using type = long long;
};
template <class T>
    requires(T(-1) > T(0))
struct Sum<T, ScalarKind::integer> {
    using type = unsigned long long;
};

}  // namespace detail

// An integer, bool, enum, pointer or floating-point number of 1, 2, 4 or 8 bytes.
template <class T>
concept Scalar = detail::kind_of<T> != ScalarKind::none;

}  // namespace percpu
