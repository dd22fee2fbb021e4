// What a guard must keep in its place. test_order.py looks at the instructions.
#include <percpu/percpu.hpp>

struct Queue {
    long length, longest;
};

PERCPU_DECLARE(Queue, queue);
PERCPU_DECLARE(size_t, cpu_id);

extern "C" {

void in_a_guard() {
    queue.with_current([](Queue& it) {
        it.length += 1;
        it.longest += it.length;
    });
}
size_t in_two_guards() {
    size_t first, second;
    {
        percpu::PreemptGuard guard;
        first = cpu_id.read_current_stable();
    }
    {
        percpu::PreemptGuard guard;
        second = cpu_id.read_current_stable();
    }
    return first ^ second;
}
size_t behind_a_write(size_t value) {
    const size_t before = cpu_id.read_current_stable();
    cpu_id.write_current_raw(value);
    return before ^ cpu_id.read_current_stable();
}
size_t at_once() { return cpu_id.read_current_stable() ^ (cpu_id.read_current_stable() << 1); }
}
