// The names that depend on the mode in which the kernel runs: machine mode, where it owns the machine, or
// supervisor mode, under OpenSBI. For assembly and C++.
#pragma once

#ifdef RISCV_S_MODE
#define CSR(name) s##name
#define TRAP_RETURN sret
#define INTERRUPTS_ENABLED (1 << 1)
#define TIMER_INTERRUPT 5
#else
#define CSR(name) m##name
#define TRAP_RETURN mret
#define INTERRUPTS_ENABLED (1 << 3)
#define TIMER_INTERRUPT 7
#endif

#define STACK_SIZE 16384
