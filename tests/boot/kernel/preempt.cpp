#include "preempt.hpp"

PERCPU_DEFINE(size_t, preempt_depth, 0);
PERCPU_DEFINE(size_t, preempt_holds, 0);

#ifdef PERCPU_PREEMPT

// Raw, because an accessor that holds the CPU would call these hooks again. In a kernel that is preempted this takes
// x86_64 or `restartable` (percpu/preempt.hpp); the kernels with this file are not.
extern "C" void percpu_preempt_disable() noexcept {
    preempt_depth.add_current_raw(1);
    preempt_holds.add_current_raw(1);
}

extern "C" void percpu_preempt_enable() noexcept { preempt_depth.sub_current_raw(1); }

#endif
