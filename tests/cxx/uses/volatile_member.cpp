// A struct may have a member that a device or a handler changes.
#include <percpu/percpu.hpp>

struct Ring {
    volatile uint32_t flag;
    int length;
};
struct Pinned {
    constexpr explicit Pinned(int initial) : state(initial) {}
    Pinned(const Pinned&) = delete;
    volatile int state;
};
PERCPU_DEFINE(Ring, ring, 1, 2);
PERCPU_DEFINE(Ring, empty);
PERCPU_DEFINE(Ring[2], rings, {1, 2}, {3, 4});
PERCPU_DEFINE(Pinned, pinned, 5);
PERCPU_DEFINE_CONSTRUCTED(Ring, constructed, 6, 7);

uint32_t use() { return ring.current_ref()->flag + empty.current_ref()->flag; }
