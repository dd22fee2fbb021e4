// Making the per-CPU areas, in the two ways there are.
#pragma once

#include <percpu/percpu.hpp>

#include "board.hpp"
#include "memory.hpp"

#ifdef KERNEL_DYNAMIC_AREAS

constexpr const char* areas_are = "in allocated memory";

// As many areas as the machine has CPUs, whatever CPU_NUM the kernel was linked for.
inline percpu::Result<size_t, percpu::InitError> make_areas() {
    const size_t cpus = board::cpu_count();
    const auto layout = percpu::percpu_area_layout_expected(cpus);
    return percpu::init(allocate(layout.size, layout.alignment), cpus);
}

#else

constexpr const char* areas_are = "in place";

// The CPU_NUM areas that the linker script reserved.
inline percpu::Result<size_t, percpu::InitError> make_areas() { return percpu::init_in_place(); }

#endif
