// Every accessor on every kind and size of scalar, on this CPU's copy, with the neighbours watched.
#include <percpu/percpu.hpp>

#include "check.hpp"

enum class Color : uint16_t { red = 1, green = 2, both = 3 };

PERCPU_DECLARE(int8_t, i8);
PERCPU_DEFINE(int8_t, i8, -1);
PERCPU_DEFINE(uint8_t, u8, 1);
PERCPU_DEFINE(int16_t, i16, -2);
PERCPU_DEFINE(uint16_t, u16, 2);
PERCPU_DEFINE(int32_t, i32, -3);
PERCPU_DEFINE(uint32_t, u32, 3);
PERCPU_DEFINE(int64_t, i64, -4);
PERCPU_DEFINE(uint64_t, u64, 4);
PERCPU_DEFINE(size_t, size, 5);
PERCPU_DEFINE(bool, flag, true);
PERCPU_DEFINE(Color, color, Color::red);
#if !defined(WITHOUT_FLOATING_POINT)
PERCPU_DEFINE(float, single_precision, 0.5f);
PERCPU_DEFINE(double, double_precision, 0.25);
#endif
static uint32_t numbers[8];
PERCPU_DEFINE(uint32_t*, pointer, numbers);
PERCPU_DEFINE(const char*, text, "text");
PERCPU_DEFINE_NEAR(uint32_t, near_word, 7);
PERCPU_DEFINE_STATIC(uint32_t, own_word, 8);
PERCPU_DEFINE_STATIC_NEAR(uint32_t, own_near_word, 9);
PERCPU_DEFINE_READ_MOSTLY(uint32_t, limit, 10);
PERCPU_DEFINE_ALIGNED(uint32_t, line_word, 11);
PERCPU_DEFINE(uint8_t[64], zeros);
// An initializer's names are the user's, where the initial value is written again, too.
[[maybe_unused]] static uint8_t at[100];
PERCPU_DEFINE(size_t, size_of_at, sizeof at);

namespace space {
PERCPU_DEFINE(uint32_t, word, 12);
namespace {
PERCPU_DEFINE_STATIC(uint32_t, hidden_word, 13);
}
}  // namespace space

// Cannot be copied or moved, as a lock.
struct Lock {
    explicit constexpr Lock(int initial) : depth(initial) {}
    Lock(const Lock&) = delete;
    int depth;
};
PERCPU_DEFINE(Lock, lock, 4);

struct Nested {
    struct {
        int x, y;
    } at;
    const char* name;
};
PERCPU_DEFINE(Nested, nested, {1, 2}, "nested");

template <class Variable, class T>
void read_write(const Variable& variable, T initial, T other) {
    CHECK(variable.read_current() == initial);
    CHECK(variable.read_current_raw() == initial);
    CHECK(variable.read_current_stable() == initial);
    variable.write_current(other);
    CHECK(variable.read_current() == other);
    CHECK(*variable.current_ptr() == other);
    variable.write_current_raw(initial);
    CHECK(*variable.current_ref() == initial);

    CHECK(variable.exchange_current(other) == initial);
    CHECK(variable.exchange_current_raw(initial) == other);

    T expected = other;
    CHECK(!variable.compare_exchange_current(expected, other));
    CHECK(expected == initial);
    CHECK(variable.read_current() == initial);
    CHECK(variable.compare_exchange_current_raw(expected, other));
    CHECK(variable.read_current() == other);

    variable.reset_to_init();
    CHECK(variable.read_current() == initial);
    CHECK(reinterpret_cast<uintptr_t>(variable.current_ptr()) % alignof(T) == 0);
}

template <class Variable, class T>
void count(const Variable& variable, T initial) {
    variable.add_current(3);
    CHECK(variable.read_current() == static_cast<T>(initial + 3));
    variable.sub_current(1);
    CHECK(variable.read_current() == static_cast<T>(initial + 2));
    CHECK(variable.fetch_add_current(2) == static_cast<T>(initial + 2));
    CHECK(variable.fetch_add_current_raw(1) == static_cast<T>(initial + 4));
    variable.add_current_raw(1);
    variable.sub_current_raw(6);
    CHECK(variable.read_current() == initial);
    volatile int step = 2;
    variable.add_current(static_cast<T>(step));
    variable.sub_current(static_cast<T>(step));
    CHECK(variable.read_current() == initial);

    // Down through 0, by numbers that are negative or wrap.
    variable.write_current(static_cast<T>(1));
    variable.sub_current(3);
    CHECK(variable.read_current() == static_cast<T>(-2));
    variable.add_current(static_cast<T>(-1));
    CHECK(variable.read_current() == static_cast<T>(-3));
    CHECK(variable.fetch_add_current(static_cast<T>(-120)) == static_cast<T>(-3));
    CHECK(variable.read_current() == static_cast<T>(-123));
    variable.write_current(initial);
}

template <class Variable, class T>
void bits(const Variable& variable, T initial) {
    variable.write_current(static_cast<T>(0b1100));
    variable.and_current(static_cast<T>(0b0101));
    CHECK(variable.read_current() == static_cast<T>(0b0100));
    variable.or_current(static_cast<T>(0b0010));
    CHECK(variable.read_current() == static_cast<T>(0b0110));
    variable.xor_current(static_cast<T>(0b0011));
    CHECK(variable.read_current() == static_cast<T>(0b0101));
    variable.and_current_raw(static_cast<T>(0b0001));
    variable.or_current_raw(static_cast<T>(0b1000));
    variable.xor_current_raw(static_cast<T>(0b0001));
    CHECK(variable.read_current() == static_cast<T>(0b1000));

    // The highest bit, and all of them: numbers that one extends by the sign and another by zeros.
    constexpr T highest = static_cast<T>(1ULL << (8 * sizeof(T) - 1));
    constexpr T all = static_cast<T>(~0ULL);
    variable.or_current(highest);
    CHECK(variable.read_current() == static_cast<T>(highest | 0b1000));
    variable.xor_current(all);
    CHECK(variable.read_current() == static_cast<T>(~(highest | 0b1000)));
    variable.and_current(static_cast<T>(~0b0110));
    CHECK(variable.read_current() == static_cast<T>(~(highest | 0b1110)));
    variable.or_current(static_cast<T>(1ULL << (8 * sizeof(T) - 2)));
    variable.xor_current(highest);
    CHECK(variable.read_current() == static_cast<T>(~0b1110));
    variable.and_current(highest);
    CHECK(variable.read_current() == highest);
    T expected = highest;
    CHECK(variable.compare_exchange_current(expected, all));
    CHECK(!variable.compare_exchange_current(expected, initial) && expected == all);
    CHECK(variable.compare_exchange_current(expected, initial));
    CHECK(variable.read_current() == initial);
}

// A parameter's bits above its own width are nobody's: compilers may leave there what the whole held.
template <class T>
[[gnu::noinline]] bool put(const auto& variable, T expected, T desired) {
    return variable.compare_exchange_current(expected, desired);
}

template <class T>
void narrow(const auto& variable, T initial) {
    volatile unsigned dirty = 0xa5a5a5a5;
    const unsigned whole = dirty;
    variable.write_current(static_cast<T>(whole));
    CHECK(variable.read_current() == static_cast<T>(0xa5a5a5a5));
    CHECK(put<T>(variable, static_cast<T>(whole), static_cast<T>(whole >> 1)));
    CHECK(variable.exchange_current(static_cast<T>(whole >> 2)) == static_cast<T>(0xa5a5a5a5 >> 1));
    variable.add_current(static_cast<T>(whole));
    variable.sub_current(static_cast<T>(whole >> 2));
    CHECK(variable.read_current() == static_cast<T>(0xa5a5a5a5));
    variable.write_current(initial);
}

template <class Variable, class T>
void integer(const Variable& variable, T initial, T other) {
    read_write(variable, initial, other);
    count(variable, initial);
    bits(variable, initial);
}

int main() {
    CHECK(percpu::init_in_place().has_value());
    percpu::init_percpu_reg(0);

    integer<decltype(i8), int8_t>(i8, -1, 0x12);
    integer<decltype(u8), uint8_t>(u8, 1, 0xff);
    integer<decltype(i16), int16_t>(i16, -2, 0x1234);
    integer<decltype(u16), uint16_t>(u16, 2, 0xffff);
    integer<decltype(i32), int32_t>(i32, -3, 0x12345678);
    integer<decltype(u32), uint32_t>(u32, 3, 0xffffffff);
    narrow<int8_t>(i8, -1);
    narrow<uint8_t>(u8, 1);
    narrow<int16_t>(i16, -2);
    narrow<uint16_t>(u16, 2);
    narrow<int32_t>(i32, -3);
    narrow<uint32_t>(u32, 3);
    integer<decltype(i64), int64_t>(i64, -4, 0x123456789abcdef0);
    integer<decltype(u64), uint64_t>(u64, 4, 0xffffffffffffffff);
    integer<decltype(size), size_t>(size, 5, 0x80000000);
    integer<decltype(near_word), uint32_t>(near_word, 7, 70);
    integer<decltype(own_word), uint32_t>(own_word, 8, 80);
    integer<decltype(own_near_word), uint32_t>(own_near_word, 9, 90);
    integer<decltype(limit), uint32_t>(limit, 10, 100);
    integer<decltype(line_word), uint32_t>(line_word, 11, 110);
    integer<decltype(space::word), uint32_t>(space::word, 12, 120);
    integer<decltype(space::hidden_word), uint32_t>(space::hidden_word, 13, 130);
    CHECK(reinterpret_cast<uintptr_t>(line_word.current_ptr()) % PERCPU_CACHE_LINE == 0);

    u64.write_current(0xffffffff);
    u64.add_current(1);
    CHECK(u64.read_current() == 0x100000000);
    u64.add_current(0x123456789);
    CHECK(u64.read_current() == 0x223456789);
    u8.write_current(255);
    u8.add_current(1);
    CHECK(u8.read_current() == 0);

    read_write(flag, true, false);
    flag.and_current(false);
    CHECK(!flag.read_current());
    flag.or_current(true);
    CHECK(flag.read_current());
    flag.xor_current(true);
    CHECK(!flag.read_current());

    read_write(color, Color::red, Color::green);
    color.or_current(Color::both);
    CHECK(color.read_current() == Color::both);
    color.and_current(Color::green);
    CHECK(color.read_current() == Color::green);

#if !defined(WITHOUT_FLOATING_POINT)
    read_write(single_precision, 0.5f, -1e30f);
    count(single_precision, 0.5f);
    read_write(double_precision, 0.25, 1e300);
    count(double_precision, 0.25);
#endif

    read_write(pointer, static_cast<uint32_t*>(numbers), static_cast<uint32_t*>(numbers + 8));
    pointer.add_current(3);
    CHECK(pointer.read_current() == numbers + 3);
    pointer.sub_current(1);
    CHECK(pointer.fetch_add_current(-2) == numbers + 2);
    CHECK(pointer.read_current() == numbers);
    CHECK(text.fetch_add_current(1)[0] == 't');
    CHECK(text.read_current()[0] == 'e');

    read_write(size_of_at, sizeof at, sizeof at + 1);

    for (uint8_t byte : *zeros.current_ptr()) CHECK(byte == 0);
    zeros.with_current([](uint8_t (&all)[64]) { all[63] = 1; });
    zeros.reset_to_init();
    CHECK(zeros.with_current([](uint8_t (&all)[64]) { return all[63]; }) == 0);

    CHECK(lock.current_ref()->depth == 4);
    lock.current_ref_mut_raw().depth = 5;
    CHECK(lock.current_ref_raw().depth == 5);
    lock.reset_to_init();
    CHECK(lock.current_ref()->depth == 4);
    CHECK(nested.current_ref()->at.y == 2);
    nested.with_current([](Nested& it) { it.at.y = 3; });
    CHECK((*nested.current_ref()).at.y == 3);
    nested.reset_to_init();
    CHECK(nested.current_ref()->at.y == 2);

    // What the other variables hold has not moved.
    CHECK(i8.read_current() == -1);
    CHECK(i16.read_current() == -2);
    CHECK(i32.read_current() == -3);
    CHECK(i64.read_current() == -4);
    CHECK(size.read_current() == 5);
    return failures != 0;
}
