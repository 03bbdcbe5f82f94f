//! The participants of one cache, their epoch collector, and the tick.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::epoch::Collector;
use super::holds::{Hold, Holds};
use super::record::{Record, thread_id};
use super::safepoint;
use super::visit::Visitors;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::time::Instant;
use crate::sync::{Mutex, MutexGuard};

/// Times of past ticks that are remembered, to tell the age of a pin.
const REMEMBERED: usize = 4096;

/// What all participants of a cache share. Guards and handles of one cache agree on its address.
pub(crate) struct Domain {
    /// Read by every pin, written only by the reclaimer, so it has a cache line of its own.
    tick: CacheLine<AtomicU64>,
    pub(crate) collector: Collector,
    members: Mutex<Members>,
    pub(super) visitors: Visitors,
    ticks: Mutex<VecDeque<Instant>>,
    holds: Holds,
    leases: Mutex<Leases>,
    /// Whether code counts how often it runs, so that threads want counters.
    counts: bool,
}

#[repr(align(128))]
struct CacheLine<T>(T);

#[derive(Default)]
struct Members {
    records: Vec<Arc<Record>>,
    /// Counters of participants that are gone.
    hits: u64,
    misses: u64,
}

/// Names of leased methods, by the leases' numbers.
#[derive(Default)]
struct Leases {
    next: u64,
    names: BTreeMap<u64, String>,
}

/// A participant that is pinned now, or blocks with frames of code below.
#[derive(Clone, Debug)]
pub(crate) struct PinnedParticipant {
    pub(crate) name: String,
    pub(crate) thread: i32,
    /// At least this long; zero for who blocks.
    pub(crate) age: Duration,
    pub(crate) blocked: bool,
    /// Addresses of code that its last safepoint found.
    pub(crate) standing: Vec<u64>,
}

impl Domain {
    pub(crate) fn new(holds: Holds, counts: bool) -> Self {
        Self {
            holds,
            counts,
            tick: CacheLine(AtomicU64::new(1)),
            collector: Collector::new(),
            members: Mutex::default(),
            visitors: Visitors::default(),
            leases: Mutex::default(),
            ticks: Mutex::new(VecDeque::from([Instant::now()])),
        }
    }

    /// Whether code counts.
    pub(super) fn counts(&self) -> bool {
        self.counts
    }

    /// Which generations are held.
    pub(crate) fn holds(&self) -> &Holds {
        &self.holds
    }

    #[inline(always)]
    pub(super) fn tick(&self) -> u64 {
        self.tick.0.load(Ordering::Relaxed)
    }

    /// Advances the tick: from here on every re-pin is a real one, once.
    pub(crate) fn advance(&self) {
        let mut ticks = lock(&self.ticks);
        ticks.push_back(Instant::now());
        if ticks.len() > REMEMBERED {
            ticks.pop_front();
        }
        self.tick.0.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn join(&self, record: Arc<Record>) {
        lock(&self.members).records.push(record);
    }

    pub(super) fn leave(&self, record: &Arc<Record>) {
        let mut members = lock(&self.members);
        let (hits, misses) = record.counters();
        members.hits += hits;
        members.misses += misses;
        members.records.retain(|r| !Arc::ptr_eq(r, record));
    }

    /// Ends the pins of threads that are gone. Called by the reclaimer only.
    pub(super) fn bury_the_dead(&self) {
        let mut members = lock(&self.members);
        let Members {
            records,
            hits,
            misses,
        } = &mut *members;
        let mut kept = Vec::new();
        records.retain(|record| {
            let dead = record.thread_is_gone();
            if dead {
                let (h, m) = record.counters();
                *hits += h;
                *misses += m;
                // SAFETY: its thread has ended, so this is the only access to the record's
                // owner part; `thread_is_gone` says true to one caller only.
                unsafe { record.give_up(&self.holds) };
                kept.extend(self.visitors.bury(record));
            }
            !dead
        });
        drop(members);
        // It may be the last hold on a cache.
        drop(kept);
    }

    /// Hits and misses of all participants there ever were.
    pub(crate) fn counters(&self) -> (u64, u64) {
        let members = lock(&self.members);
        members
            .records
            .iter()
            .map(|r| r.counters())
            .fold((members.hits, members.misses), |(h, m), (hits, misses)| {
                (h + hits, m + misses)
            })
    }

    /// Number of participants, and those of them that are pinned, longest first.
    pub(crate) fn pinned(&self) -> (usize, Vec<PinnedParticipant>) {
        let members = lock(&self.members);
        let ticks = lock(&self.ticks);
        let newest = self.tick();
        let mut pinned: Vec<_> = members
            .records
            .iter()
            .filter_map(|record| {
                let seen = record.seen_tick()?;
                // It was pinned before the tick after the one that it saw.
                let behind = (newest.saturating_sub(seen) as usize).min(ticks.len());
                let age = match behind {
                    0 => Duration::ZERO,
                    n => ticks[ticks.len() - n].elapsed(),
                };
                Some(PinnedParticipant::new(record, age))
            })
            .collect();
        pinned.sort_by_key(|p| std::cmp::Reverse(p.age));
        (members.records.len(), pinned)
    }

    /// The participant that has been pinned longest.
    pub(crate) fn slowest(&self) -> Option<PinnedParticipant> {
        let (_, pinned) = self.pinned();
        pinned.into_iter().next()
    }

    /// One whose stack holds code, those first that block.
    pub(crate) fn holder(&self) -> Option<PinnedParticipant> {
        let members = lock(&self.members);
        let blocks = |r: &&Arc<Record>| r.blocked.load(Ordering::Relaxed);
        let blocked = members.records.iter().find(blocks);
        let holder = blocked.or_else(|| members.records.iter().find(|r| r.is_holding()))?;
        Some(PinnedParticipant::new(holder, Duration::ZERO))
    }

    /// A lease begins; its number.
    pub(crate) fn note_lease(&self, name: String) -> u64 {
        let mut leases = lock(&self.leases);
        leases.next += 1;
        let number = leases.next;
        leases.names.insert(number, name);
        number
    }

    /// A lease ends.
    pub(crate) fn end_lease(&self, number: u64, hold: Hold) {
        self.holds.release(hold);
        lock(&self.leases).names.remove(&number);
    }

    /// How many leases there are, and the names of the methods of the oldest.
    pub(crate) fn leases(&self, most: usize) -> (usize, Vec<String>) {
        let leases = lock(&self.leases);
        let names = leases.names.values().take(most).cloned().collect();
        (leases.names.len(), names)
    }

    /// Whether the calling thread is pinned in this cache.
    pub(crate) fn this_thread_is_pinned(&self) -> bool {
        let me = thread_id();
        lock(&self.members)
            .records
            .iter()
            .any(|r| r.thread == me && r.seen_tick().is_some())
    }

    /// Runs `wait` with the calling thread unpinned, and holds on what its stack has addresses of;
    /// pinned if more than one of its participants is.
    ///
    /// # Safety
    /// As for [`Participant::blocking`](crate::Participant::blocking).
    pub(crate) unsafe fn while_blocking<R>(&self, wait: impl FnOnce() -> R) -> R {
        match safepoint::only_pinned(self) {
            // SAFETY: a record of this thread, alive as long as it is pinned; the rest is the
            // caller's promise.
            Some(record) => unsafe { safepoint::blocking(&*record, self, wait) },
            None => wait(),
        }
    }

    /// Holds the list of members still while the process forks.
    pub(crate) fn hold_for_fork(&self) -> impl Sized + '_ {
        (
            lock(&self.members),
            lock(&self.ticks),
            lock(&self.leases),
            self.visitors.hold_for_fork(),
        )
    }
}

impl PinnedParticipant {
    fn new(record: &Record, age: Duration) -> Self {
        let standing = record.standing.iter().map(|a| a.load(Ordering::Relaxed));
        Self {
            name: record.name.clone(),
            thread: record.thread,
            age,
            blocked: record.blocked.load(Ordering::Relaxed),
            standing: standing.filter(|&a| a != 0).collect(),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Processors fetch lines of 64 bytes in pairs.
    const LINES: usize = 128;

    #[test]
    fn what_threads_write_has_lines_of_its_own() {
        assert_eq!(align_of::<Record>(), LINES);
        assert_eq!(size_of::<Record>() % LINES, 0);
        // Counts of owners, which others write, lie before it.
        let space = crate::code::CodeSpace::new("test", None).unwrap();
        let domain = Domain::new(Holds::new(&space), false);
        let records = [0, 1].map(|n| Arc::new(Record::new(&domain, n.to_string())));
        for record in &records {
            assert_eq!(Arc::as_ptr(record).addr() % LINES, 0);
        }
        // The tick, which all read and the reclaimer writes, has nothing beside it.
        assert_eq!(std::mem::offset_of!(Domain, tick) % LINES, 0);
        assert_eq!(size_of::<CacheLine<AtomicU64>>(), LINES);
    }
}
