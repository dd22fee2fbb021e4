// percpu: data that every CPU has its own copy of. This header gathers all public ones.
//
//     #include <percpu/percpu.hpp>
//
//     PERCPU_DEFINE(size_t, cpu_id, 0);
//
//     percpu::init_in_place();          // once, on the first CPU
//     percpu::init_percpu_reg(cpu);     // on every CPU
//     cpu_id.write_current(cpu);
//
// define.hpp    to declare and define variables
// variable.hpp  to access them
// area.hpp      to make the areas and to give each CPU its own
// preempt.hpp   hooks for preemptible kernels
// restart.hpp   what trap code does for restartable sequences
// config.hpp    features and defaults

#pragma once

#include "area.hpp"
#include "config.hpp"
#include "define.hpp"
#include "preempt.hpp"
#include "restart.hpp"
#include "result.hpp"
#include "variable.hpp"
