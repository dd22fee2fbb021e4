// Switching stacks. The stack of one who is away holds, from low to high, the registers popped below and
// the address to go on at.
//
// The bases of gs and fs stay: the base register is the CPU's, and whoever goes on here goes on on this CPU.

#define FRAME_SIZE (8 * 8)                              // with 8 bytes more, by which functions want rsp off 16

        .section .text.switch_stack, "ax", @progbits
        .global switch_stack
switch_stack:
        push %rbx
        push %rbp
        push %r12
        push %r13
        push %r14
        push %r15
        mov %rsp, (%rdi)
        mov %rsi, %rsp
        pop %r15
        pop %r14
        pop %r13
        pop %r12
        pop %rbp
        pop %rbx
        ret

        .section .text.new_stack, "ax", @progbits
        .global new_stack
new_stack:
        lea -FRAME_SIZE(%rdi), %rax
        mov %rsi, 48(%rax)
        ret

        .section .note.GNU-stack, "", @progbits
