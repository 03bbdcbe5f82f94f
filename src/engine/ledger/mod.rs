//! Which method is where, what everything costs, and what goes when memory is short.
//!
//! One lock guards all of it. It is taken when something changes (a batch is published, a method
//! evicted), never by a call of resident code.

mod bonds;
mod by_method;
mod failed;
mod generations;
mod homes;
mod leaving;
mod locked;
mod room;
mod victims;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use crate::code::Cause;
use crate::code::CodeSpace;
use crate::compile::{How, Queue, Source};
use crate::config::Victims;
use crate::engine::tell::{Outbox, Told};
use crate::error::Error;
use crate::evict::{Cost, Lru, MethodId, Policy};
use crate::invalidate::Bond;
use crate::link::Recipe;
use crate::method::{Key, Method, Patience, Phase, Resident, State, Wakers};
use crate::observe::{CompileTime, EvictedBy, Staying, event};
use crate::sync::QuickHash;
use crate::sync::fault::kept;

pub(crate) use self::bonds::Bonds;
use self::by_method::ByMethod;
use self::failed::Failed;
use self::generations::Info;
pub(crate) use self::generations::{Charge, Corpse, Slack};
use self::homes::Home;
pub(crate) use self::homes::Move;
pub(crate) use self::leaving::{Leaver, Leaving};
use self::locked::Gone;
pub(crate) use self::locked::Locked;
pub(crate) use self::room::Mark;

/// Bytes of memory that one method costs besides its code: its record and key, its places in the
/// table and the policy, its cell and thunk.
pub(crate) const fn bookkeeping_per_method<K: Key>() -> u64 {
    const CELL_AND_THUNK: usize = 48; // at most
    const TABLE_AND_LEDGER: usize = 208;
    const POLICY: usize = 80;
    (size_of::<Method<K>>() + size_of::<K>() + CELL_AND_THUNK + TABLE_AND_LEDGER + POLICY) as u64
}

/// A table by the cache's own numbers: no stranger chooses them, so a hash of a few multiplications will
/// do.
type ByNumber<N, T> = std::collections::HashMap<N, T, QuickHash>;

/// What the ledger is told of the configuration, for good.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Choice {
    pub(crate) victims: Victims,
    /// Bytes that evacuation may move for each byte that comes back; `None`: there is none.
    pub(crate) work: Option<f64>,
    /// How long failures are remembered.
    pub(crate) patience: Patience,
    /// How long wishes for methods are put off that come and go.
    pub(crate) damping: Patience,
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
    pub(crate) thrashes: u64,
    pub(crate) probations: u64,
    pub(crate) relinks: u64,
    /// Methods moved, and the generations that were left for it.
    pub(crate) moves: u64,
    pub(crate) evacuations: u64,
    pub(crate) recompiled: u64,
    pub(crate) promoted: u64,
    pub(crate) invalidations: u64,
    pub(crate) assumptions_invalidated: u64,
    pub(crate) unlinked_by_assumptions: u64,
    pub(crate) generations: u64,
    pub(crate) recycled: u64,
    pub(crate) emit: Duration,
    pub(crate) optimise: Duration,
    pub(crate) generate: Duration,
    pub(crate) link: Duration,
    pub(crate) moving: Duration,
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
    pub(crate) how: How,
    /// What its code relies on, each once.
    pub(crate) bonds: Vec<Bond>,
    pub(crate) result: Result<Published<K>, Error>,
}

pub(crate) struct Published<K: Key> {
    pub(crate) entry: usize,
    pub(crate) bytes: u64,
    pub(crate) compile_time: Duration,
    /// Its name, if its code stays.
    pub(crate) stays: Option<String>,
    /// How it is linked again elsewhere, if that is known.
    pub(crate) recipe: Option<Recipe>,
    /// Of its batch.
    pub(crate) times: Arc<CompileTime>,
    pub(crate) together: usize,
    /// Its IR, if that is kept.
    pub(crate) source: Option<Source<K>>,
}

pub(crate) struct Ledger<K: Key> {
    pub(crate) limits: Limits,
    pub(crate) counters: Counters,
    pub(crate) generations: ByNumber<u64, Info<K>>,
    /// Methods with code. Keeps them alive.
    homes: ByMethod<Home<K>>,
    policy: Box<dyn Policy>,
    space: Arc<CodeSpace>,
    /// Unlinked, oldest first; those that were called meanwhile are linked again. What loses its code,
    /// or is kept, is taken out at once.
    probation: BTreeMap<u64, MethodId>,
    /// Chosen among them to go next; the last is the first.
    doomed: Vec<MethodId>,
    pub(crate) bonds: Bonds,
    victims: Victims,
    /// Bytes that may be moved for each byte that comes back; `None`: nothing is moved.
    pub(crate) work: Option<f64>,
    pub(crate) outbox: Option<Arc<Outbox<K>>>,
    /// How long failures are remembered.
    pub(crate) patience: Patience,
    /// How long wishes for methods are put off that come and go.
    damping: Patience,
    failed: Failed<K>,
    /// What was let go of since the ledger was locked.
    gone: Gone<K>,
    queue: Arc<Queue<K>>,
    /// Who is to be woken, and what was asked for again while it was compiled in vain: when no lock is held.
    pub(crate) woken: Wakers,
    pub(crate) asked_again: Vec<Arc<Method<K>>>,
    pub(crate) dead: Vec<Corpse<K>>,
    /// Retired and not yet freed.
    pub(crate) retired: Charge,
    /// The part of `retired` that only holds keep.
    pub(crate) held: Charge,
    /// Sums over open and sealed generations.
    pub(crate) alive: Charge,
    /// The part of `alive` in generations with kept methods.
    pub(crate) kept: Charge,
    /// What moving survivors out of generations in `alive`, and not in `kept`, would give back.
    slack: Slack,
    /// Survivors could not be moved for want of memory: nothing is to be had from that until some comes
    /// back.
    pub(crate) cramped: bool,
    /// What recipes take.
    pub(crate) recipe_bytes: u64,
}

impl<K: Key> Ledger<K> {
    pub(crate) fn new(
        limits: Limits,
        choice: Choice,
        policy: Box<dyn Policy>,
        space: Arc<CodeSpace>,
        bonds: Bonds,
        queue: Arc<Queue<K>>,
    ) -> Self {
        Self {
            limits,
            counters: Counters::default(),
            generations: ByNumber::default(),
            policy,
            space,
            probation: BTreeMap::new(),
            doomed: Vec::new(),
            homes: ByMethod::default(),
            bonds,
            victims: choice.victims,
            work: choice.work,
            outbox: None,
            patience: choice.patience,
            damping: choice.damping,
            failed: Failed::default(),
            gone: Gone::default(),
            queue,
            woken: Wakers::default(),
            asked_again: Vec::new(),
            dead: Vec::new(),
            retired: Charge::default(),
            held: Charge::default(),
            alive: Charge::default(),
            kept: Charge::default(),
            slack: Slack::default(),
            cramped: false,
            recipe_bytes: 0,
        }
    }

    /// Something has happened.
    fn put(&self, told: impl FnOnce() -> Told<K>) {
        if let Some(outbox) = &self.outbox {
            outbox.put(told());
        }
    }

    /// The policy, with no candidates. The cache has none from now on: it is a forked child's.
    pub(crate) fn give_policy_up(&mut self) -> Box<dyn Policy> {
        let mut policy = std::mem::replace(&mut self.policy, Box::new(Lru::new()));
        self.homes.iter().for_each(|(id, _)| policy.remove(id));
        policy
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
            how: How { tier, promotes, .. },
            bonds,
            result,
        } in outcomes
        {
            let mut state = method.lock();
            state.end_request();
            state.wished = false;
            let again = std::mem::take(&mut state.again);
            self.woken.append(std::mem::take(&mut state.wakers));
            match result {
                // Never publish twice: the first code's generation would wait for it for ever. And not
                // if something fell: who let it fall has advanced the version before he asks for this lock.
                _ if state.version != version && kept("publish.version")
                    || self.is_as_good(&state, tier)
                    || kept("publish.bonds") && !bonds.iter().all(Bond::is_current) =>
                {
                    self.counters.stale += 1;
                    self.forget_failure(&method, &mut state);
                    if !promotes {
                        state.tried = false; // it may be another method now
                    }
                    if again {
                        self.asked_again.push(method.clone());
                    }
                    if let Some(resident) = &state.resident {
                        self.give_leaving_up(resident.generation, false);
                    }
                    match result {
                        Ok(published) => self.gone.sources.extend(published.source),
                        Err(error) => self.gone.errors.push(error),
                    }
                    self.put(|| Told::InVain(method.clone()));
                }
                Err(error) => {
                    self.counters.failures += 1;
                    // A policy that panics is no fault of the method's.
                    let panicked = matches!(error, Error::CompilePanicked { .. });
                    let for_good = error.is_of_the_method() && !panicked;
                    if promotes && for_good {
                        state.tried = true;
                    }
                    if let Some(resident) = &state.resident {
                        self.give_leaving_up(resident.generation, for_good && !promotes);
                    }
                    event!("failed", key = ?method.key, error = %error);
                    self.put(|| Told::Failed(method.clone(), error.clone()));
                    if promotes {
                        // It may do well in its first tier: who waits asks for that.
                        self.gone.errors.push(error);
                    } else {
                        self.note_failure(&method, &mut state, error);
                    }
                }
                Ok(Published {
                    entry,
                    bytes,
                    compile_time,
                    stays,
                    recipe,
                    times,
                    together,
                    source,
                }) => {
                    self.counters.compiles += 1;
                    self.forget_failure(&method, &mut state);
                    self.note_compiled(&mut state);
                    let resident = Resident::new(entry, generation, tier, stays.is_some());
                    let left = state.resident.replace(resident);
                    if let Some(mut left) = left {
                        method.moved(left.entry, entry, true);
                        method.end_probation(&mut left);
                    } else {
                        method.link(entry);
                    }
                    self.put(|| Told::Finished {
                        method: method.clone(),
                        generation,
                        bytes,
                        times,
                        together,
                        tier,
                        promoted: left.is_some_and(|left| tier > left.tier),
                    });
                    drop(state);
                    if let Some(left) = left {
                        self.leave(&method, &left, tier);
                    }
                    self.bonds.bind(method.id, bonds);
                    if let Some(name) = stays {
                        method.keep();
                        self.note_staying(generation, name, bytes);
                    }
                    let home = Home {
                        method: method.clone(),
                        cost: Cost::new(bytes, compile_time),
                        recipe,
                        source: source.map(Box::new),
                    };
                    self.admit(&method, &resident, home);
                    if left.is_some() && method.is_kept() {
                        // It was a candidate before, and stays now.
                        self.policy.remove(method.id);
                    }
                    event!("published", key = ?method.key, generation, bytes);
                    if kept("publish.notify") {
                        method.notify();
                    }
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

    /// Whether a method has code where it may stay, of this tier or a later one.
    fn is_as_good(&self, state: &State, tier: u8) -> bool {
        let is_as_good = |r: &Resident| r.tier >= tier && !self.generations[&r.generation].leaving;
        state.resident.as_ref().is_some_and(is_as_good)
    }

    fn admit(&mut self, method: &Arc<Method<K>>, resident: &Resident, home: Home<K>) {
        let cost = home.cost;
        self.recipe_bytes += home.recipe_bytes();
        self.homes.insert(method.id, home);
        self.move_in(method, resident);
        if !method.is_kept() {
            self.policy.insert(method.id, cost);
        }
    }

    /// A method was compiled again: for a later tier, or because its generation is being left.
    fn leave(&mut self, method: &Arc<Method<K>>, left: &Resident, tier: u8) {
        let why = if tier > left.tier {
            self.counters.promoted += 1;
            event!("promoted", key = ?method.key, tier);
            Cause::Promoted
        } else {
            self.counters.recompiled += 1;
            Cause::Moved
        };
        self.give_up_home(method, left);
        self.space.symbols().unlinked(left.entry as u64, why);
        self.bury_if_dead(left.generation);
    }

    /// The method has not got this code any more.
    fn give_up_home(&mut self, method: &Arc<Method<K>>, resident: &Resident) {
        if resident.is_listed() {
            self.probation.remove(&resident.place);
        }
        let mut home = self.homes.remove(method.id).expect("it has code");
        self.move_out(method, &home, resident);
        self.bonds.unbind(method.id);
        self.recipe_bytes -= home.recipe_bytes();
        self.gone
            .sources
            .extend(home.source.take().map(|source| *source));
        self.gone.methods.push(home.method);
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
            let listed = *resident;
            resident.relinked = false;
            drop(state);
            if listed.is_listed() {
                self.unlist(method.id, &listed);
                self.counters.relinks += 1;
            }
            self.count_kept(listed.generation);
            self.settle(listed.generation);
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
            self.settle(generation);
            self.policy.insert(method.id, self.homes[method.id].cost);
        }
    }

    /// Nobody wishes for the method any more; if it is queued, and nobody waits for it, it is so no longer.
    fn drop_request(&mut self, method: &Method<K>, state: &mut State, cause: Cause) {
        // What has no code was not evicted: it is asked for since it has none. What has, and is queued, is
        // so by the cache's own will.
        if cause == Cause::Evicted && state.resident.is_none() {
            return;
        }
        (state.wished, state.again) = (false, false);
        if state.phase == Phase::Queued
            && !method.is_waited_for()
            && let Some(method) = self.queue.drop_request(method)
        {
            state.end_request();
            self.put(|| Told::Dropped(method.clone()));
            self.gone.methods.push(method);
        }
    }

    /// Unlinks a method and gives its place in its generation up. False when it had no code.
    pub(crate) fn drop_code(&mut self, method: &Arc<Method<K>>, cause: Cause) -> bool {
        self.drop_code_if(method, cause, |_| true)
    }

    /// As that, if what the method has is to go.
    fn drop_code_if(
        &mut self,
        method: &Arc<Method<K>>,
        cause: Cause,
        goes: impl FnOnce(&Resident) -> bool,
    ) -> bool {
        let mut state = method.lock();
        if !state.resident.as_ref().is_none_or(goes) {
            return false;
        }
        if cause == Cause::Invalidated {
            state.invalidate();
            self.counters.invalidations += 1;
            self.forget_failure(method, &mut state);
            self.gone.fallen.extend(state.relied_on());
        }
        self.drop_request(method, &mut state, cause);
        let Some(mut resident) = state.resident.take() else {
            return false;
        };
        let listed = resident;
        method.end_probation(&mut resident);
        if kept("evict.unlink") {
            method.unlink();
        }
        let by = match cause {
            Cause::Evicted => Some(EvictedBy::Eviction),
            Cause::Invalidated => Some(EvictedBy::Invalidation),
            Cause::Assumption => Some(EvictedBy::Assumption),
            // It has code elsewhere.
            Cause::Moved | Cause::Promoted => None,
        };
        if let Some(by) = by {
            // Before anybody can ask for it again.
            self.put(|| Told::Evicted(method.clone(), by, resident.generation));
        }
        drop(state);
        let symbols = self.space.symbols();
        symbols.unlinked(resident.entry as u64, cause);
        event!("unlinked", key = ?method.key, ?cause, generation = resident.generation);
        if cause == Cause::Evicted {
            self.counters.evictions += 1;
        }
        let kept = method.is_kept();
        self.give_up_home(method, &listed);
        if resident.stays {
            // What it is compiled to next need not stay.
            method.unkeep();
        }
        self.bury_if_dead(resident.generation);
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
    if kept("relink") {
        method.link(resident.entry);
    }
}
