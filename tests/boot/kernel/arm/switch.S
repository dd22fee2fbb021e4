// Switching stacks. The stack of one who is away holds, from low to high, r4 to r11 and lr.
//
// The base register stays: it is the CPU's, and whoever goes on here goes on on this CPU.

        .syntax unified
        .arch armv7-a
        .arm

        .section .text.switch_stack, "ax", %progbits
        .global switch_stack
        .type switch_stack, %function
switch_stack:
        push {r4-r11, lr}
        str sp, [r0]
        mov sp, r1
        pop {r4-r11, pc}

        .section .text.new_stack, "ax", %progbits
        .global new_stack
        .type new_stack, %function
new_stack:
        sub r0, r0, #36
        str r1, [r0, #32]
        bx lr

        .section .note.GNU-stack, "", %progbits
