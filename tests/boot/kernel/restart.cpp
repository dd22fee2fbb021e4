// One sequence of each kind, for a debugger that interrupts each at every instruction. The debugger
// sets a probe's breakpoint, changes the variable as an interrupt handler would, sends the sequence where
// percpu::restart_pc says, and reads the outcome (tests/torture/restart_gdb.py).
#include <percpu/percpu.hpp>

#include "areas.hpp"
#include "board.hpp"
#include "check.hpp"

PERCPU_DEFINE(uint8_t, far_8, 0);
PERCPU_DEFINE(uint16_t, far_16, 0);
PERCPU_DEFINE(uint32_t, far_32, 0);
PERCPU_DEFINE(size_t, far_word, 0);
PERCPU_DEFINE_NEAR(uint8_t, near_8, 0);
PERCPU_DEFINE_NEAR(uint16_t, near_16, 0);
PERCPU_DEFINE_NEAR(uint32_t, near_32, 0);
PERCPU_DEFINE_NEAR(size_t, near_word, 0);

constexpr unsigned initial = 40;
constexpr unsigned operand = 3;

// What a probe did: the value that the operation gave, and the variable's value after it.
struct Outcome {
    size_t given;
    size_t left;
};

extern "C" {
Outcome outcome;
// Where the variable under probe lies, and its size in bytes.
uintptr_t watched;
size_t watched_size;

// A stop for the debugger, when a probe is done.
[[gnu::noinline]] void probe_done() { asm volatile("" : : : "memory"); }

// For the debugger to call.
[[gnu::noinline]] uintptr_t where_to_restart(uintptr_t pc) { return percpu::restart_pc(pc); }
}

template <class Variable, class Operation>
void probe(const Variable& variable, Operation operation) {
    variable.write_current(initial);
    watched = reinterpret_cast<uintptr_t>(variable.current_ptr());
    watched_size = sizeof(typename Variable::value_type);
    const size_t given = operation(variable);
    outcome = {given, variable.read_current()};
    probe_done();
}

// One function for each operation and variable, whose name says so to the debugger.
#define PROBE(operation, name, ...)                                        \
    extern "C" [[gnu::noinline]] void probe_##operation##_##name() {       \
        probe(name, [](const auto& it) -> size_t {                         \
            using T = typename decltype(name)::value_type;                 \
            [[maybe_unused]] T expected = initial;                         \
            __VA_ARGS__;                                                   \
        });                                                                \
    }

#define PROBES(name)                                                                     \
    PROBE(read, name, return it.read_current())                                          \
    PROBE(write, name, it.write_current(operand); return 0)                              \
    PROBE(add, name, it.add_current(operand); return 0)                                  \
    PROBE(sub, name, it.sub_current(operand); return 0)                                  \
    PROBE(and, name, it.and_current(operand); return 0)                                  \
    PROBE(or, name, it.or_current(operand); return 0)                                    \
    PROBE(xor, name, it.xor_current(operand); return 0)                                  \
    PROBE(fetch_add, name, return it.fetch_add_current(operand))                         \
    PROBE(exchange, name, return it.exchange_current(operand))                           \
    PROBE(compare_exchange, name, return it.compare_exchange_current(expected, operand)) \
    extern "C" [[gnu::noinline]] void probe_all_##name() {                               \
        probe_read_##name();                                                             \
        probe_write_##name();                                                            \
        probe_add_##name();                                                              \
        probe_sub_##name();                                                              \
        probe_and_##name();                                                              \
        probe_or_##name();                                                               \
        probe_xor_##name();                                                              \
        probe_fetch_add_##name();                                                        \
        probe_exchange_##name();                                                         \
        probe_compare_exchange_##name();                                                 \
    }

PROBES(far_8)
PROBES(far_16)
PROBES(far_32)
PROBES(far_word)
PROBES(near_8)
PROBES(near_16)
PROBES(near_32)
PROBES(near_word)

extern "C" void on_tick() {}
extern "C" void secondary_main(size_t) {}

extern "C" void primary_main() {
    const auto made = make_areas();
    check(made.has_value(), "the areas can be made");
    if (!made) exit_with_checks();
    percpu::init_percpu_reg(0);
    check(where_to_restart(1) == 1, "code outside every sequence goes on where it was");
    // A debugger ends it.
    for (;;) {
        probe_all_far_8();
        probe_all_far_16();
        probe_all_far_32();
        probe_all_far_word();
        probe_all_near_8();
        probe_all_near_16();
        probe_all_near_32();
        probe_all_near_word();
    }
}
