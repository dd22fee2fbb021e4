//! The increment of a per-CPU word through the Rust crate `percpu`: prints a line a batch as increment.cpp does.
//!
//! `increment BATCHES ITERATIONS`. Each iteration ends in an empty asm that may touch all memory, as in
//! increment.cpp, so that no increments are merged.

use std::arch::asm;
use std::time::Instant;

#[cfg(feature = "v0_3")]
use percpu_v0_3 as percpu;
#[cfg(feature = "v0_4")]
use percpu_v0_4 as percpu;

#[percpu::def_percpu]
static COUNTER: u64 = 0;

/// A kernel's hooks at their least: a count for each thread, in which a bit that is cleared to ask for a
/// reschedule stands beside the number of holds, so that one test finds both (as Linux has it on x86).
#[cfg(feature = "preempt")]
mod hooks {
    use std::cell::Cell;
    use std::sync::atomic::{compiler_fence, Ordering};

    #[cfg(feature = "v0_3")]
    use {crate_interface_v0_1 as crate_interface, kernel_guard_v0_1 as kernel_guard};
    #[cfg(feature = "v0_4")]
    use {crate_interface_v0_3 as crate_interface, kernel_guard_v0_2 as kernel_guard};

    use kernel_guard::KernelGuardIf;

    const NOTHING_TO_DO: u32 = 1 << 31;

    thread_local! {
        static HOLDS: Cell<u32> = const { Cell::new(NOTHING_TO_DO) };
    }

    struct Hooks;

    #[crate_interface::impl_interface]
    impl KernelGuardIf for Hooks {
        fn disable_preempt() {
            HOLDS.with(|holds| holds.set(holds.get().wrapping_add(1)));
            compiler_fence(Ordering::SeqCst);
        }
        fn enable_preempt() {
            compiler_fence(Ordering::SeqCst);
            let left = HOLDS.with(|holds| {
                holds.set(holds.get().wrapping_sub(1));
                holds.get()
            });
            if left == 0 {
                std::thread::yield_now();
            }
        }
    }
}

#[inline(always)]
fn barrier() {
    unsafe { asm!("", options(nostack, preserves_flags)) }
}

#[inline(never)]
fn with_current(iterations: u64) {
    for _ in 0..iterations {
        COUNTER.with_current(|count| *count = count.wrapping_add(1));
        barrier();
    }
}

#[inline(never)]
fn read_write(iterations: u64) {
    for _ in 0..iterations {
        COUNTER.write_current(COUNTER.read_current().wrapping_add(1));
        barrier();
    }
}

fn main() {
    let arguments: Vec<u64> = std::env::args().skip(1).map(|text| text.parse().expect("a number")).collect();
    let [batches, iterations] = arguments[..] else { panic!("usage: increment BATCHES ITERATIONS") };
    percpu::init_in_place().expect("the areas");
    percpu::init_percpu_reg(0);
    let peers: [(&str, fn(u64)); 2] = [("with_current", with_current), ("read_current/write_current", read_write)];
    for _ in 0..batches {
        for (name, increment) in peers {
            COUNTER.write_current(0);
            let start = Instant::now();
            increment(iterations);
            let nanoseconds = start.elapsed().as_nanos() as f64;
            assert_eq!(COUNTER.read_current(), iterations, "{name}");
            println!("{name}\t1\t{}", nanoseconds / iterations as f64);
        }
    }
}
