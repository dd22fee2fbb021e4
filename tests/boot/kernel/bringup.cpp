// CPUs that come in any order, late, twice or never, go, and come back; areas that several CPUs make at once, that
// are made again, and that are reset while other CPUs run.
//
// CPU 0 directs: each other CPU waits for a step, does it and says so. A CPU that has entered works on its own
// copies, and reads its neighbor's meanwhile, until it is told to leave.
#include <percpu/percpu.hpp>

#include "board.hpp"
#include "check.hpp"
#include "console.hpp"
#include "memory.hpp"

constexpr size_t max_cpus = 16;
constexpr size_t nobody = 0xff;
constexpr size_t orders = 6;  // of the first three of the other CPUs
constexpr size_t orders_at_once = 2;
constexpr size_t resets_in_a_row = 1000;
constexpr uint32_t initial_word = 0x5eed5eed;
constexpr uint32_t other_word = 0x12341234;

namespace {

size_t get(const size_t& shared) { return __atomic_load_n(&shared, __ATOMIC_ACQUIRE); }
void set(size_t& shared, size_t value) { __atomic_store_n(&shared, value, __ATOMIC_RELEASE); }
void count(size_t& shared) { __atomic_fetch_add(&shared, 1, __ATOMIC_ACQ_REL); }

// Whose object was constructed, each time it was.
uintptr_t constructed[4096];
size_t constructions = 0;

size_t racers = 0, arrived = 0, turned_away = 0;

// While several CPUs race to make the areas: stays inside until all the others have been turned away. If they
// are not, it goes on one day, and they are counted.
void wait_for_racers() {
    for (size_t patience = 2'000'000; get(turned_away) + 1 < get(racers); --patience) {
        if (patience == 0) set(racers, 0);
        board::relax();
    }
}

}  // namespace

struct Witness {
    const Witness* self;
    uint32_t word;

    explicit Witness(uint32_t initial) noexcept : self(this), word(initial) {
        const size_t index = __atomic_fetch_add(&constructions, 1, __ATOMIC_ACQ_REL);
        if (index < sizeof constructed / sizeof constructed[0]) constructed[index] = reinterpret_cast<uintptr_t>(this);
        wait_for_racers();
    }
    ~Witness() { check(false, "nothing of an area is destroyed"); }
};

PERCPU_DEFINE(size_t, cpu_id, nobody);
PERCPU_DEFINE(size_t, visits, 0);
PERCPU_DEFINE_ALIGNED(size_t, updates, 0);
PERCPU_DEFINE_READ_MOSTLY(size_t, limit, 10);
PERCPU_DEFINE(uint8_t[13], odd, 1, 2, 3);
// In each word both halves are the same, and other CPUs look whether they are.
PERCPU_DEFINE(uint32_t[4], words, initial_word, initial_word, initial_word, initial_word);
PERCPU_DEFINE_CONSTRUCTED(Witness, witness, initial_word);

namespace {

enum Step : size_t { race, enter, leave, reset_own };

enum class Place { in_place, in_memory };

struct Cpu {
    size_t step, given, done;  // given and done count the steps
    bool runs, is_in;
    size_t visits, updates;  // what its area holds if nothing is lost
    size_t words_read, words_torn;
};

Cpu cpus[max_cpus];
size_t machine, areas;
Place place;
void* memory;

size_t areas_made = 0, resets = 0, resets_of_their_own = 0, entered = 0, entered_again = 0;

percpu::Result<size_t, percpu::InitError> make_areas() {
    return place == Place::in_place ? percpu::init_in_place() : percpu::init(memory, machine);
}

// Whether a template is there that no CPU has written.
bool can_reset() {
#ifdef PERCPU_PRISTINE
    return true;
#else
    return place == Place::in_memory;
#endif
}

bool has_words(const uint32_t (&all)[4], uint32_t value) {
    for (const uint32_t word : all)
        if (word != value) return false;
    return true;
}

bool is_pristine(size_t cpu) {
    const Witness& it = witness.remote_ref_raw(cpu);
    const auto& bytes = odd.remote_ref_raw(cpu);
    return *cpu_id.remote_ptr(cpu) == nobody && *visits.remote_ptr(cpu) == 0 && *updates.remote_ptr(cpu) == 0 &&
           *limit.remote_ptr(cpu) == 10 && bytes[0] == 1 && bytes[2] == 3 && bytes[12] == 0 &&
           has_words(*words.remote_ptr(cpu), initial_word) && it.self == &it && it.word == initial_word;
}

size_t times_constructed(size_t cpu) {
    const uintptr_t own = reinterpret_cast<uintptr_t>(witness.remote_ptr(cpu));
    size_t times = 0;
    for (size_t i = 0; i < get(constructions); ++i) times += constructed[i] == own;
    return times;
}

// What each CPU does

void race_for_areas(size_t cpu) {
    count(arrived);
    while (get(arrived) < get(racers)) board::relax();
    const auto made = make_areas();
    check(made.has_value(), "the areas can be made");
    if (made.value_or(0) != 0)
        count(areas_made);
    else
        count(turned_away);
    if (cpu >= areas) return;
    // A CPU that was turned away waits here until the other one is through.
    percpu::init_percpu_reg(cpu);
    check(witness.current_ref()->self == witness.current_ptr(), "no CPU sees an area before it is made");
    check(updates.read_current() == 0, "no CPU sees an area before it has its initial values");
}

void enter_area(size_t cpu) {
    Cpu& self = cpus[cpu];
    percpu::init_percpu_reg(cpu);
    check(visits.read_current() == self.visits, "a CPU that comes back finds its area as it was left or reset");
    check(updates.read_current() == self.updates, "no update of a CPU is lost while it is away");
    check(cpu_id.read_current() == (self.visits == 0 ? nobody : cpu), "a CPU finds its own area");
    check(witness.current_ref()->self == witness.current_ptr(), "a CPU's object was constructed in its area");
    if (self.visits > 0) count(entered_again);
    count(entered);
    cpu_id.write_current(cpu);
    visits.add_current(1);
    limit.write_current(20);
    odd.with_current([](uint8_t (&bytes)[13]) { bytes[12] = 0xff; });
    witness.with_current([](Witness& it) { it.word = 0; });
    ++self.visits;
}

void work(size_t cpu) {
    updates.add_current(1);
    const auto half = static_cast<uint32_t>(++cpus[cpu].updates & 0xffff);
    words.with_current([half](uint32_t (&all)[4]) {
        for (uint32_t& word : all) __atomic_store_n(&word, half << 16 | half, __ATOMIC_RELAXED);
    });
    for (const uint32_t& shared : *words.remote_ptr((cpu + 1) % areas)) {
        const uint32_t word = __atomic_load_n(&shared, __ATOMIC_RELAXED);
        if (word >> 16 != (word & 0xffff)) ++cpus[cpu].words_torn;
        ++cpus[cpu].words_read;
    }
}

void leave_area(size_t cpu) {
    const bool has_all = updates.read_current() == cpus[cpu].updates;
    check(has_all, "no update of a CPU is lost while others come, go and are reset");
}

void reset(size_t cpu) {
    const auto done = percpu::reset_area(cpu);
    if (!can_reset()) {
        const bool refused = done == percpu::Unexpected{percpu::ResetError::TemplateInUse};
        check(refused, "area 0 in place is no template to reset from");
        return;
    }
    check(done == percpu::percpu_area_base(cpu), "an area can be reset");
    check(is_pristine(cpu), "an area that was reset is pristine");
    cpus[cpu].visits = cpus[cpu].updates = 0;
    count(resets);
}

[[noreturn]] void follow(size_t cpu) {
    Cpu& self = cpus[cpu];
    bool is_in = false;
    for (;;) {
        if (get(self.given) == get(self.done)) {
            if (is_in)
                work(cpu);
            else
                board::relax();
            continue;
        }
        switch (get(self.step)) {
            case race: race_for_areas(cpu); break;
            case enter: enter_area(cpu), is_in = true; break;
            case leave: leave_area(cpu), is_in = false; break;
            case reset_own: reset(cpu), count(resets_of_their_own); break;
        }
        set(self.done, get(self.done) + 1);
    }
}

// What CPU 0 directs

void tell(size_t cpu, Step step) {
    set(cpus[cpu].step, step);
    set(cpus[cpu].given, cpus[cpu].given + 1);
}

void await(size_t cpu) {
    while (get(cpus[cpu].done) != cpus[cpu].given) board::relax();
}

void direct(size_t cpu, Step step) {
    tell(cpu, step);
    await(cpu);
}

void start(size_t cpu) {
    board::start_cpu(cpu);
    cpus[cpu].runs = true;
}

void all_make_areas() {
    size_t running = 0;
    for (const Cpu& cpu : cpus) running += cpu.runs;
    const size_t made_before = areas_made;
    set(arrived, 0);
    set(turned_away, 0);
    set(racers, running);
    for (size_t cpu = 1; cpu < machine; ++cpu)
        if (cpus[cpu].runs) tell(cpu, race);
    race_for_areas(0);
    for (size_t cpu = 1; cpu < machine; ++cpu) await(cpu);
    set(racers, 0);
    check(areas_made == made_before + 1, "of the CPUs that race to make the areas one makes them");
    for (size_t cpu = 0; cpu < areas; ++cpu) check(is_pristine(cpu), "an area that was made is pristine");
    for (Cpu& cpu : cpus) cpu.visits = cpu.updates = 0;
    print(place == Place::in_place ? "in place: " : "in memory: ", areas, " areas, ", running, " CPUs raced, made ",
          areas_made - made_before, ", turned away ", get(turned_away), "\n");
}

// Goes on when each CPU that is in has made some updates.
void let_them_work(const size_t (&others)[max_cpus], size_t number) {
    for (size_t i = 0; i < number; ++i) {
        const size_t before = get(cpus[others[i]].updates);
        while (get(cpus[others[i]].updates) < before + 3) work(0);
    }
}

// The others in one of the orders of the first three.
size_t in_order(size_t order, size_t (&others)[max_cpus]) {
    size_t number = 0;
    for (size_t cpu = 1; cpu < machine && cpu < areas; ++cpu)
        if (cpus[cpu].runs) others[number++] = cpu;
    const auto swap = [&](size_t a, size_t b) {
        const size_t kept = others[a];
        others[a] = others[b];
        others[b] = kept;
    };
    if (number >= 3 && order % 3 != 0) swap(0, order % 3);
    if (number >= 3 && order >= 3) swap(1, 2);
    return number;
}

void come_and_go(size_t order) {
    size_t others[max_cpus];
    const size_t number = in_order(order, others);
    for (size_t i = 0; i < number; ++i) direct(others[i], enter);
    for (size_t i = 0; i < number; ++i) {
        let_them_work(others, number);
        const size_t cpu = others[number - 1 - i];
        direct(cpu, leave);
        switch ((i + order) % 3) {
            case 0: reset(cpu); break;
            case 1: direct(cpu, reset_own); break;
            default: break;  // it finds what it left
        }
        direct(cpu, enter);
    }
    let_them_work(others, number);
    for (size_t i = 0; i < number; ++i) direct(others[i], leave);
}

// CPU 1 reads the words of CPU 2, which is away, as fast as they are changed and reset.
void reset_in_a_row() {
    constexpr size_t reader = 1, away = 2;
    if (machine <= away || areas <= away) return;
    direct(reader, enter);
    for (size_t i = 0; i < resets_in_a_row; ++i) {
        for (uint32_t& word : words.remote_ref_mut_raw(away)) __atomic_store_n(&word, other_word, __ATOMIC_RELAXED);
        const size_t before = get(cpus[reader].words_read);
        while (get(cpus[reader].words_read) == before) board::relax();
        reset(away);
    }
    direct(reader, leave);
}

void come_late(size_t cpu) {
    const bool has_area = cpu < areas;
    if (has_area) check(is_pristine(cpu), "the area of a CPU that is not there yet is pristine");
    start(cpu);
    if (has_area) direct(cpu, enter), direct(cpu, leave);
}

void use_areas(Place where, size_t late) {
    place = where;
    areas = place == Place::in_place ? percpu::percpu_area_num() : machine;
    const size_t constructed_before = get(constructions), resets_before = resets;
    all_make_areas();
    enter_area(0);
    if (late < machine && !cpus[late].runs) come_late(late);
    static size_t order = 0;
    for (size_t i = 0; i < orders_at_once; ++i, order = (order + 1) % orders) come_and_go(order);
    if (place == Place::in_memory) reset_in_a_row();
    leave_area(0);

    const bool once = get(constructions) - constructed_before == areas + (resets - resets_before);
    check(once, "each object is constructed once in each area that is made or reset");
    for (size_t cpu = 0; cpu < areas; ++cpu) {
        check(*updates.remote_ptr(cpu) == cpus[cpu].updates, "each area holds its own CPU's updates");
        const bool came = cpu < max_cpus && cpus[cpu].visits > 0;
        check(is_pristine(cpu) != came, "an area is as it was made until its CPU comes");
        check(times_constructed(cpu) > 0, "each area's object was constructed there");
    }
    check(!updates.remote_ref(areas), "there is no area for a CPU beyond");
    check(percpu::reset_area(areas) == percpu::Unexpected{percpu::ResetError::InvalidCpu}, "nor can it be reset");
}

}  // namespace

extern "C" void on_tick() {}

extern "C" void secondary_main(size_t cpu) { follow(cpu); }

extern "C" void primary_main() {
    machine = board::cpu_count() < max_cpus ? board::cpu_count() : max_cpus;
    const auto layout = percpu::percpu_area_layout_expected(machine);
    memory = allocate(layout.size, layout.alignment);
    cpus[0].runs = true;
    // From the last one down; one of many never, the first one late.
    const size_t never = 3, late = 1;
    for (size_t cpu = machine - 1; cpu > late; --cpu)
        if (machine < 5 || cpu != never) start(cpu);

    // Without `pristine` the first CPU that writes to area 0 in place writes to the template.
#ifdef PERCPU_PRISTINE
    use_areas(Place::in_place, late);
#endif
    use_areas(Place::in_memory, late);
    use_areas(Place::in_place, late);

    size_t words_read = 0, words_torn = 0;
    for (const Cpu& cpu : cpus) words_read += get(cpu.words_read), words_torn += get(cpu.words_torn);
    check(words_torn == 0, "no word is seen half reset");
    print("entered ", entered, " times, ", entered_again, " of them again; ", resets, " resets, ", resets_of_their_own,
          " asked for by the CPU itself; constructed ", get(constructions), "\n", "words read meanwhile ", words_read,
          ", torn ", words_torn, "\n");
    exit_with_checks();
}
