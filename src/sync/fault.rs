//! Faults that tests seed, to show that their checks can fail.
//!
//! A memory order, or a step, that a protocol needs is named where it is written:
//!
//! ```ignore
//! word.load(order("hold.load", Ordering::Acquire));
//! if kept("hold.compare") && word != expected { .. }
//! ```
//!
//! In what ships both are constants. Under a checker they ask whether this is the fault that the running test has
//! seeded, in which case the order is relaxed, and the step left out.

#[cfg(not(feature = "_checked"))]
use std::sync::atomic::Ordering;

/// The order of an access, unless a test has weakened it. Not for fences, which have no weaker form: see [`kept`].
#[cfg(not(feature = "_checked"))]
#[inline(always)]
pub(crate) const fn order(_name: &'static str, order: Ordering) -> Ordering {
    order
}

/// Whether a step is taken: always, unless a test has left it out.
#[cfg(not(feature = "_checked"))]
#[inline(always)]
pub(crate) const fn kept(_name: &'static str) -> bool {
    true
}

#[cfg(feature = "_checked")]
#[allow(unused_imports, reason = "one checker's tests may have no use for all")]
pub use self::seeded::{asked, seed};
#[cfg(feature = "_checked")]
pub(crate) use self::seeded::{kept, order};

#[cfg(feature = "_checked")]
mod seeded {
    use std::cell::{Cell, RefCell};
    use std::collections::BTreeSet;
    use std::sync::atomic::Ordering;

    // A checker runs all its threads on the one that began it.
    std::thread_local! {
        static SEEDED: Cell<Option<&'static str>> = const { Cell::new(None) };
        static ASKED: RefCell<BTreeSet<&'static str>> = const { RefCell::new(BTreeSet::new()) };
    }

    pub(crate) fn order(name: &'static str, order: Ordering) -> Ordering {
        if is_seeded(name) {
            return Ordering::Relaxed;
        }
        // Such an access asks for two things, and may need one of them.
        let weaker = SEEDED
            .get()
            .and_then(|fault| fault.strip_suffix(" by acq-rel"));
        if order == Ordering::SeqCst && weaker == Some(name) {
            return Ordering::AcqRel;
        }
        order
    }

    pub(crate) fn kept(name: &'static str) -> bool {
        !is_seeded(name)
    }

    fn is_seeded(name: &'static str) -> bool {
        ASKED.with_borrow_mut(|asked| asked.insert(name));
        SEEDED.get() == Some(name)
    }

    /// Seeds this fault from now on, and no other, in what the calling thread checks.
    #[allow(dead_code, reason = "one checker's tests may have no use for it")]
    pub fn seed(fault: Option<&'static str>) {
        SEEDED.set(fault);
    }

    /// All faults that could have been seeded in what the calling thread has checked so far.
    #[allow(dead_code, reason = "one checker's tests may have no use for it")]
    pub fn asked() -> BTreeSet<&'static str> {
        ASKED.with_borrow(Clone::clone)
    }
}
