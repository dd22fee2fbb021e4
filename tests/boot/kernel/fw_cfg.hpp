// QEMU's fw_cfg device, by which a `virt` machine tells its number of CPUs. Memory-mapped and big-endian,
// the same on every architecture but x86; only its address differs.
#pragma once

#include <stddef.h>
#include <stdint.h>

inline size_t fw_cfg_cpu_count(uintptr_t device) {
    constexpr uint16_t cpus = 5;
    *reinterpret_cast<volatile uint16_t*>(device + 8) = __builtin_bswap16(cpus);
    auto& data = *reinterpret_cast<const volatile uint8_t*>(device);
    const size_t low = data;
    const size_t high = data;
    return high << 8 | low;
}
