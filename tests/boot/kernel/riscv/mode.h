// The names that depend on the mode in which the kernel runs (machine mode, where it owns the machine, or
// supervisor mode, under OpenSBI) and on the width of its registers. For assembly and C++.
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

#if __riscv_xlen == 64
#define STORE sd
#define LOAD  ld
#define WORD  8
#else
#define STORE sw
#define LOAD  lw
#define WORD  4
#endif

#define STACK_SIZE 16384
