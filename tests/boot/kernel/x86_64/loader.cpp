// A loader like Limine: it maps each segment of an ELF file where that is linked, in memory of its own choice, and
// takes no notice of load addresses. QEMU has put the file at file_address.
//
// Structures: System V gABI, "ELF Header" and "Program Header"; page tables: Intel SDM vol. 3, 4.5.
#include "../barrier.hpp"
#include "../board.hpp"
#include "../check.hpp"
#include "../console.hpp"
#include "../memory.hpp"
#include "bring_up.hpp"
#include "limine.hpp"

namespace {

constexpr uintptr_t file_address = 0x4000000;  // as in tests/boot/test_loaders.py
constexpr uintptr_t free_memory = 0x6000000;
constexpr size_t page_size = 4096;
constexpr uint32_t loadable = 1;

struct Header {
    unsigned char ident[16];
    uint16_t type, machine;
    uint32_t version;
    uint64_t entry, segments, sections;
    uint32_t flags;
    uint16_t size, segment_size, segment_count, section_size, section_count, names;
};

struct Segment {
    uint32_t type, flags;
    uint64_t offset, address, load_address, file_size, memory_size, alignment;
};

[[noreturn]] void refuse(const char* why) {
    check(false, why);
    exit_with_checks();
}

// Zeroed, and at the same virtual address.
char* new_page() {
    static uintptr_t next = free_memory;
    auto* const page = reinterpret_cast<char*>(next);
    next += page_size;
    memset(page, 0, page_size);
    return page;
}

// The memory of the page at `address`, which is mapped if it was not.
char* page_at(uintptr_t address) {
    constexpr uint64_t present_and_writable = 3;
    uint64_t table;
    asm("mov %%cr3, %0" : "=r"(table));
    for (unsigned shift = 39;; shift -= 9) {
        auto& entry = reinterpret_cast<uint64_t*>(table & ~(page_size - 1))[address >> shift & 0x1ff];
        if (entry == 0) entry = reinterpret_cast<uint64_t>(new_page()) | present_and_writable;
        table = entry;
        if (shift == 12) return reinterpret_cast<char*>(table & ~(page_size - 1));
    }
}

void load(const Segment& segment) {
    if (segment.address < limine::lowest_address) refuse("segments are linked at 0xffffffff80000000 or above");
    const auto* const bytes = reinterpret_cast<const char*>(file_address + segment.offset);
    for (uint64_t i = 0; i < segment.memory_size; ++i) {
        char& byte = page_at(segment.address + i)[(segment.address + i) % page_size];
        if (i < segment.file_size) byte = bytes[i];
    }
}

limine::Cpu cpus[max_cpus];
limine::Cpu* all_cpus[max_cpus];
limine::Cpus response;

// Answers the request if it is in the segment.
void answer(const Segment& segment) {
    auto* const begin = reinterpret_cast<char*>(segment.address);
    for (uint64_t i = 0; i + sizeof(limine::CpusRequest) <= segment.file_size; i += 8) {
        if (memcmp(begin + i, limine::cpus_request_id, sizeof limine::cpus_request_id) == 0)
            reinterpret_cast<limine::CpusRequest*>(begin + i)->response = &response;
    }
}

template <class F>
void for_each_segment(F f) {
    const auto& header = *reinterpret_cast<const Header*>(file_address);
    for (size_t i = 0; i < header.segment_count; ++i) {
        const auto& segment =
            *reinterpret_cast<const Segment*>(file_address + header.segments + i * header.segment_size);
        if (segment.type == loadable && segment.memory_size != 0) f(segment);
    }
}

}  // namespace

extern "C" void primary_main() {
    const size_t count = board::cpu_count();
    for (size_t cpu = 0; cpu < count; ++cpu) {
        cpus[cpu].processor_id = cpus[cpu].apic_id = static_cast<uint32_t>(cpu);
        all_cpus[cpu] = &cpus[cpu];
    }
    response.count = count;
    response.all = all_cpus;
    for_each_segment(load);
    for_each_segment(answer);
    for (size_t cpu = 1; cpu < count; ++cpu) board::start_cpu(cpu);
    print("loaded\n");
    reinterpret_cast<void (*)()>(reinterpret_cast<const Header*>(file_address)->entry)();
}

extern "C" void secondary_main(size_t cpu) {
    limine::Cpu& self = cpus[cpu];
    for (;;) {
        if (auto* const go_to = __atomic_load_n(&self.go_to, __ATOMIC_ACQUIRE)) go_to(&self);
        board::relax();
    }
}

extern "C" void on_tick() {}
