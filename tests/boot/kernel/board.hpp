// What the kernels here ask of a machine, and what they give it.
//
// To add a board: implement these functions in <arch>/board.cpp, write <arch>/entry.S, which brings
// every CPU to board code with a stack, and give the machine a row in ../boards.py.
#pragma once

#include <stddef.h>
#include <stdint.h>

namespace board {

// Sends one character to the serial console.
void put(char c);

// The number of CPUs that the machine has. They are numbered from 0, the one that boots.
size_t cpu_count();

// Starts a CPU, which calls secondary_main(cpu) on a stack of its own. Returns once it is running.
void start_cpu(size_t cpu);

// Starts the periodic timer of this CPU, the same for all CPUs. Each interrupt calls on_tick(), which may
// switch stacks.
void start_timer(unsigned ticks_per_second = 100);

void enable_interrupts();
void disable_interrupts();

// Sleeps until an interrupt came, or for no reason. Interrupts must be enabled.
void wait_for_interrupt();

// Called in a loop that waits for another CPU.
void relax();

// Ends the machine and tells the one who started it whether all was well.
[[noreturn]] void exit(bool ok);

}  // namespace board

// Each kernel defines these three.
extern "C" void primary_main();               // CPU 0, once the console works
extern "C" void secondary_main(size_t cpu);   // the others, as they are started
extern "C" void on_tick();                    // in the timer interrupt, interrupts disabled
