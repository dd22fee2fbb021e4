// A second translation unit, with the functions that compilers call in freestanding code.

#include "events.hpp"

#include <percpu/percpu.hpp>

PERCPU_DEFINE_STATIC(size_t, events_seen, 0);

size_t count(size_t events) {
    events_seen.write_current(events_seen.read_current() + events * EVENT_WEIGHT);
    return events_seen.read_current();
}

extern "C" {
void percpu_preempt_disable() noexcept {}
void percpu_preempt_enable() noexcept {}

void* memcpy(void* to, const void* from, size_t size) {
    for (size_t i = 0; i < size; i++)
        static_cast<char*>(to)[i] = static_cast<const char*>(from)[i];
    return to;
}

void* memset(void* to, int value, size_t size) {
    for (size_t i = 0; i < size; i++)
        static_cast<char*>(to)[i] = static_cast<char>(value);
    return to;
}
}
