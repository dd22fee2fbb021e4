// From QEMU's -kernel, or from PSCI, to board code; and from an interrupt to board code and back.
//
// The kernel runs in SVC mode and is linked where it is loaded. It has the MMU on, because only
// cacheable memory is sure to have atomics. This file is A32, board code A32 or T32: it is called by bl,
// which the linker makes blx for T32.

        .syntax unified
        .arch armv7-a
        .arch_extension virt
        .arm

#define TTBCR_VALUE (1 << 31 | 1 << 8 | 1 << 10 | 3 << 12)  // long descriptors; tables cacheable, shared
#define MAIR_VALUE  0xff00                              // attribute 0: devices, 1: cacheable memory
#define SCTLR_ON    (1 << 0 | 1 << 2 | 1 << 11 | 1 << 12)   // MMU, caches, branch prediction

#define BLOCK       (1 << 0 | 1 << 10)
#define DEVICES     BLOCK
#define NEVER_EXECUTED (1 << 22)
#define MEMORY      (BLOCK | 1 << 2 | 3 << 8)           // attribute 1, shared by all CPUs

#define STACK_SHIFT 14
#define MODE_SVC    0x13

        .section .text.entry, "ax", %progbits
        .global _start, secondary_entry
_start:
        mov r0, #0
secondary_entry:                                        // r0: the CPU's number
        ldr r1, =MAIR_VALUE
        mcr p15, 0, r1, c10, c2, 0
        ldr r1, =TTBCR_VALUE
        mcr p15, 0, r1, c2, c0, 2
        ldr r1, =page_table
        mov r2, #0
        mcrr p15, 0, r1, r2, c2                         // TTBR0
        ldr r1, =vectors
        mcr p15, 0, r1, c12, c0, 0                      // VBAR
        isb
        mrc p15, 0, r1, c1, c0, 0                       // SCTLR
        ldr r2, =SCTLR_ON
        orr r1, r1, r2
        mcr p15, 0, r1, c1, c0, 0
        isb

        ldr r1, =stacks
        add r2, r0, #1
        add sp, r1, r2, lsl #STACK_SHIFT
        bl cpu_start

        .global psci, semihosting
        .type psci, %function
        .type semihosting, %function
psci:
        hvc #0
        bx lr
semihosting:
        svc #0x123456
        bx lr

// Saves what a C++ function may change, and what the interrupt changed, on the interrupted stack. The
// base register is not among it: if the thread goes on on another CPU, the base must be that CPU's.
interrupt:
        sub lr, lr, #4
        srsdb sp!, #MODE_SVC
        cps #MODE_SVC
        push {r0-r3, r12, lr}
        mov r0, sp
        and r1, sp, #4                                  // functions want sp to be a multiple of 8
        sub sp, sp, r1
        push {r1, lr}
        bl handle_interrupt
        pop {r1, lr}
        add sp, sp, r1
        pop {r0-r3, r12, lr}
        rfeia sp!

        .macro exception number
exception_\number:
        mov r0, #\number
        mov r1, lr
        cps #MODE_SVC
        b dying
        .endm
        exception 1                                     // undefined instruction
        exception 2                                     // supervisor call
        exception 3                                     // prefetch abort
        exception 4                                     // data abort
        exception 7                                     // fast interrupt
dying:  bl die

        .balign 32
vectors:
        b .
        b exception_1
        b exception_2
        b exception_3
        b exception_4
        b .
        b interrupt
        b exception_7

        .section .rodata.page_table, "a", %progbits
        .balign 32
page_table:                                             // a GiB an entry, seen where it is
        .long 0x00000000 + DEVICES, NEVER_EXECUTED
        .long 0x40000000 + MEMORY, 0
        .long 0, 0, 0, 0

        .section .note.GNU-stack, "", %progbits
