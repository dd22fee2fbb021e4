// Threads that are interrupted anywhere and moved between CPUs update per-CPU variables in every way there is,
// while handlers update the same ones and other CPUs read them; at the end the copies of all CPUs are compared
// with what was done to them.
#include <percpu/percpu.hpp>

#include "areas.hpp"
#include "barrier.hpp"
#include "board.hpp"
#include "check.hpp"
#include "console.hpp"
#include "measures.hpp"
#include "random.hpp"
#include "threads.hpp"
#include "words.hpp"

using measures::around;
using measures::around_raw;
using measures::updates_in_one_step;
using measures::Without;
using measures::writes_in_one_step;

constexpr size_t max_cpus = 8;
constexpr size_t threads_per_cpu = 2;
constexpr unsigned ticks_per_second = 5000;  // what reaches a CPU is less: the host has to get round to it
constexpr size_t ticks_wanted = 400;  // at least, so that few updates on a fast machine are interrupted too

// All members are equal, except while one who holds the CPU changes them.
struct Record {
    size_t members[4];
};

// Written by all CPUs, under its lock.
struct Mailbox {
    uint32_t locked;
    size_t letters, copies;
};

PERCPU_DEFINE(size_t, cpu_id, 0);
PERCPU_DEFINE(Record, alone_record, {});
PERCPU_DEFINE(Record, shared_record, {});
PERCPU_DEFINE(Mailbox, mailbox, .locked = 0, .letters = 0, .copies = 0);
PERCPU_DEFINE(size_t, tag, 0);
PERCPU_DEFINE(size_t, restored, 7);
PERCPU_DEFINE(size_t, growing_far, 0);
PERCPU_DEFINE_NEAR(size_t, growing_near, 0);
// Every byte of each is the same, and other CPUs read them meanwhile.
PERCPU_DEFINE(uint16_t, pattern_far_16, 0);
PERCPU_DEFINE(uint32_t, pattern_far_32, 0);
PERCPU_DEFINE(size_t, pattern_far_word, 0);
PERCPU_DEFINE_NEAR(uint16_t, pattern_near_16, 0);
PERCPU_DEFINE_NEAR(uint32_t, pattern_near_32, 0);
PERCPU_DEFINE_NEAR(size_t, pattern_near_word, 0);

// How many updates to make at least, and the number of the measure to leave out. Whoever boots the kernel may
// change them in its file (tests/torture/updates.py).
extern "C" {
constinit volatile size_t torture_parameters[] = {100'000, static_cast<size_t>(Without::nothing)};
}

namespace {

size_t cpus;
size_t updates_wanted;
size_t updates_made = 0;  // by threads, so far
size_t ticks_had = 0;     // by all CPUs
Barrier started, stopped;

// What a thread or a CPU's handler did, and what it saw that must not be.
struct Actor {
    Ledgers ledgers;
    size_t updates;
    size_t alone_records, shared_records, growing, letters;
    size_t broken, torn, went_back, foreign;
    size_t last_sum_far, last_sum_near;
    size_t ticks;
    Random random;
};

Actor thread_actors[threads::max_threads];
Actor handler_actors[max_cpus];

// Without a measure on x86_64, where each update is one instruction: what C++ makes of several.
template <class Variable, class Change>
void in_steps(const Variable&, Change change) {
    using T = typename Variable::value_type;
    auto& copy = *static_cast<volatile T*>(Variable::current_ptr());
    const T old = copy;
    copy = static_cast<T>(change(old));
}

template <class Count, class T>
void update_in_steps(const Count& count, Ledger<T>& ledger, T flips) {
    using F = Fields<T>;
    for (unsigned i = 0; i < 8; ++i) in_steps(count, [](T old) { return old + F::one; });
    for (unsigned i = 0; i < 2; ++i) {
        in_steps(count, [=](T old) { return old ^ flips; });
        in_steps(count, [](T old) { return old | F::threads; });
        in_steps(count, [](T old) { return old & ~F::threads; });
    }
    ledger.counted = static_cast<T>(ledger.counted + 8);
}

// Every kind of update of a count, by the accessor itself and by the raw one in a measure.
template <class Sharing, class Count, class T>
void update(Sharing, const Count& count, Ledger<T>& ledger, T flips) {
    using F = Fields<T>;
    constexpr bool one_step = updates_in_one_step(Count{});
    constexpr bool by_handlers = Sharing::by_handlers;
    constexpr T minus_one = static_cast<T>(0 - F::one);
    const auto by_accessor = [](auto f) { around<one_step, by_handlers>(f); };
    const auto by_hand = [](auto f) { around_raw<one_step, by_handlers>(f); };
    const T one = ledger.one;
    const T mask = static_cast<T>(~F::threads);
    const T more_flips = static_cast<T>(flips << 1) & F::flipped;

    by_accessor([&] { count.add_current(F::one); });
    by_hand([&] { count.add_current_raw(one); });
    by_accessor([&] { count.xor_current(flips); });
    by_accessor([&] { count.sub_current(minus_one); });
    by_hand([&] { count.sub_current_raw(static_cast<T>(0 - one)); });
    by_accessor([&] { count.or_current(F::threads); });
    by_accessor([&] { count.fetch_add_current(F::one); });
    by_hand([&] { count.fetch_add_current_raw(one); });
    by_hand([&] { count.and_current_raw(mask); });
    T expected = count.read_current();
    bool stored = false;
    while (!stored)
        by_accessor([&] { stored = count.compare_exchange_current(expected, static_cast<T>(expected + F::one)); });
    by_hand([&] { count.or_current_raw(F::threads); });
    expected = count.read_current_raw();
    stored = false;
    while (!stored)
        by_hand([&] { stored = count.compare_exchange_current_raw(expected, static_cast<T>(expected + one)); });
    by_hand([&] { count.xor_current_raw(more_flips); });
    by_accessor([&] { count.and_current(mask); });
    ledger.counted = static_cast<T>(ledger.counted + 8);
    ledger.flipped = static_cast<T>(ledger.flipped ^ flips ^ more_flips);
}
constexpr size_t updates_of_count = 14;

template <class Sharing, class Token, class T>
void exchange(Sharing, const Token& token, Ledger<T>& ledger) {
    constexpr bool one_step = updates_in_one_step(Token{});
    constexpr bool by_handlers = Sharing::by_handlers;
    around<one_step, by_handlers>([&] { ledger.token = token.exchange_current(ledger.token); });
    around_raw<one_step, by_handlers>([&] { ledger.token = token.exchange_current_raw(ledger.token); });
    T there = token.read_current();
    bool stored = false;
    while (!stored)
        around<one_step, by_handlers>([&] { stored = token.compare_exchange_current(there, ledger.token); });
    ledger.token = there;
}
constexpr size_t updates_of_token = 3;

// In steps that the compiler keeps apart.
void change(Record& record, size_t& broken) {
    const volatile size_t* const seen = record.members;
    const size_t before = seen[0];
    broken += seen[1] != before || seen[2] != before || seen[3] != before;
    for (volatile size_t& member : record.members) member = before + 1;
}

void update_alone_record(Actor& me) {
    around<false, false>([&] { alone_record.with_current([&](Record& record) { change(record, me.broken); }); });
    around<false, false>([&] {
        const auto record = alone_record.current_ref();
        change(*record, me.broken);
    });
    around_raw<false, false>([&] { change(alone_record.current_ref_mut_raw(), me.broken); });
    me.alone_records += 3;
    me.updates += 3;
}

void update_shared_record(Actor& me) {
    around<false, true>([&] { shared_record.with_current([&](Record& record) { change(record, me.broken); }); });
    ++me.shared_records;
    ++me.updates;
}

// What only its own CPU writes, and so says which CPU that is.
void update_own(Actor& me) {
    around_raw<false, false>([&] {
        const size_t mine = cpu_id.read_current_raw() + 1;
        tag.write_current_raw(mine);
        restored.write_current(mine);
        restored.reset_to_init();
        me.broken += tag.read_current() != mine || restored.read_current() != 7;
    });
    me.updates += 3;
}

template <class T>
constexpr T pattern(uint8_t byte) {
    return static_cast<T>(T(~T{0}) / 0xff * byte);
}

template <class T>
bool is_pattern(T value) {
    return value == pattern<T>(static_cast<uint8_t>(value));
}

template <class Pattern>
void update_pattern(const Pattern& variable, Actor& me) {
    using T = typename Pattern::value_type;
    constexpr bool one_step = writes_in_one_step(Pattern{});
    const auto byte = static_cast<uint8_t>(me.random.next());
    around<one_step, false>([&] { variable.write_current(pattern<T>(byte)); });
    around_raw<one_step, false>([&] { variable.write_current_raw(pattern<T>(static_cast<uint8_t>(byte + 1))); });
    me.torn += !is_pattern(variable.read_current());
    me.torn += !is_pattern(variable.read_current_raw());
    const volatile T& others = variable.remote_ref_raw(me.random.next() % cpus);
    me.torn += !is_pattern(others);
    me.updates += 2;
}

template <class Growing>
void grow(const Growing& variable, size_t& last_sum, Actor& me) {
    around<updates_in_one_step(Growing{}), true>([&] { variable.add_current(1); });
    const auto sum = static_cast<size_t>(variable.sum());
    me.went_back += sum < last_sum;
    last_sum = sum;
}

// Other CPUs' copies are written under a lock, with interrupts disabled while it is held.
void send_letter(Actor& me) {
    Mailbox& there = mailbox.remote_ref_mut_raw(me.random.next() % cpus);
    board::disable_interrupts();
    while (__atomic_exchange_n(&there.locked, uint32_t{1}, __ATOMIC_ACQUIRE) != 0) board::relax();
    me.broken += there.letters != there.copies;
    *const_cast<volatile size_t*>(&there.letters) = there.letters + 1;
    *const_cast<volatile size_t*>(&there.copies) = there.copies + 1;
    __atomic_store_n(&there.locked, uint32_t{0}, __ATOMIC_RELEASE);
    board::enable_interrupts();
    ++me.letters;
    ++me.updates;
}

void do_everything(Actor& me) {
    for_each_pair(me.ledgers, [&]<class T>(auto sharing, const auto& count, const auto& token, Ledger<T>& ledger) {
        const T flips = static_cast<T>(me.random.next() * 0x9e37'79b9'7f4a'7c15) & Fields<T>::flipped;
        if (measures::without == Without::single_instructions)
            update_in_steps(count, ledger, flips);
        else
            update(sharing, count, ledger, flips);
        exchange(sharing, token, ledger);
        update_alone_record(me);
        me.updates += updates_of_count + updates_of_token;
    });
    update_shared_record(me);
    update_own(me);
    update_pattern(pattern_far_16, me);
    update_pattern(pattern_far_32, me);
    update_pattern(pattern_far_word, me);
    update_pattern(pattern_near_16, me);
    update_pattern(pattern_near_32, me);
    update_pattern(pattern_near_word, me);
    grow(growing_far, me.last_sum_far, me);
    grow(growing_near, me.last_sum_near, me);
    ++me.growing;
    me.updates += 2;
    send_letter(me);
}

void thread(size_t number) {
    Actor& me = thread_actors[number];
    size_t before = 0;
    while (__atomic_add_fetch(&updates_made, me.updates - before, __ATOMIC_RELAXED) < updates_wanted ||
           __atomic_load_n(&ticks_had, __ATOMIC_RELAXED) < ticks_wanted) {
        before = me.updates;
        do_everything(me);
    }
}

// In the handler nothing can come in between.
template <class Count, class T>
void update_in_handler(const Count& count, Ledger<T>& ledger, Actor& me) {
    using F = Fields<T>;
    switch (me.ticks % 4) {
        case 0:
            count.add_current(F::one);
            ledger.counted = static_cast<T>(ledger.counted + 1);
            break;
        case 1: {
            const T flips = static_cast<T>(me.random.next()) & F::flipped;
            count.xor_current(flips);
            ledger.flipped = static_cast<T>(ledger.flipped ^ flips);
            break;
        }
        case 2:
            count.fetch_add_current(F::one);
            ledger.counted = static_cast<T>(ledger.counted + 1);
            break;
        default:
            ledger.undone += (count.read_current() & F::handlers) != ledger.set_bits;
            if (ledger.set_bits == 0)
                count.or_current(F::handlers);
            else
                count.and_current(static_cast<T>(~F::handlers));
            ledger.set_bits = static_cast<T>(count.read_current() & F::handlers);
    }
}

size_t checksum(Actor& me) {
    size_t sum = 0;
    const auto include = [&](auto value) { sum = sum * 31 + static_cast<size_t>(value); };
    for_each_pair(me.ledgers, [&](auto, const auto& count, const auto& token, auto&) {
        include(count.read_current_raw());
        include(token.read_current_raw());
    });
    include(tag.read_current_raw());
    include(restored.read_current_raw());
    include(pattern_far_16.read_current_raw());
    include(pattern_far_32.read_current_raw());
    include(pattern_far_word.read_current_raw());
    include(pattern_near_16.read_current_raw());
    include(pattern_near_32.read_current_raw());
    include(pattern_near_word.read_current_raw());
    include(growing_far.read_current_raw());
    include(growing_near.read_current_raw());
    for (const size_t member : alone_record.current_ref_raw().members) include(member);
    for (const size_t member : shared_record.current_ref_raw().members) include(member);
    return sum;
}

// While the handler runs, nobody runs who may write this CPU's copies.
void watch_own_area(Actor& me) {
    constexpr unsigned a_while = 200;
    const size_t before = checksum(me);
    for (unsigned i = 0; i < a_while; ++i) board::relax();
    me.foreign += checksum(me) != before;
}

void begin(Actor& actor, size_t seed) {
    actor.random.state = static_cast<uint32_t>(seed + 1) * 0x9e37'79b9;
    for_each_pair(actor.ledgers, [&]<class T>(auto, const auto&, const auto&, Ledger<T>& ledger) {
        ledger.one = Fields<T>::one;
        ledger.token = ledger.first_token = static_cast<T>(actor.random.next());
    });
}

template <class F>
void for_each_actor(F f) {
    for (size_t i = 0; i < cpus * threads_per_cpu; ++i) f(thread_actors[i]);
    for (size_t cpu = 0; cpu < cpus; ++cpu) f(handler_actors[cpu]);
}

size_t total(size_t Actor::* member) {
    size_t sum = 0;
    for_each_actor([&](const Actor& actor) { sum += actor.*member; });
    return sum;
}

// How far a sum is off. More than what was made cannot be lost, but a thread that is moved between a load and a
// store may bring a copy's value to another CPU, whatever it is.
template <class T>
T difference(T made, T found) {
    const T less = static_cast<T>(made - found), more = static_cast<T>(found - made);
    return less < more ? less : more;
}

// How many updates of a pair have left no trace, as far as traces tell.
template <class Count, class Token, class T>
size_t lost_of(const Count& count, const Token& token, Ledger<T> Ledgers::* place) {
    using F = Fields<T>;
    T counted = 0, flipped = 0, tokens = 0;
    size_t undone = 0;
    for_each_actor([&](const Actor& actor) {
        const Ledger<T>& ledger = actor.ledgers.*place;
        counted = static_cast<T>(counted + ledger.counted);
        flipped = static_cast<T>(flipped ^ ledger.flipped);
        tokens = static_cast<T>(tokens + ledger.first_token - ledger.token);
        undone += ledger.undone;
    });
    for (size_t cpu = 0; cpu < cpus; ++cpu) {
        const T copy = *count.remote_ptr(cpu);
        counted = static_cast<T>(counted - F::counted(copy));
        flipped = static_cast<T>(flipped ^ (copy & F::flipped));
        tokens = static_cast<T>(tokens - *token.remote_ptr(cpu));
    }
    const T off = static_cast<T>(counted << F::counted_bits);
    const auto lost = static_cast<size_t>(difference(off, T{0}) >> F::counted_bits);
    return lost + (flipped != 0) + (tokens != 0) + undone;
}

size_t all_lost() {
    size_t lost = 0;
#define TORTURED_LOST(sharing, place, T, near) \
    lost += lost_of(sharing##_count_##place, sharing##_token_##place, &Ledgers::sharing##_##place);
    TORTURED_WORDS(TORTURED_LOST)
    size_t in_alone_records = 0, in_shared_records = 0, letters = 0;
    for (size_t cpu = 0; cpu < cpus; ++cpu) {
        in_alone_records += alone_record.remote_ptr(cpu)->members[0];
        in_shared_records += shared_record.remote_ptr(cpu)->members[0];
        letters += mailbox.remote_ptr(cpu)->letters;
    }
    lost += difference(total(&Actor::alone_records), in_alone_records);
    lost += difference(total(&Actor::shared_records), in_shared_records);
    lost += difference(total(&Actor::letters), letters);
    lost += difference(total(&Actor::growing), static_cast<size_t>(growing_far.sum()));
    lost += difference(total(&Actor::growing), static_cast<size_t>(growing_near.sum()));
    return lost;
}

void run(size_t cpu) {
    percpu::init_percpu_reg(cpu);
    cpu_id.write_current(cpu);
    started.arrive();
    started.wait_for(cpus);
    board::start_timer(ticks_per_second);
    threads::run_all(cpu);
    stopped.arrive();
}

void show() {
    const size_t lost = all_lost();
    size_t by_handlers = 0, fewest_ticks = handler_actors[0].ticks, foreign = total(&Actor::foreign);
    for (size_t cpu = 0; cpu < cpus; ++cpu) {
        by_handlers += handler_actors[cpu].updates;
        if (handler_actors[cpu].ticks < fewest_ticks) fewest_ticks = handler_actors[cpu].ticks;
        const size_t written = *tag.remote_ptr(cpu);
        foreign += written != 0 && written != cpu + 1;
    }
    print("updates by threads: ", total(&Actor::updates) - by_handlers, "\nupdates by handlers: ", by_handlers,
          "\nlost: ", lost, "\nbroken: ", total(&Actor::broken), "\nforeign: ", foreign, "\ntorn: ",
          total(&Actor::torn), "\nwent back: ", total(&Actor::went_back), "\nmoves: ", threads::moves(),
          "\nticks: ", total(&Actor::ticks), "\nfewest ticks of a CPU: ", fewest_ticks, "\n");
    check(threads::moves() > 0, "threads are moved");
    if (measures::without == Without::nothing) {
        check(lost == 0, "no update is lost");
        check(total(&Actor::broken) == 0, "nobody sees an update that is half done");
        check(foreign == 0, "an area is written by its own CPU only");
        check(total(&Actor::went_back) == 0, "a sum of numbers that grow never goes back");
    } else {
        check(lost > 0, "without the measure updates are lost");
    }
    check(total(&Actor::torn) == 0, "other CPUs read whole scalars");
}

}  // namespace

extern "C" void on_tick() {
    Actor& me = handler_actors[cpu_id.read_current_raw()];
    constexpr size_t ticks_between_watches = 16;
    // Short, so that threads get on where the host is slow: each tick has its part of the pairs.
    constexpr size_t parts = 4;
    size_t turn = me.ticks / parts;
    for_each_pair(me.ledgers, [&](auto sharing, const auto& count, const auto& token, auto& ledger) {
        if constexpr (decltype(sharing)::by_handlers) {
            if (++turn % parts != 0) return;
            update_in_handler(count, ledger, me);
            ledger.token = token.exchange_current(ledger.token);
            me.updates += 2;
        }
    });
    shared_record.with_current([&](Record& record) { change(record, me.broken); });
    ++me.shared_records;
    growing_far.add_current(1);
    growing_near.add_current_raw(1);
    ++me.growing;
    me.updates += 3;
    __atomic_fetch_add(&ticks_had, 1, __ATOMIC_RELAXED);
    if (++me.ticks % ticks_between_watches == 0) watch_own_area(me);
    threads::preempt();
}

extern "C" void secondary_main(size_t cpu) { run(cpu); }

extern "C" void primary_main() {
    const auto made = make_areas();
    check(made.has_value(), "the areas can be made");
    if (!made) exit_with_checks();
    cpus = board::cpu_count() < *made ? board::cpu_count() : *made;
    check(cpus > 1 && cpus <= max_cpus, "there are CPUs to move threads between");
    updates_wanted = torture_parameters[0];
    measures::without = static_cast<Without>(torture_parameters[1]);
    if (measures::without == Without::counts_in_threads) threads::count_holds_per_cpu();
    for (size_t i = 0; i < cpus * threads_per_cpu; ++i) begin(thread_actors[i], i);
    for (size_t cpu = 0; cpu < cpus; ++cpu) begin(handler_actors[cpu], threads::max_threads + cpu);
    for (size_t i = 0; i < cpus * threads_per_cpu; ++i) threads::make(i, thread);

    for (size_t cpu = 1; cpu < cpus; ++cpu) board::start_cpu(cpu);
    run(0);
    stopped.wait_for(cpus);
    show();
    exit_with_checks();
}
