//! Promotion: methods that are worth it come to the next tier, from the IR that was kept of them.

use std::sync::Arc;

use super::ask::Asker;
use super::core::Core;
use super::work::Begun;
use crate::compile::{How, Library, Source, Supplies};
use crate::error::Error;
use crate::invalidate::Assumption;
use crate::method::{Key, Method};
use crate::tier::counts;

impl<K: Key> Core<K> {
    /// On the thread whose counter for the method of this number is full. Frames of code lie below.
    pub(super) fn counter_is_full(&self, number: u64) {
        counts::restart(number);
        if self.check_fork().is_err() {
            return;
        }
        // It may have lost its code while this thread is inside of it.
        let method = self.ledger().by_number(number);
        if let Some(method) = method {
            // If the cache is shutting down it stays what it is.
            let _ = self.promote(&method);
        }
    }

    /// Queues a method for the tier that follows the one that it has code of. False if it has none, if that is the
    /// last, if the method is on its way already, or if it stays, or has failed there since it was last
    /// invalidated.
    pub(crate) fn promote(&self, method: &Arc<Method<K>>) -> Result<bool, Error> {
        self.check_fork()?;
        let most = self.config.tiers.len();
        self.enqueue(method, Asker::Wishes, |state| {
            let resident = state.resident.filter(|r| !r.stays)?;
            let next = resident.tier + 1;
            let can = usize::from(next) < most && !state.tried;
            can.then_some(next)
        })
    }

    /// What batches are given.
    pub(super) fn supplies(&self) -> Supplies<'_, K> {
        Supplies {
            table: &self.table,
            relying: &self.relying,
            kept: &self.source_bytes,
            library: self,
            tiers: self.config.tiers.len() as u8,
            polls: self.config.polls,
            debug_info: self.config.debug_info,
            separable: self.config.keep_recipes,
            longest: self.config.wishes.longest,
        }
    }

    /// The IR that is kept of these methods, and that is good for this tier.
    pub(super) fn sources_of(&self, begun: &[Begun<K>], how: How) -> Vec<Option<Source<K>>> {
        let again = self.config.tiers[usize::from(how.tier)].emits_again;
        if again || how.staying {
            return begun.iter().map(|_| None).collect();
        }
        let ledger = self.ledger();
        begun.iter().map(|b| ledger.source_of(&b.method)).collect()
    }
}

impl<K: Key> Library<K> for Core<K> {
    fn queued_bytes(&self) -> usize {
        self.queue.bytes()
    }

    fn inlinable(
        &self,
        method: &Arc<Method<K>>,
        rely_on: &mut dyn FnMut(&Assumption),
    ) -> Option<Source<K>> {
        let there = || self.ledger().source_of(method).filter(|s| s.inlinable);
        there()?;
        // First; what is there then is good until that falls.
        rely_on(&method.as_it_is());
        there()
    }
}
