//! Whether a thread still exists: a robust mutex that it locked and never unlocks.

use std::cell::UnsafeCell;

/// Locked by its thread from `new` to `end`. When the thread is gone without `end` (after all
/// its thread-local destructors ran) the kernel marks the mutex.
pub(super) struct Liveness(Box<UnsafeCell<libc::pthread_mutex_t>>);

// SAFETY: a pthread mutex is made to be used from many threads; all access goes through the
// pthread functions.
unsafe impl Send for Liveness {}
// SAFETY: as above.
unsafe impl Sync for Liveness {}

impl Liveness {
    /// Alive as long as the calling thread is.
    pub(super) fn of_this_thread() -> Self {
        let mutex = Box::new(UnsafeCell::new(libc::PTHREAD_MUTEX_INITIALIZER));
        // SAFETY: `attributes` is initialised before it is used and destroyed after; the mutex
        // is in a box, so it never moves while it is locked.
        unsafe {
            let mut attributes = std::mem::zeroed::<libc::pthread_mutexattr_t>();
            libc::pthread_mutexattr_init(&mut attributes);
            libc::pthread_mutexattr_setrobust(&mut attributes, libc::PTHREAD_MUTEX_ROBUST);
            libc::pthread_mutex_init(mutex.get(), &attributes);
            libc::pthread_mutexattr_destroy(&mut attributes);
            libc::pthread_mutex_lock(mutex.get());
        }
        Self(mutex)
    }

    /// The thread is done with it. To be called on the thread itself.
    pub(super) fn end(&self) {
        // SAFETY: the calling thread locked the mutex in `of_this_thread`.
        unsafe { libc::pthread_mutex_unlock(self.0.get()) };
    }

    /// Whether the thread ended without calling [`Liveness::end`]. True for one caller only.
    pub(super) fn died(&self) -> bool {
        // SAFETY: the mutex was initialised; trylock may be called from any thread.
        match unsafe { libc::pthread_mutex_trylock(self.0.get()) } {
            0 => {
                // SAFETY: locked just above, by this thread.
                unsafe { libc::pthread_mutex_unlock(self.0.get()) };
                false
            }
            // Made consistent and unlocked, so the next to ask is told no: one takes over.
            libc::EOWNERDEAD => {
                // SAFETY: we hold the mutex in the inconsistent state that EOWNERDEAD means.
                unsafe {
                    libc::pthread_mutex_consistent(self.0.get());
                    libc::pthread_mutex_unlock(self.0.get());
                }
                true
            }
            _ => false,
        }
    }
}

impl Drop for Liveness {
    fn drop(&mut self) {
        // SAFETY: nobody can reach the mutex any more. If its thread never unlocked it, it is
        // gone; glibc then only frees nothing.
        unsafe { libc::pthread_mutex_destroy(self.0.get()) };
    }
}
