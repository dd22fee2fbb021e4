// How CPUs come to the board's code: startup.cpp starts them, or limine.cpp asks the loader for them.
#pragma once

#include <stddef.h>

constexpr size_t max_cpus = 64;

// Lets a CPU run, which then calls cpu_start(cpu).
void bring_up(size_t cpu);

// Every CPU comes here, in long mode on a stack of its own.
extern "C" [[noreturn]] void cpu_start(size_t cpu);
