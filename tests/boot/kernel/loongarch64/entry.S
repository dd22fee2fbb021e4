// From the loader, or from the mailbox, to board code; and from a trap to board code and back.
//
// CPUs start in direct address mode: an address's upper bits do not count. The kernel is linked at
// WINDOW_CACHED, a window onto physical memory that needs no page tables.
// (LoongArch Reference Manual vol. 1, 5.2 "Address Space", 7 "Control and Status Registers".)

#define CSR_CRMD      0x0
#define CSR_PRMD      0x1
#define CSR_ECFG      0x4
#define CSR_ERA       0x6
#define CSR_EENTRY    0xc
#define CSR_CPUID     0x20
#define CSR_TLBRENTRY 0x88
#define CSR_DMW0      0x180
#define CSR_DMW1      0x181

#define CRMD_MAPPED     0xb0                        // PLV 0, IE 0, DA 0, PG 1, DATF and DATM 1: coherent, cached
#define WINDOW_UNCACHED 0x8000000000000000
#define WINDOW_CACHED   0x9000000000000000
#define PLV0            (1 << 0)
#define CACHED          (1 << 4)
#define ECFG_IPI        (1 << 12)

// IOCSR
#define IPI_STATUS 0x1000
#define IPI_ENABLE 0x1004
#define IPI_CLEAR  0x100c
#define MAILBOX    0x1020

#define STACK_SIZE 16384                            // as in board.cpp

        .section .text.entry, "ax", @progbits
        .global _start
_start:
        csrrd $t0, CSR_CPUID
        beqz $t0, start_cpu

        // QEMU before 9.0 starts all CPUs here. Others wait in the machine's boot code, in this same way,
        // until their mailbox holds an address.
        li.w $t0, ECFG_IPI
        csrwr $t0, CSR_ECFG
        li.w $t0, -1
        li.w $t1, IPI_ENABLE
        iocsrwr.w $t0, $t1
        b 2f
1:      idle 0
2:      li.w $t1, IPI_STATUS                        // first, for it may have been sent before it was enabled
        iocsrrd.w $t0, $t1
        beqz $t0, 1b
        li.w $t1, IPI_CLEAR
        iocsrwr.w $t0, $t1
        li.w $t1, MAILBOX
        iocsrrd.d $t0, $t1
        jr $t0

        .global start_cpu
start_cpu:
        li.d $t0, WINDOW_UNCACHED | PLV0
        csrwr $t0, CSR_DMW0
        li.d $t0, WINDOW_CACHED | CACHED | PLV0
        csrwr $t0, CSR_DMW1
        la.abs $t0, 1f
        jr $t0
1:      li.w $t0, CRMD_MAPPED
        csrwr $t0, CSR_CRMD

        la.pcrel $t0, trap_entry
        csrwr $t0, CSR_EENTRY
        la.pcrel $t0, trap_entry
        bstrins.d $t0, $zero, 63, 48                // a physical address: this one is entered in direct address mode
        csrwr $t0, CSR_TLBRENTRY

        csrrd $a0, CSR_CPUID
        addi.d $t0, $a0, 1
        li.w $t1, STACK_SIZE
        mul.d $t0, $t0, $t1
        la.pcrel $sp, stacks
        add.d $sp, $sp, $t0
        la.pcrel $t0, cpu_start
        jr $t0

// What C++ code does not preserve itself, and what a nested exception would overwrite. Not $r21 and $tp: one
// of them is the base register, which is the CPU's and not the interrupted thread's.
#define FRAME_SIZE 160

        .macro for_frame instruction                // as TrapFrame in board.cpp
        \instruction $ra, $sp, 0
        \instruction $a0, $sp, 8
        \instruction $a1, $sp, 16
        \instruction $a2, $sp, 24
        \instruction $a3, $sp, 32
        \instruction $a4, $sp, 40
        \instruction $a5, $sp, 48
        \instruction $a6, $sp, 56
        \instruction $a7, $sp, 64
        \instruction $t1, $sp, 72
        \instruction $t2, $sp, 80
        \instruction $t3, $sp, 88
        \instruction $t4, $sp, 96
        \instruction $t5, $sp, 104
        \instruction $t6, $sp, 112
        \instruction $t7, $sp, 120
        \instruction $t8, $sp, 128
        .endm

        .balign 4096                                // CSR_EENTRY has no lower bits
trap_entry:
        addi.d $sp, $sp, -FRAME_SIZE
        for_frame st.d
        st.d $t0, $sp, 136
        csrrd $t0, CSR_PRMD
        st.d $t0, $sp, 144
        csrrd $t0, CSR_ERA
        st.d $t0, $sp, 152
        move $a0, $sp
        bl trap
        ld.d $t0, $sp, 152
        csrwr $t0, CSR_ERA
        ld.d $t0, $sp, 144
        csrwr $t0, CSR_PRMD
        ld.d $t0, $sp, 136
        for_frame ld.d
        addi.d $sp, $sp, FRAME_SIZE
        ertn

        .section .note.GNU-stack, "", @progbits
