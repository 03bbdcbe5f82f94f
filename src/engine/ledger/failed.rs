//! Methods whose failure is remembered.
//!
//! The failure itself stands in the method's state, so it lasts as long as the record. That a key is not tried again and
//! again by somebody who makes a handle each time, the records of some that failed are kept here.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{ByNumber, Ledger};
use crate::error::Error;
use crate::evict::MethodId;
use crate::method::{Failure, Key, Method, State};

/// Records that are kept because of a failure, at most.
const KEPT: usize = 256;

/// Records that are kept because of a failure.
pub(super) type Failed<K> = Latest<Arc<Method<K>>>;

/// What was kept last.
pub(super) struct Latest<T> {
    /// Each with the number of when it was kept.
    kept: ByNumber<MethodId, (u64, T)>,
    /// The oldest first; with some that were forgotten, or kept again, since.
    order: VecDeque<(MethodId, u64)>,
    next: u64,
}

impl<T> Default for Latest<T> {
    fn default() -> Self {
        Self {
            kept: ByNumber::default(),
            order: VecDeque::new(),
            next: 0,
        }
    }
}

impl<T> Latest<T> {
    /// Keeps one, as the latest. Returns what goes for it, or was known of it before.
    fn keep(&mut self, id: MethodId, what: T) -> Option<T> {
        let number = self.next;
        self.next += 1;
        self.order.push_back((id, number));
        let before = self.kept.insert(id, (number, what));
        if self.order.len() > 2 * KEPT {
            let kept = &self.kept;
            self.order
                .retain(|(id, number)| kept.get(id).is_some_and(|(now, _)| now == number));
        }
        let mut gone = before.map(|(_, before)| before);
        while self.kept.len() > KEPT {
            let (id, number) = self.order.pop_front()?;
            if self.kept.get(&id).is_some_and(|(now, _)| *now == number) {
                gone = self.forget(id);
            }
        }
        gone
    }

    fn forget(&mut self, id: MethodId) -> Option<T> {
        self.kept.remove(&id).map(|(_, what)| what)
    }
}

impl<K: Key> Ledger<K> {
    /// A compilation of a method has failed.
    pub(super) fn note_failure(
        &mut self,
        method: &Arc<Method<K>>,
        state: &mut State,
        error: Error,
    ) {
        let before = state.failure.take();
        // What has code is not asked for by anybody who could not have it.
        let failure = match state.resident {
            None => Failure::of(error, before.as_deref(), self.patience),
            Some(_) => Err(error),
        };
        self.gone.errors.extend(before.map(|failure| failure.error));
        match failure {
            Ok(failure) => {
                state.failure = Some(Box::new(failure));
                let gone = self.failed.keep(method.id, method.clone());
                self.gone.methods.extend(gone);
                return;
            }
            Err(error) if method.is_waited_for() => {
                state.failure = Some(Box::new(Failure::to_be_heard(error)));
            }
            // Nobody asks how it ended.
            Err(error) => self.gone.errors.push(error),
        }
        self.gone.methods.extend(self.failed.forget(method.id));
    }

    /// The method's failure is past.
    pub(crate) fn forget_failure(&mut self, method: &Method<K>, state: &mut State) {
        if let Some(failure) = state.failure.take() {
            self.gone.errors.push(failure.error);
            self.gone.methods.extend(self.failed.forget(method.id));
        }
    }

    /// All records that are kept, for the end of the cache.
    pub(crate) fn take_failed(&mut self) -> impl Sized + use<K> {
        std::mem::take(&mut self.failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(numbers: std::ops::Range<u64>) -> impl Iterator<Item = MethodId> {
        numbers.map(MethodId::new)
    }

    #[test]
    fn the_latest_are_kept() {
        let mut latest = Latest::default();
        for id in ids(0..1000) {
            let gone = latest.keep(id, id);
            assert_eq!(gone.map(MethodId::get), id.get().checked_sub(KEPT as u64));
        }
        assert_eq!(latest.kept.len(), KEPT);
        // The oldest fails again, so that the next is the oldest.
        let (oldest, next) = (1000 - KEPT as u64, 1001 - KEPT as u64);
        let [oldest, next] = [oldest, next].map(MethodId::new);
        assert_eq!(latest.keep(oldest, oldest), Some(oldest));
        assert_eq!(latest.keep(MethodId::new(1000), next), Some(next));
    }

    #[test]
    fn who_fails_and_is_forgotten_again_and_again_puts_nobody_out() {
        let mut latest = Latest::default();
        let others = || ids(1..KEPT as u64);
        for id in others() {
            assert_eq!(latest.keep(id, ()), None);
        }
        let one = MethodId::new(0);
        for _ in 0..10 * KEPT {
            assert_eq!(latest.keep(one, ()), None);
            assert!(latest.order.len() <= 2 * KEPT + 1);
            assert_eq!(latest.forget(one), Some(()));
        }
        assert_eq!(latest.keep(one, ()), None);
        assert!(others().all(|id| latest.kept.contains_key(&id)));
        // Its records of before are nobody's.
        for id in ids(1000..1000 + KEPT as u64 - 1) {
            latest.keep(id, ());
        }
        assert!(latest.kept.contains_key(&one));
    }
}
