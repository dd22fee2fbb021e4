// From QEMU's -kernel, or from PSCI, to board code; and from an interrupt to board code and back.
//
// The kernel runs at EL1, or with KERNEL_EL2 at EL2, and is linked where it is loaded. It has the MMU on,
// because only cacheable memory is sure to have atomics.

#if defined(PERCPU_ARM_EL2) && !defined(KERNEL_EL2)
#error "the feature arm-el2 is for the board in mode el2: build with MODE=el2"
#endif

#ifdef KERNEL_EL2
#define EL(name) name##_el2
#define TCR_VALUE (TCR_COMMON | 1 << 31 | 1 << 16)      // a bit that is 1, 36 bits of physical address
#define CONDUIT   smc
#else
#define EL(name) name##_el1
#define TCR_VALUE (TCR_COMMON | 1 << 32)                // 36 bits of physical address
#define CONDUIT   hvc
#endif

#define TCR_COMMON (32 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 23)  // 4 GiB; tables cacheable, shared; one half
#define MAIR_VALUE 0xff00                               // attribute 0: devices, 1: cacheable memory
#define SCTLR_ON   (1 << 0 | 1 << 2 | 1 << 12)          // MMU, caches
#define HCR_VALUE  (1 << 31 | 1 << 4 | 1 << 3)          // interrupts come to EL2

#define BLOCK      (1 << 0 | 1 << 10)
#define DEVICES    (BLOCK | 1 << 54)                    // never executed
#define MEMORY     (BLOCK | 1 << 2 | 3 << 8)            // attribute 1, shared by all CPUs

#define STACK_SHIFT 14
#define FRAME_SIZE  (22 * 8)

        .section .text.entry, "ax", %progbits
        .global _start, secondary_entry
_start:
        mov x0, #0
secondary_entry:                                        // x0: the CPU's number
#ifdef KERNEL_EL2
        ldr x1, =HCR_VALUE
        msr hcr_el2, x1
#endif
        ldr x1, =MAIR_VALUE
        msr EL(mair), x1
        ldr x1, =TCR_VALUE
        msr EL(tcr), x1
        ldr x1, =page_table
        msr EL(ttbr0), x1
        ldr x1, =vectors
        msr EL(vbar), x1
        isb
        mrs x1, EL(sctlr)
        ldr x2, =SCTLR_ON
        orr x1, x1, x2
        msr EL(sctlr), x1
        isb

        ldr x1, =stacks
        add x2, x0, #1
        add x1, x1, x2, lsl #STACK_SHIFT
        mov sp, x1
        mov x29, #0
        bl cpu_start

        .global psci, semihosting
psci:
        CONDUIT #0
        ret
semihosting:
        hlt #0xf000
        ret

// Saves what a C++ function may change. The base register is not among it: if the thread goes on on
// another CPU, the base must be that CPU's. No code here uses x18 (-ffixed-x18), which may be the base.
interrupt:
        sub sp, sp, #FRAME_SIZE
        stp x0, x1, [sp]
        stp x2, x3, [sp, #16]
        stp x4, x5, [sp, #32]
        stp x6, x7, [sp, #48]
        stp x8, x9, [sp, #64]
        stp x10, x11, [sp, #80]
        stp x12, x13, [sp, #96]
        stp x14, x15, [sp, #112]
        stp x16, x17, [sp, #128]
        stp x29, x30, [sp, #144]
        mrs x0, EL(elr)
        mrs x1, EL(spsr)
        stp x0, x1, [sp, #160]
        mov x0, sp
        bl handle_interrupt
        ldp x0, x1, [sp, #160]
        msr EL(elr), x0
        msr EL(spsr), x1
        ldp x0, x1, [sp]
        ldp x2, x3, [sp, #16]
        ldp x4, x5, [sp, #32]
        ldp x6, x7, [sp, #48]
        ldp x8, x9, [sp, #64]
        ldp x10, x11, [sp, #80]
        ldp x12, x13, [sp, #96]
        ldp x14, x15, [sp, #112]
        ldp x16, x17, [sp, #128]
        ldp x29, x30, [sp, #144]
        add sp, sp, #FRAME_SIZE
        eret

exception:
        mrs x0, EL(esr)
        mrs x1, EL(elr)
        mrs x2, EL(far)
        b die

        .macro vector to, count=1
        .rept \count
        .balign 0x80
        b \to
        .endr
        .endm

        .balign 0x800
vectors:
        vector exception, 5
        vector interrupt
        vector exception, 10

        .section .rodata.page_table, "a", %progbits
        .balign 32
page_table:                                             // a GiB an entry, seen where it is
        .quad 0x00000000 + DEVICES
        .quad 0x40000000 + MEMORY
        .quad 0, 0

        .section .note.GNU-stack, "", %progbits
