//! A compile worker: takes batches, compiles them into its open generation, publishes.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::core::{Core, lock};
use super::ledger::{Outcome, Published};
use super::{exit, fork};
use crate::compile::{Batch, OwnSymbol, Work, parse_symbol, symbol_of};
use crate::config::ContextRelease;
use crate::error::Error;
use crate::generation::{Added, Body, Failure, Open, Region, Sizes};
use crate::link::{self, Object};
use crate::method::{Key, Method, Phase, State};

/// How long a worker without work sleeps before it looks at the age of its generation.
const SHORTEST_REST: Duration = Duration::from_millis(10);
const LONGEST_REST: Duration = Duration::from_secs(1);

/// Bytes of code that a generation may always map: its first slots, of text and of constants. A
/// share of a small budget would be less, and every method would get a generation of its own.
const LEAST_CODE: u64 = 32 << 10;

/// A method whose compilation has begun, as it was then.
struct Begun<K: Key> {
    method: Arc<Method<K>>,
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
        state.phase = Phase::Compiling;
        let (version, attempts) = (state.version, state.attempts);
        drop(state);
        Self {
            method,
            version,
            attempts,
        }
    }

    fn name(&self) -> String {
        self.method.describe()
    }

    fn outcome(&self, result: Result<Published, Error>) -> Outcome<K> {
        Outcome {
            method: self.method.clone(),
            version: self.version,
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
            let resting = match self.queue.next(self.config.batch_limit, window, idle) {
                Work::Batch(methods) => {
                    self.compile(worker, methods);
                    false
                }
                Work::Idle => true,
                Work::Closed => break,
            };
            // A policy of the embedder's may panic here: the next round tries again.
            let _ = catch_unwind(AssertUnwindSafe(|| {
                self.seal_if_full(&mut lock(&self.open[worker]));
                // Another worker that has it now looks at it itself.
                if let Ok(mut slot) = self.staying().try_lock() {
                    self.seal_if_full(&mut slot);
                }
                if resting {
                    self.come_down();
                }
            }));
        }
    }

    /// Brings the cache within its budgets. What the last batch would leave in its context was not
    /// known when room was made for it, and no other may come.
    fn come_down(&self) {
        let beside = self.beside_generations();
        self.ledger().make_room(0, 0, beside);
        self.ring_if_dead();
    }

    /// Compiles requests together, and publishes what comes of each.
    fn compile(&self, worker: usize, methods: Vec<Arc<Method<K>>>) {
        let begun: Vec<Begun<K>> = methods.into_iter().map(Begun::now).collect();
        let mut slot = lock(&self.open[worker]);
        let attempt = catch_unwind(AssertUnwindSafe(|| self.attempt(&mut slot, &begun, false)));
        if let Err(panic) = attempt {
            // A policy of the embedder's, or a key, panicked: nobody must wait for ever.
            let message = crate::panic_message(&*panic);
            for b in &begun {
                // Those that were published before may be on their way again, and another worker's.
                let is_ours = |s: &State| s.phase == Phase::Compiling && s.attempts == b.attempts;
                b.method.give_up(is_ours, || Error::CompilePanicked {
                    method: b.name(),
                    message: message.clone(),
                });
            }
        }
    }

    /// One attempt at a batch; when nobody knows whose fault its failure is, each half again.
    /// `staying`: the slot's generation stays, and so do these methods.
    fn attempt(&self, slot: &mut Option<Open<K>>, begun: &[Begun<K>], staying: bool) {
        let fail_all = |error: Error| {
            let named = |b: &Begun<K>| rename(error.clone(), b.name());
            let failed = begun.iter().map(|b| b.outcome(Err(named(b)))).collect();
            self.publish_failures(failed);
        };
        if self.queue.is_closed() {
            return fail_all(Error::ShuttingDown); // somebody waits for this thread to end
        }
        if slot.is_none() {
            match self.open_generation(staying) {
                Ok(open) => *slot = Some(open),
                Err(error) => return fail_all(error),
            }
        }
        let open = slot.as_ref().expect("opened just now");
        if let Err(error) = self.admit(open, Sizes::default(), &String::new) {
            return fail_all(error); // to compile it would make the context grow, for nothing
        }
        let methods: Vec<_> = begun.iter().map(|b| b.method.clone()).collect();
        let started = Instant::now();
        let mut batch = Batch::new(&methods, &self.table, staying, self.config.polls);
        batch.debug_info = self.config.debug_info;
        let compiled = self.compile_batch(slot, &mut batch);
        match compiled {
            Ok(object) => {
                let (here, apart) = separate(begun, &mut batch);
                if !here.is_empty() {
                    self.place(slot, &here, &object, batch, started);
                }
                if !apart.is_empty() {
                    // Taken after a worker's own, and by nobody the other way round.
                    self.attempt(&mut lock(self.staying()), &apart, true);
                }
            }
            Err(error) if begun.len() == 1 => fail_all(error),
            Err(_) => {
                // Who is known to be guilty goes first; the rest is tried in halves.
                let guilty = std::mem::take(&mut batch.failed);
                let (bad, rest): (Vec<_>, Vec<_>) = begun
                    .iter()
                    .zip(guilty)
                    .partition(|(_, error)| error.is_some());
                let failed = bad
                    .into_iter()
                    .filter_map(|(b, error)| Some(b.outcome(Err(error?))))
                    .collect();
                self.publish_failures(failed);
                let rest: Vec<_> = rest.into_iter().map(|(b, _)| b.clone()).collect();
                let (left, right) = rest.split_at(rest.len() / 2);
                for half in [left, right] {
                    if !half.is_empty() {
                        self.attempt(slot, half, staying);
                    }
                }
            }
        }
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
        let compiled = catch_unwind(AssertUnwindSafe(|| self.backend.compile(context, batch)));
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

    /// The open generation of methods that stay.
    fn staying(&self) -> &Mutex<Option<Open<K>>> {
        &self.open[self.config.workers]
    }

    fn open_generation(&self, staying: bool) -> Result<Open<K>, Error> {
        let context = self.context()?;
        let bytes = context.bytes;
        let id = self.ledger().open(bytes);
        let region = Region::new();
        let body = Body {
            callees: Vec::new(),
            context: Some(context),
            region,
        };
        Ok(Open {
            id,
            body,
            methods: 0,
            context_bytes: bytes,
            since: Instant::now(),
            staying,
        })
    }

    /// Links an object into the open generation, and publishes its methods.
    fn place(
        &self,
        slot: &mut Option<Open<K>>,
        begun: &[Begun<K>],
        object: &[u8],
        batch: Batch<'_, K>,
        started: Instant,
    ) {
        let Batch {
            mut failed, phases, ..
        } = batch;
        let link_started = Instant::now();
        let linked = if failed.iter().all(Option::is_some) {
            Ok(None) // nothing was emitted
        } else {
            self.link(slot, begun, object).map(Some)
        };
        let link_time = link_started.elapsed();
        let took = started.elapsed() / begun.len() as u32;
        let added = match linked {
            Ok(added) => added,
            // Nobody knows by whose fault, or a smaller one may fit: as for a failed compilation.
            Err(
                Error::Link { .. }
                | Error::HardLimit { .. }
                | Error::OutOfSpace { .. }
                | Error::Memory { .. },
            ) if begun.len() > 1 => {
                let (left, right) = begun.split_at(begun.len() / 2);
                let staying = slot.as_ref().is_some_and(|open| open.staying);
                self.attempt(slot, left, staying);
                return self.attempt(slot, right, staying);
            }
            Err(error) => {
                let outcomes = begun.iter().zip(failed).map(|(b, f)| {
                    b.outcome(Err(f.unwrap_or_else(|| rename(error.clone(), b.name()))))
                });
                return self.publish_failures(outcomes.collect());
            }
        };
        let open = slot.as_mut().expect("`link` leaves one open");
        open.body.callees.extend(batch.callees);
        open.methods += begun.len();
        let outcomes: Vec<_> = begun
            .iter()
            .enumerate()
            .map(|(i, b)| {
                let mut result = self.result(b, failed[i].take(), added.as_ref(), took);
                if let Ok(published) = &mut result {
                    published.stays = open.staying.then(|| b.name());
                }
                b.outcome(result)
            })
            .collect();
        if let Some(added) = &added {
            let linked = outcomes.iter().filter_map(|outcome| {
                let published = outcome.result.as_ref().ok()?;
                Some((&*outcome.method, published.entry as u64))
            });
            self.name(open.id, added, linked);
        }
        // Before any of the code can run, which may store them wherever it likes.
        if outcomes.iter().any(|o| o.result.is_ok()) {
            batch.addressed.iter().for_each(|method| {
                method.take_address();
            });
        }
        let mut ledger = self.ledger();
        ledger.counters.emit += phases.emit;
        ledger.counters.optimise += phases.optimise;
        ledger.counters.generate += phases.generate;
        ledger.counters.link += link_time;
        let llvm = phases.emit + phases.optimise + phases.generate;
        ledger.charge(open.id, open.body.region.mapped(), open.context_bytes);
        ledger.publish(open.id, outcomes);
        ledger.counters.overhead += started.elapsed().saturating_sub(llvm);
        let sealed_now = ledger.wants_seal(open.id);
        drop(ledger);
        if sealed_now {
            self.seal_slot(slot);
        }
        self.ring_if_dead();
    }

    fn result(
        &self,
        begun: &Begun<K>,
        failed: Option<Error>,
        added: Option<&Added>,
        compile_time: Duration,
    ) -> Result<Published, Error> {
        if let Some(error) = failed {
            return Err(error);
        }
        let symbol = symbol_of(&begun.method);
        let link_error = |source| Error::Link {
            method: begun.name(),
            source,
        };
        let missing = || {
            link_error(link::LinkError::Unresolved {
                symbol: symbol.clone(),
                section: ".text".to_owned(),
            })
        };
        let added = added.ok_or_else(missing)?;
        if let Some((_, source)) = added.failed.iter().find(|(name, _)| *name == symbol) {
            return Err(link_error(source.clone()));
        }
        let function = added
            .functions
            .iter()
            .find(|f| f.name == symbol)
            .ok_or_else(missing)?;
        // Its share of the batch: constants and unwind tables go by the size of the code.
        let text: u64 = added.functions.iter().map(|f| f.size.max(1)).sum();
        let bytes = added.bytes * function.size.max(1) / text.max(1);
        Ok(Published {
            entry: function.address as usize,
            bytes,
            compile_time,
            stays: None,
        })
    }

    /// Links the object into the slot's generation.
    fn link(
        &self,
        slot: &mut Option<Open<K>>,
        begun: &[Begun<K>],
        object: &[u8],
    ) -> Result<Added, Error> {
        let batch = || match begun {
            [one] => one.name(),
            many => format!("a batch of {} methods", many.len()),
        };
        let link_error = |source| Error::Link {
            method: batch(),
            source,
        };
        let object = Object::parse(object).map_err(link_error)?;
        // Asked for before the fork lock is taken: it may be a front end that answers.
        let known: HashMap<&str, Option<u64>> = object
            .undefined()
            .map(|symbol| (symbol, self.resolve_symbol(symbol)))
            .collect();
        let open = slot.as_mut().expect("opened by `attempt`");
        let growth = open.body.region.growth(&self.space, &object);
        self.admit(open, growth, &batch)?;
        let added = fork::while_not_forking(|| {
            let mut resolve = |symbol: &str| known.get(symbol).copied().flatten();
            let holds = self.domain.holds();
            let region = &mut open.body.region;
            region.add(&self.space, holds, &object, &mut resolve)
        });
        added.map_err(|failure| match failure {
            Failure::Link(source) => link_error(source),
            Failure::Memory(error) => error,
        })
    }

    /// Makes room for what the generation will grow by, or says that the hard limit leaves none.
    fn admit(
        &self,
        open: &Open<K>,
        growth: Sizes,
        batch: &dyn Fn() -> String,
    ) -> Result<(), Error> {
        let needed = growth.code() + growth.unwind;
        let beside = self.beside_generations();
        let mut ledger = self.ledger();
        // The context has grown already, by what the batch left in it.
        ledger.charge(open.id, open.body.region.mapped(), open.context_bytes);
        ledger.make_room(growth.code(), needed, beside);
        let limit = ledger.limits.hard_limit;
        let in_use = ledger.alive.total() + ledger.retired.total() + beside;
        drop(ledger);
        self.ring_if_dead();
        if in_use.saturating_add(needed) > limit {
            return Err(Error::HardLimit {
                method: batch(),
                needed,
                in_use,
                limit,
            });
        }
        Ok(())
    }

    /// What an undefined symbol of an object means.
    fn resolve_symbol(&self, symbol: &str) -> Option<u64> {
        let mut symbol = symbol;
        if symbol.starts_with("inkpot.") {
            let cells = self.table.cells();
            match parse_symbol(symbol)? {
                OwnSymbol::Cell(number) => return Some(cells.word_address(number)),
                OwnSymbol::Address(number) => return Some(cells.canonical(number) as u64),
                OwnSymbol::PollFlag => return Some(cells.flag_address()),
                OwnSymbol::PollSafepoint => return Some(cells.poll_entry() as u64),
                OwnSymbol::Import(name) => symbol = name,
            }
        }
        if let Some(&address) = self.config.imports.get(symbol) {
            return Some(address as u64);
        }
        let by_backend = || {
            // A panic costs what refers to this name, no more.
            let asked = catch_unwind(AssertUnwindSafe(|| self.backend.resolve(symbol)));
            asked.unwrap_or_default()
        };
        // The front end first: its runtime may have a `memcpy` of its own.
        let known = by_backend().or_else(|| link::runtime::lookup(symbol));
        known.map(|address| address as u64)
    }

    /// Tells of methods that failed before they had a place.
    fn publish_failures(&self, outcomes: Vec<Outcome<K>>) {
        if !outcomes.is_empty() {
            // No method of these is published, so the generation's number is not looked at.
            self.ledger().publish(u64::MAX, outcomes);
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

    fn seal_if_full(&self, slot: &mut Option<Open<K>>) {
        if slot.as_ref().is_some_and(|open| self.is_full(open)) {
            self.seal_slot(slot);
        }
    }

    /// Seals the slot's generation, if there is one.
    fn seal_slot(&self, slot: &mut Option<Open<K>>) {
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
        for slot in &self.open {
            self.seal_slot(&mut lock(slot));
        }
    }

    /// Seals the open generations of workers that are not compiling now.
    pub(crate) fn try_seal(&self) {
        for slot in &self.open {
            if let Ok(mut slot) = slot.try_lock() {
                self.seal_slot(&mut slot);
            }
        }
    }

    pub(crate) fn ring_if_dead(&self) {
        if !self.ledger().dead.is_empty() {
            self.bell.ring();
        }
    }

    /// Lets nothing in any more, and tells who waits.
    pub(crate) fn close(&self) {
        for method in self.queue.close() {
            // It came out of the queue, so nobody else has it.
            method.give_up(|s| s.phase == Phase::Queued, || Error::ShuttingDown);
        }
        self.bell.ring();
    }
}

/// Takes out of a batch those that are to be compiled apart: what is left, and they.
fn separate<K: Key>(
    begun: &[Begun<K>],
    batch: &mut Batch<'_, K>,
) -> (Vec<Begun<K>>, Vec<Begun<K>>) {
    let (mut here, mut others) = (Vec::new(), Vec::new());
    let failed = std::mem::take(&mut batch.failed);
    for ((begun, failed), apart) in begun.iter().zip(failed).zip(&batch.apart) {
        if *apart {
            others.push(begun.clone());
        } else {
            here.push(begun.clone());
            batch.failed.push(failed);
        }
    }
    (here, others)
}

/// Puts the name of the guilty method, known now, into an error that spoke of a batch.
fn rename(error: Error, name: String) -> Error {
    match error {
        Error::Codegen { message, .. } => Error::Codegen {
            method: name,
            message,
        },
        Error::CompilePanicked { message, .. } => Error::CompilePanicked {
            method: name,
            message,
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
