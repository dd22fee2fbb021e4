// Switching stacks. The stack of one who is away holds, from low to high, the registers below.
//
// $r21 and $tp stay: the base register is the CPU's, and whoever goes on here goes on on this CPU.

#define FRAME_SIZE 96

        .macro for_kept instruction
        \instruction $ra, $sp, 0
        \instruction $fp, $sp, 8
        \instruction $s0, $sp, 16
        \instruction $s1, $sp, 24
        \instruction $s2, $sp, 32
        \instruction $s3, $sp, 40
        \instruction $s4, $sp, 48
        \instruction $s5, $sp, 56
        \instruction $s6, $sp, 64
        \instruction $s7, $sp, 72
        \instruction $s8, $sp, 80
        .endm

        .section .text.switch_stack, "ax", @progbits
        .global switch_stack
switch_stack:
        addi.d $sp, $sp, -FRAME_SIZE
        for_kept st.d
        st.d $sp, $a0, 0
        move $sp, $a1
        for_kept ld.d
        addi.d $sp, $sp, FRAME_SIZE
        ret

        .section .text.new_stack, "ax", @progbits
        .global new_stack
new_stack:
        addi.d $a0, $a0, -FRAME_SIZE
        st.d $a1, $a0, 0
        ret

        .section .note.GNU-stack, "", @progbits
