//! Which method is where, what everything costs, and what goes when memory is short.
//!
//! One lock guards all of it. It is taken when something changes (a batch is published, a method
//! evicted), never by a call of resident code.

mod locked;
mod room;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(crate) use crate::code::Cause;
use crate::code::CodeSpace;
use crate::error::Error;
use crate::evict::{Cost, MethodId, Policy};
use crate::generation::{Body, Sizes};
use crate::method::{Key, Method, Phase, Resident};
use crate::observe::{Staying, event};

use self::locked::Gone;
pub(crate) use self::locked::Locked;

/// Bytes of memory that one method costs besides its code: its record and key, its places in the
/// table and the policy, its cell and thunk.
pub(crate) const fn bookkeeping_per_method<K: Key>() -> u64 {
    const CELL_AND_THUNK: usize = 32;
    const TABLE_AND_LEDGER: usize = 160;
    const POLICY: usize = 80;
    (size_of::<Method<K>>() + size_of::<K>() + CELL_AND_THUNK + TABLE_AND_LEDGER + POLICY) as u64
}

/// Settings that can change while the cache runs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) budget: u64,
    pub(crate) code_budget: u64,
    pub(crate) hard_limit: u64,
    pub(crate) high: f64,
    pub(crate) low: f64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    Open,
    Sealed,
}

/// What a generation is charged for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Charge {
    pub(crate) sizes: Sizes,
    pub(crate) context: u64,
}

impl Charge {
    pub(crate) fn total(&self) -> u64 {
        self.sizes.code() + self.sizes.unwind + self.context
    }
}

/// A generation that is open or sealed.
pub(crate) struct Info<K: Key> {
    pub(crate) stage: Stage,
    /// Published and not yet dropped, those in probation included.
    pub(crate) live: usize,
    /// Live ones that are kept: while there are any, eviction cannot free the generation.
    kept: usize,
    pub(crate) charge: Charge,
    /// Methods that were compiled to stay, those that have other code since too. Each counts as live
    /// and as kept for ever.
    pub(crate) staying: Vec<Staying>,
    /// `None` while open: its worker has it.
    body: Option<Body<K>>,
}

/// Sealed, and without a live method: for the reclaimer.
pub(crate) struct Corpse<K: Key> {
    #[cfg_attr(not(feature = "tracing"), allow(dead_code, reason = "events tell it"))]
    pub(crate) id: u64,
    pub(crate) body: Body<K>,
    pub(crate) charge: Charge,
    pub(crate) died: Instant,
    /// Its grace period was over, and somebody held it.
    pub(crate) was_held: bool,
}

/// Counters since the cache began.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters {
    pub(crate) batches: u64,
    pub(crate) compiles: u64,
    pub(crate) failures: u64,
    pub(crate) stale: u64,
    pub(crate) evictions: u64,
    pub(crate) probations: u64,
    pub(crate) relinks: u64,
    pub(crate) invalidations: u64,
    pub(crate) generations: u64,
    pub(crate) recycled: u64,
    pub(crate) emit: Duration,
    pub(crate) optimise: Duration,
    pub(crate) generate: Duration,
    pub(crate) link: Duration,
    pub(crate) overhead: Duration,
    pub(crate) code_peak: u64,
    pub(crate) total_peak: u64,
    /// Bytes of code that waited for a grace period at once, and that were held at once.
    pub(crate) pinned_peak: u64,
    pub(crate) held_peak: u64,
}

/// One method's outcome of a batch.
pub(crate) struct Outcome<K: Key> {
    pub(crate) method: Arc<Method<K>>,
    /// The method's version when the compilation began.
    pub(crate) version: u64,
    pub(crate) result: Result<Published, Error>,
}

pub(crate) struct Published {
    pub(crate) entry: usize,
    pub(crate) bytes: u64,
    pub(crate) compile_time: Duration,
    /// Its name, if its code stays.
    pub(crate) stays: Option<String>,
}

pub(crate) struct Ledger<K: Key> {
    pub(crate) limits: Limits,
    pub(crate) counters: Counters,
    pub(crate) generations: HashMap<u64, Info<K>>,
    /// Methods with code. Keeps them alive.
    pub(crate) resident: HashMap<MethodId, Arc<Method<K>>>,
    policy: Box<dyn Policy>,
    space: Arc<CodeSpace>,
    /// Unlinked, oldest first; those that were called meanwhile are linked again. What loses its code,
    /// or is kept, is taken out at once.
    probation: BTreeMap<u64, MethodId>,
    costs: HashMap<MethodId, Cost>,
    /// What was let go of since the ledger was locked.
    gone: Gone<K>,
    pub(crate) dead: Vec<Corpse<K>>,
    /// Retired and not yet freed.
    pub(crate) retired: Charge,
    /// The part of `retired` that only holds keep.
    pub(crate) held: Charge,
    /// Sums over open and sealed generations.
    pub(crate) alive: Charge,
    /// The part of `alive` in generations with kept methods.
    pub(crate) kept: Charge,
}

fn add(sum: &mut Charge, charge: &Charge) {
    sum.sizes = sum.sizes.plus(charge.sizes);
    sum.context += charge.context;
}

fn subtract(sum: &mut Charge, charge: &Charge) {
    sum.sizes.text -= charge.sizes.text;
    sum.sizes.constants -= charge.sizes.constants;
    sum.sizes.data -= charge.sizes.data;
    sum.sizes.unwind -= charge.sizes.unwind;
    sum.context -= charge.context;
}

impl<K: Key> Ledger<K> {
    pub(crate) fn new(limits: Limits, policy: Box<dyn Policy>, space: Arc<CodeSpace>) -> Self {
        Self {
            limits,
            counters: Counters::default(),
            generations: HashMap::new(),
            resident: HashMap::new(),
            policy,
            space,
            probation: BTreeMap::new(),
            costs: HashMap::new(),
            gone: Gone::default(),
            dead: Vec::new(),
            retired: Charge::default(),
            held: Charge::default(),
            alive: Charge::default(),
            kept: Charge::default(),
        }
    }

    pub(crate) fn policy_name(&self) -> &'static str {
        self.policy.name()
    }

    /// A generation begins.
    pub(crate) fn open(&mut self, context: u64) -> u64 {
        let id = self.counters.generations;
        self.counters.generations += 1;
        let charge = Charge {
            context,
            ..Charge::default()
        };
        add(&mut self.alive, &charge);
        self.generations.insert(
            id,
            Info {
                stage: Stage::Open,
                live: 0,
                kept: 0,
                charge,
                staying: Vec::new(),
                body: None,
            },
        );
        id
    }

    /// What an open or sealed generation takes now.
    pub(crate) fn charge(&mut self, id: u64, sizes: Sizes, context: u64) {
        self.set_charge(id, Charge { sizes, context });
        let code = self.alive.sizes.code() + self.retired.sizes.code();
        self.counters.code_peak = self.counters.code_peak.max(code);
        let total = self.alive.total() + self.retired.total();
        self.counters.total_peak = self.counters.total_peak.max(total);
    }

    /// What it is about to map: other workers must not count on it. The next [`Ledger::charge`] says what came of it.
    pub(crate) fn reserve(&mut self, id: u64, growth: Sizes) {
        let Charge { sizes, context } = self.generations[&id].charge;
        let sizes = sizes.plus(growth);
        self.set_charge(id, Charge { sizes, context });
    }

    fn set_charge(&mut self, id: u64, charge: Charge) {
        let info = self.generations.get_mut(&id).expect("open or sealed");
        subtract(&mut self.alive, &info.charge);
        add(&mut self.alive, &charge);
        if info.kept > 0 {
            subtract(&mut self.kept, &info.charge);
            add(&mut self.kept, &charge);
        }
        info.charge = charge;
    }

    /// A worker gives its generation up: no more batches.
    pub(crate) fn seal(&mut self, id: u64, body: Body<K>) {
        let info = self.generations.get_mut(&id).expect("it was open");
        info.stage = Stage::Sealed;
        info.body = Some(body);
        if info.live == 0 {
            self.bury(id);
        }
    }

    fn bury(&mut self, id: u64) {
        let info = self.generations.remove(&id).expect("sealed");
        debug_assert_eq!(info.kept, 0);
        subtract(&mut self.alive, &info.charge);
        add(&mut self.retired, &info.charge);
        let body = info.body.expect("a sealed generation has its body");
        self.dead.push(Corpse {
            id,
            body,
            charge: info.charge,
            died: Instant::now(),
            was_held: false,
        });
        let waiting = self.retired.sizes.code() - self.held.sizes.code();
        self.counters.pinned_peak = self.counters.pinned_peak.max(waiting);
        event!("dead", generation = id, bytes = info.charge.total());
    }

    /// The reclaimer has disposed of a retired generation's context.
    pub(crate) fn disposed(&mut self, context: u64) {
        self.retired.context -= context;
    }

    /// A retired generation's grace period is over, and it is held.
    pub(crate) fn hold(&mut self, charge: &Charge) {
        add(&mut self.held, charge);
        let held = self.held.sizes.code();
        self.counters.held_peak = self.counters.held_peak.max(held);
    }

    /// It is held no more, and freed next.
    pub(crate) fn unhold(&mut self, charge: &Charge) {
        subtract(&mut self.held, charge);
    }

    /// The reclaimer has freed a generation.
    pub(crate) fn recycled(&mut self, charge: &Charge) {
        subtract(&mut self.retired, charge);
        self.counters.recycled += 1;
    }

    /// Everything that generations own here, for the end of the cache.
    pub(crate) fn take_bodies(&mut self) -> Vec<Body<K>> {
        let dead = std::mem::take(&mut self.dead).into_iter().map(|c| c.body);
        let sealed = std::mem::take(&mut self.generations)
            .into_values()
            .filter_map(|i| i.body);
        dead.chain(sealed).collect()
    }

    /// Publishes what a batch made, and wakes who waits for it. The new code is in `generation`.
    pub(crate) fn publish(&mut self, generation: u64, outcomes: Vec<Outcome<K>>) {
        self.counters.batches += 1;
        for Outcome {
            method,
            version,
            result,
        } in outcomes
        {
            let mut state = method.lock();
            state.phase = Phase::Idle;
            state.attempts += 1;
            self.gone.errors.extend(state.failure.take());
            match result {
                // Never publish twice: the first code's generation would wait for it for ever.
                _ if state.version != version || state.resident.is_some() => {
                    self.counters.stale += 1;
                    self.gone.errors.extend(result.err());
                }
                Err(error) => {
                    self.counters.failures += 1;
                    event!("failed", key = ?method.key, error = %error);
                    // Nobody else asks how it ended.
                    if method.is_waited_for() {
                        state.failure = Some(error);
                    } else {
                        self.gone.errors.push(error);
                    }
                }
                Ok(Published {
                    entry,
                    bytes,
                    compile_time,
                    stays,
                }) => {
                    self.counters.compiles += 1;
                    state.resident = Some(Resident::new(entry, generation, stays.is_some()));
                    method.link(entry);
                    drop(state);
                    if let Some(name) = stays {
                        method.keep();
                        self.note_staying(generation, name, bytes);
                    }
                    self.admit(generation, &method, Cost::new(bytes, compile_time));
                    event!("published", key = ?method.key, generation, bytes);
                    method.notify();
                    self.gone.methods.push(method);
                    continue;
                }
            }
            drop(state);
            method.notify();
            self.gone.methods.push(method);
        }
    }

    /// Code of a method's stays in the generation, whatever becomes of the method.
    fn note_staying(&mut self, generation: u64, method: String, bytes: u64) {
        let info = self.generations.get_mut(&generation).expect("open");
        info.live += 1;
        info.staying.push(Staying { method, bytes });
        self.count_kept(generation);
    }

    /// All code that stays, and what its generations take.
    pub(crate) fn staying(&self) -> (Vec<Staying>, u64) {
        let mut generations: Vec<_> = self
            .generations
            .iter()
            .filter(|(_, info)| !info.staying.is_empty())
            .collect();
        generations.sort_unstable_by_key(|(id, _)| **id);
        let bytes = generations
            .iter()
            .map(|(_, info)| info.charge.total())
            .sum();
        let all = generations.into_iter().flat_map(|(_, info)| &info.staying);
        (all.cloned().collect(), bytes)
    }

    fn admit(&mut self, generation: u64, method: &Arc<Method<K>>, cost: Cost) {
        let info = self.generations.get_mut(&generation).expect("open");
        info.live += 1;
        self.resident.insert(method.id, method.clone());
        self.costs.insert(method.id, cost);
        if method.is_kept() {
            self.count_kept(generation);
        } else {
            self.policy.insert(method.id, cost);
        }
    }

    fn count_kept(&mut self, generation: u64) {
        let info = self
            .generations
            .get_mut(&generation)
            .expect("it has a live method");
        info.kept += 1;
        if info.kept == 1 {
            add(&mut self.kept, &info.charge);
        }
    }

    fn uncount_kept(&mut self, generation: u64) {
        let info = self
            .generations
            .get_mut(&generation)
            .expect("it has a live method");
        info.kept -= 1;
        if info.kept == 0 {
            subtract(&mut self.kept, &info.charge);
        }
    }

    /// The method is no victim from now on.
    pub(crate) fn keep(&mut self, method: &Arc<Method<K>>) {
        if !method.keep() {
            return;
        }
        let mut state = method.lock();
        if let Some(resident) = &mut state.resident {
            if resident.probation {
                relink(method, resident);
            }
            if std::mem::take(&mut resident.relinked) {
                self.probation.remove(&resident.place);
                self.counters.relinks += 1;
            }
            let generation = resident.generation;
            drop(state);
            self.count_kept(generation);
            self.policy.remove(method.id);
        }
    }

    /// One `keep` ends.
    pub(crate) fn unkeep(&mut self, method: &Arc<Method<K>>) {
        if !method.unkeep() {
            return;
        }
        let generation = method.lock().resident.map(|r| r.generation);
        if let Some(generation) = generation {
            self.uncount_kept(generation);
            self.policy.insert(method.id, self.costs[&method.id]);
        }
    }

    /// Unlinks a method and gives its place in its generation up. False when it had no code.
    pub(crate) fn drop_code(&mut self, method: &Arc<Method<K>>, cause: Cause) -> bool {
        let mut state = method.lock();
        if cause == Cause::Invalidated {
            state.version += 1;
            self.counters.invalidations += 1;
        }
        let Some(mut resident) = state.resident.take() else {
            return false;
        };
        if resident.probation || resident.relinked {
            self.probation.remove(&resident.place);
        }
        method.end_probation(&mut resident);
        method.unlink();
        drop(state);
        let symbols = self.space.symbols();
        symbols.unlinked(resident.entry as u64, cause);
        event!("unlinked", key = ?method.key, ?cause, generation = resident.generation);
        if cause == Cause::Evicted {
            self.counters.evictions += 1;
        }
        let kept = method.is_kept();
        if kept {
            self.uncount_kept(resident.generation);
        }
        if resident.stays {
            // What it is compiled to next need not stay.
            method.unkeep();
        }
        self.costs.remove(&method.id);
        self.gone.methods.extend(self.resident.remove(&method.id));
        let info = self
            .generations
            .get_mut(&resident.generation)
            .expect("it has a live method");
        info.live -= 1;
        if info.live == 0 && info.stage == Stage::Sealed {
            self.bury(resident.generation);
        }
        // Last, since it is an embedder's, and may panic.
        if !kept {
            self.policy.remove(method.id);
        }
        true
    }

    pub(crate) fn open_generations(&self) -> u64 {
        self.generations
            .values()
            .filter(|i| i.stage == Stage::Open)
            .count() as u64
    }

    /// Contexts of open, sealed and dead generations.
    pub(crate) fn contexts(&self) -> u64 {
        let of_sealed = self
            .generations
            .values()
            .filter(|i| i.body.as_ref().is_none_or(|b| b.context.is_some()));
        (of_sealed.count()
            + self
                .dead
                .iter()
                .filter(|c| c.body.context.is_some())
                .count()) as u64
    }

    /// Over all sealed generations: bytes of pages written, and of sections in them.
    pub(crate) fn density(&self) -> (u64, u64) {
        let sealed = self.generations.values().filter_map(|i| i.body.as_ref());
        sealed
            .map(|b| b.region.density())
            .fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
    }
}

/// Sends calls to code on probation again.
pub(crate) fn relink<K: Key>(method: &Method<K>, resident: &mut Resident) {
    method.end_probation(resident);
    resident.relinked = true;
    method.link(resident.entry);
}
