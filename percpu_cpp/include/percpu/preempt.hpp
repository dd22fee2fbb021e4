// Holding the CPU against preemption while per-CPU data is in use.
//
// With the feature `preempt`, the accessors whose work takes more than one instruction hold the CPU
// by a PreemptGuard; those that end in one instruction need none and take none. The kernel gives the
// two hooks, as functions with C linkage
//
//     extern "C" void percpu_preempt_disable() noexcept;
//     extern "C" void percpu_preempt_enable() noexcept;
//
// or inline, in a header of its own that the build names: -DPERCPU_PREEMPT_HEADER='"sched/hold.h"'.
// They need not be barriers for the compiler: a guard is one.
// Calls nest, as in every kernel: each disable is followed by one enable on the same CPU, and the
// thread may be preempted again when the counts meet. A hook must not use a guarded accessor itself.
// While it changes the count, nothing holds the thread yet: keep the count in the thread, or in a
// per-CPU variable that is changed in one step, by `add_current_raw` on x86_64 and with the feature
// `restartable`. Elsewhere `add_current_raw` takes several, between which the thread may be moved: the
// count of the CPU that it left is then changed, and updates are lost.

#pragma once

#include "config.hpp"

#if defined(PERCPU_PREEMPT)
#if defined(PERCPU_PREEMPT_HEADER)
#include PERCPU_PREEMPT_HEADER
#else
extern "C" void percpu_preempt_disable() noexcept;
extern "C" void percpu_preempt_enable() noexcept;
#endif
#endif

namespace percpu {

// Keeps the running thread on its CPU from construction to destruction. Without the feature
// `preempt` it is empty: a kernel that does not preempt kernel code has nothing to hold.
class [[nodiscard]] PreemptGuard {
public:
#if defined(PERCPU_PREEMPT)
    PreemptGuard() noexcept {
        percpu_preempt_disable();
        keep_order();
    }
    ~PreemptGuard() noexcept {
        keep_order();
        percpu_preempt_enable();
    }
#else
    PreemptGuard() noexcept {}
#endif
    PreemptGuard(const PreemptGuard&) = delete;
    PreemptGuard& operator=(const PreemptGuard&) = delete;

private:
    // Where the compiler sees the hooks, nothing else keeps what is guarded from moving out between them.
    static void keep_order() noexcept { asm volatile("" : : : "memory"); }
};

namespace detail {

// Stands where a guard would, around work that is one step anyway. The constructor keeps compilers
// from calling it an unused variable.
struct NoGuard {
    NoGuard() noexcept {}
};

template <bool one_step>
struct GuardUnless {
    using type = PreemptGuard;
};
template <>
struct GuardUnless<true> {
    using type = NoGuard;
};

}  // namespace detail

}  // namespace percpu
