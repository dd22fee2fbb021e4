// What keeps an update whole in a kernel that is preempted: the least that each case needs.
//
// One step, which is an instruction or a sequence that restarts, needs nothing. Else a guard keeps the thread
// on its CPU (feature `preempt`), if only threads update the variable; and masking interrupts keeps out their
// handlers too. Each measure can be left out, to see that it is what keeps updates from being lost.
#pragma once

#include <percpu/percpu.hpp>

#include "board.hpp"

namespace measures {

// As in tests/torture/updates.py.
enum class Without : size_t { nothing, guards, masks, single_instructions, restarts, counts_in_threads };

extern Without without;

// A thread's: interrupts are enabled outside.
class Masked {
public:
    Masked() {
        if (without != Without::masks) board::disable_interrupts();
    }
    ~Masked() {
        if (without != Without::masks) board::enable_interrupts();
    }
    Masked(const Masked&) = delete;
    Masked& operator=(const Masked&) = delete;
};

#if defined(PERCPU_PREEMPT)
constexpr bool has_guards = true;
#else
constexpr bool has_guards = false;
#endif

// Around `*_current_raw`, and around several steps.
template <bool one_step, bool by_handlers, class F>
[[gnu::always_inline]] inline void around_raw(F f) {
    if constexpr (one_step) {
        f();
    } else if constexpr (has_guards && !by_handlers) {
        percpu::PreemptGuard guard;
        f();
    } else {
        Masked masked;
        f();
    }
}

// Around `*_current` and its like, which take the guard themselves.
template <bool one_step, bool by_handlers, class F>
[[gnu::always_inline]] inline void around(F f) {
    if constexpr (one_step || (has_guards && !by_handlers)) {
        f();
    } else {
        Masked masked;
        f();
    }
}

template <class T, auto* Storage, auto* Initialize, percpu::Reach reach>
constexpr bool updates_in_one_step(percpu::Variable<T, Storage, Initialize, reach>) {
    return percpu::arch::update_is_one_step<reach, sizeof(T)>;
}

template <class T, auto* Storage, auto* Initialize, percpu::Reach reach>
constexpr bool writes_in_one_step(percpu::Variable<T, Storage, Initialize, reach>) {
    return percpu::arch::access_is_one_step<reach, sizeof(T)>;
}

}  // namespace measures
