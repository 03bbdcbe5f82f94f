//! The C library's errno: what the cache does behind a call must not change it.

pub(crate) fn get() -> i32 {
    // SAFETY: the location is this thread's own, always valid.
    unsafe { *libc::__errno_location() }
}

pub(crate) fn set(value: i32) {
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = value };
}
