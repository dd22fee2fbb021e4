// What an access of Linux comes to, in our own words: the steps that the macros of Linux 6.12 take for a
// variable of a machine word, in a kernel for several CPUs without debugging or tracing.
//
//   read  this_cpu_read     write  this_cpu_write     pointer  raw_cpu_ptr     add  this_cpu_add
//
// With PREEMPTIBLE the kernel has CONFIG_PREEMPTION, and an access that is not one step holds the CPU.
// The call of the scheduler on release stands as a nop, which the count leaves out.
//
// Sources: arch/{x86,arm64,arm,loongarch}/include/asm/percpu.h; RISC-V has none and takes
// include/asm-generic/percpu.h, as does ARM but for the offset. The count of holds: include/asm-generic/preempt.h
// and arch/arm64/include/asm/preempt.h; the current task: arch/*/include/asm/{current,thread_info}.h;
// masking interrupts: arch/*/include/asm/irqflags.h.
#include <stddef.h>
#include <stdint.h>

extern "C" {
extern size_t word;
extern size_t offsets[];  // __per_cpu_offset
}

#define BARRIER() asm volatile("" : : : "memory")

namespace {

#if !defined(__x86_64__)

constexpr size_t reschedule = 2;

// The beginning of struct thread_info, as far as accesses look at it.
struct ThreadInfo {
    size_t flags;
#if defined(__aarch64__)
    union {
        uint64_t holds_and_reschedule;
        uint32_t holds;
    };
#else
    uint32_t holds;
    int32_t cpu;
#endif
};

[[maybe_unused]] inline ThreadInfo volatile* current() {
    ThreadInfo volatile* task;
#if defined(__aarch64__)
    asm("mrs %0, sp_el0" : "=r"(task));
#elif defined(__arm__)
    asm("mrc p15, 0, %0, c13, c0, 3" : "=r"(task));
#else
    register ThreadInfo volatile* tp asm("tp");
    asm("" : "=r"(tp));
    task = tp;
#endif
    return task;
}

inline void hold() {
#if defined(PREEMPTIBLE)
    current()->holds = current()->holds + 1;
#endif
    BARRIER();
}

inline void release() {
    BARRIER();
#if defined(PREEMPTIBLE) && defined(__aarch64__)
    const uint64_t left = current()->holds_and_reschedule - 1;
    current()->holds = static_cast<uint32_t>(left);
    if (__builtin_expect(left == 0 || current()->holds_and_reschedule == 0, 0)) asm volatile("nop");
#elif defined(PREEMPTIBLE)
    const uint32_t left = current()->holds - 1;
    current()->holds = left;
    if (left == 0 && __builtin_expect((current()->flags & reschedule) != 0, 0)) asm volatile("nop");
#endif
}

#if defined(__arm__)
inline size_t mask_interrupts() {
    size_t flags;
    asm volatile("mrs %0, cpsr\n\tcpsid i" : "=r"(flags) : : "memory", "cc");
    return flags;
}
inline void restore_interrupts(size_t flags) { asm volatile("msr cpsr_c, %0" : : "r"(flags) : "memory", "cc"); }
#elif defined(__riscv)
inline size_t mask_interrupts() {
    size_t flags;
    asm volatile("csrrc %0, sstatus, 2" : "=r"(flags) : : "memory");
    return flags;
}
inline void restore_interrupts(size_t flags) { asm volatile("csrs sstatus, %0" : : "rK"(flags & 2) : "memory"); }
#endif

inline size_t* locate() {
    size_t offset;
#if defined(__aarch64__)
    asm volatile("mrs %0, tpidr_el1" : "=r"(offset));
#elif defined(__arm__)
    asm volatile("mrc p15, 0, %0, c13, c0, 4" : "=r"(offset));
#elif defined(__loongarch__)
    register size_t base asm("$r21");
    asm volatile("" : "=r"(base));
    offset = base;
#else
    offset = offsets[current()->cpu];
#endif
    size_t* address = &word;
    asm("" : "+r"(address));  // RELOC_HIDE: the address is made by itself, then added to
    return reinterpret_cast<size_t*>(reinterpret_cast<size_t>(address) + offset);
}

#endif

}  // namespace

extern "C" {

#if defined(__x86_64__)

extern size_t this_cpu_off;

size_t read() {
    size_t value;
    asm volatile("mov %%gs:word, %0" : "=r"(value));
    return value;
}
size_t* pointer() {
    size_t address;
    asm volatile("mov %%gs:this_cpu_off, %0" : "=r"(address));
    asm("add $word, %0" : "+r"(address));
    return reinterpret_cast<size_t*>(address);
}
void write(size_t value) { asm volatile("mov %0, %%gs:word" : : "r"(value) : "memory"); }
void add() { asm volatile("incq %%gs:word" : : : "memory"); }

#else

size_t* pointer() { return locate(); }

size_t read() {
#if defined(__loongarch__)
    size_t value;
    asm volatile("ldx.d %0, $r21, %1" : "=r"(value) : "r"(&word) : "memory");
#else
    hold();
    const size_t value = *static_cast<volatile size_t*>(locate());
    release();
#endif
    return value;
}

void write(size_t value) {
#if defined(__aarch64__)
    hold();
    *static_cast<volatile size_t*>(locate()) = value;
    release();
#elif defined(__loongarch__)
    asm volatile("stx.d %0, $r21, %1" : : "r"(value), "r"(&word) : "memory");
#else
    const size_t flags = mask_interrupts();
    *locate() = value;
    restore_interrupts(flags);
#endif
}

void add() {
#if defined(__aarch64__)
    // With the atomics of ARMv8.1, which Linux patches in; before them it is a loop of four.
    hold();
    size_t old;
    asm volatile(".arch_extension lse\n\tldadd %2, %0, %1" : "=r"(old), "+Q"(*locate()) : "r"(size_t{1}));
    release();
#elif defined(__loongarch__)
    hold();
    size_t old;
    asm volatile("amadd.d %0, %2, %1" : "=&r"(old), "+ZB"(*locate()) : "r"(size_t{1}));
    release();
#else
    const size_t flags = mask_interrupts();
    *locate() += 1;
    restore_interrupts(flags);
#endif
}

#endif
}
