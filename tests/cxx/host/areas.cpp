// The areas: in place, in memory of the caller's, refused bases, other CPUs' copies.
#include <percpu/percpu.hpp>

#include <stdlib.h>

#include "check.hpp"

struct Node {
    Node* self;
    int visits;

    explicit Node(int first) : self(this), visits(first) {}
    ~Node() { self = nullptr; }
};

PERCPU_DECLARE(Node, node);
PERCPU_DEFINE_CONSTRUCTED(Node, node, 3);
PERCPU_DEFINE(uint32_t, word, 7);
PERCPU_DEFINE(int16_t, small, -1);
PERCPU_DEFINE(double, load, 0.5);
PERCPU_DEFINE_ALIGNED(uint64_t, line, 0);
PERCPU_DEFINE_PAGE_ALIGNED(uint8_t[4096], page, 1, 2, 3);

static void check_fresh(size_t cpu) {
    CHECK(word.remote_ref_raw(cpu) == 7);
    CHECK(*small.remote_ptr(cpu) == -1);
    CHECK(page.remote_ref_raw(cpu)[2] == 3);
    CHECK(page.remote_ref_raw(cpu)[4095] == 0);
    CHECK(node.remote_ref_raw(cpu).self == node.remote_ptr(cpu));
    CHECK(node.remote_ref_raw(cpu).visits == 3);
    CHECK(reinterpret_cast<uintptr_t>(page.remote_ptr(cpu)) % 4096 == 0);
    CHECK(reinterpret_cast<uintptr_t>(line.remote_ptr(cpu)) % PERCPU_CACHE_LINE == 0);
}

static void check_areas(size_t count) {
    for (size_t cpu = 0; cpu < count; ++cpu) check_fresh(cpu);
    for (size_t cpu = 0; cpu < count; ++cpu) {
        percpu::init_percpu_reg(cpu);
        CHECK(percpu::read_percpu_reg() == percpu::percpu_area_base(cpu));
        CHECK(word.read_current() == 7);
        CHECK(word.current_ptr() == word.remote_ptr(cpu));
        CHECK(reinterpret_cast<uintptr_t>(word.current_ptr()) == percpu::percpu_area_base(cpu) + word.offset());
        word.write_current(static_cast<uint32_t>(100 + cpu));
        small.add_current(1);
        line.fetch_add_current(cpu);
    }
    for (size_t cpu = 0; cpu < count; ++cpu) {
        CHECK(word.remote_ref_raw(cpu) == 100 + cpu);
        CHECK(*word.remote_ref(cpu) == 100 + cpu);
        word.remote_ref_mut_raw(cpu) += 1000;
    }
    percpu::init_percpu_reg(count - 1);
    CHECK(word.read_current() == 1100 + count - 1);

    CHECK(!word.remote_ref(count));
    CHECK(word.remote_ref(count).error() == percpu::RemoteError::InvalidCpu);
    CHECK(!word.remote_ref(SIZE_MAX));

    size_t seen = 0;
    word.for_each([&](size_t cpu, uint32_t& copy) {
        CHECK(cpu == seen);
        CHECK(&copy == word.remote_ptr(cpu));
        ++seen;
    });
    CHECK(seen == count);
    size_t sum = 0;
    word.for_each([&](uint32_t copy) { sum += copy; });
    CHECK(word.sum() == sum);
    CHECK(line.sum() == count * (count - 1) / 2);
    CHECK(small.sum() == 0);
    CHECK(load.sum() == 0.5 * static_cast<double>(count));
}

int main() {
    const size_t count = percpu::percpu_area_num();
    CHECK(count == EXPECTED_AREAS);
    CHECK(percpu::percpu_area_size() > 4096);

    const percpu::AreaLayout layout = percpu::percpu_area_layout_expected(3);
    CHECK(layout.alignment == 4096);
    CHECK(layout.size % 3 == 0 && layout.size / 3 >= percpu::percpu_area_size());
    CHECK(percpu::percpu_area_layout_expected(0).size == 0);
    CHECK(percpu::percpu_area_layout_expected(SIZE_MAX / 2).size == SIZE_MAX);

    const size_t others[] = {word.offset(), small.offset(), load.offset(), page.offset(), node.offset()};
    for (size_t other : others) CHECK(other / PERCPU_CACHE_LINE != line.offset() / PERCPU_CACHE_LINE);

    const auto null = percpu::init(nullptr, 1);
    CHECK(!null && null.error() == percpu::InitError::InvalidBase);
    char* const memory = static_cast<char*>(aligned_alloc(layout.alignment, layout.size + 4096));
    const size_t misalignments[] = {1, 8, 64, 2048};
    for (size_t off : misalignments) {
        const auto unaligned = percpu::init(memory + off, 1);
        CHECK(!unaligned && unaligned.error() == percpu::InitError::UnalignedBase);
    }
    CHECK(percpu::init(memory, 0) == size_t{0});

    memory[layout.size] = 0x5a;
    CHECK(percpu::init(memory, 3) == size_t{3});
    CHECK(percpu::percpu_area_base(0) == reinterpret_cast<uintptr_t>(memory));
    check_areas(3);
    CHECK(memory[layout.size] == 0x5a);

    // The areas elsewhere left the template alone, so those in place begin fresh too.
    CHECK(percpu::init_in_place() == count);
    check_areas(count);

    // Again: the others are fresh, area 0 is the template itself and stays as it is.
    CHECK(percpu::init_in_place() == count);
    CHECK(word.remote_ref_raw(0) == 1100);
    for (size_t cpu = 1; cpu < count; ++cpu) CHECK(word.remote_ref_raw(cpu) == 1100);
    free(memory);
    return failures != 0;
}
