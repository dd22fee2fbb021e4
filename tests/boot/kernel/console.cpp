#include "console.hpp"

namespace {

uint32_t console_locked = 0;  // a whole word: RISC-V exchanges no single byte
uint32_t dying = 0;

bool try_lock_console() { return __atomic_exchange_n(&console_locked, uint32_t{1}, __ATOMIC_ACQUIRE) == 0; }

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
    while (!try_lock_console()) board::relax();
}

void unlock_console() { __atomic_store_n(&console_locked, uint32_t{0}, __ATOMIC_RELEASE); }

void take_console_to_die() {
    while (__atomic_exchange_n(&dying, uint32_t{1}, __ATOMIC_RELAXED) != 0) board::relax();
    // Longer than another CPU needs for a line.
    for (unsigned left = 1'000'000; left > 0; --left) {
        if (try_lock_console()) return;
        board::relax();
    }
    board::put('\n');
}
