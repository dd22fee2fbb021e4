// From the loader, or from a start-up IPI, to long mode and board code.
//
// Everything in .boot.* is linked at the address where it is loaded, because it runs before paging.
// Both kinds of CPU meet in enter_long_mode; board.cpp says which CPU this is and what its stack is.

#define CODE32 0x08
#define DATA   0x10
#define CODE64 0x18

#define CR0_PE     (1 << 0)
#define CR0_WP     (1 << 16)
#define CR0_PG     (1 << 31)
#define CR4_PAE    (1 << 5)
#define MSR_EFER   0xc0000080
#define EFER_LME   (1 << 8)

#define PAGE_TABLE (1 << 0 | 1 << 1)                // present, writable
#define PAGE_1GIB  (1 << 0 | 1 << 1 | 1 << 7)
#define UNCACHED   (1 << 4)

// Real mode finds the trampoline at TRAMPOLINE (board.cpp copies it there and sends its page).
#define TRAMPOLINE 0x8000
#define COPIED(symbol) (TRAMPOLINE + symbol - trampoline_start)

        // QEMU's -kernel starts an ELF64 file at the address in this note (PVH boot), in 32-bit
        // protected mode without paging.
        .section .note.Xen, "a", @note
        .balign 4
        .long 4, 8, 18                              // XEN_ELFNOTE_PHYS32_ENTRY
        .asciz "Xen"
        .quad pvh_entry

        .section .boot.text, "ax", @progbits
        .code32
        .global pvh_entry
pvh_entry:
        cli
        cld
        lgdt gdt_pointer
        ljmp $CODE32, $enter_long_mode

enter_long_mode:
        mov $DATA, %eax
        mov %eax, %ds
        mov %eax, %es
        mov %eax, %ss
        xor %eax, %eax
        mov %eax, %fs
        mov %eax, %gs

        mov %cr4, %eax
        or $CR4_PAE, %eax
        mov %eax, %cr4
        mov $pml4, %eax
        mov %eax, %cr3
        mov $MSR_EFER, %ecx
        rdmsr
        or $EFER_LME, %eax
        wrmsr
        mov $(CR0_PE | CR0_WP | CR0_PG), %eax
        mov %eax, %cr0
        ljmp $CODE64, $long_mode

        .code64
long_mode:
        movabs $starting_cpu, %rax
        mov (%rax), %rdi
        movabs $starting_stack, %rax
        mov (%rax), %rsp
        xor %ebp, %ebp
        movabs $cpu_start, %rax
        call *%rax
        ud2

        .code16
        .global trampoline_start, trampoline_end
trampoline_start:
        cli
        cld
        xor %ax, %ax
        mov %ax, %ds
        lgdtl COPIED(trampoline_gdt_pointer)
        mov $CR0_PE, %eax
        mov %eax, %cr0
        ljmpl $CODE32, $enter_long_mode
trampoline_gdt_pointer:
        .word gdt_end - gdt - 1
        .long gdt
trampoline_end:

        .section .boot.data, "aw", @progbits
        .balign 8
gdt:    .quad 0
        .quad 0x00cf9a000000ffff                    // CODE32
        .quad 0x00cf92000000ffff                    // DATA
        .quad 0x00af9a000000ffff                    // CODE64
gdt_end:
gdt_pointer:
        .word gdt_end - gdt - 1
        .long gdt

        // The first 4 GiB where they are (the local APIC lies at their end), and the first one again
        // at KERNEL_BASE, -2 GiB, where the kernel is linked.
        .balign 4096
pml4:   .quad identity + PAGE_TABLE
        .fill 510, 8, 0
        .quad higher_half + PAGE_TABLE
identity:
        .quad 0x00000000 + PAGE_1GIB
        .quad 0x40000000 + PAGE_1GIB
        .quad 0x80000000 + PAGE_1GIB
        .quad 0xc0000000 + PAGE_1GIB + UNCACHED
        .fill 508, 8, 0
higher_half:
        .fill 510, 8, 0
        .quad 0x00000000 + PAGE_1GIB
        .quad 0

        .section .note.GNU-stack, "", @progbits
