// Switching stacks. The stack of one who is away holds, from low to high, the registers below.
//
// gp and tp stay: the base register is the CPU's, and whoever goes on here goes on on this CPU.

#include "mode.h"

#define KEPT  ra, s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, s10, s11
#define FRAME ((13 * WORD + 15) & ~15)

        .section .text.switch_stack, "ax", @progbits
        .global switch_stack
switch_stack:
        addi sp, sp, -FRAME
        .set at, 0
        .irp register, KEPT
        STORE \register, at(sp)
        .set at, at + WORD
        .endr
        STORE sp, 0(a0)
        mv sp, a1
        .set at, 0
        .irp register, KEPT
        LOAD \register, at(sp)
        .set at, at + WORD
        .endr
        addi sp, sp, FRAME
        ret

        .section .text.new_stack, "ax", @progbits
        .global new_stack
new_stack:
        addi a0, a0, -FRAME
        STORE a1, 0(a0)
        ret

        .section .note.GNU-stack, "", @progbits
