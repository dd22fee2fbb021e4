// A Linux process as a machine: its CPUs are threads, its timer interrupts are signals.
//
// It uses no C library, so that the same few lines serve every architecture under user-mode emulation too,
// and the thread pointer is free to be a base register. What differs is in <arch>.S.
#include "../board.hpp"

#include <percpu/restart.hpp>

#include "../memory.hpp"

namespace {

constexpr size_t max_cpus = 64;
constexpr size_t stack_size = 64 * 1024;

alignas(16) char stacks[max_cpus][stack_size];
bool started[max_cpus];
size_t cpus = 1;

// System calls and what they take (Linux, include/uapi)

#if defined(__x86_64__)
enum Call : long {
    write = 1,
    set_handler = 13,  // rt_sigaction
    set_mask = 14,     // rt_sigprocmask
    yield = 24,
    gettid = 186,
    timer_create = 222,
    timer_settime = 223,
    exit_group = 231,
    ppoll = 271,
};
#else
enum Call : long {
    write = 64,
    ppoll = 73,
    exit_group = 94,
    timer_create = 107,
    timer_settime = 110,
    yield = 124,
    set_handler = 134,
    set_mask = 135,
    gettid = 178,
};
#endif

constexpr int tick_signal = 14;  // SIGALRM
constexpr uint64_t tick_mask = 1 << (tick_signal - 1);
constexpr long block = 0;
constexpr long unblock = 1;
constexpr unsigned long with_context = 0x4;  // SA_SIGINFO
constexpr unsigned long restart_calls = 0x1000'0000;
constexpr long monotonic = 1;
constexpr int to_thread = 4;  // SIGEV_THREAD_ID

struct Handler {
    void (*handler)(int, void*, char*);
    unsigned long flags;
#if defined(__x86_64__)
    void (*restorer)();
#endif
    uint64_t mask;
};

struct Event {
    uint64_t value;
    int signal;
    int notify;
    int thread;
    char unused[44];
};

struct TimerSetting {
    long interval_seconds, interval_nanoseconds, first_seconds, first_nanoseconds;
};

}  // namespace

// In <arch>.S.
extern "C" {
long linux_call(Call call, long a = 0, long b = 0, long c = 0, long d = 0);
void linux_start_thread(void* stack, size_t cpu);
void linux_return_from_signal();
}

namespace {

long address(const void* pointer) { return reinterpret_cast<long>(pointer); }

void tick(int, void*, [[maybe_unused]] char* context) {
    on_tick();
#if defined(PERCPU_RESTARTABLE)
    // struct ucontext, which the base register is in as well: a thread is a CPU here, and keeps it.
    constexpr size_t interrupted_pc = 176;
    auto& pc = *reinterpret_cast<uintptr_t*>(context + interrupted_pc);
    pc = percpu::restart_pc(pc);
#endif
}

[[noreturn]] void sleep_forever() {
    for (;;) linux_call(ppoll);
}

size_t number(const char* text) {
    size_t value = 0;
    for (; *text >= '0' && *text <= '9'; ++text) value = value * 10 + static_cast<size_t>(*text - '0');
    return value;
}

}  // namespace

// The memory behind the image, for memory.cpp.
asm(".pushsection .bss\n"
    ".balign 4096\n"
    ".global _image_end, _memory_end\n"
    "_image_end: .skip 0x1000000\n"
    "_memory_end:\n"
    ".popsection\n");

extern "C" {

// The process comes here from <arch>.S, with its argument count and arguments: the number of CPUs.
[[noreturn]] void linux_start(long count, char** arguments) {
    if (count > 1) cpus = number(arguments[1]);
    Handler handler{};
    handler.handler = tick;
    handler.flags = with_context | restart_calls;
#if defined(__x86_64__)
    constexpr unsigned long has_restorer = 0x0400'0000;
    handler.flags |= has_restorer;
    handler.restorer = linux_return_from_signal;
#endif
    linux_call(set_handler, tick_signal, address(&handler), 0, sizeof handler.mask);
    board::disable_interrupts();
    primary_main();
    sleep_forever();
}

// A thread comes here from <arch>.S.
[[noreturn]] void linux_thread(size_t cpu) {
    __atomic_store_n(&started[cpu], true, __ATOMIC_RELEASE);
    secondary_main(cpu);
    sleep_forever();
}

}  // extern "C"

namespace board {

void put(char c) { linux_call(write, 1, address(&c), 1); }

size_t cpu_count() { return cpus < max_cpus ? cpus : max_cpus; }

void start_cpu(size_t cpu) {
    linux_start_thread(stacks[cpu] + stack_size, cpu);
    while (!__atomic_load_n(&started[cpu], __ATOMIC_ACQUIRE)) relax();
}

void start_timer(unsigned ticks_per_second) {
    Event event{};
    event.signal = tick_signal;
    event.notify = to_thread;
    event.thread = static_cast<int>(linux_call(gettid));
    int timer = 0;
    linux_call(timer_create, monotonic, address(&event), address(&timer));
    const long interval = 1'000'000'000 / ticks_per_second;
    const TimerSetting setting = {0, interval, 0, interval};
    linux_call(timer_settime, timer, 0, address(&setting));
}

void enable_interrupts() { linux_call(set_mask, unblock, address(&tick_mask), 0, sizeof tick_mask); }
void disable_interrupts() { linux_call(set_mask, block, address(&tick_mask), 0, sizeof tick_mask); }
void wait_for_interrupt() { linux_call(ppoll); }
void relax() { linux_call(yield); }

void exit(bool ok) {
    linux_call(exit_group, !ok);
    __builtin_unreachable();
}

}  // namespace board
