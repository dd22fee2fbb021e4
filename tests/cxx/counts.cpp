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
PERCPU_DECLARE_NEAR(uint8_t, near_u8);
PERCPU_DECLARE_NEAR(uint16_t, near_u16);
PERCPU_DECLARE_NEAR(uint32_t, near_u32);
PERCPU_DECLARE_NEAR(int, near_int);
PERCPU_DEFINE(uint32_t, with_initial_value, 3);

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

#define OF_WIDTH(T, name)                                                                \
    T read_##name() { return near_##name.read_current(); }                               \
    void write_##name(T value) { near_##name.write_current(value); }                     \
    void add_##name(T value) { near_##name.add_current_raw(value); }                     \
    void increment_##name() { near_##name.add_current_raw(1); }                          \
    void decrement_##name() { near_##name.sub_current_raw(1); }                          \
    void clear_##name() { near_##name.and_current_raw(static_cast<T>(~T{15})); }           \
    T exchange_##name(T value) { return near_##name.exchange_current_raw(value); }       \
    bool compare_exchange_##name(T expected, T desired) {                                \
        return near_##name.compare_exchange_current_raw(expected, desired);              \
    }

OF_WIDTH(uint8_t, u8)
OF_WIDTH(uint16_t, u16)
OF_WIDTH(uint32_t, u32)
OF_WIDTH(int, int)
OF_WIDTH(size_t, word)
}
