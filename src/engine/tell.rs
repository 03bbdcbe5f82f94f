//! Events on their way to the listener.
//!
//! What happens is put into a box, under whatever locks it happens under, and told later by who holds none. The box is
//! what orders events: of one method they are put in under the ledger's lock, or its own.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use crate::error::Error;
use crate::method::{Key, Method};
use crate::observe::{CompileTime, Event, EvictedBy, Listener, Overdue};
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::fault::kept;
use crate::sync::{Condvar, Mutex, MutexGuard};

/// Events that wait, at most.
const MOST: usize = 1 << 16;

/// An [`Event`], as it waits.
pub(crate) enum Told<K: Key> {
    Queued(Arc<Method<K>>),
    Started(Arc<Method<K>>, usize),
    Finished {
        method: Arc<Method<K>>,
        generation: u64,
        bytes: u64,
        times: Arc<CompileTime>,
        together: usize,
        tier: u8,
        promoted: bool,
    },
    InVain(Arc<Method<K>>),
    Dropped(Arc<Method<K>>),
    Failed(Arc<Method<K>>, Error),
    Evicted(Arc<Method<K>>, EvictedBy, u64),
    Recycled {
        generation: u64,
        bytes: u64,
        waited: Duration,
    },
    Overdue(Overdue),
}

impl<K: Key> Told<K> {
    fn event(&self) -> Event<'_, K> {
        match self {
            Told::Queued(method) => Event::Queued { key: &method.key },
            Told::Started(method, together) => Event::Started {
                key: &method.key,
                together: *together,
            },
            Told::Finished {
                method,
                generation,
                bytes,
                times,
                together,
                tier,
                promoted,
            } => {
                let (key, generation, bytes) = (&method.key, *generation, *bytes);
                let (times, together, tier) = (&**times, *together, usize::from(*tier));
                match promoted {
                    false => Event::Finished {
                        key,
                        generation,
                        bytes,
                        times,
                        together,
                        tier,
                    },
                    true => Event::Promoted {
                        key,
                        generation,
                        bytes,
                        times,
                        together,
                        tier,
                    },
                }
            }
            Told::InVain(method) => Event::InVain { key: &method.key },
            Told::Dropped(method) => Event::Dropped { key: &method.key },
            Told::Failed(method, error) => Event::Failed {
                key: &method.key,
                error,
            },
            Told::Evicted(method, cause, generation) => Event::Evicted {
                key: &method.key,
                cause: *cause,
                generation: *generation,
            },
            Told::Overdue(overdue) => Event::Overdue { overdue },
            Told::Recycled {
                generation,
                bytes,
                waited,
            } => Event::Recycled {
                generation: *generation,
                bytes: *bytes,
                waited: *waited,
            },
        }
    }
}

/// The box.
pub(crate) struct Outbox<K: Key> {
    listener: Arc<dyn Listener<K>>,
    waiting: Mutex<Waiting<K>>,
    arrived: Condvar,
    /// Somebody tells: one at a time does. What they tell is ordered by the lock.
    telling: AtomicBool,
    lost: AtomicU64,
}

struct Waiting<K: Key> {
    events: VecDeque<Told<K>>,
    /// Events that did not fit after these.
    lost: u64,
    closed: bool,
}

impl<K: Key> Outbox<K> {
    pub(crate) fn listener(&self) -> Arc<dyn Listener<K>> {
        self.listener.clone()
    }

    pub(crate) fn new(listener: Arc<dyn Listener<K>>) -> Self {
        Self {
            listener,
            waiting: Mutex::new(Waiting {
                events: VecDeque::new(),
                lost: 0,
                closed: false,
            }),
            arrived: Condvar::new(),
            telling: AtomicBool::new(false),
            lost: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting<K>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something has happened. The caller may hold any locks.
    pub(crate) fn put(&self, told: Told<K>) {
        let mut waiting = self.lock();
        if waiting.closed {
            return;
        }
        // Once one is lost all are until that has been told, so that it is told in its place. (What is lost is
        // dropped here, under the caller's locks: who calls has the method and the error, too.)
        if waiting.lost > 0 || waiting.events.len() >= MOST {
            waiting.lost += 1;
            self.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.events.push_back(told);
        drop(waiting);
        self.arrived.notify_one();
    }

    /// Events that were lost so far.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Tells what waits, unless somebody does already (who may be the caller). The caller holds no lock.
    pub(crate) fn tell(&self) {
        /// Whatever happens, somebody else may tell afterwards.
        struct Telling<'a>(&'a AtomicBool);
        impl Drop for Telling<'_> {
            fn drop(&mut self) {
                // A store would do. But loom lets a store come before a swap that it followed.
                self.0.swap(false, Ordering::Relaxed);
            }
        }
        while !self.lock().is_empty() && !self.telling.swap(true, Ordering::Relaxed) {
            let _telling = Telling(&self.telling);
            loop {
                let mut waiting = self.lock();
                let (event, lost) = match waiting.events.pop_front() {
                    Some(event) => (Some(event), 0),
                    None => (None, std::mem::take(&mut waiting.lost)),
                };
                drop(waiting);
                let told = catch_unwind(AssertUnwindSafe(|| match &event {
                    Some(told) => self.listener.event(&told.event()),
                    None if lost > 0 => self.listener.event(&Event::Lost { events: lost }),
                    None => {}
                }));
                // What a key, an error or a panic does when it is dropped is contained, too.
                let none = event.is_none() && lost == 0;
                crate::contain(|| drop((event, told)));
                if none {
                    break;
                }
            }
            if !kept("telling.again") {
                return;
            }
        }
    }

    /// The life of the thread that tells.
    pub(crate) fn tell_until_closed(&self) {
        loop {
            self.tell();
            let mut waiting = self.lock();
            if waiting.closed && waiting.is_empty() {
                return;
            }
            // Nobody else tells for long while there is this thread.
            while waiting.is_empty() && !waiting.closed {
                let again = self.arrived.wait(waiting);
                waiting = again.unwrap_or_else(PoisonError::into_inner);
            }
        }
    }

    /// Nothing more is told but what waits.
    pub(crate) fn close(&self) {
        self.lock().closed = true;
        self.arrived.notify_all();
    }
}

impl<K: Key> Waiting<K> {
    fn is_empty(&self) -> bool {
        self.events.is_empty() && self.lost == 0
    }
}
