//! Who waits for a method without a thread of its own.

use std::collections::BTreeMap;
use std::task::Waker;

/// Wakers, by the number of who waits: who began first is woken first. Nearly always none: then they take a pointer.
#[derive(Default)]
#[allow(clippy::box_collection, reason = "there is one for each method")]
pub(crate) struct Wakers(Option<Box<BTreeMap<u64, Waker>>>);

impl Wakers {
    /// Whether `number` is woken at the next change, by this waker.
    pub(crate) fn has(&self, number: u64, waker: &Waker) -> bool {
        let known = self.0.as_ref().and_then(|all| all.get(&number));
        known.is_some_and(|known| known.will_wake(waker))
    }

    /// Has `number` woken at the next change. Returns what it had before, to be dropped without a lock.
    pub(crate) fn set(&mut self, number: u64, waker: Waker) -> Option<Waker> {
        self.0.get_or_insert_default().insert(number, waker)
    }

    /// `number` does not wait any more. What is returned is to be dropped without a lock.
    pub(crate) fn remove(&mut self, number: u64) -> Option<Waker> {
        let all = self.0.as_mut()?;
        let waker = all.remove(&number);
        if all.is_empty() {
            self.0 = None;
        }
        waker
    }

    /// Adds others: nobody is among both.
    pub(crate) fn append(&mut self, others: Self) {
        match (&mut self.0, others.0) {
            (_, None) => {}
            (Some(all), Some(others)) => all.extend(*others),
            (none, others) => *none = others,
        }
    }

    /// Wakes all. They are an embedder's: no lock is to be held. A panic of one costs the others nothing.
    pub(crate) fn wake(self) {
        for waker in self.0.into_iter().flat_map(|all| all.into_values()) {
            crate::contain(|| waker.wake());
        }
    }
}
