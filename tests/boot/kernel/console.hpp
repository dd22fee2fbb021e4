// Printing, for every board: print("cpu ", cpu, " at ", hex(address), "\n").
#pragma once

#include "board.hpp"

#include <stddef.h>
#include <stdint.h>

struct Hex {
    uintptr_t value;
};

// 0x and hexadecimal digits.
constexpr Hex hex(uintptr_t value) { return {value}; }

template <typename T>
struct Column {
    T value;
    unsigned width;
};

// Right-aligned in `width` characters.
template <typename T>
constexpr Column<T> column(T value, unsigned width) {
    return {value, width};
}

void put_text(const char* text, unsigned width = 0);
void put_number(uintptr_t value, unsigned base, unsigned width = 0);

inline void put_one(const char* text, unsigned width = 0) { put_text(text, width); }
inline void put_one(bool value, unsigned width = 0) { put_text(value ? "true" : "false", width); }
inline void put_one(Hex value) {
    put_text("0x");
    put_number(value.value, 16);
}
inline void put_one(unsigned value, unsigned width = 0) { put_number(value, 10, width); }
inline void put_one(unsigned long value, unsigned width = 0) { put_number(value, 10, width); }
// Of a word only: more would take libgcc's division on the 32-bit boards.
inline void put_one(unsigned long long value, unsigned width = 0) {
    put_number(static_cast<uintptr_t>(value), 10, width);
}

template <typename T>
void put_one(const Column<T>& column) {
    put_one(column.value, column.width);
}

void lock_console();
void unlock_console();

// What one call prints stays together, whichever CPUs print at the same time.
template <typename... Args>
void print(const Args&... args) {
    lock_console();
    (put_one(args), ...);
    unlock_console();
}

// Returns on the first CPU that dies, and on no other. The console is its own then, or it is on a new line:
// a CPU that was stopped in the middle of a print never unlocks it.
void take_console_to_die();

// Says what killed this CPU, and ends the machine.
template <typename... Args>
[[noreturn]] void die_saying(const Args&... args) {
    take_console_to_die();
    (put_one(args), ...);
    board::exit(false);
}
