// What the seed crate's own tests ask, asked in a kernel: one variable of each kind, its initial
// value, local and remote reads and writes, reset, and bases that init must refuse. The remote areas
// are those of CPUs that run, so that each also says what it sees of a remote write.
#include <percpu/percpu.hpp>

#include "areas.hpp"
#include "barrier.hpp"
#include "board.hpp"
#include "check.hpp"
#include "console.hpp"

struct Pair {
    size_t foo;
    uint8_t bar;

    bool operator==(const Pair&) const = default;
};

PERCPU_DEFINE(bool, flag, true);
PERCPU_DEFINE(uint8_t, byte, 1);
PERCPU_DEFINE(uint16_t, half, 2);
PERCPU_DEFINE(uint32_t, word, 3);
PERCPU_DEFINE(uint64_t, quad, 4);
PERCPU_DEFINE(size_t, size, 5);
PERCPU_DEFINE(Pair, pair, 6, 7);

namespace {

#ifdef PERCPU_SP_NAIVE
constexpr bool sp_naive = true;
#else
constexpr bool sp_naive = false;
#endif

constexpr size_t remote_cpus = 3;

Barrier finished;

struct Values {
    bool flag;
    uint8_t byte;
    uint16_t half;
    uint32_t word;
    uint64_t quad;
    size_t size;
    Pair pair;

    bool operator==(const Values&) const = default;
};

constexpr Values initial = {true, 1, 2, 3, 4, 5, {6, 7}};
constexpr Values written_locally = {false, 12, 0x3456, 0x789a'bcde, 0x0123'4567'89ab'cdef, 0x1020'3040, {66, 77}};
constexpr Values written_remotely = {false, 210, 0x6543, 0xedcb'a987, 0xfedc'ba98'7654'3210, 0x0403'0201, {88, 99}};

Values read_local() {
    return {flag.read_current(), byte.read_current(), half.read_current(), word.read_current(),
            quad.read_current(), size.read_current(), pair.with_current([](Pair& it) { return it; })};
}

void write_local(const Values& values) {
    flag.write_current(values.flag);
    byte.write_current(values.byte);
    half.write_current(values.half);
    word.write_current(values.word);
    quad.write_current(values.quad);
    size.write_current(values.size);
    pair.with_current([&](Pair& it) { it = values.pair; });
}

void reset_local() {
    flag.reset_to_init();
    byte.reset_to_init();
    half.reset_to_init();
    word.reset_to_init();
    quad.reset_to_init();
    size.reset_to_init();
    pair.reset_to_init();
}

Values read_remote(size_t cpu) {
    return {*flag.remote_ptr(cpu), *byte.remote_ptr(cpu), *half.remote_ptr(cpu), *word.remote_ptr(cpu),
            *quad.remote_ptr(cpu), *size.remote_ptr(cpu), *pair.remote_ptr(cpu)};
}

void write_remote(size_t cpu, const Values& values) {
    flag.remote_ref_mut_raw(cpu) = values.flag;
    byte.remote_ref_mut_raw(cpu) = values.byte;
    half.remote_ref_mut_raw(cpu) = values.half;
    word.remote_ref_mut_raw(cpu) = values.word;
    quad.remote_ref_mut_raw(cpu) = values.quad;
    size.remote_ref_mut_raw(cpu) = values.size;
    pair.remote_ref_mut_raw(cpu) = values.pair;
}

void check_base_register(size_t cpu) {
    check(percpu::read_percpu_reg() == percpu::percpu_area_base(cpu), "the base register holds the CPU's area");
}

template <typename Variable>
void check_local_pointer(const Variable& variable) {
    const uintptr_t address = reinterpret_cast<uintptr_t>(variable.current_ptr());
    const uintptr_t expected = percpu::read_percpu_reg() + variable.offset();
    check(address == expected, "a local pointer is the area's base plus the offset");
}

void test_local() {
    check_local_pointer(flag);
    check_local_pointer(byte);
    check_local_pointer(half);
    check_local_pointer(word);
    check_local_pointer(quad);
    check_local_pointer(size);
    check_local_pointer(pair);

    check(read_local() == initial, "local copies begin with the initial values");
    write_local(written_locally);
    check(read_local() == written_locally, "local copies hold what was written");
    reset_local();
    check(read_local() == initial, "local copies are reset to the initial values");
}

// CPU 0's part for another CPU, which it starts halfway.
void test_remote(size_t cpu) {
    check(read_remote(cpu) == initial, "remote copies begin with the initial values");
    write_remote(cpu, written_remotely);
    check(read_remote(cpu) == written_remotely, "remote copies hold what was written");
    check(read_local() == initial, "a remote write leaves the local copies alone");

    board::start_cpu(cpu);
    finished.wait_for(cpu);
    check(read_remote(cpu) == written_locally, "CPU 0 sees what a CPU wrote locally");
}

void test_refused_bases() {
    if (sp_naive) {
        check(percpu::init(nullptr, 1) == size_t{1}, "with sp-naive, init has nothing to refuse");
        return;
    }
    const auto null = percpu::init(nullptr, 1);
    check(!null && null.error() == percpu::InitError::InvalidBase, "init refuses a null base");
    const auto layout = percpu::percpu_area_layout_expected(1);
    auto* const base = static_cast<char*>(allocate(layout.size + 1, layout.alignment));
    const auto unaligned = percpu::init(base + 1, 1);
    const bool refused = !unaligned && unaligned.error() == percpu::InitError::UnalignedBase;
    check(refused, "init refuses an unaligned base");
}

}  // namespace

extern "C" void on_tick() {}

extern "C" void secondary_main(size_t cpu) {
    percpu::init_percpu_reg(cpu);
    check_base_register(cpu);
    check(read_local() == written_remotely, "a CPU sees what CPU 0 wrote into its area");
    write_local(written_locally);
    finished.arrive();
}

extern "C" void primary_main() {
    test_refused_bases();

    const auto made = make_areas();
    check(made.has_value(), "the areas can be made");
    if (!made) exit_with_checks();
    print(*made, " areas of ", percpu::percpu_area_size(), " bytes ", areas_are, "\n");

    percpu::init_percpu_reg(0);
    check_base_register(0);
    test_local();

    if (!sp_naive) {
        check(*made > remote_cpus && board::cpu_count() > remote_cpus, "there are three other CPUs");
        for (size_t cpu = 1; cpu <= remote_cpus && cpu < *made && cpu < board::cpu_count(); ++cpu) test_remote(cpu);
        check(read_local() == initial, "other CPUs' writes leave the local copies alone");
    }
    exit_with_checks();
}
