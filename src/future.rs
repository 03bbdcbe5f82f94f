//! Waiting for a method without a thread: a future, for any executor.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crate::engine::{Core, Progress, waiter_number};
use crate::error::Error;
use crate::method::{Key, Method};

/// Somebody who is counted as waiting for a method.
struct Waiter<K: Key> {
    core: Arc<Core<K>>,
    method: Arc<Method<K>>,
}

impl<K: Key> Drop for Waiter<K> {
    fn drop(&mut self) {
        self.core.end_waiting(&self.method);
    }
}

/// A wait for a method's code, made by [`Handle::compiled`](crate::Handle::compiled).
///
/// The compilation is asked for when this is made, not when it is first polled, so that several which
/// are made one after the other are compiled together. Dropped before it is ready, it gives up: if
/// nobody else wants the method, that is not compiled any more, unless it has begun.
///
/// It needs no runtime: it is woken, by the last waker that it was polled with, when something has
/// changed, on a compile worker (or wherever the cache compiles), while none of the cache's locks is
/// held. A waker should do no more than schedule; what it does delays the next batch.
///
/// It does not keep the cache: when the last [`Cache`](crate::Cache), handle and participant are gone
/// it ends with [`Error::ShuttingDown`].
///
/// # Output
/// [`Ready`] when the method has code. Errors are those of [`Handle::get`](crate::Handle::get), but
/// that it may be polled on any thread.
///
/// # Panics
/// If it is polled after it was ready.
#[must_use = "dropped, it gives up"]
pub struct Compiled<K: Key> {
    /// Until it is ready.
    waiter: Option<Waiter<K>>,
    progress: Progress,
    number: u64,
}

impl<K: Key> Compiled<K> {
    pub(crate) fn new(core: &Arc<Core<K>>, method: &Arc<Method<K>>) -> Self {
        method.begin_waiting();
        let waiter = Waiter {
            core: core.clone(),
            method: method.clone(),
        };
        let mut progress = Progress::default();
        core.begin(method, &mut progress);
        Self {
            waiter: Some(waiter),
            progress,
            number: waiter_number(),
        }
    }
}

impl<K: Key> Future for Compiled<K> {
    type Output = Result<Ready<K>, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let Self {
            waiter,
            progress,
            number,
        } = &mut *self;
        let waits = waiter.as_ref().expect("polled after it was ready");
        let result = waits
            .core
            .poll(&waits.method, progress, *number, context.waker());
        result.map(|result| {
            let waiter = waiter.take().expect("just seen");
            waiter.core.forget_waker(&waiter.method, *number);
            result.map(|()| Ready { waiter })
        })
    }
}

impl<K: Key> Drop for Compiled<K> {
    fn drop(&mut self) {
        if let Some(waiter) = &self.waiter {
            waiter.core.forget_waker(&waiter.method, self.number);
        }
    }
}

impl<K: Key> std::fmt::Debug for Compiled<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Compiled")
            .field("key", &self.waiter.as_ref().map(|w| &w.method.key))
            .finish_non_exhaustive()
    }
}

/// A method has code. While this lives the method counts as waited for, and is no victim of eviction: so
/// [`Handle::entry`](crate::Handle::entry) finds the code, unless it was invalidated, or evicted by name,
/// in between. It keeps nothing else, neither the cache nor code that somebody is inside of.
#[must_use = "the method may be evicted again as soon as this is dropped"]
pub struct Ready<K: Key> {
    waiter: Waiter<K>,
}

impl<K: Key> Ready<K> {
    /// The method's key.
    pub fn key(&self) -> &K {
        &self.waiter.method.key
    }
}

impl<K: Key> std::fmt::Debug for Ready<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ready")
            .field("key", self.key())
            .finish_non_exhaustive()
    }
}
