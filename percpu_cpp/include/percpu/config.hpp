// What this build of the runtime is: architecture, layout, features, base register.
//
// Everything here is decided by the preprocessor, from the compiler's own macros and from the
// PERCPU_* macros that the build defines. All translation units of a kernel must be compiled with
// the same PERCPU_* macros; the ELF note written by src/area.cpp says which, and percpu-check finds
// a unit with others (T11).
//
//   PERCPU_SP_NAIVE        one CPU: variables are ordinary globals
//   PERCPU_NON_ZERO_VMA    in-image layout: `.percpu` is linked at an ordinary address
//   PERCPU_PREEMPT         guarded accessors hold the CPU against preemption (preempt.hpp)
//   PERCPU_ARM_EL2         AArch64: TPIDR_EL2 in place of TPIDR_EL1
//   PERCPU_RESTARTABLE     word updates are restartable sequences (restart.hpp)
//   PERCPU_ALL_NEAR        every variable is near; does not link with a script rendered without all-near
//   PERCPU_PRISTINE        the template is kept apart from the areas (area.hpp)
//   PERCPU_CHECKED         misuse stops in percpu_panic (area.hpp)
//   PERCPU_BASE_REGISTER   the base register's name, for kernels whose default one is taken
//   PERCPU_BASE_REGISTER_HEADER  with PERCPU_BASE_REGISTER=user, the header of the user's functions
//   PERCPU_LARGE_TEMPLATE  AArch64, zero-VMA: the template may be larger than 64 KiB
//   PERCPU_CACHE_LINE      bytes, a power of two
//   PERCPU_LINUX_USER      1: a Linux user-space program, 0: a kernel. Found from -ffreestanding.

#pragma once

#include <stddef.h>
#include <stdint.h>

#if __cplusplus < 202002L
#error "percpu: compile with -std=c++20 or later"
#endif

#define PERCPU_VERSION "0.1.0"

#if defined(__ILP32__) && (defined(__x86_64__) || defined(__aarch64__))
#error "percpu: there is no form of the accesses for 32-bit pointers in a 64-bit mode: compile without -mx32 or -mabi=ilp32"
#endif

#if defined(__x86_64__)
#define PERCPU_ARCH_X86_64 1
#define PERCPU_ARCH_NAME "x86_64"
#elif defined(__aarch64__)
#define PERCPU_ARCH_AARCH64 1
#define PERCPU_ARCH_NAME "aarch64"
#elif defined(__arm__)
#define PERCPU_ARCH_ARM 1
#define PERCPU_ARCH_NAME "arm"
#elif defined(__riscv) && __riscv_xlen == 64
#define PERCPU_ARCH_RISCV 1
#define PERCPU_ARCH_NAME "riscv64"
#elif defined(__riscv) && __riscv_xlen == 32
#define PERCPU_ARCH_RISCV 1
#define PERCPU_ARCH_NAME "riscv32"
#elif defined(__loongarch64)
#define PERCPU_ARCH_LOONGARCH64 1
#define PERCPU_ARCH_NAME "loongarch64"
#else
#error "percpu: no arch/ header for this compiler's target"
#endif

// 64 bytes is the line of the common cores of all architectures here; a kernel for others
// (128 bytes on Apple's AArch64 cores) says so.
#ifndef PERCPU_CACHE_LINE
#define PERCPU_CACHE_LINE 64
#endif
#if PERCPU_CACHE_LINE <= 0 || (PERCPU_CACHE_LINE & (PERCPU_CACHE_LINE - 1)) != 0
#error "percpu: PERCPU_CACHE_LINE is a power of two, in bytes"
#endif

// GCC and Clang define __linux__ for bare-metal builds by a Linux cross compiler too; only
// -ffreestanding tells a kernel from a program.
#ifndef PERCPU_LINUX_USER
#if defined(__linux__) && __STDC_HOSTED__
#define PERCPU_LINUX_USER 1
#else
#define PERCPU_LINUX_USER 0
#endif
#endif

#if defined(PERCPU_SP_NAIVE)
#define PERCPU_LAYOUT_NAME "none"
#elif defined(PERCPU_NON_ZERO_VMA)
#define PERCPU_LAYOUT_NAME "in-image"
#else
#define PERCPU_LAYOUT_NAME "zero-vma"
#endif

#if PERCPU_LINUX_USER && !defined(PERCPU_SP_NAIVE) && !defined(PERCPU_NON_ZERO_VMA)
#error "percpu: a Linux program cannot have a section at address 0: add the feature non-zero-vma, or compile a kernel with -ffreestanding"
#endif

#if defined(PERCPU_RESTARTABLE) && defined(PERCPU_ARCH_X86_64)
#error "percpu: on x86_64 every update is one instruction already, and there is nothing to restart: remove the feature restartable"
#endif

#if defined(PERCPU_RESTARTABLE) && defined(PERCPU_SP_NAIVE)
#error "percpu: with sp-naive updates are the compiler's atomics, and there is nothing to restart: remove one of the two features"
#endif

#if defined(PERCPU_ARM_EL2) && !defined(PERCPU_ARCH_AARCH64)
#error "percpu: arm-el2 chooses TPIDR_EL2, a register of AArch64 only: remove the feature"
#endif

#if defined(PERCPU_LARGE_TEMPLATE) && !defined(PERCPU_ARCH_AARCH64)
#error "percpu: only on AArch64 the template's size has a limit that large-template lifts: remove the feature"
#endif

#ifndef PERCPU_BASE_REGISTER
#if defined(PERCPU_ARCH_X86_64)
#define PERCPU_BASE_REGISTER gs
#elif defined(PERCPU_ARCH_AARCH64) && defined(PERCPU_ARM_EL2)
#define PERCPU_BASE_REGISTER TPIDR_EL2
#elif defined(PERCPU_ARCH_AARCH64)
#define PERCPU_BASE_REGISTER TPIDR_EL1
#elif defined(PERCPU_ARCH_ARM)
#define PERCPU_BASE_REGISTER TPIDRURO
#elif defined(PERCPU_ARCH_RISCV)
#define PERCPU_BASE_REGISTER gp
#elif defined(PERCPU_ARCH_LOONGARCH64)
#define PERCPU_BASE_REGISTER r21
#endif
#endif

// PERCPU_BASE_REGISTER_IS(tp) in an #if: the preprocessor cannot compare names, but it can paste
// them into the names of numbers.
#define PERCPU_DETAIL_REGISTER_gs 1
#define PERCPU_DETAIL_REGISTER_fs 2
#define PERCPU_DETAIL_REGISTER_TPIDR_EL0 3
#define PERCPU_DETAIL_REGISTER_TPIDRRO_EL0 4
#define PERCPU_DETAIL_REGISTER_TPIDR_EL1 5
#define PERCPU_DETAIL_REGISTER_TPIDR_EL2 6
#define PERCPU_DETAIL_REGISTER_x18 7
#define PERCPU_DETAIL_REGISTER_TPIDRURO 8
#define PERCPU_DETAIL_REGISTER_TPIDRPRW 9
#define PERCPU_DETAIL_REGISTER_gp 10
#define PERCPU_DETAIL_REGISTER_tp 11
#define PERCPU_DETAIL_REGISTER_r21 12
#define PERCPU_DETAIL_REGISTER_user 13
#define PERCPU_DETAIL_PASTE(a, b) PERCPU_DETAIL_PASTE_EXPANDED(a, b)
#define PERCPU_DETAIL_PASTE_EXPANDED(a, b) a##b
#define PERCPU_DETAIL_STRING(text) PERCPU_DETAIL_STRING_EXPANDED(text)
#define PERCPU_DETAIL_STRING_EXPANDED(text) #text
#define PERCPU_BASE_REGISTER_IS(name) \
    (PERCPU_DETAIL_PASTE(PERCPU_DETAIL_REGISTER_, PERCPU_BASE_REGISTER) == PERCPU_DETAIL_REGISTER_##name)

#if defined(PERCPU_ARM_EL2) && !PERCPU_BASE_REGISTER_IS(TPIDR_EL2)
#error "percpu: arm-el2 and base-register both choose the base register: keep one of them"
#endif

#if defined(PERCPU_RESTARTABLE) && PERCPU_BASE_REGISTER_IS(user)
#error "percpu: a base that a function of yours finds is found before a sequence, and would be the old CPU's when it restarts: remove one of the features restartable and base-register=user"
#endif

// The bytes of the area that a near access reaches, 0 for no limit: the range of the offset in a load's
// or store's immediate. Only in the zero-VMA layout are addresses small enough to be such an offset.
#if defined(PERCPU_SP_NAIVE) || defined(PERCPU_NON_ZERO_VMA) || defined(PERCPU_ARCH_X86_64) || \
    PERCPU_BASE_REGISTER_IS(user)
#define PERCPU_NEAR_REACH 0
#elif defined(PERCPU_ARCH_AARCH64) || defined(PERCPU_ARCH_ARM)
#define PERCPU_NEAR_REACH 4096
#else
#define PERCPU_NEAR_REACH 2048
#endif

// Attributes of what lies in the template. Clang's address sanitizer would put a red zone behind every variable, into
// every area; and copying the template reads them. GCC's leaves variables with a section of their own alone, and has
// __has_feature, too, since version 14.
#if defined(__clang__)
#if __has_feature(address_sanitizer)
#define PERCPU_DETAIL_IN_TEMPLATE(name) section(name), no_sanitize("address")
#endif
#endif
#ifndef PERCPU_DETAIL_IN_TEMPLATE
#define PERCPU_DETAIL_IN_TEMPLATE(name) section(name)
#endif

// In front of and behind the variables of every area, by the fragment of a checked build.
#define PERCPU_GUARD_WORD 0x6a7b9c5d

namespace percpu {

// How far into the area an access to a variable can reach. A near access has the offset in the
// immediate of its load or store; a far one costs the instructions that make the offset.
enum class Reach : uint8_t { far, near };

}  // namespace percpu

#include "built.hpp"
