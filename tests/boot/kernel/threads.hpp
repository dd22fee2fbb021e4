// Threads that the timer interrupt takes from one CPU and another CPU goes on with: a preemptive scheduler,
// as small as one can be. The board's part is in switch.hpp.
//
// Every CPU has the stack that it was started on, where it runs when there is no thread for it; that stack
// never moves.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace threads {

constexpr size_t max_threads = 16;

// Makes thread `number`, from 0 on, which runs entry(number) with interrupts enabled, and ends when that
// returns. Before the first CPU calls run_all.
void make(size_t number, void (*entry)(size_t number));

// Runs threads on this CPU, in its timer's interrupts, until all of them have ended. Called on the CPU's own
// stack, with interrupts disabled, and returns so.
void run_all(size_t cpu);

// For the timer interrupt: goes on with another thread, chosen at random, if one waits and the interrupted one
// is not held. It returns when the interrupted one is gone on with, on whatever CPU that is.
void preempt();

// Keeps the running thread on its CPU until it is released as often. Does nothing on a CPU's own stack.
void hold();
void release();

// Has hold and release count in a per-CPU variable instead. For that, adding to it must be one step: while it is
// under way, nothing holds the thread yet. Before the first CPU calls run_all.
void count_holds_per_cpu();

// How often a thread went on on another CPU than it had left.
size_t moves();

}  // namespace threads
