// Result<T, E>: a value or an error, without exceptions and without the standard library.
//
// The members are those of std::expected (C++23) that make sense here. Reading the value of a
// Result that holds an error, or the error of one that holds a value, traps.

#pragma once

namespace percpu {

template <class E>
struct Unexpected {
    E reason;
};
template <class E>
Unexpected(E) -> Unexpected<E>;

template <class T, class E>
class [[nodiscard]] Result {
    static_assert(__is_trivially_copyable(T) && __is_trivially_copyable(E),
                  "percpu: a Result holds trivially copyable values and errors");

public:
    using value_type = T;
    using error_type = E;

    constexpr Result(T value) noexcept : value_(value), has_value_(true) {}
    constexpr Result(Unexpected<E> error) noexcept : error_(error.reason), has_value_(false) {}

    [[nodiscard]] constexpr bool has_value() const noexcept { return has_value_; }
    constexpr explicit operator bool() const noexcept { return has_value_; }

    [[nodiscard]] constexpr const T& value() const noexcept {
        if (!has_value_) __builtin_trap();
        return value_;
    }
    constexpr const T& operator*() const noexcept { return value(); }
    constexpr const T* operator->() const noexcept { return __builtin_addressof(value()); }
    [[nodiscard]] constexpr T value_or(T other) const noexcept { return has_value_ ? value_ : other; }

    [[nodiscard]] constexpr const E& error() const noexcept {
        if (has_value_) __builtin_trap();
        return error_;
    }
    [[nodiscard]] constexpr E error_or(E other) const noexcept { return has_value_ ? other : error_; }

    template <class F>
    constexpr auto and_then(F&& then) const -> decltype(then(value())) {
        if (has_value_) return then(value_);
        return Unexpected<E>{error_};
    }
    template <class F>
    constexpr auto transform(F&& change) const -> Result<decltype(change(value())), E> {
        if (has_value_) return change(value_);
        return Unexpected<E>{error_};
    }

    friend constexpr bool operator==(const Result& a, const Result& b) noexcept {
        if (a.has_value_ != b.has_value_) return false;
        return a.has_value_ ? a.value_ == b.value_ : a.error_ == b.error_;
    }
    friend constexpr bool operator==(const Result& a, const T& value) noexcept {
        return a.has_value_ && a.value_ == value;
    }
    friend constexpr bool operator==(const Result& a, const Unexpected<E>& error) noexcept {
        return !a.has_value_ && a.error_ == error.reason;
    }

private:
    union {
        T value_;
        E error_;
    };
    bool has_value_;
};

// A reference or an error: what the checked accessors to other CPUs return.
template <class T, class E>
class [[nodiscard]] Result<T&, E> {
public:
    using value_type = T&;
    using error_type = E;

    constexpr Result(T& value) noexcept : value_(__builtin_addressof(value)), error_() {}
    constexpr Result(Unexpected<E> error) noexcept : value_(nullptr), error_(error.reason) {}

    [[nodiscard]] constexpr bool has_value() const noexcept { return value_ != nullptr; }
    constexpr explicit operator bool() const noexcept { return has_value(); }

    [[nodiscard]] constexpr T& value() const noexcept {
        if (!has_value()) __builtin_trap();
        return *value_;
    }
    constexpr T& operator*() const noexcept { return value(); }
    constexpr T* operator->() const noexcept { return value_ == nullptr ? __builtin_addressof(value()) : value_; }

    [[nodiscard]] constexpr const E& error() const noexcept {
        if (has_value()) __builtin_trap();
        return error_;
    }

private:
    T* value_;
    E error_;
};

}  // namespace percpu
