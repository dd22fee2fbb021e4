// Restartable sequences: what a kernel's trap path does for the feature `restartable`.
//
// On the RISC architectures an access to a per-CPU word takes a few instructions, of which the last one,
// the commit, does it. A thread that was interrupted before the commit may go on as if it had not begun:
// from the sequence's first instruction, on the CPU where it runs then, with the values that are there
// then. So the trap path, before it returns to an interrupted kernel address, does
//
//     frame.pc = percpu::restart_pc(frame.pc);
//
// and every word access is safe against preemption, migration and interrupt handlers on the same CPU. It
// may do so in every trap, or only where it switches threads or a handler may have written per-CPU words.
// Sequences contain no calls and do not nest.

#pragma once

#include "config.hpp"

namespace percpu {

#if defined(PERCPU_RESTARTABLE)

namespace detail {

// As arch/sequence.hpp writes it.
struct RestartEntry {
    int32_t start;    // the first instruction's address, relative to this field
    uint32_t length;  // bytes from the first instruction to the commit
};

extern "C" {
extern const RestartEntry _percpu_restart_start[] __attribute__((visibility("hidden")));
extern const RestartEntry _percpu_restart_end[] __attribute__((visibility("hidden")));
}

}  // namespace detail

// The address at which to go on: the start of the sequence that `pc` lies in if its commit has not been
// executed yet, else `pc`. The table is sorted, by the linker; this is a binary search. After a partial link by
// GNU ld it is sorted only with `ld -r --unique=percpu_restart` (ldscripts/GUIDE.md); percpu-check looks (T19).
inline uintptr_t restart_pc(uintptr_t pc) noexcept {
    // No instruction, and no byte in the table: a local symbol by which percpu-check sees that the kernel has this code
    // (T18). Its section is tied to the code, so linkers collect both or none.
    asm volatile(
        ".Lpercpu_restart_pc%=:\n\t"
        ".pushsection percpu_restart, \"ao\", %%progbits, .Lpercpu_restart_pc%=\n\t"
        ".balign 4\n\t"
        "\"percpu:restart_pc:%=\":\n\t"
        ".popsection"
        :
        :);
    auto first = reinterpret_cast<uintptr_t>(detail::_percpu_restart_start);
    const auto end = reinterpret_cast<uintptr_t>(detail::_percpu_restart_end);
    size_t count = (end - first) / sizeof(detail::RestartEntry);
    uintptr_t start = 0;
    uint32_t length = 0;
    while (count > 0) {
        const uintptr_t middle = first + count / 2 * sizeof(detail::RestartEntry);
        const auto* entry = reinterpret_cast<const detail::RestartEntry*>(middle);
        const uintptr_t at = middle + static_cast<uintptr_t>(static_cast<intptr_t>(entry->start));
        if (at <= pc) {
            start = at;
            length = entry->length;
            first = middle + sizeof(detail::RestartEntry);
            count -= count / 2 + 1;
        } else {
            count /= 2;
        }
    }
    return pc - start <= length ? start : pc;
}

#else

// Without the feature `restartable` no sequence wants to be restarted.
inline uintptr_t restart_pc(uintptr_t pc) noexcept { return pc; }

#endif

}  // namespace percpu
