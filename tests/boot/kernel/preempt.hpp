// The kernel's side of the feature `preempt`. A preemptible kernel's scheduler lets a thread be moved
// only when the depth of its CPU is 0.
#pragma once

#include <percpu/percpu.hpp>

PERCPU_DECLARE(size_t, preempt_depth);
PERCPU_DECLARE(size_t, preempt_holds);
