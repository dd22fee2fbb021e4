// With `preempt`, the hooks are called in pairs around what takes more than one step, and only there.
#include <percpu/percpu.hpp>

#include "check.hpp"

PERCPU_DEFINE(uint32_t, word, 7);

static int depth, holds;
extern "C" void percpu_preempt_disable() noexcept { ++depth, ++holds; }
extern "C" void percpu_preempt_enable() noexcept { --depth; }

int main() {
    CHECK(percpu::init_in_place().has_value());
    percpu::init_percpu_reg(0);
    CHECK(holds == 0);

    word.with_current([](uint32_t&) { CHECK(depth == 1); });
    CHECK(depth == 0 && holds == 1);
    {
        const auto handle = word.current_ref();
        CHECK(depth == 1);
        CHECK(*handle == 7);
    }
    CHECK(depth == 0 && holds == 2);
    word.reset_to_init();
    CHECK(depth == 0 && holds == 3);

    holds = 0;
    constexpr bool access_holds = !percpu::arch::access_is_one_step<percpu::Reach::far, 4>;
    constexpr bool update_holds = !percpu::arch::update_is_one_step<percpu::Reach::far, 4>;
    word.write_current(word.read_current() + 1);
    CHECK(holds == (access_holds ? 2 : 0));
    holds = 0;
    word.add_current(1);
    word.fetch_add_current(1);
    word.exchange_current(1);
    CHECK(holds == (update_holds ? 3 : 0));

    holds = 0;
    word.add_current_raw(1);
    word.read_current_raw();
    word.current_ptr();
    word.current_ref_raw();
    CHECK(holds == 0 && depth == 0);
    return failures != 0;
}
