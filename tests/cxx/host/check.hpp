// What a host program claims about itself: its exit status says whether all of it held.
#pragma once

#include <stdio.h>

inline int failures = 0;

#define CHECK(claim) \
    ((claim) ? void() : (++failures, void(printf("%s:%d: does not hold: %s\n", __FILE__, __LINE__, #claim))))
