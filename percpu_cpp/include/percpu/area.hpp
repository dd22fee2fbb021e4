// The areas: making them from the template, and giving each CPU its own.
//
// The linker script links the template once (`.percpu`) and reserves zero-fill memory for CPU_NUM
// areas. Area 0 begins where the loader puts the template, so it is ready before any initialization.
// `init_in_place` copies the template to the other reserved areas; `init` makes the areas in memory
// that the caller gives. Then `init_percpu_reg(cpu_id)` on each CPU points its base register at its
// area, and the CPU may use per-CPU variables.
//
// Both read the template where the loader put it, which is area 0 in place: what a CPU has written
// there before is copied as if it were an initial value. Initialize before the first CPU changes its
// variables.
//
// With the feature `pristine` (PERCPU_PRISTINE) the loader's template is nobody's area: it lies in front of
// area 0, for one more area of memory, and stays as linked. Areas can then be made again at any time, all of
// them by another `init`, or one of them by `reset_area` while the other CPUs go on. Area 0 is then like the
// others: it is there when `init` has made it.
//
// With PERCPU_SP_NAIVE there are no areas: the functions are there, make nothing but the constructed
// variables, and say that there is one CPU with an area of 0 bytes at address 0.

#pragma once

#include "arch/current.hpp"
#include "config.hpp"
#include "result.hpp"

#if defined(PERCPU_CHECKED)
// Called in a checked build when per-CPU data is misused. `message` is one line that names the
// variable or the area. The kernel prints it and stops; it must not use a guarded accessor.
extern "C" [[noreturn]] void percpu_panic(const char* message) noexcept;
// Tells whether the running thread might be moved to another CPU just now. A kernel that gives it learns of
// raw accesses that hold no CPU. It is called in each; it may itself use read_current_raw.
extern "C" bool percpu_preemptible() noexcept __attribute__((weak));
#endif

namespace percpu {

enum class InitError : uint8_t {
    InvalidBase,    // the base address is null
    UnalignedBase,  // the base address is not a multiple of percpu_area_layout_expected().alignment
};

enum class ResetError : uint8_t {
    InvalidCpu,     // no area was made for that CPU number
    TemplateInUse,  // the template is area 0: build with the feature `pristine`, or make the areas with `init`
};

// Memory for areas: its size in bytes, and the alignment in bytes that its address must have.
struct AreaLayout {
    size_t size;
    size_t alignment;
};

// Makes the areas in the memory that the linker script reserves, for percpu_area_num() CPUs, and
// returns that number. Without the feature `pristine`, area 0 is the template itself and stays as it is.
//
// It may be called again, and then gives the areas their template's values anew (without `pristine`, the
// areas 1 and up); no CPU may use its area meanwhile. Called while another CPU is in `init` or
// `init_in_place`, it does nothing and returns 0. Fails with InvalidBase or UnalignedBase when the script's
// _percpu_start is null or not aligned.
Result<size_t, InitError> init_in_place() noexcept;

// Makes areas for CPUs 0 .. cpu_count - 1 in the memory at `base`, and returns cpu_count. `base` must
// be a multiple of percpu_area_layout_expected(cpu_count).alignment and have at least that layout's
// size; a page's alignment is recommended. The rest as for init_in_place.
Result<size_t, InitError> init(void* base, size_t cpu_count) noexcept;

// Gives the area of CPU `cpu_id` its template's values anew, runs the constructors of its constructed variables,
// and returns its address. The other CPUs go on with theirs, and may read this one: they see whole words, from
// before or from the template. For a CPU that went and comes back, before its init_percpu_reg.
//
// No destructor is run: what the area's objects own is lost unless the caller has released it. Fails with
// TemplateInUse where the template is area 0 in place, which its CPU may have written. Stops as
// percpu_area_base does.
//
// The caller ensures that the CPU does not use its area, that nobody else writes to it meanwhile, and that the
// CPU comes back after the call (starting it orders the two).
Result<uintptr_t, ResetError> reset_area(size_t cpu_id) noexcept;

// The number of areas that the linker script reserves.
size_t percpu_area_num() noexcept;

// The size in bytes of one area's variables, which is the template's size, without the padding up to
// the next area.
size_t percpu_area_size() noexcept;

// What `init` needs for `cpu_count` CPUs. A count whose areas no address space can hold gives the
// size SIZE_MAX, which no allocator has.
AreaLayout percpu_area_layout_expected(size_t cpu_count) noexcept;

namespace detail {

#if defined(PERCPU_SP_NAIVE)

inline size_t area_count() noexcept { return 1; }

#else

// base is 0 until the areas are made, and while they are being made.
struct Areas {
    uintptr_t base;
    size_t stride;
    size_t count;
};
extern Areas areas __attribute__((visibility("hidden")));

// Waits for a CPU that is making the areas; stops if there is none.
uintptr_t await_areas() noexcept;

inline uintptr_t areas_base() noexcept {
    const uintptr_t base = __atomic_load_n(&areas.base, __ATOMIC_ACQUIRE);
    return base != 0 ? base : await_areas();
}

inline size_t area_count() noexcept {
    areas_base();
    return areas.count;
}

#if defined(PERCPU_NON_ZERO_VMA)
extern char load_start[] asm("_percpu_load_start") __attribute__((visibility("hidden")));

inline uintptr_t template_address() noexcept { return reinterpret_cast<uintptr_t>(load_start); }
#else
inline uintptr_t template_address() noexcept { return 0; }
#endif

#endif

#if defined(PERCPU_CHECKED)
// Stops unless the base register points at one of the areas, or before `init` at area 0 in place if a
// CPU was given that by write_percpu_reg. (In the in-image layout its value is then 0, which is also what
// the register holds after reset: a CPU that never had it set passes for CPU 0 once that one has. Not with
// `pristine`, where no area is at the template's address.) Stops if a guard word of the area has changed.
void check_current(const char* variable) noexcept;
void note_area_in_use(uintptr_t area) noexcept;
// Stops if the kernel says that the thread may be preempted.
void check_held(const char* variable) noexcept;
// Stops if nobody ever made areas.
void check_made(const char* variable) noexcept;
// Stops unless there is an area of that CPU with its guard words as they were.
void check_cpu(const char* variable, size_t cpu_id) noexcept;
#endif

}  // namespace detail

// The address of the area of CPU `cpu_id`. If another CPU is making the areas it waits; if nobody has
// made them it traps (in a checked build, percpu_panic).
//
// The caller ensures that `cpu_id` is less than the number of areas that were made.
inline uintptr_t percpu_area_base([[maybe_unused]] size_t cpu_id) noexcept {
#if defined(PERCPU_SP_NAIVE)
    return 0;
#else
#if defined(PERCPU_CHECKED)
    detail::check_cpu(nullptr, cpu_id);
#endif
    return detail::areas_base() + cpu_id * detail::areas.stride;
#endif
}

// The address of the current CPU's area, from the base register.
//
// The caller ensures that the CPU's base register was set, and that the thread stays on the CPU for as
// long as it uses the address.
inline uintptr_t read_percpu_reg() noexcept {
#if defined(PERCPU_SP_NAIVE)
    return 0;
#else
    return arch::read_base_register() + detail::template_address();
#endif
}

// Points the current CPU's base register at the area at address `area`.
//
// The caller ensures that `area` is an area, and that neither an interrupt handler nor a preempting
// thread uses per-CPU variables meanwhile.
inline void write_percpu_reg([[maybe_unused]] uintptr_t area) noexcept {
#if !defined(PERCPU_SP_NAIVE)
#if defined(PERCPU_CHECKED)
    detail::note_area_in_use(area);
#endif
    arch::write_base_register(area - detail::template_address());
#endif
}

// Points the current CPU's base register at the area of CPU `cpu_id`. Once on each CPU, after `init`
// or `init_in_place`, before its first use of a per-CPU variable. Stops as percpu_area_base does.
inline void init_percpu_reg(size_t cpu_id) noexcept { write_percpu_reg(percpu_area_base(cpu_id)); }

}  // namespace percpu
