//! Participants and guards: the threads that may be inside code, and the proof that one is.

use std::any::Any;
use std::cell::{Cell, UnsafeCell};
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_epoch::{Guard as EpochGuard, LocalHandle};

use super::domain::Domain;
use super::liveness::Liveness;

/// What the cache knows of one participant. The owner part belongs to its thread; the rest is
/// read by the reclaimer and by statistics. No two records share a cache line.
#[repr(align(128))]
pub(crate) struct Record {
    /// The tick that the last pin or re-pin saw, or 0 while unpinned. Written by its thread only.
    seen: AtomicU64,
    hits: AtomicU64,
    misses: AtomicU64,
    /// Guards alive. Owner part.
    pins: Cell<usize>,
    /// The crossbeam guard that all of ours stand for. Owner part.
    guard: UnsafeCell<Option<EpochGuard>>,
    /// Owner part.
    local: UnsafeCell<Option<LocalHandle>>,
    alive: Liveness,
    pub(super) name: String,
    pub(super) thread: i32,
}

// SAFETY: the owner part (`pins`, `guard`, `local`) is touched only by the thread that made the
// record (`Participant` and `Guard` are not `Send`), by its participant's drop on that thread, or
// by `give_up` once that thread has ended. Everything else is atomic or never written.
unsafe impl Send for Record {}
// SAFETY: as above.
unsafe impl Sync for Record {}

pub(super) fn thread_id() -> i32 {
    // SAFETY: gettid has no preconditions.
    unsafe { libc::gettid() }
}

impl Record {
    pub(super) fn counters(&self) -> (u64, u64) {
        (
            self.hits.load(Ordering::Relaxed),
            self.misses.load(Ordering::Relaxed),
        )
    }

    pub(super) fn seen_tick(&self) -> Option<u64> {
        Some(self.seen.load(Ordering::Relaxed)).filter(|&t| t != 0)
    }

    pub(super) fn thread_is_gone(&self) -> bool {
        self.alive.died()
    }

    /// Ends all pins and leaves the collector.
    ///
    /// # Safety
    /// No entry loaded under these pins can be used any more, and the owner part is the caller's:
    /// it is the owning thread, or that thread has ended.
    pub(super) unsafe fn give_up(&self) {
        // SAFETY: the caller has the owner part to itself.
        unsafe {
            // The guard first: it refers to the handle's participant in the collector.
            *self.guard.get() = None;
            *self.local.get() = None;
        }
        self.pins.set(0);
        self.seen.store(0, Ordering::Relaxed);
    }
}

/// A thread that may run methods: made by [`Cache::participant`](crate::Cache::participant),
/// once per thread, and kept as long as the thread runs methods.
///
/// It is neither `Send` nor `Sync`: pins belong to a thread. Making one costs about a
/// microsecond.
pub struct Participant {
    record: Arc<Record>,
    domain: Arc<Domain>,
    /// Keeps the cache: what a guard's thread may be inside must not go with the last handle.
    _cache: Arc<dyn Any + Send + Sync>,
    not_send: PhantomData<*mut ()>,
}

impl Participant {
    pub(crate) fn new(
        domain: &Arc<Domain>,
        name: String,
        cache: Arc<dyn Any + Send + Sync>,
    ) -> Self {
        let record = Arc::new(Record {
            seen: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            pins: Cell::new(0),
            guard: UnsafeCell::new(None),
            local: UnsafeCell::new(Some(domain.collector.register())),
            alive: Liveness::of_this_thread(),
            name,
            thread: thread_id(),
        });
        domain.join(record.clone());
        Self {
            record,
            domain: domain.clone(),
            _cache: cache,
            not_send: PhantomData,
        }
    }

    /// The name it was given.
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// Pins the thread: while the guard lives, no code that it could have loaded is unmapped.
    ///
    /// Costs about 6 ns. Guards nest; a second one of the same participant is a counter. A
    /// thread that calls often keeps one guard and [re-pins](Guard::repin) it between pieces of
    /// work, which costs a fraction of a nanosecond. While a thread stays pinned, nothing that
    /// was retired after its pin can be freed: the statistics name whoever holds memory up.
    #[inline]
    pub fn pin(&self) -> Guard<'_> {
        let record = &*self.record;
        let pins = record.pins.get();
        if pins == 0 {
            // SAFETY: the owner part, on its thread (`Participant` is not `Send`).
            unsafe {
                let local = (*record.local.get())
                    .as_ref()
                    .expect("taken only by `drop`");
                *record.guard.get() = Some(local.pin());
            }
            record.seen.store(self.domain.tick(), Ordering::Relaxed);
        }
        record.pins.set(pins + 1);
        Guard {
            record,
            domain: &self.domain,
            not_send: PhantomData,
        }
    }
}

impl Drop for Participant {
    fn drop(&mut self) {
        // SAFETY: on the owner's thread. Guards borrow the participant, so a pin that is still
        // counted belongs to a guard that was leaked, and its entries cannot be named any more.
        unsafe { self.record.give_up() };
        self.domain.leave(&self.record);
        self.record.alive.end();
    }
}

impl std::fmt::Debug for Participant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Participant")
            .field("name", &self.record.name)
            .field("pins", &self.record.pins.get())
            .finish()
    }
}

/// Proof that the thread is pinned: entries may be loaded and called while it lives.
///
/// Entries are bound to the guard by lifetime, and end at [`repin`](Guard::repin) and at
/// [`Handle::get`](crate::Handle::get), which may unpin while it waits.
pub struct Guard<'p> {
    record: &'p Record,
    domain: &'p Domain,
    not_send: PhantomData<*mut ()>,
}

impl Guard<'_> {
    /// Ends this quantum and begins the next: entries loaded before are over, and what was
    /// retired before may be freed.
    ///
    /// Costs a load and a compare unless something waits to be freed. While another guard of the
    /// same participant lives it does nothing: the frames under that one may be in any code.
    #[inline(always)]
    pub fn repin(&mut self) {
        if self.record.seen.load(Ordering::Relaxed) != self.domain.tick() {
            // SAFETY: the record is this thread's, as the guard is; and `&mut self` says that no
            // entry loaded under this guard is alive.
            unsafe { repin_now(self.record, self.domain) };
        }
    }

    /// Unpins, runs `wait`, and pins again: for the only guard of its thread. With another guard
    /// alive `wait` runs pinned.
    pub(crate) fn while_unpinned<R>(&mut self, wait: impl FnOnce() -> R) -> R {
        let record = self.record;
        if record.pins.get() != 1 {
            return wait();
        }
        /// Pins again also when `wait` panics: the guard's owner goes on holding it.
        struct Again<'a>(&'a Record, &'a Domain);
        impl Drop for Again<'_> {
            fn drop(&mut self) {
                // SAFETY: the owner part, on its thread.
                unsafe {
                    let local = (*self.0.local.get())
                        .as_ref()
                        .expect("the participant is borrowed");
                    *self.0.guard.get() = Some(local.pin());
                }
                self.0.pins.set(self.0.pins.get() + 1);
                self.0.seen.store(self.1.tick(), Ordering::Relaxed);
            }
        }
        let _again = Again(record, self.domain);
        // SAFETY: the owner part, on its thread; one guard alive, borrowed mutably, so no entry.
        unsafe { *record.guard.get() = None };
        record.pins.set(0);
        record.seen.store(0, Ordering::Relaxed);
        wait()
    }

    #[inline(always)]
    pub(crate) fn domain(&self) -> *const Domain {
        self.domain
    }

    #[inline(always)]
    pub(crate) fn count_hit(&self) {
        let hits = &self.record.hits;
        hits.store(
            hits.load(Ordering::Relaxed).wrapping_add(1),
            Ordering::Relaxed,
        );
    }

    #[cold]
    #[inline(never)]
    pub(crate) fn count_miss(&self) {
        let misses = &self.record.misses;
        misses.store(misses.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }
}

/// Re-pins, unless the participant has a second guard. It gets the guard's parts and not the
/// guard: else the compiler would have to keep it in memory, and load it anew at every quantum.
///
/// # Safety
/// The record is one of the calling thread's, and if only one guard of it is alive, no entry is.
#[cold]
#[inline(never)]
unsafe fn repin_now(record: &Record, domain: &Domain) {
    if record.pins.get() == 1 {
        // The tick first: if it moves in between, the next re-pin is a real one again.
        let tick = domain.tick();
        // SAFETY: the owner part, on its thread; with one guard alive and no entry, nothing is
        // lost by unpinning for a moment.
        unsafe {
            if let Some(guard) = &mut *record.guard.get() {
                guard.repin();
            }
        }
        record.seen.store(tick, Ordering::Relaxed);
    }
}

impl Drop for Guard<'_> {
    #[inline]
    fn drop(&mut self) {
        let pins = self.record.pins.get() - 1;
        self.record.pins.set(pins);
        if pins == 0 {
            self.record.seen.store(0, Ordering::Relaxed);
            // SAFETY: the owner part, on its thread; no guard is left, so no entry either.
            unsafe { *self.record.guard.get() = None };
        }
    }
}

impl std::fmt::Debug for Guard<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard")
            .field("participant", &self.record.name)
            .finish()
    }
}
