#include "measures.hpp"

#include "threads.hpp"

using measures::Without;

constinit Without measures::without = Without::nothing;

#if defined(PERCPU_PREEMPT)

extern "C" void percpu_preempt_disable() noexcept {
    if (measures::without != Without::guards) threads::hold();
}

extern "C" void percpu_preempt_enable() noexcept {
    if (measures::without != Without::guards) threads::release();
}

#endif
