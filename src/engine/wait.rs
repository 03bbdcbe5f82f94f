//! Waiting for a method's code: on a thread, for a time, and without a thread.
//!
//! Who waits is counted in the method, from before it looks until it has what it waited for. As long as
//! anybody is, the method is no victim of eviction, and its request is not dropped; when the last gives
//! up and nobody wished for it besides, the request is dropped, unless it is being compiled already.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

use super::ask::Asker;
use super::core::Core;
use super::tell::Told;
use crate::compile::on_a_worker;
use crate::error::Error;
use crate::method::{Key, Method, Phase, State, Wakers};
use crate::sync::fault::kept;
use crate::sync::time::Instant;
use crate::sync::{MutexGuard, thread};

/// Compilations that may be in vain, because the method was invalidated meanwhile, before who waits is
/// told so.
const PATIENCE: u32 = 1000;

/// Until when a thread waits, and how long that was when it began.
#[derive(Clone, Copy)]
pub(crate) struct Deadline {
    until: Option<Instant>,
    patience: Duration,
}

impl Deadline {
    pub(crate) fn after(patience: Duration) -> Self {
        Self {
            // What is too far for the clock is never reached.
            until: Instant::now().checked_add(patience),
            patience,
        }
    }

    /// The time that is left; `None`: it is over.
    pub(super) fn left(&self) -> Option<Duration> {
        let left = self.until.map_or(Duration::MAX, |until| {
            until.saturating_duration_since(Instant::now())
        });
        (!left.is_zero()).then_some(left)
    }
}

/// How far somebody who waits has come.
#[derive(Default)]
pub(crate) struct Progress {
    /// Compilations that had ended when this one was asked for.
    watched: Option<u64>,
    /// Compilations that came to nothing meanwhile.
    vain: u32,
}

/// A thread that waits for a method, until this is dropped.
pub(super) struct Waiting<'c, K: Key> {
    core: &'c Core<K>,
    method: &'c Arc<Method<K>>,
    deadline: Option<Deadline>,
}

impl<K: Key> Drop for Waiting<'_, K> {
    fn drop(&mut self) {
        self.core.end_waiting(self.method);
    }
}

impl<K: Key> Waiting<'_, K> {
    fn has_time(&self) -> bool {
        self.deadline
            .is_none_or(|deadline| deadline.left().is_some())
    }

    /// Waits until the method has code. What it returns may be out of date at once.
    pub(super) fn until_there(&self) -> Result<(), Error> {
        let Self { core, method, .. } = *self;
        if on_a_worker() {
            return Err(Error::WouldDeadlock);
        }
        let mut progress = Progress::default();
        let alone = core.config.workers == 0;
        while let Some(state) = core.look(method, &mut progress)? {
            if alone && state.phase == Phase::Queued && self.has_time() {
                drop(state);
                if !core.compile_for_oneself(self.deadline) {
                    // Somebody has just taken it, and is going to say so.
                    thread::yield_now();
                }
                continue;
            }
            match self.deadline {
                None => drop(method.wait(state)),
                Some(deadline) => match deadline.left() {
                    Some(left) => drop(method.wait_timeout(state, left)),
                    None => {
                        drop(state);
                        return Err(Error::TimedOut {
                            method: method.describe(),
                            patience: deadline.patience,
                        });
                    }
                },
            }
        }
        Ok(())
    }
}

impl<K: Key> Core<K> {
    /// The calling thread is going to wait for the method. Until it has the code that is no victim: else
    /// a small budget would evict it between its publication and the moment when the thread is pinned
    /// again.
    pub(super) fn wait<'c>(
        &'c self,
        method: &'c Arc<Method<K>>,
        deadline: Option<Deadline>,
    ) -> Waiting<'c, K> {
        method.begin_waiting();
        Waiting {
            core: self,
            method,
            deadline,
        }
    }

    /// Somebody who has been counted does not wait any more.
    pub(crate) fn end_waiting(&self, method: &Arc<Method<K>>) {
        // In a forked child the method's lock may be held by nobody.
        if !method.end_waiting() || self.check_fork().is_err() {
            return;
        }
        let mut request = None;
        let mut state = method.lock();
        if method.is_waited_for() && kept("end_waiting.last") {
            return;
        }
        // How the last compilation failed is not remembered when all who waited know.
        let failure = state.failure.take_if(|failure| !failure.is_remembered());
        if state.phase == Phase::Queued && !(state.wished && kept("end_waiting.wished")) {
            request = self.queue.drop_request(method);
            if request.is_some() {
                state.end_request();
                self.put(|| Told::Dropped(method.clone()));
            }
        }
        drop(state);
        drop((failure, request));
    }

    /// Whether the method has code, for somebody who is counted: `None` if so; else it is on its way, and
    /// the state is as it was when that was seen.
    fn look<'m>(
        &self,
        method: &'m Arc<Method<K>>,
        progress: &mut Progress,
    ) -> Result<Option<MutexGuard<'m, State>>, Error> {
        let mut state = method.lock();
        loop {
            if state.resident.is_some() {
                return Ok(None);
            }
            match (state.phase, progress.watched) {
                // Ended since: failed, or was begun before an invalidation.
                (Phase::Idle, Some(attempt)) if state.attempts > attempt => {
                    if let Some(failure) = &state.failure {
                        return Err(failure.error.clone());
                    }
                    progress.vain += 1;
                    if progress.vain > PATIENCE {
                        drop(state);
                        return Err(Error::Unstable {
                            method: method.describe(),
                            times: progress.vain,
                        });
                    }
                    progress.watched = None;
                }
                (Phase::Idle, _) => {
                    if let Some(error) = self.refuses(&state) {
                        return Err(error);
                    }
                    progress.watched = Some(state.attempts);
                    drop(state);
                    self.check_fork()?;
                    self.enqueue(method, Asker::Waits, due)?;
                    state = method.lock();
                }
                (phase, None) => {
                    progress.watched = Some(state.attempts);
                    if phase == Phase::Queued {
                        self.queue.raise(method);
                    }
                }
                (_, Some(_)) => return Ok(Some(state)),
            }
        }
    }

    /// Has the method queued, for a future that has been counted. Whatever goes wrong shows when it is polled.
    pub(crate) fn begin(&self, method: &Arc<Method<K>>, progress: &mut Progress) {
        if self.check_fork().is_ok() {
            let _ = self.look(method, progress);
        }
    }

    /// Whether the method has code, for a future with this number that has been counted. If it has not,
    /// the waker is woken at the next change.
    pub(crate) fn poll(
        &self,
        method: &Arc<Method<K>>,
        progress: &mut Progress,
        number: u64,
        waker: &Waker,
    ) -> Poll<Result<(), Error>> {
        if let Err(error) = self.check_fork() {
            return Poll::Ready(Err(error));
        }
        let mut own = None;
        loop {
            let mut state = match self.look(method, progress) {
                Ok(None) => return Poll::Ready(Ok(())),
                Ok(Some(state)) => state,
                Err(error) => return Poll::Ready(Err(error)),
            };
            if state.wakers.has(number, waker) {
                return Poll::Pending;
            }
            match own.take() {
                Some(own) => {
                    let old = state.wakers.set(number, own);
                    drop(state);
                    drop(old);
                    return Poll::Pending;
                }
                None => {
                    // An executor's code, so under no lock; and then it is looked again.
                    drop(state);
                    own = Some(waker.clone());
                }
            }
        }
    }

    /// The future with this number does not wait any more.
    pub(crate) fn forget_waker(&self, method: &Method<K>, number: u64) {
        if self.check_fork().is_ok() {
            let waker = method.lock().wakers.remove(number);
            drop(waker);
        }
    }

    /// After a batch, when no lock is held: wakes who waits without a thread, and queues what was asked
    /// for again while it was compiled in vain.
    pub(super) fn after_batch(&self, mut wakers: Wakers) {
        let mut ledger = self.ledger();
        wakers.append(std::mem::take(&mut ledger.woken));
        let again = std::mem::take(&mut ledger.asked_again);
        drop(ledger);
        for method in again {
            // If the cache is shutting down nobody is told: nobody waits.
            let _ = self.enqueue(&method, Asker::Wished, due);
        }
        wakers.wake();
    }
}

/// A method without code is compiled for the first tier.
fn due(state: &State) -> Option<u8> {
    state.resident.is_none().then_some(0)
}

/// A number for somebody who waits without a thread.
pub(crate) fn waiter_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}
