// An operand for assembly that the compiler may do once for several.
//
// Without one, nothing keeps such assembly behind a guard, or behind the store of the very value it reads. With
// it the compiler takes it to read memory, and does it again where memory may have changed: behind every guard
// and every accessor that writes. The memory is a byte of the stack, because the stack pointer is an address
// that is in a register anyway; nothing reads it. (Linux does so on AArch64: arch/arm64/include/asm/percpu.h,
// __kern_my_cpu_offset.)

#pragma once

#include "../config.hpp"

#if defined(PERCPU_ARCH_X86_64)
#define PERCPU_DETAIL_STACK_POINTER "rsp"
#elif defined(PERCPU_ARCH_LOONGARCH64)
#define PERCPU_DETAIL_STACK_POINTER "$sp"
#else
#define PERCPU_DETAIL_STACK_POINTER "sp"
#endif

// "Q" is an address in a register alone; the others have one with a small offset.
#if defined(PERCPU_ARCH_AARCH64) || defined(PERCPU_ARCH_ARM)
#define PERCPU_DETAIL_BYTE_OF_STACK "Q"
#else
#define PERCPU_DETAIL_BYTE_OF_STACK "m"
#endif

namespace percpu::arch {

register uintptr_t stack_pointer asm(PERCPU_DETAIL_STACK_POINTER);

}  // namespace percpu::arch

#undef PERCPU_DETAIL_STACK_POINTER

#define PERCPU_REUSABLE \
    [reusable] PERCPU_DETAIL_BYTE_OF_STACK(*reinterpret_cast<const unsigned char*>(::percpu::arch::stack_pointer))
