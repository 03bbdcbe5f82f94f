//! Safepoints: a thread that stays inside code says which generations it is in, and lets all
//! others go.
//!
//! # The order
//!
//! 1. Registers go to the stack, and the stack is scanned for addresses of code. Whatever is found
//!    there is protected now: by the thread's pin, or by a hold of its last safepoint.
//! 2. A hold is added for each generation found.
//! 3. The thread re-pins (or unpins, to block). What was retired before may go from here on,
//!    unless it is held.
//! 4. The holds of the last safepoint are given up: they may have been all that protected a frame,
//!    so never before the new ones are there.
//!
//! The reclaimer sees the re-pin by way of the collector, which acquires what that releases, and looks
//! at the holds after that; so it sees those that were added before.
//!
//! # Levels
//!
//! Inside `blocking` the thread is unpinned, and what it runs may pin again, call methods, and come
//! to safepoints. These scan to the same base, but own only what they added: the holds of the
//! frames outside are put aside until the `blocking` ends.

use super::domain::Domain;
use super::frames;
use super::guard::after_repin;
use super::holds::Hold;
use super::record::{Outside, Record, STANDING, of_this_thread, release};
use super::stack::Stack;
use crate::sync::atomic::Ordering;
use crate::sync::fault::kept;

/// Holds for everything that the calling thread's stack has an address of. `None` where its stack
/// is not known, as on the alternate stack of a signal, or one that nobody told of: the thread must
/// stay pinned then.
///
/// # Safety
/// On the record's thread, which is pinned.
pub(super) unsafe fn hold_stack(record: &Record, domain: &Domain) -> Option<Vec<Hold>> {
    let holds = domain.holds();
    let found = frames::found(record, holds, STANDING)?;
    for (place, address) in record.standing.iter().enumerate() {
        let now = found.standing.get(place).copied().unwrap_or(0);
        address.store(now, Ordering::Relaxed);
    }
    let owners = found.owners.iter().filter(|_| kept("safepoint.holds"));
    Some(owners.filter_map(|&owner| holds.hold(owner)).collect())
}

/// Re-pins a thread that has frames of code on its stack.
///
/// # Safety
/// On the record's thread. Entries loaded before are used afterwards only if they are on the
/// thread's stack, or in its registers.
pub(super) unsafe fn safepoint(record: &Record, domain: &Domain) {
    // The tick first: if it moves in between, the next safepoint is a real one again.
    let tick = domain.tick();
    if record.pins.get() == 0 || record.seen.load(Ordering::Relaxed) == tick {
        return;
    }
    if !kept("safepoint.old_last") {
        // SAFETY: the owner part, on its thread.
        release(
            unsafe { std::mem::take(&mut (*record.levels.get()).innermost) },
            domain.holds(),
        );
    }
    // SAFETY: the caller's promise, and it is pinned.
    let Some(new) = (unsafe { hold_stack(record, domain) }) else {
        return;
    };
    let new = record.next_quantum(new);
    record.set_holding(!new.is_empty());
    // SAFETY: the owner part, on its thread. All that the thread can be inside of is held.
    let old = unsafe {
        if let Some(guard) = &mut *record.guard.get() {
            guard.repin();
        }
        after_repin();
        std::mem::replace(&mut (*record.levels.get()).innermost, new)
    };
    record.seen.store(tick, Ordering::Relaxed);
    release(old, domain.holds());
}

/// A safepoint of the calling thread, for every cache that it is pinned in: for runtime functions
/// that code calls, or to be imported into code as it is.
///
/// Costs a load and a compare for each cache, unless something waits to be freed; a scan of the
/// stack then (32 KiB in 2 us). It does nothing on a thread that is not pinned, nor on a stack that
/// the cache was not [told of](crate::Participant::switch_stack).
///
/// # Safety
/// As for [`Participant::safepoint`](crate::Participant::safepoint), for all participants of the
/// thread.
pub unsafe extern "C" fn safepoint_of_thread() {
    of_this_thread(|record| {
        if record.pins.get() != 0 {
            // SAFETY: the thread is pinned by a participant that is alive, so its cache is, and
            // the cache's domain; the rest is the caller's promise.
            unsafe { safepoint(record, &*record.domain) };
        }
    });
}

/// The one record of the calling thread that is pinned in this domain, if there is just one. It
/// lives as long as it is pinned.
pub(super) fn only_pinned(domain: &Domain) -> Option<*const Record> {
    let (mut pinned, mut count) = (std::ptr::null::<Record>(), 0);
    of_this_thread(|record| {
        if std::ptr::eq(record.domain, domain) && record.pins.get() != 0 {
            pinned = record;
            count += 1;
        }
    });
    (count == 1).then_some(pinned)
}

/// Whether the calling thread may have frames of code, or entries: one of its participants in this
/// domain is pinned, or blocks.
pub(super) fn may_be_inside(domain: &Domain) -> bool {
    let mut inside = false;
    of_this_thread(|record| {
        let pinned = record.pins.get() != 0 || record.is_blocked();
        inside |= std::ptr::eq(record.domain, domain) && pinned;
    });
    inside
}

/// The calling thread runs on this stack from now on.
pub(super) fn told_of_stack(domain: &Domain, stack: Stack) {
    of_this_thread(|record| {
        if std::ptr::eq(record.domain, domain) {
            record.stack.set(Some(stack));
            // A stack that is abandoned in the middle of a `pinned` may be followed by another in its
            // place: the base would cut off what is above. Without it a scan only takes longer.
            record.base.set(0);
        }
    });
}

/// Runs `wait` unpinned, with holds on all that the stack is inside of; pinned where its stack is
/// not known.
///
/// # Safety
/// As for [`safepoint`]. `wait` is left by returning or unwinding, not by `longjmp`.
pub(super) unsafe fn blocking<R>(record: &Record, domain: &Domain, wait: impl FnOnce() -> R) -> R {
    let pins = record.pins.get();
    if pins == 0 {
        return wait();
    }
    // SAFETY: the caller's promise, and it is pinned.
    let Some(holds) = (unsafe { hold_stack(record, domain) }) else {
        return wait();
    };
    let holds = record.next_quantum(holds);
    let level = record.level.replace(record.quantum.get());
    // SAFETY: the owner part, on its thread.
    let old = unsafe {
        let levels = &mut *record.levels.get();
        levels.outer.push(Outside { level, pins, holds });
        std::mem::take(&mut levels.innermost)
    };
    record.set_holding(false);
    record.pins.set(0);
    record.blocked.store(true, Ordering::Relaxed);
    // SAFETY: all that the thread can be inside of is held.
    unsafe { record.unpin(domain.holds()) };
    release(old, domain.holds());
    let _inside = Inside {
        record,
        domain,
        level: record.level.get(),
    };
    wait()
}

/// Pins again when a `blocking` ends, also by a panic.
struct Inside<'a> {
    record: &'a Record,
    domain: &'a Domain,
    /// The level that ends with it.
    level: u64,
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        let Self { record, domain, .. } = *self;
        // Else guards would be counted against others than they were made with.
        assert_eq!(
            record.level.get(),
            self.level,
            "stacks were switched inside of a `blocking`, and it ends before one that began later"
        );
        // SAFETY: the owner part, on its thread.
        let levels = unsafe { &mut *record.levels.get() };
        let Some(Outside { level, pins, holds }) = levels.outer.pop() else {
            unreachable!("`blocking` put it there, and who comes later takes its own away first");
        };
        record.level.set(level);
        // What a guard held that was leaked inside goes along.
        levels.innermost.extend(holds);
        let (holding, inside) = (!levels.innermost.is_empty(), !levels.outer.is_empty());
        record.set_holding(holding);
        record.blocked.store(inside, Ordering::Relaxed);
        let leaked = record.pins.get();
        record.pins.set(leaked + pins);
        // SAFETY: on its thread; the participant is borrowed. It is pinned if a guard was leaked,
        // and not to be pinned if all were dropped inside.
        unsafe {
            match (leaked, pins) {
                (0, 0) => record.unpin(domain.holds()),
                (0, _) if kept("blocking.pin") => record.pin(domain),
                _ => {}
            }
        }
    }
}
