//! Who waits for a method without a thread of its own.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::Waker;

/// Wakers, each with the number of who waits. Nearly always none: then they take a pointer.
#[derive(Default)]
#[allow(clippy::box_collection, reason = "there is one for each method")]
pub(crate) struct Wakers(Option<Box<Vec<(u64, Waker)>>>);

impl Wakers {
    /// Has `number` woken at the next change. Returns what it had before, to be dropped without a lock.
    pub(crate) fn set(&mut self, number: u64, waker: &Waker) -> Option<Waker> {
        let all = self.0.get_or_insert_default();
        match all.iter_mut().find(|(n, _)| *n == number) {
            Some((_, old)) if old.will_wake(waker) => None,
            Some((_, old)) => Some(std::mem::replace(old, waker.clone())),
            None => {
                all.push((number, waker.clone()));
                None
            }
        }
    }

    /// `number` does not wait any more. What is returned is to be dropped without a lock.
    pub(crate) fn remove(&mut self, number: u64) -> Option<Waker> {
        let all = self.0.as_mut()?;
        let place = all.iter().position(|(n, _)| *n == number)?;
        let (_, waker) = all.swap_remove(place);
        if all.is_empty() {
            self.0 = None;
        }
        Some(waker)
    }

    /// Adds others.
    pub(crate) fn append(&mut self, others: Self) {
        match (&mut self.0, others.0) {
            (_, None) => {}
            (Some(all), Some(others)) => all.extend(*others),
            (none, others) => *none = others,
        }
    }

    /// Wakes all. They are an embedder's: no lock is to be held. A panic of one costs the others nothing.
    pub(crate) fn wake(self) {
        for (_, waker) in self.0.into_iter().flat_map(|all| *all) {
            let _ = catch_unwind(AssertUnwindSafe(|| waker.wake()));
        }
    }
}
