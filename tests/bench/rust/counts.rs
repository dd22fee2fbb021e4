//! The crate's accesses as a user would write them, one a function, as tests/cxx/counts.cpp has ours.

#![no_std]

#[cfg(feature = "v0_3")]
use percpu_v0_3 as percpu;
#[cfg(feature = "v0_4")]
use percpu_v0_4 as percpu;

#[percpu::def_percpu]
static FAR_WORD: usize = 0;

#[no_mangle]
pub extern "C" fn read() -> usize {
    FAR_WORD.read_current()
}

#[no_mangle]
pub extern "C" fn write(value: usize) {
    FAR_WORD.write_current(value)
}

#[no_mangle]
pub extern "C" fn pointer() -> *const usize {
    unsafe { FAR_WORD.current_ptr() }
}

#[no_mangle]
pub extern "C" fn add() {
    FAR_WORD.with_current(|word| *word = word.wrapping_add(1))
}
