//! What a cache knows of one participant.

use std::cell::{Cell, UnsafeCell};
use std::ptr;

use super::domain::Domain;
use super::epoch::{Guard as EpochGuard, LocalHandle};
use super::holds::{Hold, Holds, Owner};
use super::liveness::Liveness;
use super::stack::Stack;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::fault::kept;
use crate::sync::thread_local;

/// Addresses of code that are remembered of a safepoint, for reports.
pub(super) const STANDING: usize = 8;

/// What the cache knows of one participant. The owner part belongs to its thread; the rest is
/// read by the reclaimer and by statistics. No two records share a cache line.
#[repr(align(128))]
pub(crate) struct Record {
    /// The tick that the last pin or re-pin saw, or 0 while unpinned. Written by its thread only.
    pub(super) seen: AtomicU64,
    pub(super) hits: AtomicU64,
    pub(super) misses: AtomicU64,
    /// Guards alive. Owner part.
    pub(super) pins: Cell<usize>,
    /// Of these, guards of callbacks. Owner part.
    pub(super) lent: Cell<usize>,
    /// Safepoints so far, `blocking`s included: what an entry that is not on the stack does not
    /// outlive. Owner part.
    pub(super) quantum: Cell<u64>,
    /// The quantum that the innermost `blocking` began with, or 0: what was made in it or later
    /// belongs to the innermost level. Owner part.
    pub(super) level: Cell<u64>,
    /// Whether the innermost level has holds. Written by its thread only.
    holding: AtomicBool,
    /// The crossbeam guard that all of ours stand for. Owner part.
    pub(super) guard: UnsafeCell<Option<EpochGuard>>,
    /// Owner part.
    pub(super) local: UnsafeCell<Option<LocalHandle>>,
    /// Owner part.
    pub(super) levels: UnsafeCell<Levels>,
    /// The stack that the thread runs on, once somebody asked. Owner part.
    pub(super) stack: Cell<Option<Stack>>,
    /// Where a closure that encloses the pin begins: no entry is above it. 0 if there is none.
    /// Owner part.
    pub(super) base: Cell<usize>,
    /// The thread's next record, in no order. Owner part.
    next: Cell<*const Record>,
    /// Where the last safepoint found it, for reports.
    pub(super) standing: [AtomicU64; STANDING],
    /// It waits in `blocking`, unpinned, with frames below.
    pub(super) blocked: AtomicBool,
    alive: Liveness,
    pub(super) name: String,
    pub(super) thread: i32,
    /// Never followed: it says whose the record is.
    pub(super) domain: *const Domain,
}

/// A participant's holds: those of the frames since the innermost `blocking`, and what each
/// `blocking` put aside that it is inside of.
#[derive(Default)]
pub(super) struct Levels {
    pub(super) innermost: Vec<Kept>,
    pub(super) outer: Vec<Outside>,
}

/// What is outside of a `blocking`.
pub(super) struct Outside {
    /// The quantum that this level began with.
    pub(super) level: u64,
    /// Guards alive.
    pub(super) pins: usize,
    /// What its frames are in.
    pub(super) holds: Vec<Kept>,
}

/// A hold of a participant's.
pub(super) struct Kept {
    pub(super) hold: Hold,
    /// The quantum that ended when it was first added: every safepoint since has found the
    /// generation on the stack again.
    pub(super) since: u64,
}

impl Levels {
    fn all(&self) -> impl Iterator<Item = &Kept> {
        let outer = self.outer.iter().flat_map(|outside| &outside.holds);
        self.innermost.iter().chain(outer)
    }
}

// SAFETY: the owner part is touched only by the thread that made the record (`Participant` and
// `Guard` are not `Send`), by its participant's drop on that thread, or by `give_up` once that
// thread has ended. Everything else is atomic or never written.
unsafe impl Send for Record {}
// SAFETY: as above.
unsafe impl Sync for Record {}

thread_local! {
    /// The first of the calling thread's records. Without a destructor, so that it is there for as
    /// long as the thread runs anything.
    static FIRST: Cell<*const Record> = const { Cell::new(ptr::null()) };
}

#[cfg(not(feature = "_checked"))]
pub(super) fn thread_id() -> i32 {
    // SAFETY: gettid has no preconditions.
    unsafe { libc::gettid() }
}

#[cfg(feature = "_checked")]
pub(super) use super::liveness::thread_id;

impl Record {
    /// A record of the calling thread.
    pub(super) fn new(domain: &Domain, name: String) -> Self {
        Self {
            seen: AtomicU64::new(0),
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            pins: Cell::new(0),
            lent: Cell::new(0),
            quantum: Cell::new(0),
            level: Cell::new(0),
            holding: AtomicBool::new(false),
            guard: UnsafeCell::new(None),
            local: UnsafeCell::new(Some(domain.collector.register())),
            levels: UnsafeCell::default(),
            stack: Cell::new(None),
            base: Cell::new(0),
            next: Cell::new(ptr::null()),
            standing: std::array::from_fn(|_| AtomicU64::new(0)),
            blocked: AtomicBool::new(false),
            alive: Liveness::of_this_thread(),
            name,
            thread: thread_id(),
            domain,
        }
    }

    /// The thread finds it from now on, until [`Record::unlist`].
    pub(super) fn list(&self) {
        self.next.set(FIRST.replace(self));
    }

    /// Takes it out of the thread's list. On its thread.
    pub(super) fn unlist(&self) {
        let this: *const Record = self;
        if FIRST.get() == this {
            FIRST.set(self.next.get());
            return;
        }
        let mut at = FIRST.get();
        // SAFETY: what is listed is alive: `Participant` takes it out before it lets go of it.
        while let Some(record) = unsafe { at.as_ref() } {
            if record.next.get() == this {
                record.next.set(self.next.get());
            }
            at = record.next.get();
        }
    }

    #[inline(always)]
    pub(super) fn is_holding(&self) -> bool {
        self.holding.load(Ordering::Relaxed)
    }

    pub(super) fn set_holding(&self, holding: bool) {
        self.holding.store(holding, Ordering::Relaxed);
    }

    pub(super) fn counters(&self) -> (u64, u64) {
        (
            self.hits.load(Ordering::Relaxed),
            self.misses.load(Ordering::Relaxed),
        )
    }

    pub(super) fn seen_tick(&self) -> Option<u64> {
        Some(self.seen.load(Ordering::Relaxed)).filter(|&t| t != 0)
    }

    /// Whether a generation has been held without a gap since this quantum. On its thread.
    pub(super) fn has_held(&self, owner: Owner, since: u64) -> bool {
        // SAFETY: the owner part, on its thread; nothing changes it meanwhile.
        let levels = unsafe { &*self.levels.get() };
        let mut all = levels.all();
        all.any(|kept| kept.hold.owner() == owner && kept.since <= since)
    }

    /// Ends a quantum: `holds` are what its stack is inside of. They are to be put into a level.
    pub(super) fn next_quantum(&self, holds: Vec<Hold>) -> Vec<Kept> {
        let kept = self.kept(holds);
        self.quantum.set(self.quantum.get() + 1);
        kept
    }

    /// Holds for what its stack is inside of, each from when it was first added. On its thread.
    pub(super) fn kept(&self, holds: Vec<Hold>) -> Vec<Kept> {
        let quantum = self.quantum.get();
        // SAFETY: the owner part, on its thread; nothing changes it meanwhile.
        let levels = unsafe { &*self.levels.get() };
        let since = |owner| {
            let before = levels.all().filter(|kept| kept.hold.owner() == owner);
            before.map(|kept| kept.since).min().unwrap_or(quantum)
        };
        let keep = |hold: Hold| Kept {
            since: since(hold.owner()),
            hold,
        };
        holds.into_iter().map(keep).collect()
    }

    /// Whether its thread is inside of a `blocking`. On its thread.
    pub(super) fn is_blocked(&self) -> bool {
        // SAFETY: the owner part, on its thread; nothing changes it meanwhile.
        unsafe { !(*self.levels.get()).outer.is_empty() }
    }

    pub(super) fn thread_is_gone(&self) -> bool {
        kept("bury") && self.alive.died()
    }

    /// The thread is done with it. On the thread itself.
    pub(super) fn end(&self) {
        self.alive.end();
    }

    /// Pins the thread.
    ///
    /// # Safety
    /// On the record's thread; it is not pinned, and its participant has not been dropped.
    #[inline(always)]
    pub(super) unsafe fn pin(&self, domain: &Domain) {
        // SAFETY: the owner part, on its thread. It is not pinned, so what is written over is `None`, which need not be
        // dropped; to look whether it is would take a third as long as all the rest.
        unsafe {
            let local = (*self.local.get()).as_ref();
            let local = local.expect("taken only when the participant ends");
            debug_assert!((*self.guard.get()).is_none(), "it is pinned");
            self.guard.get().write(kept("pin").then(|| local.pin()));
        }
        self.seen.store(domain.tick(), Ordering::Relaxed);
    }

    /// Unpins the thread, and gives up the holds of the innermost level.
    ///
    /// # Safety
    /// On the record's thread. No entry loaded under the pin is used any more, and there is no
    /// frame of code on its stack that no hold of an outer level, and no [`StackHold`] keeps.
    ///
    /// [`StackHold`]: crate::StackHold
    #[inline]
    pub(super) unsafe fn unpin(&self, holds: &Holds) {
        self.seen.store(0, Ordering::Relaxed);
        // SAFETY: the owner part, on its thread.
        unsafe { *self.guard.get() = None };
        if self.is_holding() && kept("unpin.holds") {
            // SAFETY: the caller's promise.
            unsafe { self.give_up_holds(holds) };
        }
    }

    /// # Safety
    /// As for [`Record::unpin`].
    #[cold]
    #[inline(never)]
    pub(super) unsafe fn give_up_holds(&self, holds: &Holds) {
        // SAFETY: the owner part, on its thread; nothing below refers to it.
        let old = unsafe { std::mem::take(&mut (*self.levels.get()).innermost) };
        self.set_holding(false);
        release(old, holds);
    }

    /// Ends all pins and holds, and leaves the collector.
    ///
    /// # Safety
    /// No entry loaded under these pins can be used any more, no frame of code is on the thread's
    /// stack, and the owner part is the caller's: it is the owning thread, or that has ended.
    pub(super) unsafe fn give_up(&self, holds: &Holds) {
        // SAFETY: the caller has the owner part to itself.
        let levels = unsafe {
            // The guard first: it refers to the handle's participant in the collector.
            *self.guard.get() = None;
            *self.local.get() = None;
            std::mem::take(&mut *self.levels.get())
        };
        self.pins.set(0);
        self.set_holding(false);
        self.seen.store(0, Ordering::Relaxed);
        self.blocked.store(false, Ordering::Relaxed);
        release(levels.innermost, holds);
        for outside in levels.outer {
            release(outside.holds, holds);
        }
    }

    /// Whether a guard made in this quantum belongs to the innermost level: to what runs since the
    /// innermost `blocking` began. (Each begins a quantum, so no two levels ever began with the
    /// same; and a guard that outlives its level belongs to the one outside.)
    #[inline(always)]
    pub(super) fn is_of_level(&self, born: u64) -> bool {
        self.level.get() <= born
    }

    /// A guard made in this quantum less. True if it was the innermost level's last.
    #[inline]
    pub(super) fn uncount(&self, born: u64) -> bool {
        if !self.is_of_level(born) {
            self.uncount_outside(born);
            return false;
        }
        let left = self.pins.get() - 1;
        self.pins.set(left);
        left == 0 || !kept("unpin.last")
    }

    /// A guard of outside is dropped inside of a `blocking`.
    #[cold]
    #[inline(never)]
    fn uncount_outside(&self, born: u64) {
        // SAFETY: the owner part: a guard is dropped on its thread.
        let levels = unsafe { &mut *self.levels.get() };
        if let Some(its) = levels.outer.iter_mut().rev().find(|o| o.level <= born) {
            its.pins -= 1;
        }
    }
}

pub(super) fn release(old: Vec<Kept>, holds: &Holds) {
    for kept in old {
        holds.release(kept.hold);
    }
}

/// Calls `f` with each of the calling thread's records.
pub(super) fn of_this_thread(mut f: impl FnMut(&Record)) {
    let mut at = FIRST.get();
    // SAFETY: what is listed is alive, and `f` drops no participant: it is of this module.
    while let Some(record) = unsafe { at.as_ref() } {
        at = record.next.get();
        f(record);
    }
}
