// Linux on RISC-V: the process's entry, system calls, and threads.

#define CALL_CLONE   220
#define THREAD_FLAGS 0x50f00                        // CLONE_VM, _FS, _FILES, _SIGHAND, _THREAD, _SYSVSEM

        .text
        .global _start
_start:
        ld a0, 0(sp)
        addi a1, sp, 8
        call linux_start

        .global linux_call
linux_call:
        mv a7, a0
        mv a0, a1
        mv a1, a2
        mv a2, a3
        mv a3, a4
        ecall
        ret

        .global linux_start_thread
linux_start_thread:
        addi a0, a0, -16
        sd a1, 0(a0)
        mv a1, a0
        li a0, THREAD_FLAGS
        li a7, CALL_CLONE
        ecall
        beqz a0, 1f
        ret
1:      ld a0, 0(sp)
        call linux_thread

        .section .note.GNU-stack, "", @progbits
