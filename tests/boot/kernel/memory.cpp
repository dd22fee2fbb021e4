#include "memory.hpp"

#include <stdint.h>

// From the board's linker script.
extern "C" char _image_end[], _memory_end[];

void* allocate(size_t size, size_t alignment) {
    static uintptr_t next = reinterpret_cast<uintptr_t>(_image_end);
    const uintptr_t begin = (next + alignment - 1) & ~(alignment - 1);
    if (size > reinterpret_cast<uintptr_t>(_memory_end) - begin) return nullptr;
    next = begin + size;
    return reinterpret_cast<void*>(begin);
}

// Used, though nobody may say so: link-time optimization drops them before it makes calls of them.
[[gnu::used]] void* memcpy(void* to, const void* from, size_t size) {
    auto* out = static_cast<char*>(to);
    const auto* in = static_cast<const char*>(from);
    for (size_t i = 0; i < size; ++i) out[i] = in[i];
    return to;
}

[[gnu::used]] void* memmove(void* to, const void* from, size_t size) {
    auto* out = static_cast<char*>(to);
    const auto* in = static_cast<const char*>(from);
    if (out <= in) return memcpy(to, from, size);
    for (size_t i = size; i > 0; --i) out[i - 1] = in[i - 1];
    return to;
}

[[gnu::used]] void* memset(void* to, int value, size_t size) {
    auto* out = static_cast<char*>(to);
    for (size_t i = 0; i < size; ++i) out[i] = static_cast<char>(value);
    return to;
}

[[gnu::used]] int memcmp(const void* a, const void* b, size_t size) {
    const auto* left = static_cast<const unsigned char*>(a);
    const auto* right = static_cast<const unsigned char*>(b);
    for (size_t i = 0; i < size; ++i)
        if (left[i] != right[i]) return left[i] - right[i];
    return 0;
}
