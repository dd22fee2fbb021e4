// The header of the architecture that this build is for.
//
// An arch header gives these names in namespace percpu::arch; adding an architecture is adding one
// such header, its defaults in config.hpp and its line here. `Storage` is the address of a variable's
// storage in the template, a link-time constant; `U` is uint8_t, uint16_t, uint32_t or uint64_t.
//
//   read_base_register() / write_base_register(value)
//       The base register as it is: in the in-image layout it holds the area's address less
//       _percpu_load_start, so that adding a link-time address gives an address in the area.
//   adopt_area(value)
//       Called for each area when it has been made, with the value the base register will have there.
//   symbol_address<Storage, reach>()
//       The storage's link-time address. It comes out of assembly, so that no compiler concludes from
//       "the address of an object" that it is not 0 (in the zero-VMA layout the first one is).
//   pointer<Storage, reach>()
//       The address of the current CPU's copy.
//   read / write / add / sub / bit_and / bit_or / bit_xor / fetch_add / exchange / compare_exchange
//       <Storage, reach, U>: the operation on the current CPU's copy.
//   read_stable<Storage, reach, U>()
//       A read that the compiler may leave out when it has done it before.
//   access_is_one_step<reach, size>, update_is_one_step<reach, size>
//       Whether a read or write, and an update, happens as a whole on one CPU without any guard.

#pragma once

#include "../config.hpp"

#if defined(PERCPU_SP_NAIVE)
#include "naive.hpp"
#elif PERCPU_BASE_REGISTER_IS(user)
#include "user.hpp"
#elif defined(PERCPU_ARCH_X86_64)
#include "x86_64.hpp"
#elif defined(PERCPU_ARCH_AARCH64)
#include "aarch64.hpp"
#elif defined(PERCPU_ARCH_ARM)
#include "arm.hpp"
#elif defined(PERCPU_ARCH_RISCV)
#include "riscv.hpp"
#elif defined(PERCPU_ARCH_LOONGARCH64)
#include "loongarch64.hpp"
#endif
