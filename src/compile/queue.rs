//! Requests that wait for a compile worker.

mod lists;
mod pace;
#[cfg(test)]
mod tests;

use std::cell::Cell;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

pub(crate) use self::lists::Class;
use self::lists::Lists;
use self::pace::Pace;
use crate::config::{Backlog, BacklogSettings};
use crate::method::{Key, Method};
use crate::sync::fault::kept;
use crate::sync::time::Instant;
use crate::sync::{Condvar, Mutex, MutexGuard, thread_local};

/// What a worker is to do next.
pub(crate) enum Work<K: Key> {
    /// Compile these, together. All are of one class.
    Batch(Class, Vec<Arc<Method<K>>>),
    /// Nothing came for a while.
    Idle,
    /// The cache is shutting down.
    Closed,
}

/// What is waited for first, then what was asked for most; and with the first those of its class.
///
/// Its lock is taken after a method's: a method whose phase is `Queued` is here, or on its way from
/// here to whoever took it out.
pub(crate) struct Queue<K: Key> {
    inner: Mutex<Inner<K>>,
    arrived: Condvar,
    /// Some have gone.
    room: Condvar,
}

struct Inner<K: Key> {
    waiting: Lists<Arc<Method<K>>>,
    pace: Pace,
    closed: bool,
    /// Requests that were dropped since nobody wanted them any more.
    dropped: u64,
    /// Requests that were refused.
    refused: u64,
    /// Threads that wait for room.
    in_want_of_room: usize,
}

/// What became of a request.
pub(crate) enum Pushed<K: Key> {
    In,
    /// As that, and this one was taken out for it.
    Instead(Class, Arc<Method<K>>),
    /// It was the coldest itself.
    Dropped,
    Full,
    /// The cache is shutting down.
    Closed,
}

impl<K: Key> Queue<K> {
    pub(crate) fn new() -> Self {
        let inner = Inner {
            waiting: Lists::new(),
            pace: Pace::new(),
            closed: false,
            dropped: 0,
            refused: 0,
            in_want_of_room: 0,
        };
        Self {
            inner: Mutex::new(inner),
            arrived: Condvar::new(),
            room: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<K>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a request, first if somebody waits for it; of one that is only wished for, up to a limit.
    pub(crate) fn push(
        &self,
        class: Class,
        method: Arc<Method<K>>,
        limit: Option<BacklogSettings>,
    ) -> Pushed<K> {
        let mut inner = self.lock();
        if inner.closed {
            return Pushed::Closed;
        }
        let mut instead = None;
        if let Some(BacklogSettings { limit, full }) = limit
            && inner.waiting.len() >= limit
            && !method.is_waited_for()
        {
            if full == Backlog::DropColdest {
                instead = inner.waiting.take_coldest();
                inner.dropped += 1;
                if instead.is_none() {
                    return Pushed::Dropped;
                }
            } else {
                inner.refused += u64::from(full == Backlog::Refuse);
                return Pushed::Full;
            }
        }
        let first = inner.waiting.is_empty();
        inner.pace.came(Instant::now(), first);
        // Who begins to wait from now on finds it here, and raises it.
        let waited_for = method.is_waited_for();
        inner
            .waiting
            .push(method.id.get(), method, class, waited_for);
        drop(inner);
        if kept("queue.push.notify") {
            self.arrived.notify_one();
        }
        instead.map_or(Pushed::In, |(class, method)| Pushed::Instead(class, method))
    }

    /// Waits until fewer than `limit` are here, or the cache is shutting down.
    pub(crate) fn wait_for_room(&self, limit: usize) {
        let mut inner = self.lock();
        while inner.waiting.len() >= limit && !inner.closed {
            inner.in_want_of_room += 1;
            inner = self
                .room
                .wait(inner)
                .unwrap_or_else(PoisonError::into_inner);
            inner.in_want_of_room -= 1;
        }
    }

    /// There may be room now.
    fn tell_of_room(&self, inner: &Inner<K>) {
        if inner.in_want_of_room > 0 {
            self.room.notify_all();
        }
    }

    /// One was refused for want of room.
    pub(crate) fn count_refused(&self) {
        self.lock().refused += 1;
    }

    /// Requests that were refused for want of room, since the cache began.
    pub(crate) fn refused(&self) -> u64 {
        self.lock().refused
    }

    /// A queued method is asked for once more. (If a worker has it already that makes no difference.)
    pub(crate) fn ask(&self, method: &Method<K>) {
        self.lock().waiting.ask(method.id.get());
    }

    /// Somebody begins to wait for a queued method.
    pub(crate) fn raise(&self, method: &Method<K>) {
        self.lock().waiting.raise(method.id.get());
    }

    /// Takes a queued method out, since nobody wants it any more; `None` if a worker has it already. To be
    /// called with the method's state locked, and what is returned is to be dropped without a lock.
    pub(crate) fn drop_request(&self, method: &Method<K>) -> Option<Arc<Method<K>>> {
        let mut inner = self.lock();
        let gone = inner.waiting.remove(method.id.get());
        inner.dropped += u64::from(gone.is_some());
        self.tell_of_room(&inner);
        gone
    }

    /// So many were dropped after they had been taken.
    pub(crate) fn count_dropped(&self, requests: usize) {
        self.lock().dropped += requests as u64;
    }

    /// Requests that were dropped, since the cache began.
    pub(crate) fn dropped(&self) -> u64 {
        self.lock().dropped
    }

    /// Waits for requests, and takes up to `limit`, or a part of them for each of the `workers`. A
    /// worker that finds more than one waits up to `window` for others to come along, while that pays;
    /// a lone request goes at once.
    pub(crate) fn next(
        &self,
        limit: usize,
        workers: usize,
        window: Duration,
        idle: Duration,
    ) -> Work<K> {
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
        let began = Instant::now();
        while inner.waiting.len() < limit && !inner.closed {
            let before = inner.waiting.len();
            let Some(patience) = inner.pace.patience(before, window) else {
                break;
            };
            let left = patience.most.saturating_sub(began.elapsed());
            if left.is_zero() {
                break;
            }
            let (again, timeout) = self
                .arrived
                .wait_timeout(inner, patience.next.min(left))
                .unwrap_or_else(PoisonError::into_inner);
            inner = again;
            // Another worker took some, or no more come.
            if inner.waiting.len() < before || timeout.timed_out() {
                break;
            }
        }
        let Some((class, batch)) = inner.waiting.take(limit, workers) else {
            return if inner.closed {
                Work::Closed
            } else {
                Work::Idle
            };
        };
        inner.pace.taken(Instant::now());
        self.tell_of_room(&inner);
        if !inner.waiting.is_empty() {
            self.arrived.notify_one();
        }
        Work::Batch(class, batch)
    }

    /// So many methods were compiled in this time.
    pub(crate) fn note_time(&self, methods: usize, took: Duration) {
        self.lock().pace.compiled(methods, took);
    }

    /// Takes up to `limit` requests, if there are any now.
    pub(crate) fn take(&self, limit: usize) -> Work<K> {
        let mut inner = self.lock();
        let taken = inner.waiting.take(limit, 1);
        self.tell_of_room(&inner);
        match taken {
            Some((class, batch)) => Work::Batch(class, batch),
            None if inner.closed => Work::Closed,
            None => Work::Idle,
        }
    }

    /// Requests that wait.
    pub(crate) fn len(&self) -> usize {
        self.lock().waiting.len()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Bytes of the heap that it takes.
    pub(crate) fn bytes(&self) -> usize {
        self.lock().waiting.bytes()
    }

    /// Lets nothing in any more, and returns what was waiting.
    pub(crate) fn close(&self) -> Vec<Arc<Method<K>>> {
        let mut inner = self.lock();
        inner.closed = kept("queue.close");
        let rest = inner.waiting.drain();
        drop(inner);
        if kept("queue.close.notify") {
            self.arrived.notify_all();
        }
        self.room.notify_all();
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

/// Says that the calling thread serves a cache, or that it does so no longer.
pub(crate) fn set_on_a_worker(serves: bool) {
    // Fails only on a thread that runs its last destructors, and serves nobody.
    let _ = ON_A_WORKER.try_with(|on| on.set(serves));
}
