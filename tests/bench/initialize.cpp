// `init` against memcpy of the same bytes: the template, once to each area.
//
//     initialize CPUS ROUNDS REPEATS
//
// prints a line a round: nanoseconds of one `init` and of the copies alone, first as at boot, then again and
// again in the same memory, and there also of the copies behind one atomic exchange: the least by which two CPUs
// that call `init` at once can be kept apart (Attiya et al., "Laws of Order", POPL 2011: mutual exclusion takes a
// fence between a write and a read, or an atomic operation).
//
// At boot no cache holds the memory of the areas, and other CPUs wait until they can see them: so the lines are
// flushed before, and a fence ends each time. The memory has been touched, so that no page fault is timed. REPEATS
// sets of areas are made a round, for the clock is too coarse for a small one.
#include <percpu/percpu.hpp>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <sys/mman.h>

struct Payload {
    // The header of x86_64 comes first in the area; together they fill it.
    unsigned char bytes[AREA_BYTES - sizeof(percpu::arch::Header)];
};
PERCPU_DEFINE(Payload, payload, {1, 2, 3});

extern "C" char _percpu_start[];

namespace {

// The size is one that only the run knows, as in the runtime: or the compiler puts a copy of just that
// size in place of memcpy.
volatile size_t template_size = AREA_BYTES;

void copies(char* base, size_t stride, size_t count) {
    const size_t size = template_size;
    for (size_t cpu = 0; cpu < count; ++cpu) std::memcpy(base + cpu * stride, _percpu_start, size);
}

// This thread's own time: the largest copies take so long that others run in between.
double now() {
    timespec time;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return static_cast<double>(time.tv_sec) * 1e9 + static_cast<double>(time.tv_nsec);
}

// The average of `make`, called with 0, 1 and so on.
template <class Make>
double timed(uint64_t repeats, Make make) {
    const double start = now();
    for (uint64_t number = 0; number < repeats; ++number) {
        make(number);
        asm volatile("" : : : "memory");
    }
    return (now() - start) / static_cast<double>(repeats);
}

void flush(const char* memory, size_t bytes) {
    for (size_t offset = 0; offset < bytes; offset += PERCPU_CACHE_LINE) __builtin_ia32_clflush(memory + offset);
    __builtin_ia32_mfence();
}

}  // namespace

int main(int count, char** arguments) {
    if (count != 4) {
        std::puts("usage: initialize CPUS ROUNDS REPEATS");
        return 2;
    }
    const size_t cpus = std::strtoull(arguments[1], nullptr, 10);
    const uint64_t rounds = std::strtoull(arguments[2], nullptr, 10);
    const uint64_t repeats = std::strtoull(arguments[3], nullptr, 10);
    const auto [bytes, alignment] = percpu::percpu_area_layout_expected(cpus);
    const size_t stride = bytes / cpus;
    if (percpu::percpu_area_size() != AREA_BYTES || stride != AREA_BYTES || alignment > 4096) {
        std::printf("an area has %zu bytes and a stride of %zu, expected %d\n", percpu::percpu_area_size(), stride,
                    AREA_BYTES);
        return 1;
    }
    const size_t pool = bytes * repeats;
    void* memory = mmap(nullptr, pool, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED) {
        std::printf("no %zu bytes of memory\n", pool);
        return 1;
    }
    char* base = static_cast<char*>(memory);
    const auto init = [&](char* areas) {
        if (!percpu::init(areas, cpus)) std::abort();
    };
    const auto copy = [&](char* areas) { copies(areas, stride, cpus); };
    uint32_t progress = 0;
    const auto claim_and_copy = [&](char* areas) {
        if (__atomic_exchange_n(&progress, 1u, __ATOMIC_ACQUIRE) == 1) std::abort();
        copies(areas, stride, cpus);
        __atomic_store_n(&progress, 2u, __ATOMIC_RELEASE);
    };
    const auto at_boot = [&](auto make) {
        flush(base, pool);
        return timed(repeats, [&](uint64_t number) {
            make(base + number * bytes);
            __builtin_ia32_mfence();
        });
    };
    const auto again = [&](auto make) {
        return timed(repeats, [&](uint64_t) { make(base); });
    };
    init(base);
    copy(base);
    for (uint64_t round = 0; round < rounds; ++round) {
        // Who goes first changes, for the first to go finds the caches as the round before left them.
        double ours[2], theirs[2], claimed;
        if (round % 2 == 0) {
            ours[0] = at_boot(init), theirs[0] = at_boot(copy);
            ours[1] = again(init), claimed = again(claim_and_copy), theirs[1] = again(copy);
        } else {
            theirs[0] = at_boot(copy), ours[0] = at_boot(init);
            theirs[1] = again(copy), claimed = again(claim_and_copy), ours[1] = again(init);
        }
        std::printf("%g\t%g\t%g\t%g\t%g\n", ours[0], theirs[0], ours[1], theirs[1], claimed);
    }
}
