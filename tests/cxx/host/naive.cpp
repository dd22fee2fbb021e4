// One CPU: variables are globals, there are no areas, and nothing has to be initialized.
#include <percpu/percpu.hpp>

#include "check.hpp"

PERCPU_DEFINE(uint32_t, word, 7);
PERCPU_DEFINE_ALIGNED(uint64_t, line, 1);

int main() {
    CHECK(word.read_current() == 7);
    CHECK(percpu::init_in_place() == size_t{1});
    CHECK(percpu::init(nullptr, 5) == size_t{1});
    CHECK(percpu::percpu_area_num() == 1);
    CHECK(percpu::percpu_area_size() == 0);
    CHECK(percpu::percpu_area_base(0) == 0);
    CHECK(percpu::read_percpu_reg() == 0);
    percpu::init_percpu_reg(0);
    word.add_current(1);
    CHECK(word.symbol_vma() == reinterpret_cast<uintptr_t>(word.current_ptr()));
    CHECK(word.offset() == word.symbol_vma());
    CHECK(word.remote_ptr(0) == word.current_ptr());
    CHECK(*word.remote_ref(0) == 8);
    CHECK(!word.remote_ref(1));
    CHECK(word.sum() == 8);
    word.reset_to_init();
    CHECK(word.sum() == 7);
    CHECK(reinterpret_cast<uintptr_t>(line.current_ptr()) % PERCPU_CACHE_LINE == 0);
    return failures != 0;
}
