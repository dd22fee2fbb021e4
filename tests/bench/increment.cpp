// The increment of a word that each CPU has to itself: ours, and the peers that C++ has.
//
//     increment BATCHES ITERATIONS
//
// prints a line a batch: the peer, the number of threads, nanoseconds per increment of one thread.
// Batches of all peers take turns, so that whatever else the machine does falls on all of them alike.
#include <percpu/percpu.hpp>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <sched.h>
#include <thread>

PERCPU_DEFINE(uint64_t, counter, 0);

#if defined(PERCPU_PREEMPT)
// The hooks of rust/main.rs: a kernel's at their least.
static constexpr uint32_t nothing_to_do = uint32_t{1} << 31;
static thread_local uint32_t holds = nothing_to_do;
extern "C" void percpu_preempt_disable() noexcept {
    ++holds;
    asm volatile("" : : : "memory");
}
extern "C" void percpu_preempt_enable() noexcept {
    asm volatile("" : : : "memory");
    if (--holds == 0) sched_yield();
}
#endif

// Not static: the compiler has to suppose that the empty asm of another file's function looks at them.
thread_local uint64_t counter_of_thread;
struct alignas(64) Line {
    uint64_t count;
};
Line lines[CPU_SETSIZE];
alignas(64) std::atomic<uint64_t> shared;

// The empty asm may read and write all memory: each increment is done in memory, none are merged or
// kept in a register. Our own asm has the same clobber already.
#define INCREMENT(name, statement)                                              \
    extern "C" __attribute__((noinline)) void name(uint64_t iterations) {       \
        for (uint64_t left = iterations; left != 0; --left) {                   \
            statement;                                                          \
            asm volatile("" : : : "memory");                                    \
        }                                                                       \
    }

INCREMENT(add_current, counter.add_current(1))
INCREMENT(with_current, counter.with_current([](uint64_t& count) { ++count; }))
INCREMENT(read_write_current, counter.write_current(counter.read_current() + 1))
INCREMENT(increment_thread_local, ++counter_of_thread)
// Loses an increment when the thread moves between the two steps, which is no fault of the measurement.
INCREMENT(array_plain, ++lines[sched_getcpu()].count)
INCREMENT(array_atomic, __atomic_fetch_add(&lines[sched_getcpu()].count, 1, __ATOMIC_RELAXED))
INCREMENT(shared_atomic, shared.fetch_add(1, std::memory_order_relaxed))

namespace {

struct Peer {
    const char* name;
    void (*increment)(uint64_t iterations);
    uint64_t (*total)();
};

uint64_t total_of_areas() { return counter.sum(); }
uint64_t total_of_lines() {
    uint64_t total = 0;
    for (const Line& line : lines) total += line.count;
    return total;
}
std::atomic<uint64_t> total_of_threads;

constexpr Peer peers[] = {
    {"add_current", add_current, total_of_areas},
    {"with_current", with_current, total_of_areas},
    {"read_current/write_current", read_write_current, total_of_areas},
    {"thread_local", increment_thread_local, [] { return total_of_threads.load(); }},
    {"array by sched_getcpu", array_plain, total_of_lines},
    {"array by sched_getcpu, atomic", array_atomic, total_of_lines},
    {"shared atomic", shared_atomic, [] { return shared.load(); }},
};

// The CPUs that the process may use; not always the first ones.
cpu_set_t allowed;

void pin(unsigned number) {
    for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
        if (!CPU_ISSET(cpu, &allowed) || number-- != 0) continue;
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(cpu, &one);
        sched_setaffinity(0, sizeof one, &one);
        return;
    }
}

// One thread's time for its increments, from when `waiting` other threads are ready too.
double timed(const Peer& peer, unsigned thread, uint64_t iterations, std::atomic<unsigned>& waiting) {
    percpu::init_percpu_reg(thread);
    counter_of_thread = 0;
    peer.increment(iterations / 100);
    --waiting;
    while (waiting != 0) {
    }
    const auto start = std::chrono::steady_clock::now();
    peer.increment(iterations);
    const std::chrono::duration<double, std::nano> taken = std::chrono::steady_clock::now() - start;
    total_of_threads += counter_of_thread;
    return taken.count() / static_cast<double>(iterations);
}

double batch(const Peer& peer, unsigned threads, uint64_t iterations) {
    counter.for_each([](uint64_t& count) { count = 0; });
    for (Line& line : lines) line.count = 0;
    shared = total_of_threads = 0;

    std::atomic<unsigned> waiting = threads;
    double other = 0;
    double taken;
    if (threads == 1) {
        taken = timed(peer, 0, iterations, waiting);
    } else {
        std::thread second([&] {
            pin(1);
            other = timed(peer, 1, iterations, waiting);
        });
        taken = timed(peer, 0, iterations, waiting);
        second.join();
    }
    const uint64_t expected = threads * (iterations + iterations / 100);
    if (peer.total() != expected) {
        std::printf("%s: counted %llu of %llu increments\n", peer.name, static_cast<unsigned long long>(peer.total()),
                    static_cast<unsigned long long>(expected));
        std::exit(1);
    }
    return taken > other ? taken : other;
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 3) {
        std::puts("usage: increment BATCHES ITERATIONS");
        return 2;
    }
    const uint64_t batches = std::strtoull(arguments[1], nullptr, 10);
    const uint64_t iterations = std::strtoull(arguments[2], nullptr, 10);
    const unsigned most = std::thread::hardware_concurrency() < 2 ? 1 : 2;
    if (!percpu::init_in_place()) return 1;
    sched_getaffinity(0, sizeof allowed, &allowed);
    pin(0);
    for (unsigned threads = 1; threads <= most; ++threads)
        for (uint64_t number = 0; number < batches; ++number)
            for (const Peer& peer : peers)
                std::printf("%s\t%u\t%g\n", peer.name, threads, batch(peer, threads, iterations));
}
