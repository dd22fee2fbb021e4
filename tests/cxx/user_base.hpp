// A base register of the user's own, for base-register=user.
#pragma once

#include <stdint.h>

inline uintptr_t user_base;

inline uintptr_t percpu_user_base() noexcept { return user_base; }
inline void percpu_user_set_base(uintptr_t value) noexcept { user_base = value; }
