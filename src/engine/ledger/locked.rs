//! The ledger while somebody has it locked.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::Ledger;
use crate::compile::Source;
use crate::error::Error;
use crate::invalidate::Assumption;
use crate::method::{Key, Method};
use crate::sync::MutexGuard;

/// What the ledger let go of. To drop it may run code of the embedder's (of keys, of a front end's errors), and by way
/// of epochs anybody's who defers something: all of which may want the ledger.
pub(super) struct Gone<K: Key> {
    pub(super) methods: Vec<Arc<Method<K>>>,
    pub(super) errors: Vec<Error>,
    pub(super) sources: Vec<Source<K>>,
    /// What fell with methods that were invalidated, for those that have their bodies in theirs.
    pub(super) fallen: Vec<Assumption>,
}

impl<K: Key> Default for Gone<K> {
    fn default() -> Self {
        Self {
            methods: Vec::new(),
            errors: Vec::new(),
            sources: Vec::new(),
            fallen: Vec::new(),
        }
    }
}

/// Each by itself: a panic of one is not about what the ledger was locked for, and a second one on the way would end the
/// process.
fn drop_each<T>(all: Vec<T>) {
    for one in all {
        crate::contain(|| drop(one));
    }
}

/// The ledger, locked. What it lets go of meanwhile is dropped when it is unlocked.
pub(crate) struct Locked<'c, K: Key>(Option<MutexGuard<'c, Ledger<K>>>);

impl<'c, K: Key> Locked<'c, K> {
    pub(crate) fn new(guard: MutexGuard<'c, Ledger<K>>) -> Self {
        Self(Some(guard))
    }
}

impl<K: Key> Deref for Locked<'_, K> {
    type Target = Ledger<K>;

    fn deref(&self) -> &Ledger<K> {
        self.0.as_ref().expect("until it is dropped")
    }
}

impl<K: Key> DerefMut for Locked<'_, K> {
    fn deref_mut(&mut self) -> &mut Ledger<K> {
        self.0.as_mut().expect("until it is dropped")
    }
}

impl<K: Key> Drop for Locked<'_, K> {
    fn drop(&mut self) {
        let Some(mut guard) = self.0.take() else {
            return;
        };
        let mut gone = std::mem::take(&mut guard.gone);
        drop(guard);
        for assumption in std::mem::take(&mut gone.fallen) {
            // Those that relied on it are unlinked when who invalidated the method goes on. A policy's panic was said where
            // it happened.
            crate::contain(|| drop(assumption.invalidate()));
        }
        drop_each(gone.methods);
        drop_each(gone.errors);
        drop_each(gone.sources);
    }
}
