// The hook of a tracer that counts by an accessor, with the headers left out as variable.hpp says.
#if defined(__clang__)
#pragma clang attribute push(__attribute__((no_instrument_function)), apply_to = function)
#endif
#include <percpu/percpu.hpp>
#if defined(__clang__)
#pragma clang attribute pop
#endif

PERCPU_DEFINE(uint32_t, trace_depth, 0);

extern "C" __attribute__((no_instrument_function)) void __cyg_profile_func_enter(void*, void*);
extern "C" __attribute__((no_instrument_function)) void __cyg_profile_func_enter(void*, void*) { trace_depth.add_current(1); }
