// What a kernel and a loader say to each other by the Limine boot protocol, as far as it is used here: how CPUs
// are started (PROTOCOL.md of Limine 8, "Features" and "SMP (multiprocessor) Feature"). Without a base revision
// tag, memory below 4 GiB is also mapped where it is.
#pragma once

#include <stdint.h>

namespace limine {

// The loader has a CPU wait until go_to is set, and calls that there.
struct Cpu {
    uint32_t processor_id;
    uint32_t apic_id;
    uint64_t reserved;
    void (*go_to)(Cpu*);
    uint64_t argument;
};

struct Cpus {
    uint64_t revision;
    uint32_t flags;
    uint32_t boot_apic_id;
    uint64_t count;
    Cpu** all;
};

// The loader finds it in the kernel's image by its id.
struct CpusRequest {
    uint64_t id[4];
    uint64_t revision;
    Cpus* response;
    uint64_t flags;
};

constexpr uint64_t cpus_request_id[4] = {0xc7b1dd30df4c8b88, 0x0a82e883a194f07b, 0x95a67b819a1b857e,
                                         0xa0b61b723b6a73e0};

// A kernel is linked here or above.
constexpr uint64_t lowest_address = 0xffffffff80000000;

}  // namespace limine
