// Numbers that look random, the same in each run. (Marsaglia, "Xorshift RNGs", 2003.)
#pragma once

#include <stdint.h>

struct Random {
    uint32_t state;  // never 0

    uint32_t next() {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        return state;
    }
};
