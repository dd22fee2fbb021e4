// From a loader that speaks Limine's protocol: it has mapped the kernel where it is linked, wherever it lies.
#include "../board.hpp"
#include "../check.hpp"
#include "bring_up.hpp"
#include "limine.hpp"

namespace {

__attribute__((used)) volatile limine::CpusRequest request = {
    .id = {limine::cpus_request_id[0], limine::cpus_request_id[1], limine::cpus_request_id[2],
           limine::cpus_request_id[3]},
    .revision = 0,
    .response = nullptr,
    .flags = 0,
};

}  // namespace

void bring_up(size_t cpu) {
    const limine::Cpus* const cpus = request.response;
    for (size_t i = 0; i < cpus->count; ++i) {
        limine::Cpu* const one = cpus->all[i];
        if (one->apic_id != cpu) continue;  // QEMU: APIC id == CPU number
        const auto start = [](limine::Cpu* started) { cpu_start(started->apic_id); };
        __atomic_store_n(&one->go_to, start, __ATOMIC_RELEASE);
    }
}

extern "C" [[noreturn]] void limine_entry() {
    if (request.response == nullptr) {
        check(false, "the loader starts the other CPUs");
        exit_with_checks();
    }
    cpu_start(0);
}
