//! Guards: the proof that a thread is pinned.

use std::marker::PhantomData;

use super::domain::Domain;
use super::record::{Record, of_this_thread};
use super::safepoint;
use crate::error::Error;
use crate::sync::atomic::{self, Ordering};
use crate::sync::fault::kept;

/// Proof that the thread is pinned: entries may be loaded and called while it lives.
///
/// Entries are bound to the guard by lifetime, and end at [`repin`](Guard::repin), at
/// [`safepoint`](Guard::safepoint), at [`blocking`](Guard::blocking), and at
/// [`Handle::get`](crate::Handle::get), which may unpin while it waits.
pub struct Guard<'p> {
    record: &'p Record,
    domain: &'p Domain,
    /// The quantum that it was made in: tells the level that it belongs to.
    born: u64,
    not_send: PhantomData<*mut ()>,
}

impl<'p> Guard<'p> {
    /// A guard that has been counted.
    #[inline(always)]
    pub(super) fn new(record: &'p Record, domain: &'p Domain) -> Self {
        Self {
            record,
            domain,
            born: record.quantum.get(),
            not_send: PhantomData,
        }
    }
}

impl Guard<'_> {
    /// Whether it is the participant's only guard, of those made inside the innermost `blocking`.
    fn is_alone(&self) -> bool {
        self.record.pins.get() == 1 && self.record.is_of_level(self.born)
    }

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
            unsafe { repin_now(self.record, self.domain, self.born) };
        }
    }

    /// As [`Guard::repin`], where frames of methods may lie below on the stack, outside of what the
    /// borrow checker sees: what the stack has addresses of is held until the next safepoint.
    ///
    /// Entries loaded before are over. While another guard of the same participant lives it does
    /// nothing: a runtime function that code calls, and that pins to call other methods, uses
    /// [`Participant::safepoint`](crate::Participant::safepoint).
    pub fn safepoint(&mut self) {
        if self.is_alone() {
            // SAFETY: on the record's thread; the only guard, borrowed mutably, so no entry is
            // alive.
            unsafe { safepoint::safepoint(self.record, self.domain) };
        }
    }

    /// Runs `wait`, which may take long, with the thread unpinned: entries loaded before are over,
    /// and what is retired meanwhile can be freed. The thread is pinned again when this returns.
    ///
    /// What the stack has addresses of is held meanwhile. `wait` may pin, and call methods.
    ///
    /// # Errors
    /// [`Error::AnotherGuard`] if another guard of the thread lives, in whose entries the thread
    /// may be: `wait` is not run then. Inside of code use
    /// [`Participant::blocking`](crate::Participant::blocking).
    pub fn blocking<R>(&mut self, wait: impl FnOnce() -> R) -> Result<R, Error> {
        let mut guards = 0;
        of_this_thread(|record| {
            if std::ptr::eq(record.domain, self.domain) {
                guards += record.pins.get();
            }
        });
        if guards != 1 || !self.is_alone() {
            return Err(Error::AnotherGuard);
        }
        // SAFETY: on the record's thread; the only guard, borrowed mutably, so no entry is alive.
        // A `longjmp` out of `wait` would leave this frame, which owns a guard, and is unsound
        // wherever it is done.
        Ok(unsafe { safepoint::blocking(self.record, self.domain, wait) })
    }

    /// Unpins, runs `wait`, and pins again: for the only guard of its participant. With another
    /// guard alive `wait` runs pinned: that one's entries may be anywhere.
    pub(crate) fn while_unpinned<R>(&mut self, wait: impl FnOnce() -> R) -> R {
        let record = self.record;
        if !self.is_alone() {
            return wait();
        }
        /// Pins again also when `wait` panics: the guard's owner goes on holding it.
        struct Again<'a>(&'a Record, &'a Domain);
        impl Drop for Again<'_> {
            fn drop(&mut self) {
                let Self(record, domain) = *self;
                if record.pins.get() == 0 {
                    // SAFETY: on its thread, not pinned, and the participant is borrowed.
                    unsafe { record.pin(domain) };
                }
                record.pins.set(record.pins.get() + 1);
            }
        }
        let _again = Again(record, self.domain);
        record.pins.set(0);
        // SAFETY: on the record's thread; the only guard, borrowed mutably: no entry is alive, and
        // no call goes on under it.
        unsafe { record.unpin(self.domain.holds()) };
        wait()
    }

    /// What an entry that is loaded now is good for.
    #[inline(always)]
    pub(crate) fn quantum(&self) -> Quantum<'_> {
        Quantum {
            record: self.record,
            domain: self.domain,
            number: self.record.quantum.get(),
        }
    }

    /// The same for code that a lease holds.
    pub(crate) fn leased(&self) -> Quantum<'_> {
        Quantum {
            number: LEASED,
            ..self.quantum()
        }
    }

    pub(super) fn record(&self) -> &Record {
        self.record
    }

    /// False inside of a `blocking`, for a guard that was made outside.
    #[inline(always)]
    pub(crate) fn is_pinned(&self) -> bool {
        self.record.pins.get() != 0
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

/// The time between two safepoints of a participant, in which an entry was loaded. It is no longer
/// than a guard's borrow, and may be shorter: no borrow ends at a safepoint inside of code.
#[derive(Clone, Copy)]
pub(crate) struct Quantum<'g> {
    record: &'g Record,
    domain: &'g Domain,
    number: u64,
}

/// No number of a quantum: what is leased outlives them all.
const LEASED: u64 = u64::MAX;

impl Quantum<'_> {
    /// Makes sure that code which was loaded in this quantum has not been let go since.
    ///
    /// Costs nothing right after the load, as the compiler sees that no quantum can have ended.
    #[inline(always)]
    pub(crate) fn check(self, code: usize) {
        if self.record.quantum.get() != self.number {
            self.look(code);
        }
    }

    #[cold]
    #[inline(never)]
    fn look(self, code: usize) {
        let held = || {
            let owner = self.domain.holds().owner(code as u64);
            owner.is_some_and(|owner| self.record.has_held(owner, self.number))
        };
        assert!(
            self.record.pins.get() != 0,
            "an entry that was loaded outside of a `blocking` was called in it, on a thread that is \
             not pinned there: pin, and load it again"
        );
        assert!(
            self.number == LEASED || held(),
            "an entry was kept off the stack while the thread came to a safepoint, and its code may \
             be gone: load it again after a call, or keep the handle"
        );
    }
}

/// To come between a re-pin and the next load of a cell. crossbeam's re-pin looks at the epoch by a plain load, and pins
/// to what it finds: a cell must not have been looked at earlier than that, or what was unlinked in between would be
/// freed one epoch too soon. x86 keeps loads in order; elsewhere it takes a fence.
pub(super) fn after_repin() {
    #[cfg(all(target_arch = "x86_64", not(feature = "_checked")))]
    atomic::compiler_fence(Ordering::SeqCst);
    #[cfg(any(not(target_arch = "x86_64"), feature = "_checked"))]
    if kept("repin.fence") {
        atomic::fence(Ordering::SeqCst);
    }
}

/// Re-pins, unless the participant has a second guard. It gets the guard's parts and not the
/// guard: else the compiler would have to keep it in memory, and load it anew at every quantum.
///
/// # Safety
/// The record is one of the calling thread's, and if only one guard of it is alive, no entry is.
/// `born` is that guard's.
#[cold]
#[inline(never)]
unsafe fn repin_now(record: &Record, domain: &Domain, born: u64) {
    if (record.pins.get() == 1 || !kept("repin.alone")) && record.is_of_level(born) {
        // The tick first: if it moves in between, the next re-pin is a real one again.
        let tick = domain.tick();
        // SAFETY: the owner part, on its thread; with one guard alive and no entry, nothing is
        // lost by unpinning for a moment.
        unsafe {
            if let Some(guard) = &mut *record.guard.get() {
                guard.repin();
            }
        }
        after_repin();
        record.seen.store(tick, Ordering::Relaxed);
        if record.is_holding() {
            // SAFETY: no entry is alive, and the one guard is borrowed mutably, so that no call
            // is going on under it: no frames but those that outer levels hold.
            unsafe { record.give_up_holds(domain.holds()) };
        }
    }
}

impl Drop for Guard<'_> {
    #[inline]
    fn drop(&mut self) {
        if self.record.uncount(self.born) {
            // SAFETY: on its thread; no guard is left, so no entry either, nor a call under one.
            unsafe { self.record.unpin(self.domain.holds()) };
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
