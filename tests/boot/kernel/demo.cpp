// Per-CPU data in a kernel, from the declarations to reading every CPU's copy.
#include <percpu/percpu.hpp>

#include "areas.hpp"
#include "barrier.hpp"
#include "board.hpp"
#include "check.hpp"
#include "console.hpp"
#include "preempt.hpp"

struct Scheduler {
    uint32_t time_slice;
    uint32_t queue_length;
    bool idle;
};

constexpr size_t nobody = 0xff;
constexpr uint32_t no_mail = 0x5eed;

// One copy of each for every CPU, all of them with these values to begin with.
PERCPU_DEFINE(size_t, cpu_id, nobody);
PERCPU_DEFINE(bool, online, false);
PERCPU_DEFINE(uint32_t, mail, no_mail);
PERCPU_DEFINE(Scheduler, scheduler, .time_slice = 10, .queue_length = 0, .idle = true);
PERCPU_DEFINE(uint32_t[4], histogram, 1, 1, 1, 1);
PERCPU_DEFINE_ALIGNED(uint32_t, ticks, 0);
PERCPU_DEFINE_READ_MOSTLY(uint32_t, ticks_wanted, 10);
// Where all variables must lie in reach of one load, there is no room for a page.
#if !defined(PERCPU_ALL_NEAR) || PERCPU_NEAR_REACH == 0
#define HAS_SCRATCH_PAGE
PERCPU_DEFINE_PAGE_ALIGNED(uint8_t[4096], scratch, 0xaa, 0x55);
#endif

namespace {

Barrier finished;

uint32_t mail_for(size_t cpu) { return static_cast<uint32_t>(1000 + cpu); }

bool has_initial_value(const Scheduler& it) {
    return it.time_slice == 10 && it.queue_length == 0 && it.idle;
}

// Before anything was written: each area is a copy of the template.
void check_initial_values(size_t cpu) {
    check(*cpu_id.remote_ptr(cpu) == nobody, "cpu_id begins as nobody");
    check(!*online.remote_ptr(cpu), "online begins as false");
    check(*mail.remote_ptr(cpu) == no_mail, "mail begins as no_mail");
    check(has_initial_value(*scheduler.remote_ptr(cpu)), "scheduler begins with its initial value");
    for (const uint32_t count : *histogram.remote_ptr(cpu)) check(count == 1, "each slot begins as 1");
    check(*ticks.remote_ptr(cpu) == 0, "ticks begin as 0");
    check(*ticks_wanted.remote_ptr(cpu) == 10, "ticks_wanted begins as 10");
    const uintptr_t line = reinterpret_cast<uintptr_t>(ticks.remote_ptr(cpu));
    check(line % PERCPU_CACHE_LINE == 0, "ticks begin a cache line");
#ifdef HAS_SCRATCH_PAGE
    const auto& page = *scratch.remote_ptr(cpu);
    check(page[0] == 0xaa && page[1] == 0x55 && page[2] == 0, "scratch begins with 0xaa, 0x55, 0");
    check(reinterpret_cast<uintptr_t>(&page) % 4096 == 0, "scratch begins a page");
#endif
}

void use_scheduler() {
    scheduler.with_current([](Scheduler& it) {
        it.queue_length += 3;
        it.idle = false;
    });
    check(scheduler.current_ref()->queue_length == 3, "with_current changes this CPU's scheduler");
    scheduler.reset_to_init();
    check(has_initial_value(*scheduler.current_ref()), "reset_to_init brings the initial value back");
}

// What every CPU does, on its own copies.
void run(size_t cpu) {
    percpu::init_percpu_reg(cpu);
    check(mail.read_current() == mail_for(cpu), "a CPU finds what CPU 0 wrote into its area");
    cpu_id.write_current(cpu);
    online.write_current(true);
    use_scheduler();

    board::start_timer();
    board::enable_interrupts();
    while (ticks.read_current() < ticks_wanted.read_current()) board::wait_for_interrupt();
    board::disable_interrupts();
    finished.arrive();
}

void print_table(size_t cpus) {
    print("cpu  area                cpu_id  online    mail   ticks  per slot\n");
    for (size_t cpu = 0; cpu < cpus; ++cpu) {
        const auto& slots = *histogram.remote_ptr(cpu);
        print(column(cpu, 3), "  ", hex(percpu::percpu_area_base(cpu)), column(*cpu_id.remote_ptr(cpu), 8),
              column(*online.remote_ptr(cpu), 8), column(*mail.remote_ptr(cpu), 8),
              column(*ticks.remote_ptr(cpu), 8), "  ", slots[0], " ", slots[1], " ", slots[2], " ", slots[3], "\n");
    }
    print("ticks of all CPUs: ", ticks.sum(), "\n");
}

void check_what_cpus_did(size_t cpus, size_t areas) {
    uint32_t all_ticks = 0;
    for (size_t cpu = 0; cpu < cpus; ++cpu) {
        check(*cpu_id.remote_ptr(cpu) == cpu, "each CPU wrote its own cpu_id");
        check(*online.remote_ptr(cpu), "each CPU is online");
        check(*ticks.remote_ptr(cpu) >= 10, "each CPU had its timer interrupts");
        uint32_t in_slots = 0;
        for (const uint32_t count : *histogram.remote_ptr(cpu)) in_slots += count - 1;
        check(in_slots == *ticks.remote_ptr(cpu), "each CPU's histogram holds its own ticks");
        all_ticks += *ticks.remote_ptr(cpu);
    }
    check(ticks.sum() == all_ticks, "sum() adds up the ticks of all CPUs");
    check(ticks.remote_ref(areas - 1).has_value(), "remote_ref knows the last area");
    check(!ticks.remote_ref(areas).has_value(), "remote_ref refuses a CPU that has no area");
}

void check_preemption() {
#ifdef PERCPU_PREEMPT
    check(preempt_depth.sum() == 0, "each hold on a CPU was given back");
    check(preempt_holds.sum() > 0, "guarded accessors hold the CPU");
    const size_t before = preempt_holds.read_current_raw();
    mail.write_current(mail.read_current() + 1);
    const bool held = preempt_holds.read_current_raw() != before;
#ifdef PERCPU_ALL_NEAR
    constexpr auto reach = percpu::Reach::near;
#else
    constexpr auto reach = percpu::Reach::far;
#endif
    constexpr bool needs_hold = !percpu::arch::access_is_one_step<reach, sizeof(uint32_t)>;
    check(held == needs_hold, "a scalar access holds the CPU only where it takes more than one step");
    print("holds on a CPU: ", preempt_holds.sum(), ", all given back\n");
#endif
}

}  // namespace

extern "C" void on_tick() {
    const uint32_t tick = ticks.fetch_add_current(1);
    histogram.with_current([tick](uint32_t (&slots)[4]) { ++slots[tick % 4]; });
}

extern "C" void secondary_main(size_t cpu) { run(cpu); }

extern "C" void primary_main() {
    const auto made = make_areas();
    if (!made) {
        check(false, "the areas can be made");
        exit_with_checks();
    }
    const size_t areas = *made;
    const size_t cpus = areas < board::cpu_count() ? areas : board::cpu_count();
    print(areas, " areas of ", percpu::percpu_area_size(), " bytes ", areas_are, ", machine with ",
          board::cpu_count(), " CPUs: running ", cpus, "\n");

    for (size_t cpu = 0; cpu < areas; ++cpu) check_initial_values(cpu);
    for (size_t cpu = 0; cpu < areas; ++cpu) *mail.remote_ptr(cpu) = mail_for(cpu);

    for (size_t cpu = 1; cpu < cpus; ++cpu) board::start_cpu(cpu);
    run(0);
    finished.wait_for(cpus);

    print_table(cpus);
    check_what_cpus_did(cpus, areas);
    check_preemption();
    exit_with_checks();
}
