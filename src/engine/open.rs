//! The open generations of workers: opened, full, sealed.

use super::core::{Core, lock};
use super::fork;
use super::help::Seats;
use crate::compile::Class;
use crate::config::ContextRelease;
use crate::error::Error;
use crate::generation::{Body, Context, Open, Region};
use crate::method::Key;
use crate::sync::Mutex;
use crate::sync::time::Instant;

/// Bytes of code that a generation may always map: its first slots, of text and of constants. A
/// share of a small budget would be less, and every method would get a generation of its own.
pub(super) const LEAST_CODE: u64 = 32 << 10;

/// A place for an open generation.
pub(super) type Slot<K> = Mutex<Option<Open<K>>>;

/// Where generations are open. Of the locks one of the first kind is taken first, then that of who
/// stays, then one of survivors.
pub(crate) struct Slots<K: Key> {
    /// Each worker's own, by classes; then those of threads that compile for a while.
    of_workers: Vec<Box<[Slot<K>]>>,
    /// Of methods that stay. Anyone's.
    staying: Slot<K>,
    /// Of what was moved. Anyone's.
    survivors: Slot<K>,
    /// As these, of what was kept then: a generation with one that is kept is not in the budget.
    kept: Slot<K>,
}

impl<K: Key> Slots<K> {
    pub(super) fn new(workers: usize, most: usize) -> Self {
        let of_worker = |_| (0..most).map(|_| Mutex::default()).collect();
        Self {
            of_workers: (0..workers + Seats::count(workers))
                .map(of_worker)
                .collect(),
            staying: Mutex::default(),
            survivors: Mutex::default(),
            kept: Mutex::default(),
        }
    }

    /// Those that are anyone's.
    fn common(&self) -> [&Slot<K>; 3] {
        [&self.staying, &self.survivors, &self.kept]
    }

    pub(super) fn survivors(&self, kept: bool) -> &Slot<K> {
        if kept { &self.kept } else { &self.survivors }
    }

    fn all(&self) -> impl Iterator<Item = &Slot<K>> {
        self.of_workers.iter().flatten().chain(self.common())
    }

    /// What is open, for the last owner.
    pub(super) fn take(&mut self) -> Vec<Open<K>> {
        self.all().filter_map(|slot| lock(slot).take()).collect()
    }
}

impl<K: Key> Core<K> {
    /// The open generation of methods that stay.
    pub(super) fn staying(&self) -> &Slot<K> {
        &self.open.staying
    }

    /// A worker's open generation for methods of a class: what was promoted will live longer than what is only tried.
    pub(super) fn slot_for(&self, worker: usize, class: Class) -> &Slot<K> {
        let slots = &self.open.of_workers[worker];
        let class = u64::from(class.tier) * self.config.groups as u64 + class.group;
        &slots[(class % self.groups_open() as u64) as usize]
    }

    /// How many generations a worker may have open: what is open cannot go, so it is a small part
    /// of the budget.
    fn groups_open(&self) -> usize {
        let limits = self.ledger().limits;
        let most = (self.config.groups * self.config.tiers.len()) as u64;
        let workers = match self.config.workers {
            0 => Seats::count(0),
            workers => workers,
        } as u64;
        let open = limits.code_budget.min(limits.budget) / 4 / (LEAST_CODE * workers);
        open.clamp(1, most) as usize
    }

    pub(super) fn open_generation(&self, staying: bool) -> Result<Open<K>, Error> {
        let context = self.context()?;
        Ok(self.open_with(Some(context), staying))
    }

    /// A generation for what was compiled before: it needs no context.
    pub(super) fn open_for_survivors(&self) -> Open<K> {
        self.open_with(None, false)
    }

    fn open_with(&self, context: Option<Context>, staying: bool) -> Open<K> {
        let bytes = context.as_ref().map(|c| c.bytes);
        let id = self.ledger().open(bytes);
        let body = Body {
            callees: Vec::new(),
            assumptions: Vec::new(),
            context,
            region: Region::new(),
        };
        Open {
            id,
            body,
            methods: 0,
            context_bytes: bytes.unwrap_or(0),
            since: Instant::now(),
            staying,
        }
    }

    /// Seals what is full, or old, of a worker's own and of what is anyone's.
    pub(super) fn seal_what_is_full(&self, worker: usize) {
        let groups = self.groups_open();
        for (group, slot) in self.open.of_workers[worker].iter().enumerate() {
            let mut slot = lock(slot);
            if group < groups {
                self.seal_if_full(&mut slot);
            } else {
                self.seal_slot(&mut slot);
            }
        }
        self.seal_free_seats();
    }

    /// Seals what is full, or old, of threads that compile for a while, and do not now, and of what is anyone's: who has
    /// one of these looks at it himself.
    pub(super) fn seal_free_seats(&self) {
        let seats = self.open.of_workers[self.config.workers..].iter().flatten();
        for slot in seats.chain(self.open.common()) {
            if let Ok(mut slot) = slot.try_lock() {
                self.seal_if_full(&mut slot);
            }
        }
    }

    fn is_full(&self, open: &Open<K>) -> bool {
        let config = &self.config;
        let limits = self.ledger().limits;
        let share = |budget: u64| {
            if budget == u64::MAX {
                budget
            } else {
                (budget / 8).max(1)
            }
        };
        let code = open.body.region.mapped().code();
        let share_of_code = share(limits.code_budget).min(share(limits.budget));
        let most_code = config
            .generation_code
            .min(share_of_code.max(LEAST_CODE + 1));
        let most_context = config.generation_context.min(share(limits.budget));
        open.methods >= config.generation_methods
            || code >= most_code
            || open.context_bytes >= most_context.max(1)
            || (open.methods > 0 && open.since.elapsed() >= config.generation_age)
    }

    pub(super) fn seal_if_full(&self, slot: &mut Option<Open<K>>) {
        if slot.as_ref().is_some_and(|open| self.is_full(open)) {
            self.seal_slot(slot);
        }
    }

    /// Seals the slot's generation, if there is one.
    pub(super) fn seal_slot(&self, slot: &mut Option<Open<K>>) {
        let Some(mut open) = slot.take() else { return };
        fork::while_not_forking(|| open.body.region.seal());
        let context = match self.config.release {
            ContextRelease::WithGeneration if !open.staying => None,
            // What stays would keep its context for ever.
            _ => open.body.context.take(),
        };
        let sizes = open.body.region.mapped();
        let mut ledger = self.ledger();
        ledger.charge(
            open.id,
            sizes,
            if context.is_some() {
                0
            } else {
                open.context_bytes
            },
        );
        ledger.seal(open.id, open.body);
        // Before anybody can look: it counts in one place or the other.
        if let Some(context) = context {
            self.dispose_later(context);
        }
        drop(ledger);
        self.ring_if_dead();
    }

    /// Seals all open generations. Waits for batches that are being compiled.
    pub(crate) fn seal_all(&self) {
        for slot in self.open.all() {
            self.seal_slot(&mut lock(slot));
        }
    }

    /// Seals the open generations of workers that are not compiling now.
    pub(crate) fn try_seal(&self) {
        for slot in self.open.all() {
            if let Ok(mut slot) = slot.try_lock() {
                self.seal_slot(&mut slot);
            }
        }
    }
}
