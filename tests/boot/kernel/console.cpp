#include "console.hpp"

namespace {

uint32_t console_locked = 0;  // a whole word: RISC-V exchanges no single byte

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
    while (__atomic_exchange_n(&console_locked, uint32_t{1}, __ATOMIC_ACQUIRE) != 0) board::relax();
}

void unlock_console() { __atomic_store_n(&console_locked, uint32_t{0}, __ATOMIC_RELEASE); }
