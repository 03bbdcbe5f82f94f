//! Compilations that take longer than they should: they are named while they go on.

use std::sync::Arc;
use std::time::Duration;

use super::core::{Core, lock};
use super::tell::Told;
use crate::method::{Key, Method};
use crate::observe::Overdue;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::time::Instant;

/// Methods that are named, at most.
const NAMED: usize = 16;

/// What is being compiled, if there is a limit.
pub(crate) struct Overtime<K: Key> {
    limit: Option<Duration>,
    running: Mutex<Vec<Running<K>>>,
    /// Compilations that have ever been found to take too long; also what tells them apart.
    begun: AtomicU64,
    told: AtomicU64,
}

/// The methods of a batch.
type Together<K> = Arc<[Arc<Method<K>>]>;

struct Running<K: Key> {
    number: u64,
    since: Instant,
    methods: Together<K>,
    told: bool,
}

/// A compilation that goes on until this is dropped.
pub(super) struct Going<'c, K: Key>(Option<(&'c Overtime<K>, u64)>);

impl<K: Key> Drop for Going<'_, K> {
    fn drop(&mut self) {
        let Some((overtime, number)) = self.0 else {
            return;
        };
        let mut running = lock(&overtime.running);
        let place = running.iter().position(|r| r.number == number);
        let over = place.map(|place| running.swap_remove(place));
        drop(running);
        drop(over);
    }
}

impl<K: Key> Overtime<K> {
    pub(super) fn new(limit: Option<Duration>) -> Self {
        Self {
            limit,
            running: Mutex::default(),
            begun: AtomicU64::new(0),
            told: AtomicU64::new(0),
        }
    }

    /// A compilation begins.
    pub(super) fn begin(&self, methods: &[Arc<Method<K>>]) -> Going<'_, K> {
        if self.limit.is_none() {
            return Going(None);
        }
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        lock(&self.running).push(Running {
            number,
            since: Instant::now(),
            methods: methods.into(),
            told: false,
        });
        Going(Some((self, number)))
    }

    /// How long who looks may sleep.
    pub(super) fn patience(&self) -> Duration {
        let limit = self.limit.unwrap_or(Duration::MAX);
        limit.max(Duration::from_millis(1))
    }

    /// Compilations that were found to take too long.
    pub(crate) fn told(&self) -> u64 {
        self.told.load(Ordering::Relaxed)
    }

    /// Those that go on, and have taken too long; or of these only the ones that have not been told.
    fn late(&self, news: bool) -> Vec<(Together<K>, Duration)> {
        let Some(limit) = self.limit else {
            return Vec::new();
        };
        let mut running = lock(&self.running);
        let late = running.iter_mut().filter_map(|running| {
            let age = running.since.elapsed();
            let wanted = age >= limit && !(news && running.told);
            running.told |= news && wanted;
            wanted.then(|| (running.methods.clone(), age))
        });
        late.collect()
    }

    /// Compilations that have taken too long and go on. The caller holds no lock, as keys say their names.
    pub(crate) fn overdue(&self, news: bool) -> Vec<Overdue> {
        let late = self.late(news).into_iter();
        late.map(|(methods, running_for)| Overdue {
            methods: methods.iter().take(NAMED).map(|m| m.short_name()).collect(),
            together: methods.len(),
            running_for,
        })
        .collect()
    }
}

impl<K: Key> Core<K> {
    /// Tells of compilations that have come to take too long. No lock is held.
    pub(super) fn look_for_overtime(&self) {
        for overdue in self.overtime.overdue(true) {
            self.overtime.told.fetch_add(1, Ordering::Relaxed);
            self.put(|| Told::Overdue(overdue));
        }
    }
}
