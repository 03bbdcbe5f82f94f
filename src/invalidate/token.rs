//! To wait until nobody is inside what was invalidated.

use std::sync::Weak;
use std::time::{Duration, Instant};

use super::Relying;
use crate::error::Error;

/// That something was invalidated: by [`Cache::invalidate`](crate::Cache::invalidate) and its like in
/// one cache, by [`Assumption::invalidate`](crate::Assumption::invalidate) in all that may rely on it.
/// Dropping it waits for nothing. It keeps no cache.
#[must_use = "what was loaded before may still start: `wait` for that to be over, or drop this"]
pub struct Invalidation {
    caches: Vec<Weak<dyn Relying>>,
}

impl Invalidation {
    pub(crate) fn of(caches: impl IntoIterator<Item = Weak<dyn Relying>>) -> Self {
        Self {
            caches: caches.into_iter().collect(),
        }
    }

    /// Waits until every participant of the caches concerned has, since then, been seen unpinned or has
    /// re-pinned: from then on no thread starts, or is inside, the code that was invalidated (unless it
    /// stayed inside of code since, over a safepoint or a `blocking`: old code that its stack has
    /// addresses of may still run).
    ///
    /// # Errors
    /// [`Error::Pinned`] if the calling thread is pinned itself, [`Error::WouldDeadlock`] on a
    /// compile worker, [`Error::Forked`], [`Error::ShuttingDown`].
    pub fn wait(self) -> Result<(), Error> {
        self.wait_until(None)
    }

    /// [`Invalidation::wait`], for so long at most; then [`Error::Stalled`] names the participant
    /// that has been pinned longest.
    pub fn wait_for(self, patience: Duration) -> Result<(), Error> {
        self.wait_until(Some(patience))
    }

    fn wait_until(self, patience: Option<Duration>) -> Result<(), Error> {
        let began = Instant::now();
        for cache in &self.caches {
            // One that has ended has nobody inside.
            let Some(cache) = cache.upgrade() else {
                continue;
            };
            let Some(_running) = cache.keep_running() else {
                continue;
            };
            let left = patience.map(|p| p.saturating_sub(began.elapsed()));
            cache.wait(left)?;
        }
        Ok(())
    }
}
