//! Which method is where, what everything costs, and what goes when memory is short.
//!
//! One lock guards all of it. It is taken when something changes (a batch is published, a method
//! evicted), never by a call of resident code.

mod generations;
mod locked;
mod room;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

pub(crate) use crate::code::Cause;
use crate::code::CodeSpace;
use crate::error::Error;
use crate::evict::{Cost, MethodId, Policy};
use crate::method::{Key, Method, Phase, Resident};
use crate::observe::{Staying, event};

pub(crate) use self::generations::{Charge, Corpse};
use self::generations::{Info, Stage};
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
}

/// Sends calls to code on probation again.
pub(crate) fn relink<K: Key>(method: &Method<K>, resident: &mut Resident) {
    method.end_probation(resident);
    resident.relinked = true;
    method.link(resident.entry);
}
