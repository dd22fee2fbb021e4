// What a translation unit is built for, as text, in the name of a symbol that each one has.
//
// All of a kernel must be built for the same: inline functions of the runtime are in every unit, and the linker
// keeps any one's. percpu-check compares the symbols (T11), and src/area.cpp writes the same text into its note.
// config.hpp includes it, behind the macros that it takes from there.

#pragma once

#if defined(PERCPU_PREEMPT)
#define PERCPU_DETAIL_BUILT_PREEMPT "preempt,"
#else
#define PERCPU_DETAIL_BUILT_PREEMPT
#endif
#if defined(PERCPU_NON_ZERO_VMA)
#define PERCPU_DETAIL_BUILT_NON_ZERO_VMA "non-zero-vma,"
#else
#define PERCPU_DETAIL_BUILT_NON_ZERO_VMA
#endif
#if defined(PERCPU_ARM_EL2)
#define PERCPU_DETAIL_BUILT_ARM_EL2 "arm-el2,"
#else
#define PERCPU_DETAIL_BUILT_ARM_EL2
#endif
#if defined(PERCPU_PRISTINE)
#define PERCPU_DETAIL_BUILT_PRISTINE "pristine,"
#else
#define PERCPU_DETAIL_BUILT_PRISTINE
#endif
#if defined(PERCPU_RESTARTABLE)
#define PERCPU_DETAIL_BUILT_RESTARTABLE "restartable,"
#else
#define PERCPU_DETAIL_BUILT_RESTARTABLE
#endif
#if defined(PERCPU_SP_NAIVE)
#define PERCPU_DETAIL_BUILT_SP_NAIVE "sp-naive,"
#else
#define PERCPU_DETAIL_BUILT_SP_NAIVE
#endif
#if defined(PERCPU_ALL_NEAR)
#define PERCPU_DETAIL_BUILT_ALL_NEAR "all-near,"
#else
#define PERCPU_DETAIL_BUILT_ALL_NEAR
#endif
#if defined(PERCPU_CHECKED)
#define PERCPU_DETAIL_BUILT_CHECKED "checked,"
#else
#define PERCPU_DETAIL_BUILT_CHECKED
#endif
#if defined(PERCPU_LARGE_TEMPLATE)
#define PERCPU_DETAIL_BUILT_LARGE_TEMPLATE "large-template,"
#else
#define PERCPU_DETAIL_BUILT_LARGE_TEMPLATE
#endif

// Lines of `key=value`, each with `end` behind it. Features in alphabetical order.
#define PERCPU_DETAIL_BUILT(end)                                                                               \
    "version=" PERCPU_VERSION end                                                                              \
    "layout=" PERCPU_LAYOUT_NAME end                                                                           \
    "features=" PERCPU_DETAIL_BUILT_ALL_NEAR PERCPU_DETAIL_BUILT_ARM_EL2 PERCPU_DETAIL_BUILT_CHECKED           \
        PERCPU_DETAIL_BUILT_LARGE_TEMPLATE PERCPU_DETAIL_BUILT_NON_ZERO_VMA PERCPU_DETAIL_BUILT_PREEMPT        \
        PERCPU_DETAIL_BUILT_PRISTINE PERCPU_DETAIL_BUILT_RESTARTABLE PERCPU_DETAIL_BUILT_SP_NAIVE end          \
    "base-register=" PERCPU_DETAIL_STRING(PERCPU_BASE_REGISTER) end                                            \
    "cache-line=" PERCPU_DETAIL_STRING(PERCPU_CACHE_LINE) end

// Absolute and local: it takes no memory, is no address, and stands behind its source file's name in the symbol
// table. Without a space, or GNU as for RISC-V takes it for one of its own and drops it.
asm(".set \"percpu:" PERCPU_DETAIL_BUILT(":") "\", 1");
