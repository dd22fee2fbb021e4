// From the reset vector or from OpenSBI to board code, and the entry of traps. RISC-V, 32 and 64 bit.

#include "mode.h"

#define CLINT 0x02000000
#define MACHINE_SOFTWARE_INTERRUPT (1 << 3)

        // In machine mode every hart comes here at reset, in supervisor mode the one that OpenSBI chose.
        // a0 is its number.
        .section .boot.text, "ax", @progbits
        .global _start
_start:
#ifndef RISCV_S_MODE
        csrw mie, zero
        bnez a0, await_start
#endif
        li a1, 0

        // a0: hart, a1: CPU number.
        .global start_hart
start_hart:
        // Neither points at an area before init_percpu_reg: then a use before it is noticed.
        li gp, 0
        li tp, 0
        csrw CSR(scratch), zero
        la t0, trap_entry
        csrw CSR(tvec), t0

        la sp, stacks
        addi t0, a1, 1
        li t1, STACK_SIZE
        mul t0, t0, t1
        add sp, sp, t0
        li ra, 0
        tail cpu_start

#ifndef RISCV_S_MODE
        // wfi ends when an interrupt is pending that mie has, though none is taken.
await_start:
        li t0, MACHINE_SOFTWARE_INTERRUPT
        csrw mie, t0
1:      wfi
        csrr t1, mip
        and t1, t1, t0
        beqz t1, 1b
        csrw mie, zero
        li t0, CLINT
        slli t1, a0, 2
        add t0, t0, t1
        sw zero, 0(t0)
        fence i, rw                         // what the starter wrote before it sent the interrupt
        mv a1, a0
        j start_hart
#endif

        // Traps come from kernel code only. The frame is a TrapFrame of board.cpp: what C++ code may change.
        //
        // gp and tp are not in it. One of them is the base register of this CPU, and not of the interrupted
        // thread, which may go on on another CPU if the trap switches threads: what it had in gp then must
        // not come back. sepc and sstatus are in it, for the thread that runs meanwhile has traps too.
#define CALLER_SAVED ra, t0, t1, t2, a0, a1, a2, a3, a4, a5, a6, a7, t3, t4, t5, t6
#define PC     (16 * WORD)
#define STATUS (17 * WORD)
#define FRAME  ((18 * WORD + 15) & ~15)

        .text
        .balign 4
trap_entry:
        addi sp, sp, -FRAME
        .set at, 0
        .irp register, CALLER_SAVED
        STORE \register, at(sp)
        .set at, at + WORD
        .endr
        csrr t0, CSR(epc)
        csrr t1, CSR(status)
        STORE t0, PC(sp)
        STORE t1, STATUS(sp)

        mv a0, sp
        call trap

        LOAD t0, PC(sp)
        LOAD t1, STATUS(sp)
        csrw CSR(epc), t0
        csrw CSR(status), t1
        .set at, 0
        .irp register, CALLER_SAVED
        LOAD \register, at(sp)
        .set at, at + WORD
        .endr
        addi sp, sp, FRAME
        TRAP_RETURN

        .section .note.GNU-stack, "", @progbits
