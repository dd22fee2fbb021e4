// Per-CPU variables within the reach of one immediate from address 0, by a near and by a far access, and one
// beyond it; and an ordinary variable. test_riscv_relaxation.py reads what GNU ld makes of the accesses.
#include <percpu/percpu.hpp>

PERCPU_DEFINE_NEAR(size_t, near_word, 1);
PERCPU_DEFINE(size_t, far_word, 2);
PERCPU_DEFINE(char[4096], between, 3);
PERCPU_DEFINE_READ_MOSTLY(size_t, farther_word, 4);

size_t ordinary_word = 5;

#define ACCESSES(name)                                                                \
    size_t read_##name() { return name.read_current(); }                              \
    void write_##name(size_t value) { name.write_current(value); }                    \
    size_t* pointer_##name() { return name.current_ptr(); }                           \
    void add_##name() { name.add_current_raw(1); }                                    \
    size_t fetch_add_##name(size_t value) { return name.fetch_add_current_raw(value); } \
    size_t exchange_##name(size_t value) { return name.exchange_current_raw(value); }

extern "C" {
ACCESSES(near_word)
ACCESSES(far_word)
ACCESSES(farther_word)

size_t read_ordinary() { return ordinary_word; }
}
