//! One snapshot of everything a person needs to trust the promises.

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{Overdue, Stall};
use crate::engine::{Core, Reclaim};
use crate::method::Key;

/// Methods that are named in a list, at most.
const NAMED: usize = 16;

/// Bytes by what they are for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Bytes {
    /// Machine code of open and sealed generations.
    pub text: u64,
    /// Their constants, jump tables and import tables.
    pub constants: u64,
    /// Their mutable data.
    pub data: u64,
    /// Their unwind tables.
    pub unwind: u64,
    /// LLVM contexts of open and sealed generations, as the allocator was seen to grow.
    pub contexts: u64,
    /// Spare contexts that are kept ready, one for each compile worker.
    pub spare_contexts: u64,
    /// What is [kept](crate::Builder::keep_recipes) so that methods can be moved without being
    /// compiled again.
    pub recipes: u64,
    /// IR of methods, kept for a later [tier](crate::Tier), or for methods that inline them.
    pub sources: u64,
    /// Records, cells, thunks and table entries of all methods that can be mentioned, names of
    /// code, and bonds with assumptions.
    pub bookkeeping: u64,
    /// All of the above in generations that are dead or fallow: retired, and not yet freed.
    pub retired: u64,
    /// The part of `retired` whose grace period is over, and that frames on stacks, or leases, hold.
    pub held: u64,
    /// All of the above in generations with methods that are [kept](crate::Handle::keep), or stay:
    /// what eviction cannot bring down.
    pub kept: u64,
    /// The part of `kept` in generations of methods that [stay](crate::Unit::stay).
    pub staying: u64,
    /// What the budget is held against: `text` to `contexts`, less `kept`, and `spare_contexts`,
    /// `recipes`, `sources` and `bookkeeping`.
    pub charged: u64,
    /// How far over the budgets the cache is all told, because of what is kept, retired, or
    /// larger than a budget.
    pub excess: u64,
}

/// Code that stays for as long as the cache: see [`Unit::stay`](crate::Unit::stay).
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Staying {
    /// The method's key, as `Debug` prints it.
    pub method: String,
    /// Bytes of text, constants, data and unwind tables that are this method's own.
    pub bytes: u64,
}

/// Time that compile workers spent, by phase, since the cache began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct CompileTime {
    /// The front end, checks, the verifier, and lowering of calls.
    pub emit: Duration,
    /// LLVM's passes.
    pub optimise: Duration,
    /// LLVM's code generator.
    pub generate: Duration,
    /// Placing and linking, waiting for room included.
    pub link: Duration,
    /// Everything that is not LLVM or the front end, `link` included: publishing, policy, locks.
    pub overhead: Duration,
}

/// A snapshot of a cache, made by [`Cache::statistics`](crate::Cache::statistics). Bytes are
/// bytes of memory, whole slots included; counters count since the cache began.
#[derive(Clone, Debug, Default, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Statistics {
    /// The policy's name.
    pub policy: String,
    /// Methods that somebody can mention: by a handle, by code that calls them, by address.
    pub methods_known: u64,
    /// Methods with code.
    pub methods_resident: u64,
    /// Of these, on probation: unlinked, and dropped next unless a call comes.
    pub methods_on_probation: u64,
    /// Methods that stay, in the order in which they were compiled; twice if they were invalidated.
    pub methods_staying: Vec<Staying>,
    /// Methods whose canonical address was taken, and not given back.
    pub addresses_taken: u64,
    /// Methods whose callback was taken, and not given back.
    pub callbacks: u64,
    /// Requests that wait for a compile worker.
    pub queued: u64,
    /// Requests that were dropped before anything was compiled, because nobody wanted them any more: all
    /// who waited had given up, or the method was invalidated and nobody waited; or because the queue was
    /// [full](crate::Backlog::DropColdest).
    pub dropped: u64,
    /// Requests that were refused, because the queue was full.
    pub refused: u64,

    /// Generations that take more batches.
    pub generations_open: u64,
    /// Generations that are full, and have live methods.
    pub generations_sealed: u64,
    /// Generations without a live method that the reclaimer has not seen yet.
    pub generations_dead: u64,
    /// Generations whose grace period runs, or that are held.
    pub generations_fallow: u64,
    /// Of these, the ones that only a hold keeps: frames on a stack, or a lease.
    pub generations_held: u64,
    /// Generations freed so far.
    pub generations_recycled: u64,
    /// Contexts alive: of generations, spare, and released at sealing but not yet disposed of.
    pub contexts: u64,

    /// Bytes by what they are for.
    pub bytes: Bytes,
    /// The budget in force; `u64::MAX` is none.
    pub budget: u64,
    /// The budget for text, constants and data.
    pub code_budget: u64,
    /// The hard limit.
    pub hard_limit: u64,
    /// Address space reserved.
    pub reserved: u64,
    /// Bytes mapped in it.
    pub mapped: u64,
    /// Bytes of pages in it that have been written.
    pub resident: u64,
    /// Bytes of pages that were freed here after a fork, and that the child still has.
    pub left_to_children: u64,
    /// Bytes of address space in [quarantine](crate::Builder::quarantine). Not part of `mapped`.
    pub quarantined: u64,
    /// Mappings of the kernel's that this amounts to, about.
    pub mappings: u64,
    /// Bytes of text, constants and data mapped, retired ones included.
    pub mapped_code_bytes: u64,
    /// The most that this ever was.
    pub mapped_code_bytes_peak: u64,
    /// The most bytes of text, constants and data that were held at once.
    pub held_bytes_peak: u64,
    /// The most bytes of text, constants and data that waited for a grace period at once: for
    /// threads that were pinned.
    pub pinned_bytes_peak: u64,
    /// The most bytes of all kinds that generations ever took, retired ones included.
    pub bytes_peak: u64,
    /// Over all sealed generations: bytes of pages behind their sections, and of the sections.
    pub sealed_resident: u64,
    /// The sections' own bytes. `sealed_resident` over this is what packing loses.
    pub sealed_sections: u64,

    /// Look-ups, by handle or by key, that found code.
    pub hits: u64,
    /// Look-ups, by handle or by key, that did not.
    pub misses: u64,
    /// Batches compiled.
    pub batches: u64,
    /// Methods compiled and published.
    pub compiles: u64,
    /// Methods that could not be compiled.
    pub failures: u64,
    /// Requests that were put off, because the method had not been asked for
    /// [often enough](crate::Builder::admit_after).
    pub not_admitted: u64,
    /// Methods compiled so soon after they were evicted for want of memory that it is too short for them.
    pub thrashes: u64,
    /// Requests that were put off for that: see [`Builder::damping`](crate::Builder::damping).
    pub damped: u64,
    /// Compilations that go on, and have taken longer than they [should](crate::Builder::compile_limit).
    pub overdue: Vec<Overdue>,
    /// Compilations that ever were found to.
    pub overdue_compiles: u64,
    /// Methods compiled in vain, because they were invalidated meanwhile, or an assumption fell.
    pub stale_compiles: u64,
    /// Methods evicted.
    pub evictions: u64,
    /// Methods put on probation.
    pub probations: u64,
    /// Methods that came back from probation.
    pub relinks: u64,
    /// Methods that were moved to another generation.
    pub moves: u64,
    /// Generations that were left, so that their memory comes back.
    pub evacuations: u64,
    /// Time that moving methods took, without those that were compiled again.
    pub moving: Duration,
    /// Methods that were compiled again to be moved.
    pub moved_by_compiling: u64,
    /// Events that the [listener](crate::Listener) was not told, because it was too slow.
    pub events_lost: u64,
    /// Methods that got code of a later [tier](crate::Tier).
    pub promotions: u64,
    /// Methods invalidated, whether they had code or not: each counts every time, and a key that
    /// nobody has mentioned does not.
    pub invalidations: u64,
    /// Times that an assumption fell which code of this cache may have relied on.
    pub assumptions_invalidated: u64,
    /// Methods unlinked because an assumption fell: neither evictions nor invalidations.
    pub unlinked_by_assumptions: u64,
    /// Bonds of methods with code: one for each assumption that one relies on.
    pub bonds: u64,
    /// Where compile workers spent their time.
    pub compile_time: CompileTime,
    /// [Helper processes](crate::Builder::isolation) that were started; those that compile or wait now
    /// are the last of them.
    pub helpers_started: u64,
    /// Helper processes that died, hung or spoke nonsense while they compiled.
    pub helpers_failed: u64,

    /// Threads that may run methods.
    pub participants: u64,
    /// The participant that has been pinned longest, if one is pinned.
    pub longest_pinned: Option<String>,
    /// For at least this long.
    pub longest_pinned_for: Duration,
    /// Leases alive.
    pub leases: u64,
    /// The methods of the oldest sixteen of these.
    pub leased: Vec<String>,
    /// Who keeps memory from coming back, while that is a stall.
    pub stall: Option<Stall>,
    /// Time from a generation's death to its recycling, but for those that were held: the median of
    /// the last 256.
    pub grace_median: Duration,
    /// The time that all but one in a hundred of these took at most.
    pub grace_p99: Duration,
    /// The longest of these.
    pub grace_max: Duration,
    /// How long the oldest grace period that is not over has been running.
    pub grace_oldest: Duration,
}

impl Statistics {
    pub(crate) fn of<K: Key>(core: &Core<K>) -> Self {
        let mut all = Self::default();
        // In the order of the locks: the reclaimer, the ledger, the rest.
        // In a forked child only what the fork handlers held can be locked: the ledger and the
        // list of participants.
        let child = core.check_fork().is_err();
        if child {
            all.add_ledger(core);
        } else {
            // Held until the ledger was read: a generation goes from one to the other.
            let mut reclaim = core
                .reclaim
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            all.add_reclamation(&mut reclaim);
            all.add_ledger(core);
        }
        if !child {
            all.add_memory(core);
        }
        if let Some(helpers) = &core.config.helpers {
            (all.helpers_started, all.helpers_failed) = helpers.counts();
        }
        all.add_participants(core);
        all
    }

    fn add_reclamation<K: Key>(&mut self, reclaim: &mut Reclaim<K>) {
        reclaim.bury_dead_participants();
        self.generations_fallow = reclaim.fallow() as u64;
        self.generations_held = reclaim.held() as u64;
        self.stall = reclaim.stall().cloned();
        self.grace_oldest = reclaim.oldest().unwrap_or_default();
        let mut ages = reclaim.ages().to_vec();
        ages.sort_unstable();
        self.grace_median = ages.get(ages.len() / 2).copied().unwrap_or_default();
        let late = ages.len() / 100;
        self.grace_p99 = ages.iter().rev().nth(late).copied().unwrap_or_default();
        self.grace_max = ages.last().copied().unwrap_or_default();
    }

    fn add_ledger<K: Key>(&mut self, core: &Core<K>) {
        let bookkeeping = core.bookkeeping();
        let ledger = core.ledger();
        let bookkeeping = bookkeeping + ledger.empty_bytes();
        let (spares, spare_contexts) = match core.check_fork() {
            Ok(()) => core.pool.spare(),
            Err(_) => (0, 0),
        };
        let sources = core.sources();
        let beside = bookkeeping + spare_contexts + ledger.recipe_bytes + sources;
        let counters = &ledger.counters;
        self.policy = ledger.policy_name().to_owned();
        self.methods_resident = ledger.residents() as u64;
        self.methods_on_probation = core.table.on_probation() as u64;
        self.generations_open = ledger.open_generations();
        self.generations_sealed = ledger.generations.len() as u64 - self.generations_open;
        self.generations_dead = ledger.dead.len() as u64;
        self.generations_recycled = counters.recycled;
        let (alive, kept) = (&ledger.alive, &ledger.kept);
        let charged = alive.total() - kept.total() + beside;
        let everything = alive.total() + ledger.retired.total() + beside;
        let code = alive.sizes.code() + ledger.retired.sizes.code();
        let limits = ledger.limits;
        let staying;
        (self.methods_staying, staying) = ledger.staying();
        self.bytes = Bytes {
            text: alive.sizes.text,
            constants: alive.sizes.constants,
            data: alive.sizes.data,
            unwind: alive.sizes.unwind,
            contexts: alive.context,
            spare_contexts,
            recipes: ledger.recipe_bytes,
            sources,
            bookkeeping,
            retired: ledger.retired.total(),
            held: ledger.held.total(),
            kept: kept.total(),
            staying,
            charged,
            excess: everything
                .saturating_sub(limits.budget)
                .max(code.saturating_sub(limits.code_budget)),
        };
        (self.budget, self.code_budget) = (limits.budget, limits.code_budget);
        self.hard_limit = limits.hard_limit;
        self.mapped_code_bytes = code;
        self.mapped_code_bytes_peak = counters.code_peak;
        self.held_bytes_peak = counters.held_peak;
        self.pinned_bytes_peak = counters.pinned_peak;
        self.bytes_peak = counters.total_peak;
        (self.sealed_resident, self.sealed_sections) = ledger.density();
        self.batches = counters.batches;
        self.compiles = counters.compiles;
        self.failures = counters.failures;
        self.stale_compiles = counters.stale;
        self.evictions = counters.evictions;
        self.thrashes = counters.thrashes;
        self.probations = counters.probations;
        self.relinks = counters.relinks;
        self.moves = counters.moves;
        self.moving = counters.moving;
        self.evacuations = counters.evacuations;
        self.moved_by_compiling = counters.recompiled;
        self.promotions = counters.promoted;
        self.invalidations = counters.invalidations;
        self.assumptions_invalidated = counters.assumptions_invalidated;
        self.unlinked_by_assumptions = counters.unlinked_by_assumptions;
        self.bonds = ledger.bonds.alive();
        self.compile_time = CompileTime {
            emit: counters.emit,
            optimise: counters.optimise,
            generate: counters.generate,
            link: counters.link,
            overhead: counters.overhead,
        };
        self.events_lost = core.outbox.as_ref().map_or(0, |outbox| outbox.lost());
        self.contexts = ledger.contexts() + spares as u64;
        if core.check_fork().is_ok() {
            self.contexts += core.released_contexts() as u64;
        }
    }

    fn add_memory<K: Key>(&mut self, core: &Core<K>) {
        let total = core.space.total();
        self.quarantined = core.space.quarantined();
        let mapped = total.mapped.saturating_sub(self.quarantined);
        (self.reserved, self.mapped) = (total.reserved, mapped);
        (self.resident, self.mappings) = (total.resident, total.mappings);
        self.left_to_children = core.space.left_to_children();
        self.methods_known = core.table.len() as u64;
        self.addresses_taken = core.table.addresses_taken() as u64;
        self.callbacks = core.table.callbacks() as u64;
        self.queued = core.queue.len() as u64;
        self.dropped = core.queue.dropped();
        self.refused = core.queue.refused();
        self.not_admitted = core.not_admitted.load(Ordering::Relaxed);
        self.damped = core.damped.load(Ordering::Relaxed);
        (self.overdue, self.overdue_compiles) =
            (core.overtime.overdue(false), core.overtime.told());
    }

    fn add_participants<K: Key>(&mut self, core: &Core<K>) {
        (self.hits, self.misses) = core.domain.counters();
        let (leases, leased) = core.domain.leases(NAMED);
        (self.leases, self.leased) = (leases as u64, leased);
        let (participants, pinned) = core.domain.pinned();
        self.participants = participants as u64;
        if let Some(longest) = pinned.first() {
            self.longest_pinned = Some(format!("{} (thread {})", longest.name, longest.thread));
            self.longest_pinned_for = longest.age;
        }
    }
}
