#include "check.hpp"

#include "board.hpp"
#include "console.hpp"

namespace {

size_t made = 0;
size_t failed = 0;

}  // namespace

void check(bool holds, const char* what) {
    __atomic_fetch_add(&made, 1, __ATOMIC_RELAXED);
    if (holds) return;
    __atomic_fetch_add(&failed, 1, __ATOMIC_RELAXED);
    print("FAILED: ", what, "\n");
}

void exit_with_checks() {
    const size_t all = __atomic_load_n(&made, __ATOMIC_ACQUIRE);
    const size_t bad = __atomic_load_n(&failed, __ATOMIC_ACQUIRE);
    if (bad == 0)
        print("all ", all, " checks held\n");
    else
        print(bad, " of ", all, " checks failed\n");
    board::exit(bad == 0);
}
