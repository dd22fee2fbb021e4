// Where a checked build stops when per-CPU data is misused.
#include <percpu/percpu.hpp>

#include "board.hpp"
#include "console.hpp"

#ifdef PERCPU_CHECKED

extern "C" void percpu_panic(const char* message) noexcept {
    die_saying("FAILED: ", message, "\n");
}

#endif
