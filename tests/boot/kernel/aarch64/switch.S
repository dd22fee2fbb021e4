// Switching stacks. The stack of one who is away holds, from low to high, x19 to x30.
//
// The base register stays: it is the CPU's, and whoever goes on here goes on on this CPU.

#define FRAME_SIZE (12 * 8)

        .section .text.switch_stack, "ax", %progbits
        .global switch_stack
switch_stack:
        sub sp, sp, #FRAME_SIZE
        stp x19, x20, [sp]
        stp x21, x22, [sp, #16]
        stp x23, x24, [sp, #32]
        stp x25, x26, [sp, #48]
        stp x27, x28, [sp, #64]
        stp x29, x30, [sp, #80]
        mov x2, sp
        str x2, [x0]
        mov sp, x1
        ldp x19, x20, [sp]
        ldp x21, x22, [sp, #16]
        ldp x23, x24, [sp, #32]
        ldp x25, x26, [sp, #48]
        ldp x27, x28, [sp, #64]
        ldp x29, x30, [sp, #80]
        add sp, sp, #FRAME_SIZE
        ret

        .section .text.new_stack, "ax", %progbits
        .global new_stack
new_stack:
        sub x0, x0, #FRAME_SIZE
        str x1, [x0, #88]
        ret

        .section .note.GNU-stack, "", %progbits
