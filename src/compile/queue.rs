//! Requests that wait for a compile worker.

use std::cell::Cell;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::method::{Key, Method};

/// What a worker is to do next.
pub(crate) enum Work<K: Key> {
    /// Compile these, together. All are of one group.
    Batch(u64, Vec<Arc<Method<K>>>),
    /// Nothing came for a while.
    Idle,
    /// The cache is shutting down.
    Closed,
}

/// No batch waits longer for others to come along, whatever the setting says.
const LONGEST_WINDOW: Duration = Duration::from_secs(1);

/// First come, first served; and with the first those of its group.
pub(crate) struct Queue<K: Key> {
    inner: Mutex<Inner<K>>,
    arrived: Condvar,
}

struct Inner<K: Key> {
    /// Each with its group.
    waiting: VecDeque<(u64, Arc<Method<K>>)>,
    closed: bool,
}

impl<K: Key> Inner<K> {
    /// Takes the first request, and others of its group. There is one.
    fn take(&mut self, limit: usize) -> (u64, Vec<Arc<Method<K>>>) {
        let group = self.waiting[0].0;
        // Nearly always all are of one group.
        let together = self.waiting.iter().take_while(|(g, _)| *g == group).count();
        if together >= limit || together == self.waiting.len() {
            let batch = self.waiting.drain(..together.min(limit));
            return (group, batch.map(|(_, method)| method).collect());
        }
        let mut batch = Vec::new();
        let mut rest = VecDeque::with_capacity(self.waiting.len());
        for (of, method) in self.waiting.drain(..) {
            if of == group && batch.len() < limit {
                batch.push(method);
            } else {
                rest.push_back((of, method));
            }
        }
        self.waiting = rest;
        (group, batch)
    }
}

impl<K: Key> Queue<K> {
    pub(crate) fn new() -> Self {
        let inner = Inner {
            waiting: VecDeque::new(),
            closed: false,
        };
        Self {
            inner: Mutex::new(inner),
            arrived: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<K>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a request; false when the cache is shutting down.
    pub(crate) fn push(&self, group: u64, method: Arc<Method<K>>) -> bool {
        let mut inner = self.lock();
        if inner.closed {
            return false;
        }
        inner.waiting.push_back((group, method));
        drop(inner);
        self.arrived.notify_one();
        true
    }

    /// Waits for requests, and takes up to `limit`. A worker that finds more than one waits up
    /// to `window` for others to come along; a lone request goes at once.
    pub(crate) fn next(&self, limit: usize, window: Duration, idle: Duration) -> Work<K> {
        let mut inner = self.lock();
        while inner.waiting.is_empty() {
            if inner.closed {
                return Work::Closed;
            }
            let (again, timeout) = self
                .arrived
                .wait_timeout(inner, idle)
                .unwrap_or_else(PoisonError::into_inner);
            inner = again;
            if timeout.timed_out() && inner.waiting.is_empty() && !inner.closed {
                return Work::Idle;
            }
        }
        let deadline = Instant::now() + window.min(LONGEST_WINDOW);
        while inner.waiting.len() > 1 && inner.waiting.len() < limit && !inner.closed {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let before = inner.waiting.len();
            let (again, _) = self
                .arrived
                .wait_timeout(inner, left)
                .unwrap_or_else(PoisonError::into_inner);
            inner = again;
            if inner.waiting.len() < before {
                break; // another worker took some
            }
        }
        if inner.waiting.is_empty() {
            return if inner.closed {
                Work::Closed
            } else {
                Work::Idle
            };
        }
        let (group, batch) = inner.take(limit);
        if !inner.waiting.is_empty() {
            self.arrived.notify_one();
        }
        Work::Batch(group, batch)
    }

    /// Requests that wait.
    pub(crate) fn len(&self) -> usize {
        self.lock().waiting.len()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Lets nothing in any more, and returns what was waiting.
    pub(crate) fn close(&self) -> Vec<Arc<Method<K>>> {
        let mut inner = self.lock();
        inner.closed = true;
        let rest = inner.waiting.drain(..).map(|(_, method)| method).collect();
        drop(inner);
        self.arrived.notify_all();
        rest
    }
}

thread_local! {
    static ON_A_WORKER: Cell<bool> = const { Cell::new(false) };
}

/// Whether the calling thread serves a cache: it must not wait for a compilation.
pub(crate) fn on_a_worker() -> bool {
    ON_A_WORKER.get()
}

/// Says that the calling thread serves a cache.
pub(crate) fn set_on_a_worker() {
    ON_A_WORKER.set(true);
}
