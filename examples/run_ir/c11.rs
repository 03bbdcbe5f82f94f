//! C11's threads, by means of POSIX's: libc's own functions would start threads that are no participants.

use crate::threads::{self, Start};
use std::ffi::{c_int, c_void};
use std::ptr;

/// libc's `thrd_success`, `thrd_error` and `thrd_nomem`.
const SUCCESS: c_int = 0;
const ERROR: c_int = 2;
const NO_MEMORY: c_int = 3;

/// A thread's function here returns its result as an `int`.
type Begin = unsafe extern "C-unwind" fn(*mut c_void) -> c_int;

/// # Safety
/// As for libc's function of this name.
unsafe extern "C" fn thrd_create(
    thread: *mut libc::pthread_t,
    begin: Begin,
    argument: *mut c_void,
) -> c_int {
    // SAFETY: an `int` is returned in the lower half of the register that a pointer is returned in, and `thrd_join`
    // looks at no more; the rest is the caller's promise.
    let failed = unsafe {
        let start = std::mem::transmute::<Begin, Start>(begin);
        threads::pthread_create(thread, ptr::null(), start, argument)
    };
    match failed {
        0 => SUCCESS,
        libc::ENOMEM => NO_MEMORY,
        _ => ERROR,
    }
}

/// # Safety
/// As for libc's function of this name.
unsafe extern "C-unwind" fn thrd_exit(result: c_int) -> ! {
    // SAFETY: the caller's promise; nothing in this frame needs dropping.
    unsafe { threads::exit_thread(ptr::without_provenance_mut(result as usize)) }
}

/// The functions that stand in for libc's.
pub fn supplied(name: &str) -> Option<*const ()> {
    Some(match name {
        "thrd_create" => thrd_create as *const (),
        "thrd_exit" => thrd_exit as *const (),
        _ => return None,
    })
}
