//! Atomics as loom has them, but for sequential consistency.
//!
//! Loom takes accesses that ask for it as acquiring and releasing ones. What the protocols here need of it is that of two
//! threads, each of which writes one thing and then reads the other, one sees what the other wrote. So there is a fence,
//! which loom knows how to treat, between a write and a later read of the same thread that both ask for it; if one of
//! them asks for less there is none. It is a little stronger than the language says, as it orders what is around it, too.

use std::cell::Cell;

use loom::sync::atomic as of_loom;

use super::super::thread_local;

pub(crate) use of_loom::{Ordering, fence};

thread_local! {
    /// The thread has written something so, and no fence has come since.
    static WRITTEN: Cell<bool> = const { Cell::new(false) };
}

/// What the calling thread has written so far is long ago.
pub(crate) fn settle() {
    WRITTEN.set(false);
}

/// What an access asks for, as loom is told: a load does not release, nor does a store acquire.
fn of_access(order: Ordering, strongest: Ordering, reads: bool, writes: bool) -> Ordering {
    if order == Ordering::SeqCst {
        if reads && WRITTEN.replace(writes) {
            fence(Ordering::SeqCst);
        }
        if writes {
            WRITTEN.set(true);
        }
    }
    match order {
        Ordering::SeqCst | Ordering::AcqRel => strongest,
        other => other,
    }
}

fn of_failure(order: Ordering) -> Ordering {
    match order {
        Ordering::SeqCst => Ordering::Acquire,
        other => other,
    }
}

macro_rules! atomic {
    ($name:ident, $value:ty $(, $generic:ident)?) => {
        #[derive(Debug)]
        #[repr(transparent)]
        pub(crate) struct $name$(<$generic>)?(of_loom::$name$(<$generic>)?);

        impl$(<$generic>)? $name$(<$generic>)? {
            #[track_caller]
            pub(crate) fn new(value: $value) -> Self {
                Self(of_loom::$name::new(value))
            }

            #[track_caller]
            pub(crate) fn load(&self, order: Ordering) -> $value {
                self.0.load(of_access(order, Ordering::Acquire, true, false))
            }

            #[track_caller]
            pub(crate) fn store(&self, value: $value, order: Ordering) {
                self.0.store(value, of_access(order, Ordering::Release, false, true));
            }

            #[track_caller]
            pub(crate) fn swap(&self, value: $value, order: Ordering) -> $value {
                self.0.swap(value, of_access(order, Ordering::AcqRel, true, true))
            }

            #[track_caller]
            pub(crate) fn compare_exchange(
                &self,
                from: $value,
                to: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                let success = of_access(success, Ordering::AcqRel, true, true);
                self.0.compare_exchange(from, to, success, of_failure(failure))
            }

            #[track_caller]
            pub(crate) fn compare_exchange_weak(
                &self,
                from: $value,
                to: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.compare_exchange(from, to, success, failure)
            }
        }
    };
}

macro_rules! number {
    ($name:ident, $value:ty) => {
        atomic!($name, $value);

        impl $name {
            #[track_caller]
            pub(crate) fn fetch_add(&self, n: $value, order: Ordering) -> $value {
                self.0
                    .fetch_add(n, of_access(order, Ordering::AcqRel, true, true))
            }

            #[track_caller]
            pub(crate) fn fetch_sub(&self, n: $value, order: Ordering) -> $value {
                self.0
                    .fetch_sub(n, of_access(order, Ordering::AcqRel, true, true))
            }

            #[track_caller]
            pub(crate) fn fetch_or(&self, n: $value, order: Ordering) -> $value {
                self.0
                    .fetch_or(n, of_access(order, Ordering::AcqRel, true, true))
            }

            #[track_caller]
            pub(crate) fn fetch_and(&self, n: $value, order: Ordering) -> $value {
                self.0
                    .fetch_and(n, of_access(order, Ordering::AcqRel, true, true))
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new(0)
            }
        }
    };
}

number!(AtomicU32, u32);
number!(AtomicU64, u64);
number!(AtomicUsize, usize);
atomic!(AtomicBool, bool);
atomic!(AtomicPtr, *mut T, T);

impl Default for AtomicBool {
    fn default() -> Self {
        Self::new(false)
    }
}

impl<T> Default for AtomicPtr<T> {
    fn default() -> Self {
        Self::new(std::ptr::null_mut())
    }
}
