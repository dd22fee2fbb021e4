// A thread that the timer interrupt moves from CPU to CPU in the middle of its work. It must find the
// copies of the CPU where it runs: the base register is no part of a thread, so neither the trap's frame
// nor a thread's saved registers hold it. With restartable sequences its updates are whole, too.
#include <percpu/percpu.hpp>

#include "areas.hpp"
#include "barrier.hpp"
#include "board.hpp"
#include "check.hpp"
#include "console.hpp"
#include "switch.hpp"

constexpr size_t cpus = 2;
constexpr size_t moves_wanted = 40;
constexpr size_t nobody = 0xff;

PERCPU_DEFINE(size_t, cpu_id, nobody);
PERCPU_DEFINE(bool, runs_thread, false);
PERCPU_DEFINE(void*, idle_stack, nullptr);
PERCPU_DEFINE(size_t, updates, 0);

namespace {

alignas(16) char thread_memory[16 * 1024];
void* thread_stack;

size_t next_cpu = nobody;  // the one that may take the thread
size_t taken_by = nobody;
size_t moves = 0;
bool finished = false;
Barrier stopped;

size_t thread_updates, tick_updates[cpus], idle_updates[cpus];

size_t get(const size_t& shared) { return __atomic_load_n(&shared, __ATOMIC_ACQUIRE); }
void set(size_t& shared, size_t value) { __atomic_store_n(&shared, value, __ATOMIC_RELEASE); }

// Interrupted by a handler that does the same, and moved to another CPU, where others do too.
void update([[maybe_unused]] size_t& made) {
#ifdef PERCPU_RESTARTABLE
    updates.add_current(1);
    ++made;
#endif
}

void thread() {
    board::enable_interrupts();
    for (;;) {
        update(thread_updates);
        const size_t before = get(moves);
        const size_t where = cpu_id.read_current();
        const size_t expected = get(taken_by);
        if (get(moves) != before) continue;
        if (where != expected) {
            check(false, "a thread that was moved finds the copies of the CPU where it runs");
            exit_with_checks();
        }
        if (before >= moves_wanted) break;
    }
    board::disable_interrupts();
    __atomic_store_n(&finished, true, __ATOMIC_RELEASE);
    switch_stack(&thread_stack, idle_stack.read_current());
}

void run(size_t cpu) {
    percpu::init_percpu_reg(cpu);
    cpu_id.write_current(cpu);
    board::start_timer();
    board::enable_interrupts();
    while (!__atomic_load_n(&finished, __ATOMIC_ACQUIRE)) update(idle_updates[cpu]);
    board::disable_interrupts();
    stopped.arrive();
}

}  // namespace

// The thread leaves its CPU at each tick there; the idle loop of the next one takes it at the next tick.
extern "C" void on_tick() {
    const size_t cpu = cpu_id.read_current();
    update(tick_updates[cpu]);
    if (runs_thread.read_current()) {
        switch_stack(&thread_stack, idle_stack.read_current());
    } else if (get(next_cpu) == cpu) {
        set(next_cpu, nobody);
        set(taken_by, cpu);
        set(moves, moves + 1);
        runs_thread.write_current(true);
        switch_stack(idle_stack.current_ptr(), thread_stack);
        runs_thread.write_current(false);
        // Not before: until now somebody was on its stack.
        if (!__atomic_load_n(&finished, __ATOMIC_ACQUIRE)) set(next_cpu, (cpu + 1) % cpus);
    }
}

extern "C" void secondary_main(size_t cpu) { run(cpu); }

extern "C" void primary_main() {
    check(make_areas().has_value(), "the areas can be made");
    check(board::cpu_count() >= cpus, "there are two CPUs");
    thread_stack = new_stack(thread_memory + sizeof thread_memory, thread);
    set(next_cpu, 0);
    for (size_t cpu = 1; cpu < cpus; ++cpu) board::start_cpu(cpu);
    run(0);
    stopped.wait_for(cpus);

    size_t made = thread_updates;
    for (size_t cpu = 0; cpu < cpus; ++cpu) made += tick_updates[cpu] + idle_updates[cpu];
    check(updates.sum() == made, "no update is lost where a thread is interrupted and moved");
    print("a thread was moved ", moves, " times; updates: ", made, "\n");
    exit_with_checks();
}
