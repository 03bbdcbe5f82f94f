//! Giving mappings back, though the system may refuse that too: where a process has as many mappings
//! as it may, to cut off a part of one that was merged with its neighbours is refused.

use std::sync::PoisonError;

use crate::sync::plain::Mutex;

/// What could not be unmapped: address and length. It is tried again with whatever is unmapped next.
///
/// A forked child may have inherited the lock from a thread that is not there. Whoever only tries again does not
/// wait for it; to get here in a child as well the system has to refuse it in both.
static LEFT: Mutex<Vec<(usize, usize)>> = Mutex::new(Vec::new());

/// Unmaps a span, now or later.
///
/// # Safety
/// It is mapped, the caller's alone, and nothing points into it any more.
pub(super) unsafe fn unmap(address: usize, len: usize) {
    try_again();
    // SAFETY: the caller's promise.
    if unsafe { libc::munmap(address as *mut _, len) } != 0 {
        let mut left = LEFT.lock().unwrap_or_else(PoisonError::into_inner);
        left.push((address, len));
    }
}

/// Unmaps what could not be unmapped before.
fn try_again() {
    let Ok(mut left) = LEFT.try_lock() else {
        return;
    };
    // SAFETY: `unmap` was given it, and it is still mapped: nobody else knows of it.
    left.retain(|&(address, len)| unsafe { libc::munmap(address as *mut _, len) } != 0);
}
