//! Whether a thread of a checker's still exists. To the system all of them are one, so a test says which dies.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU8, Ordering};

use crate::sync::thread_local;

const ALIVE: u8 = 0;
const ENDED: u8 = 1;
const DEAD: u8 = 2;
const BURIED: u8 = 3;

pub(super) struct Liveness(Arc<AtomicU8>);

thread_local! {
    static OF_THREAD: RefCell<Vec<Arc<AtomicU8>>> = const { RefCell::new(Vec::new()) };
    static ID: Cell<i32> = const { Cell::new(0) };
}

/// A number of the calling thread's own.
pub(super) fn thread_id() -> i32 {
    static LAST: AtomicI32 = AtomicI32::new(0);
    if ID.get() == 0 {
        ID.set(LAST.fetch_add(1, Ordering::Relaxed) + 1);
    }
    ID.get()
}

/// The calling thread ends now, and leaves its participants as they are.
#[cfg(feature = "_shuttle")]
pub fn dies() {
    let of_thread = OF_THREAD.with(RefCell::take);
    for liveness in of_thread {
        let _ = liveness.compare_exchange(ALIVE, DEAD, Ordering::Relaxed, Ordering::Relaxed);
    }
}

impl Liveness {
    /// Alive as long as the calling thread is.
    pub(super) fn of_this_thread() -> Self {
        let liveness = Arc::new(AtomicU8::new(ALIVE));
        OF_THREAD.with(|of_thread| of_thread.borrow_mut().push(liveness.clone()));
        Self(liveness)
    }

    /// The thread is done with it.
    pub(super) fn end(&self) {
        self.0.store(ENDED, Ordering::Relaxed);
    }

    /// Whether the thread ended without calling [`Liveness::end`]. True for one caller only.
    pub(super) fn died(&self) -> bool {
        let taken = self
            .0
            .compare_exchange(DEAD, BURIED, Ordering::Relaxed, Ordering::Relaxed);
        taken.is_ok()
    }
}
