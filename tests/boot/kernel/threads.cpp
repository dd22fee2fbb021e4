#include "threads.hpp"

#include <percpu/percpu.hpp>

#include "board.hpp"
#include "random.hpp"
#include "switch.hpp"

namespace {

constexpr size_t stack_size = 16 * 1024;
constexpr size_t nowhere = SIZE_MAX;

enum State : uint32_t { none, ready, running, ended };

// A thread's stack is above what the scheduler knows of it, so that its stack pointer says which one runs.
struct alignas(stack_size) Thread {
    uint32_t state;
    uint32_t next_state;  // when its stack has been left
    volatile uint32_t holds;
    size_t cpu;  // where it ran last
    void (*entry)(size_t);
    void* stack;
};
static_assert(sizeof(Thread) == stack_size);

Thread all[threads::max_threads];
size_t count = 0;
size_t ended_count = 0;
size_t move_count = 0;
bool holds_in_threads = true;

PERCPU_DEFINE_STATIC(size_t, number_of_cpu, 0);
PERCPU_DEFINE_STATIC(void*, own_stack, nullptr);
PERCPU_DEFINE_STATIC(Thread*, left, nullptr);  // the one that this CPU has just left
PERCPU_DEFINE_STATIC(Random, random, 1);
PERCPU_DEFINE_STATIC(size_t, holds_on_cpu, 0);

// Null on a CPU's own stack.
Thread* this_thread() {
    const auto here = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
    const uintptr_t distance = here - reinterpret_cast<uintptr_t>(all);
    return distance < sizeof all ? &all[distance / stack_size] : nullptr;
}

// A thread that no other CPU can take any more; null if none waits. With interrupts disabled, as all below.
Thread* take_ready() {
    const size_t first = random.current_ref_mut_raw().next() % count;
    for (size_t i = 0; i < count; ++i) {
        Thread& thread = all[(first + i) % count];
        uint32_t expected = ready;
        if (__atomic_compare_exchange_n(&thread.state, &expected, uint32_t{running}, false, __ATOMIC_ACQUIRE,
                                        __ATOMIC_RELAXED))
            return &thread;
    }
    return nullptr;
}

// The first that a CPU does on a stack that it came to: only now is nobody on the stack that it left.
void arrive() {
    Thread* const before = left.read_current_raw();
    if (before != nullptr) {
        if (before->next_state == ended) __atomic_fetch_add(&ended_count, 1, __ATOMIC_RELEASE);
        __atomic_store_n(&before->state, before->next_state, __ATOMIC_RELEASE);
    }
    Thread* const now = this_thread();
    if (now == nullptr) return;
    const size_t cpu = number_of_cpu.read_current_raw();
    if (now->cpu != nowhere && now->cpu != cpu) __atomic_fetch_add(&move_count, 1, __ATOMIC_RELAXED);
    now->cpu = cpu;
}

void leave(Thread* from, void* to) {
    left.write_current_raw(from);
    switch_stack(from != nullptr ? &from->stack : own_stack.current_ptr(), to);
    arrive();
}

void begin() {
    arrive();
    Thread& self = *this_thread();
    board::enable_interrupts();
    self.entry(static_cast<size_t>(&self - all));
    board::disable_interrupts();
    self.next_state = ended;
    Thread* const next = take_ready();
    leave(&self, next != nullptr ? next->stack : own_stack.read_current_raw());
}

size_t ended_threads() { return __atomic_load_n(&ended_count, __ATOMIC_ACQUIRE); }

}  // namespace

namespace threads {

void make(size_t number, void (*entry)(size_t)) {
    Thread& thread = all[number];
    thread.entry = entry;
    thread.cpu = nowhere;
    thread.next_state = ready;
    // A frame's address is its end on some architectures, which for the first frame must not be the next thread.
    constexpr size_t gap = 64;
    thread.stack = new_stack(reinterpret_cast<char*>(&thread + 1) - gap, begin);
    thread.state = ready;
    count = number + 1;
}

void run_all(size_t cpu) {
    number_of_cpu.write_current_raw(cpu);
    random.current_ref_mut_raw().state = static_cast<uint32_t>(cpu + 1) * 0x9e37'79b9;
    board::enable_interrupts();
    while (ended_threads() < count) board::relax();
    board::disable_interrupts();
}

void preempt() {
    Thread* const self = this_thread();
    if (holds_on_cpu.read_current_raw() != 0 || (self != nullptr && self->holds != 0)) return;
    Thread* const next = take_ready();
    if (next != nullptr) leave(self, next->stack);
}

void hold() {
    if (!holds_in_threads)
        holds_on_cpu.add_current_raw(1);
    else if (Thread* const self = this_thread())
        self->holds = self->holds + 1;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}

void release() {
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    if (!holds_in_threads)
        holds_on_cpu.sub_current_raw(1);
    else if (Thread* const self = this_thread())
        self->holds = self->holds - 1;
}

void count_holds_per_cpu() { holds_in_threads = false; }

size_t moves() { return __atomic_load_n(&move_count, __ATOMIC_RELAXED); }

}  // namespace threads
