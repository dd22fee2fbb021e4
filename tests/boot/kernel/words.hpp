// The per-CPU words that torture.cpp updates, and what each update leaves in all CPUs' copies together.
//
// They come in pairs. A count has fields, for kinds of updates that leave different traces. From the top:
//
//   counted    a half. Whatever adds, adds 1 here: the sum of all copies is the number of updates.
//   flipped    a quarter. xor flips bits at random: all copies and all flips made cancel each other.
//   handlers'  an eighth. The interrupt handler of a CPU sets and clears them in its copy, and looks.
//   threads'   an eighth. Threads set and clear them with `or` and `and`, which must leave the rest alone.
//
// A store of what was computed before somebody else's update undoes that update, whatever the two are, and
// so is seen in one of the first three. A token is exchanged: threads and handlers give the one that they
// have for the one that is there, and all tokens together stay the same.
#pragma once

#include <percpu/percpu.hpp>

template <class T>
struct Fields {
    static constexpr unsigned bits = 8 * sizeof(T);
    static constexpr unsigned counted_bits = bits / 2;
    static constexpr T one = static_cast<T>(T{1} << counted_bits);
    static constexpr T threads = static_cast<T>((T{1} << bits / 8) - 1);
    static constexpr T handlers = static_cast<T>(threads << bits / 8);
    static constexpr T flipped = static_cast<T>((one - 1) & ~(threads | handlers));

    static T counted(T word) { return static_cast<T>(word >> counted_bits); }
};

// What one thread or one CPU's handler has made of a pair.
template <class T>
struct Ledger {
    T counted;
    T flipped;
    T token;
    T first_token;
    T one;     // Fields<T>::one, where the compiler does not see that it is
    T set_bits;  // of the handlers'
    size_t undone;
};

// Whether handlers update a pair as well, or threads only.
struct alone {
    static constexpr bool by_handlers = false;
};
struct shared {
    static constexpr bool by_handlers = true;
};

// X(sharing, place, type, _NEAR or nothing)
#define TORTURED_WORDS(X)            \
    X(alone, far_8, uint8_t, )       \
    X(alone, far_16, uint16_t, )     \
    X(alone, far_32, uint32_t, )     \
    X(alone, far_64, uint64_t, )     \
    X(alone, near_8, uint8_t, _NEAR) \
    X(alone, near_16, uint16_t, _NEAR) \
    X(alone, near_32, uint32_t, _NEAR) \
    X(alone, near_64, uint64_t, _NEAR) \
    X(shared, far_8, uint8_t, )      \
    X(shared, far_16, uint16_t, )    \
    X(shared, far_32, uint32_t, )    \
    X(shared, far_64, uint64_t, )    \
    X(shared, near_8, uint8_t, _NEAR) \
    X(shared, near_16, uint16_t, _NEAR) \
    X(shared, near_32, uint32_t, _NEAR) \
    X(shared, near_64, uint64_t, _NEAR)

#define TORTURED_DEFINE(sharing, place, T, near)              \
    PERCPU_DEFINE_STATIC##near(T, sharing##_count_##place, 0); \
    PERCPU_DEFINE_STATIC##near(T, sharing##_token_##place, 0);
TORTURED_WORDS(TORTURED_DEFINE)

#define TORTURED_LEDGER(sharing, place, T, near) Ledger<T> sharing##_##place;
struct Ledgers {
    TORTURED_WORDS(TORTURED_LEDGER)
};

// Calls f(sharing, count, token, ledger) for each pair.
#define TORTURED_VISIT(sharing, place, T, near) \
    f(sharing{}, sharing##_count_##place, sharing##_token_##place, ledgers.sharing##_##place);
template <class F>
[[gnu::always_inline]] inline void for_each_pair(Ledgers& ledgers, F f) {
    TORTURED_WORDS(TORTURED_VISIT)
}
