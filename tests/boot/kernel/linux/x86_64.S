// Linux on x86_64: the process's entry, system calls, threads, and the way back from signals.

#define CALL_RT_SIGRETURN 15
#define CALL_CLONE        56
#define THREAD_FLAGS      0x50f00                   // CLONE_VM, _FS, _FILES, _SIGHAND, _THREAD, _SYSVSEM

        .text
        .global _start
_start:
        mov (%rsp), %rdi
        lea 8(%rsp), %rsi
        xor %ebp, %ebp
        call linux_start

        .global linux_call
linux_call:
        mov %rdi, %rax
        mov %rsi, %rdi
        mov %rdx, %rsi
        mov %rcx, %rdx
        mov %r8, %r10
        syscall
        ret

        .global linux_start_thread
linux_start_thread:
        lea -16(%rdi), %rdi
        mov %rsi, (%rdi)
        mov %rdi, %rsi
        mov $THREAD_FLAGS, %edi
        mov $CALL_CLONE, %eax
        syscall
        test %eax, %eax
        jz 1f
        ret
1:      mov (%rsp), %rdi
        xor %ebp, %ebp
        call linux_thread

        .global linux_return_from_signal
linux_return_from_signal:
        mov $CALL_RT_SIGRETURN, %eax
        syscall

        .section .note.GNU-stack, "", @progbits
