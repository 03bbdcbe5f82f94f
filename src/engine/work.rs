//! A compile worker: takes batches, compiles them into its open generation, publishes.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::core::{Core, lock};
use super::ledger::{Outcome, Published};
use super::tell::Told;
use super::{exit, quiet};
use crate::compile::{Batch, Class, How, Work};
use crate::error::Error;
use crate::generation::{Open, Sizes};
use crate::isolate::HelperFailure;
use crate::method::{Key, Method, Phase, State, Wakers};
use crate::sync::fault::kept;
use crate::sync::time::Instant;

/// How long a worker without work sleeps before it looks at the age of its generation.
const SHORTEST_REST: Duration = Duration::from_millis(10);
const LONGEST_REST: Duration = Duration::from_secs(1);

/// A method whose compilation has begun, as it was then.
pub(super) struct Begun<K: Key> {
    pub(super) method: Arc<Method<K>>,
    version: u64,
    /// Compilations that had ended: it is still this worker's for as long as none has since.
    attempts: u64,
}

impl<K: Key> Clone for Begun<K> {
    fn clone(&self) -> Self {
        Self {
            method: self.method.clone(),
            ..*self
        }
    }
}

impl<K: Key> Begun<K> {
    fn now(method: Arc<Method<K>>) -> Self {
        let mut state = method.lock();
        if kept("begun.phase") {
            state.phase = Phase::Compiling;
        }
        state.again = false;
        let (version, attempts) = (state.version, state.attempts);
        drop(state);
        Self {
            method,
            version,
            attempts,
        }
    }

    pub(super) fn name(&self) -> String {
        self.method.describe()
    }

    pub(super) fn outcome(&self, how: How, result: Result<Published<K>, Error>) -> Outcome<K> {
        Outcome {
            method: self.method.clone(),
            version: self.version,
            how,
            bonds: Vec::new(),
            result,
        }
    }
}

impl<K: Key> Core<K> {
    /// The life of worker number `worker`.
    pub(super) fn work(&self, worker: usize) {
        let idle = self
            .config
            .generation_age
            .clamp(SHORTEST_REST, LONGEST_REST);
        loop {
            let window = self.config.batch_window;
            let (limit, workers) = (self.config.batch_limit, self.config.workers);
            let resting = match self.queue.next(limit, workers, window, idle) {
                Work::Batch(class, methods) => {
                    self.compile(worker, class, methods);
                    false
                }
                Work::Idle => true,
                Work::Closed => break,
            };
            // A policy of the embedder's may panic here: the next round tries again.
            crate::contain(|| {
                self.seal_what_is_full(worker);
                if resting {
                    self.come_down();
                }
                self.evacuate(resting);
            });
        }
    }

    /// Brings the cache within its budgets. What the last batch would leave in its context was not
    /// known when room was made for it, and no other may come.
    pub(super) fn come_down(&self) {
        let beside = self.beside_generations();
        self.ledger().make_room(0, 0, beside);
        self.ring_if_dead();
    }

    /// Compiles requests together, and publishes what comes of each.
    pub(super) fn compile(&self, worker: usize, class: Class, methods: Vec<Arc<Method<K>>>) {
        let begun: Vec<Begun<K>> = methods.into_iter().map(Begun::now).collect();
        for b in &begun {
            self.put(|| Told::Started(b.method.clone(), begun.len()));
        }
        let how = How {
            tier: class.tier,
            promotes: class.tier > 0,
            staying: false,
            by_emitter: true,
            halvings: 0,
        };
        let started = Instant::now();
        let mut slot = lock(self.slot_for(worker, class));
        let attempt = catch_unwind(AssertUnwindSafe(|| self.attempt(&mut slot, &begun, how)));
        drop(slot);
        self.queue.note_time(begun.len(), started.elapsed());
        let mut wakers = Wakers::default();
        if let Err(panic) = attempt {
            // A policy of the embedder's, or a key, panicked: nobody must wait for ever.
            let message = crate::panic_message(&*panic);
            for b in &begun {
                // Those that were published before may be on their way again, and another worker's.
                let is_ours = |s: &State| s.phase == Phase::Compiling && s.attempts == b.attempts;
                let error = Error::CompilePanicked {
                    method: b.name(),
                    message: message.clone(),
                };
                wakers.append(self.give_up(&b.method, is_ours, error));
                self.ledger().came_to_nothing(&b.method);
            }
        }
        self.after_batch(wakers);
    }

    /// Those of a batch that somebody wants still, begun anew; nothing is told of the others.
    fn still_wanted(&self, begun: &[Begun<K>]) -> Vec<Begun<K>> {
        let (wanted, unwanted) = begun.iter().cloned().partition(|b| {
            let state = b.method.lock();
            b.method.is_wanted(&state)
        });
        let begins = |b: Begun<K>| Begun::now(b.method);
        self.let_go(unwanted);
        let wanted: Vec<_> = wanted;
        wanted.into_iter().map(begins).collect()
    }

    /// Ends requests of methods that nobody wanted any more, in the middle of their batch.
    fn let_go(&self, unwanted: Vec<Begun<K>>) {
        if unwanted.is_empty() {
            return;
        }
        self.queue.count_dropped(unwanted.len());
        let mut ledger = self.ledger();
        for Begun { method, .. } in unwanted {
            let mut state = method.lock();
            state.end_request();
            ledger.woken.append(std::mem::take(&mut state.wakers));
            let again = std::mem::take(&mut state.again);
            if state.failure.as_ref().is_some_and(|old| !old.stands()) {
                ledger.forget_failure(&method, &mut state);
            }
            self.put(|| Told::Dropped(method.clone()));
            drop(state);
            method.notify();
            ledger.came_to_nothing(&method);
            if again {
                ledger.asked_again.push(method);
            }
        }
    }

    /// One attempt at a batch; when nobody knows whose fault its failure is, each half again.
    /// If it is a batch of methods that stay, the slot's generation stays too.
    pub(super) fn attempt(&self, slot: &mut Option<Open<K>>, begun: &[Begun<K>], how: How) {
        let fail_all = |error: Error| {
            let named = |b: &Begun<K>| rename(error.clone(), b.name());
            let failed = |b: &Begun<K>| b.outcome(how, Err(named(b)));
            let failed = begun.iter().map(failed).collect();
            self.publish_failures(failed);
        };
        if self.queue.is_closed() {
            return fail_all(Error::ShuttingDown); // somebody waits for this thread to end
        }
        if slot.is_none() {
            match self.open_generation(how.staying) {
                Ok(open) => *slot = Some(open),
                Err(error) => return fail_all(error),
            }
        }
        let open = slot.as_ref().expect("opened just now");
        if let Err(error) = self.admit(open, Sizes::default(), &String::new) {
            return fail_all(error); // to compile it would make the context grow, for nothing
        }
        let mut wanted = self.still_wanted(begun);
        if how.promotes {
            // What has lost its code meanwhile begins anew.
            let has_code = |b: &Begun<K>| b.method.lock().resident.is_some();
            let (there, gone): (Vec<_>, Vec<_>) = wanted.into_iter().partition(has_code);
            if !gone.is_empty() {
                let anew = How {
                    tier: 0,
                    promotes: false,
                    ..how
                };
                self.attempt(slot, &gone, anew);
            }
            wanted = there;
        }
        let begun = &wanted[..];
        if begun.is_empty() {
            return;
        }
        if slot.is_none() {
            // That was full.
            match self.open_generation(how.staying) {
                Ok(open) => *slot = Some(open),
                Err(error) => return fail_all(error),
            }
        }
        let methods: Vec<_> = begun.iter().map(|b| b.method.clone()).collect();
        let started = Instant::now();
        let supplies = self.supplies();
        let mut batch = Batch::new(&methods, self.sources_of(begun, how), &supplies, how);
        let compiled = self.compile_batch(slot, &mut batch);
        let (begun, others) = self.sort_out(begun, &mut batch);
        match compiled {
            Ok(object) => {
                if !begun.is_empty() {
                    self.place(slot, &begun, &object, batch, started);
                }
            }
            Err(error) => {
                // Who is known to be guilty goes first; the rest is tried in halves.
                let (mut failed, mut rest) = (Vec::new(), Vec::new());
                let mut halved = how;
                if how.halvings > 0 || took_too_long(&error) {
                    halved.halvings = how.halvings.saturating_add(1);
                }
                for (b, guilty) in begun.into_iter().zip(std::mem::take(&mut batch.failed)) {
                    match guilty {
                        Some(guilty) => failed.push(b.outcome(how, Err(guilty))),
                        None => rest.push(b),
                    }
                }
                if let ([b], true) = (&rest[..], failed.is_empty()) {
                    failed.push(b.outcome(how, Err(rename(error, b.name()))));
                    rest.clear();
                }
                self.publish_failures(failed);
                let (left, right) = rest.split_at(rest.len() / 2);
                for half in [left, right] {
                    if !half.is_empty() {
                        self.attempt(slot, half, halved);
                    }
                }
            }
        }
        for (how, others) in others {
            if how.staying && !slot.as_ref().is_some_and(|open| open.staying) {
                // Taken after a worker's own, and by nobody the other way round.
                self.attempt(&mut lock(self.staying()), &others, how);
            } else {
                self.attempt(slot, &others, how);
            }
        }
    }

    /// After a batch was compiled: what is in it, as of when its emission began, and what is to be compiled
    /// otherwise. Those that nobody wanted are let go.
    fn sort_out(&self, begun: &[Begun<K>], batch: &mut Batch<'_, K>) -> (Vec<Begun<K>>, Others<K>) {
        let (mut here, mut unwanted) = (Vec::new(), Vec::new());
        let mut others: Others<K> = Vec::new();
        let otherwise = std::mem::take(&mut batch.otherwise);
        for (i, (begun, otherwise)) in begun.iter().zip(otherwise).enumerate() {
            let mut begun = begun.clone();
            begun.version = batch.versions[i].unwrap_or(begun.version);
            match otherwise {
                _ if batch.unwanted[i] => unwanted.push(begun),
                None => {
                    let place = here.len();
                    here.push(begun);
                    batch.failed.swap(place, i);
                    batch.assumed.swap(place, i);
                    batch.kept.swap(place, i);
                    batch.sources.swap(place, i);
                }
                Some(how) => match others.iter_mut().find(|(known, _)| *known == how) {
                    Some((_, others)) => others.push(begun),
                    None => others.push((how, vec![begun])),
                },
            }
        }
        batch.failed.truncate(here.len());
        batch.assumed.truncate(here.len());
        self.let_go(unwanted);
        (here, others)
    }

    /// Runs the backend. A panic in it costs the context, which may be half-changed.
    fn compile_batch(
        &self,
        slot: &mut Option<Open<K>>,
        batch: &mut Batch<'_, K>,
    ) -> Result<Vec<u8>, Error> {
        let open = slot.as_mut().expect("opened by `attempt`");
        let context = open
            .body
            .context
            .as_mut()
            .expect("an open generation has its context");
        let going = self.overtime.begin(batch.methods);
        let inside = quiet::go_inside();
        let compiled = catch_unwind(AssertUnwindSafe(|| self.backend.compile(context, batch)));
        drop((going, inside));
        exit::again();
        open.context_bytes = context.bytes;
        compiled.unwrap_or_else(|panic| {
            self.seal_slot(slot);
            let message = crate::panic_message(&*panic);
            Err(Error::CompilePanicked {
                method: String::new(),
                message,
            })
        })
    }

    /// Tells of methods that failed before they had a place.
    pub(super) fn publish_failures(&self, outcomes: Vec<Outcome<K>>) {
        if !outcomes.is_empty() {
            // No method of these is published, so the generation's number is not looked at.
            self.ledger().publish(u64::MAX, outcomes);
        }
    }

    pub(crate) fn ring_if_dead(&self) {
        if !self.ledger().dead.is_empty() {
            self.bell.ring();
        }
    }

    /// Ends a request that came to nothing, if it `is_ours` still. Returns who is to be woken.
    fn give_up(
        &self,
        method: &Arc<Method<K>>,
        is_ours: impl Fn(&State) -> bool,
        error: Error,
    ) -> Wakers {
        let told = |state: &State| {
            let ours = is_ours(state);
            if ours {
                self.put(|| Told::Failed(method.clone(), error.clone()));
            }
            ours
        };
        method.give_up(told, || error.clone())
    }

    /// Lets nothing in any more, and tells who waits.
    pub(crate) fn close(&self) {
        if let Some(helpers) = &self.config.helpers {
            helpers.close();
        }
        let mut wakers = Wakers::default();
        for method in self.queue.close() {
            // It came out of the queue, so nobody else has it.
            let is_ours = |s: &State| s.phase == Phase::Queued;
            wakers.append(self.give_up(&method, is_ours, Error::ShuttingDown));
        }
        self.bell.ring();
        wakers.wake();
    }
}

/// Methods that are to be compiled in the same way.
type Others<K> = Vec<(How, Vec<Begun<K>>)>;

fn took_too_long(error: &Error) -> bool {
    let Error::Isolated { failure, .. } = error else {
        return false;
    };
    matches!(failure, HelperFailure::TimedOut { .. })
}

/// Puts the name of the guilty method, known now, into an error that spoke of a batch.
pub(super) fn rename(error: Error, name: String) -> Error {
    match error {
        Error::Codegen { message, .. } => Error::Codegen {
            method: name,
            message,
        },
        Error::CompilePanicked { message, .. } => Error::CompilePanicked {
            method: name,
            message,
        },
        Error::Isolated { failure, .. } => Error::Isolated {
            method: name,
            failure,
        },
        Error::Link { source, .. } => Error::Link {
            method: name,
            source,
        },
        Error::HardLimit {
            needed,
            in_use,
            limit,
            ..
        } => Error::HardLimit {
            method: name,
            needed,
            in_use,
            limit,
        },
        other => other,
    }
}
