// The four functions that compilers call by themselves, and the memory behind the kernel's image.
#pragma once

#include <stddef.h>

extern "C" {
void* memcpy(void* to, const void* from, size_t size);
void* memmove(void* to, const void* from, size_t size);
void* memset(void* to, int value, size_t size);
int memcmp(const void* a, const void* b, size_t size);
}

// Memory that is never given back; null if there is not enough. `alignment` is a power of two.
void* allocate(size_t size, size_t alignment);
