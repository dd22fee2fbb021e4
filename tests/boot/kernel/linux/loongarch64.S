// Linux on LoongArch64: the process's entry, system calls, and threads.

#define CALL_CLONE   220
#define THREAD_FLAGS 0x50f00                        // CLONE_VM, _FS, _FILES, _SIGHAND, _THREAD, _SYSVSEM

        .text
        .global _start
_start:
        ld.d $a0, $sp, 0
        addi.d $a1, $sp, 8
        bl linux_start

        .global linux_call
linux_call:
        move $a7, $a0
        move $a0, $a1
        move $a1, $a2
        move $a2, $a3
        move $a3, $a4
        syscall 0
        ret

        .global linux_start_thread
linux_start_thread:
        addi.d $a0, $a0, -16
        st.d $a1, $a0, 0
        move $a1, $a0
        li.w $a0, THREAD_FLAGS
        li.w $a7, CALL_CLONE
        syscall 0
        beqz $a0, 1f
        ret
1:      ld.d $a0, $sp, 0
        bl linux_thread

        .section .note.GNU-stack, "", @progbits
