//! The epochs of all maps. Not crossbeam's own for the process: there a thread of somebody else's that stays pinned would
//! keep what is unlinked here, and whatever others defer would run in the middle of this. What is deferred here are marks.

pub(super) use self::whose::Epochs;
pub(crate) use of_process::{hold_for_fork, in_child};

#[cfg(not(feature = "_checked"))]
mod whose {
    use crossbeam_epoch::Guard;

    /// One for all: so a thread has one place in them, however many maps it looks at.
    #[derive(Clone)]
    pub(in super::super) struct Epochs;

    impl Epochs {
        pub(in super::super) fn new() -> Self {
            Self
        }

        pub(in super::super) fn pin(&self) -> Guard {
            super::of_process::pin()
        }
    }
}

/// Those of one map: a run of a checker is to know of no other. Who pins has a place for that time.
#[cfg(feature = "_checked")]
mod whose {
    use crate::reclaim::epoch::{Collector, Guard};

    #[derive(Clone)]
    pub(in super::super) struct Epochs(Collector);

    impl Epochs {
        pub(in super::super) fn new() -> Self {
            Self(Collector::new())
        }

        pub(in super::super) fn pin(&self) -> Guard {
            self.0.register().pin()
        }
    }
}

#[cfg_attr(feature = "_checked", allow(dead_code))]
mod of_process {
    use std::cell::RefCell;
    use std::sync::PoisonError;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use crossbeam_epoch::{Collector, Guard, LocalHandle};

    use crate::sync::plain::{Mutex, MutexGuard};

    static EPOCHS: Mutex<Option<Collector>> = Mutex::new(None);
    /// How often this process is a child's child.
    static FORKS: AtomicUsize = AtomicUsize::new(0);

    /// A thread's place in the epochs, and in which process it took it.
    struct Here(LocalHandle, usize);

    thread_local! {
        static HERE: RefCell<Here> = RefCell::new(here());
    }

    fn lock() -> MutexGuard<'static, Option<Collector>> {
        EPOCHS.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn here() -> Here {
        let place = lock().get_or_insert_with(Collector::new).register();
        Here(place, FORKS.load(Ordering::Relaxed))
    }

    pub(crate) fn pin() -> Guard {
        let pinned = HERE.try_with(|place| {
            if place.borrow().1 != FORKS.load(Ordering::Relaxed) {
                // Its old place is among threads that are not there.
                std::mem::forget(place.replace(here()));
            }
            place.borrow().0.pin()
        });
        // A thread that runs its last destructors.
        pinned.unwrap_or_else(|_| here().0.pin())
    }

    /// Called before a fork; what it returns is given back after it, in both processes.
    pub(crate) fn hold_for_fork() -> MutexGuard<'static, Option<Collector>> {
        // Handlers of others run meanwhile, on this thread: it has its place, and need not ask for it.
        drop(pin());
        lock()
    }

    /// Called in the child. Threads that it does not have may have been pinned, and would be for ever: it begins anew.
    pub(crate) fn in_child(epochs: &mut Option<Collector>) {
        std::mem::forget(epochs.take());
        FORKS.fetch_add(1, Ordering::Relaxed);
    }
}
