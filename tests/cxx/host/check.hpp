// What a host program claims about itself: its exit status says whether all of it held.
#pragma once

inline int failures = 0;

#if defined(CHECK)
// The kernel that includes the program has its own.
#elif __STDC_HOSTED__
#include <stdio.h>

#define CHECK(claim) \
    ((claim) ? void() : (++failures, void(printf("%s:%d: does not hold: %s\n", __FILE__, __LINE__, #claim))))
#else
// Only to be compiled.
#define CHECK(claim) ((claim) ? void() : void(++failures))
#endif
