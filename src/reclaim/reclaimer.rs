//! Grace periods: who starts them, and who drives them on.

use std::sync::Arc;
use std::time::Duration;

use super::domain::Domain;
use super::epoch::LocalHandle;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::fault::{kept, order};
use crate::sync::time::Instant;

/// A grace period that has been started, and whether it is over.
pub(crate) struct Grace {
    over: Arc<AtomicBool>,
    since: Instant,
}

impl Grace {
    pub(crate) fn is_over(&self) -> bool {
        self.over.load(order("grace.over", Ordering::Acquire)) || !kept("grace.wait")
    }

    pub(crate) fn age(&self) -> Duration {
        self.since.elapsed()
    }
}

/// The one that defers to the epoch collector and drives it on. Whoever owns it (the cache keeps
/// it behind a lock) is *the* reclaimer for that time.
pub(crate) struct Reclaimer {
    domain: Arc<Domain>,
    local: LocalHandle,
    steps: u32,
}

// SAFETY: `LocalHandle` is not `Send` because it and its guards touch one record without
// synchronisation. All guards made from it live and die inside a method of `Reclaimer`, by
// `&mut`, so at any time one thread alone touches that record, and handing the reclaimer over
// orders these times.
unsafe impl Send for Reclaimer {}

impl Reclaimer {
    pub(crate) fn new(domain: &Arc<Domain>) -> Self {
        Self {
            domain: domain.clone(),
            local: domain.collector.register(),
            steps: 0,
        }
    }

    /// Starts a grace period. Everything unlinked before this call is unreachable once it is
    /// over.
    pub(crate) fn start(&mut self) -> Grace {
        let over = Arc::new(AtomicBool::new(false));
        let mark = over.clone();
        let guard = self.local.pin();
        guard.defer(move || mark.store(true, order("grace.mark", Ordering::Release)));
        // Out of the local bag at once: nobody may wait for this thread to fill it.
        guard.flush();
        Grace {
            over,
            since: Instant::now(),
        }
    }

    /// Drives the epoch on by at most one: to be called while a grace period is not over.
    pub(crate) fn step(&mut self) {
        if kept("tick.advance") {
            self.domain.advance();
        }
        self.steps = self.steps.wrapping_add(1);
        if self.steps.is_multiple_of(16) {
            self.domain.bury_the_dead();
        }
        self.local.pin().flush();
    }

    /// Looks for threads that ended without leaving.
    pub(crate) fn bury_the_dead(&mut self) {
        self.domain.bury_the_dead();
    }
}
