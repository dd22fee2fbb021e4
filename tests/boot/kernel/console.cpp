#include "console.hpp"

namespace {

bool console_locked = false;

void pad(unsigned used, unsigned width) {
    for (; used < width; ++used) board::put(' ');
}

}  // namespace

void put_text(const char* text, unsigned width) {
    unsigned length = 0;
    while (text[length] != '\0') ++length;
    pad(length, width);
    for (; *text != '\0'; ++text) board::put(*text);
}

void put_number(uintptr_t value, unsigned base, unsigned width) {
    char digits[20];
    unsigned length = 0;
    do {
        digits[length++] = "0123456789abcdef"[value % base];
        value /= base;
    } while (value != 0);
    pad(length, width);
    while (length > 0) board::put(digits[--length]);
}

void lock_console() {
    while (__atomic_exchange_n(&console_locked, true, __ATOMIC_ACQUIRE)) board::relax();
}

void unlock_console() { __atomic_store_n(&console_locked, false, __ATOMIC_RELEASE); }
