//! Stacks for handlers of signals.

use std::ffi::c_void;
use std::ptr;

/// The stack that the calling thread's handler runs on: its own may have overflown.
pub struct HandlerStack(*mut c_void);

const BYTES: usize = 64 << 10;

impl HandlerStack {
    pub fn of_this_thread() -> HandlerStack {
        // SAFETY: new memory, which stays until the kernel is told of its end.
        unsafe {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let memory = libc::mmap(ptr::null_mut(), BYTES, protection, flags, -1, 0);
            if memory == libc::MAP_FAILED {
                return HandlerStack(ptr::null_mut());
            }
            let stack = libc::stack_t {
                ss_sp: memory,
                ss_flags: 0,
                ss_size: BYTES,
            };
            libc::sigaltstack(&stack, ptr::null_mut());
            HandlerStack(memory)
        }
    }
}

impl Drop for HandlerStack {
    fn drop(&mut self) {
        if self.0.is_null() {
            return;
        }
        // SAFETY: from `of_this_thread`, on whose thread this is; the kernel does not use it from here on.
        unsafe {
            let none = libc::stack_t {
                ss_sp: ptr::null_mut(),
                ss_flags: libc::SS_DISABLE,
                ss_size: 0,
            };
            libc::sigaltstack(&none, ptr::null_mut());
            libc::munmap(self.0, BYTES);
        }
    }
}
