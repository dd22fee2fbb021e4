// Hooks that the compiler sees: PERCPU_PREEMPT_HEADER of order.cpp. They are no barriers for it.
#pragma once

extern unsigned holds;

inline void percpu_preempt_disable() noexcept { holds = 0x1111; }
inline void percpu_preempt_enable() noexcept { holds = 0x2222; }
