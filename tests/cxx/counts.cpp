// The access path as a user would write it, one access a function. test_counts.py counts instructions.
#include <percpu/percpu.hpp>

struct Task {
    size_t id;
    uint32_t priority;
};

PERCPU_DECLARE(size_t, far_word);
PERCPU_DECLARE_NEAR(size_t, near_word);
PERCPU_DECLARE(uint8_t, far_byte);
PERCPU_DECLARE(Task, far_task);
PERCPU_DECLARE_NEAR(Task, near_task);

extern "C" {

size_t read_far() { return far_word.read_current(); }
size_t read_near() { return near_word.read_current(); }
uint8_t read_byte_far() { return far_byte.read_current(); }
size_t read_twice_far() { return far_word.read_current_raw() + far_word.read_current_raw(); }
size_t read_stable_twice_far() { return far_word.read_current_stable() + far_word.read_current_stable(); }
void write_far(size_t value) { far_word.write_current(value); }
void write_near(size_t value) { near_word.write_current(value); }
Task* pointer_far() { return far_task.current_ptr(); }
Task* pointer_near() { return near_task.current_ptr(); }
void add_far() { far_word.add_current_raw(1); }
void add_near() { near_word.add_current_raw(1); }
void sub_far(size_t value) { far_word.sub_current_raw(value); }
void and_far(size_t value) { far_word.and_current_raw(value); }
void or_far(size_t value) { far_word.or_current_raw(value); }
void xor_far(size_t value) { far_word.xor_current_raw(value); }
size_t fetch_add_far(size_t value) { return far_word.fetch_add_current_raw(value); }
size_t exchange_far(size_t value) { return far_word.exchange_current_raw(value); }
bool compare_exchange_far(size_t expected, size_t desired) {
    return far_word.compare_exchange_current_raw(expected, desired);
}
}
