//! Spare contexts, with the prelude built, so that opening a generation costs the compile path
//! nothing.

use std::sync::PoisonError;

use super::Context;
use crate::sync::{Mutex, MutexGuard};

/// Contexts that are ready. The reclaimer fills it, compile workers take from it.
pub(crate) struct Pool {
    ready: Mutex<Vec<Context>>,
    target: usize,
}

impl Pool {
    /// Keeps `target` spares: one for each compile worker.
    pub(crate) fn new(target: usize) -> Self {
        Self {
            ready: Mutex::default(),
            target,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Context>> {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn take(&self) -> Option<Context> {
        self.lock().pop()
    }

    pub(crate) fn wants_more(&self) -> bool {
        self.lock().len() < self.target
    }

    pub(crate) fn put(&self, context: Context) {
        self.lock().push(context);
    }

    /// How many there are, and their bytes.
    pub(crate) fn spare(&self) -> (usize, u64) {
        let ready = self.lock();
        (ready.len(), ready.iter().map(|c| c.bytes).sum())
    }
}
