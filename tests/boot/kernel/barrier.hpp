// Waiting until a number of CPUs have come to one place.
#pragma once

#include "board.hpp"

class Barrier {
public:
    void arrive() { __atomic_fetch_add(&arrived_, 1, __ATOMIC_RELEASE); }

    void wait_for(size_t cpus) const {
        while (__atomic_load_n(&arrived_, __ATOMIC_ACQUIRE) < cpus) board::relax();
    }

private:
    size_t arrived_ = 0;
};
