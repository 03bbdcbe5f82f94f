//! From an object to methods that can be called: linked into a worker's open generation, and published.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::core::Core;
use super::fork;
use super::ledger::{Outcome, Published};
use super::work::{Begun, rename};
use crate::code::Named;
use crate::compile::{Batch, OwnSymbol, Source, method_of, parse_symbol, sort, symbol_of};
use crate::error::Error;
use crate::generation::{Added, Failure, Open, Sizes};
use crate::invalidate::{self, settle};
use crate::link::{self, LinkedFunction, Object};
use crate::method::{Key, Method};
use crate::observe::CompileTime;
use crate::sync::fault::kept;
use crate::sync::time::Instant;

impl<K: Key> Core<K> {
    /// Links an object into the open generation, and publishes its methods.
    pub(super) fn place(
        &self,
        slot: &mut Option<Open<K>>,
        begun: &[Begun<K>],
        object: &[u8],
        mut batch: Batch<'_, K>,
        started: Instant,
    ) {
        let mut failed = std::mem::take(&mut batch.failed);
        let (phases, how) = (batch.phases, batch.how);
        let link_started = Instant::now();
        let linked = if failed.iter().all(Option::is_some) {
            Ok(None) // nothing was emitted
        } else {
            self.link(slot, begun, object, &mut batch).map(Some)
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
                self.attempt(slot, left, batch.how);
                return self.attempt(slot, right, batch.how);
            }
            Err(error) => {
                let outcomes = begun.iter().zip(failed).map(|(b, f)| {
                    b.outcome(
                        how,
                        Err(f.unwrap_or_else(|| rename(error.clone(), b.name()))),
                    )
                });
                return self.publish_failures(outcomes.collect());
            }
        };
        let open = slot.as_mut().expect("`link` leaves one open");
        let callees = &mut open.body.callees;
        if kept("callees") {
            callees.append(&mut batch.callees);
        }
        sort(callees);
        let assumptions = &mut open.body.assumptions;
        for bonds in &mut batch.assumed {
            settle(bonds);
            assumptions.extend(bonds.iter().map(|bond| bond.assumption.clone()));
        }
        invalidate::sort(assumptions);
        open.methods += begun.len();
        let in_llvm = phases.emit + phases.optimise + phases.generate;
        let times = Arc::new(CompileTime {
            emit: phases.emit,
            optimise: phases.optimise,
            generate: phases.generate,
            link: link_time,
            overhead: started.elapsed().saturating_sub(in_llvm),
        });
        let promotable = batch.is_promotable();
        let mut by_method = added.map(ByMethod::new);
        let outcomes: Vec<_> = begun
            .iter()
            .enumerate()
            .map(|(i, b)| {
                let mut result = self.result(b, failed[i].take(), by_method.as_mut(), took);
                if let Ok(published) = &mut result {
                    published.times = times.clone();
                    published.together = begun.len();
                    published.stays = open.staying.then(|| b.name());
                    let still_wanted = |s: &Source<K>| promotable || s.inlinable;
                    let known = batch.sources[i].take().filter(still_wanted);
                    published.source = batch.kept[i].take().or(known);
                }
                let mut outcome = b.outcome(how, result);
                outcome.bonds = std::mem::take(&mut batch.assumed[i]);
                outcome
            })
            .collect();
        if let Some(by_method) = &by_method {
            self.name_published(open.id, &outcomes, by_method);
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
        ledger.charge(open.id, open.body.region.mapped(), open.context_bytes);
        ledger.publish(open.id, outcomes);
        ledger.counters.overhead += started.elapsed().saturating_sub(in_llvm);
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
        added: Option<&mut ByMethod>,
        compile_time: Duration,
    ) -> Result<Published<K>, Error> {
        if let Some(error) = failed {
            return Err(error);
        }
        let link_error = |source| Error::Link {
            method: begun.name(),
            source,
        };
        let missing = || {
            link_error(link::LinkError::Unresolved {
                symbol: symbol_of(&begun.method),
                section: ".text".to_owned(),
            })
        };
        let added = added.ok_or_else(missing)?;
        if let Some(source) = added.failure(&begun.method) {
            return Err(link_error(source.clone()));
        }
        let (bytes, text) = (added.all.bytes, added.text);
        let function = added.function(&begun.method).ok_or_else(missing)?;
        Ok(Published {
            entry: function.address as usize,
            // Its share of the batch: constants and unwind tables go by the size of the code.
            bytes: bytes * function.size.max(1) / text.max(1),
            compile_time,
            stays: None,
            recipe: function.recipe.take(),
            times: Arc::default(),
            together: 1,
            source: None,
        })
    }

    /// Names the methods of a batch that are going to be published.
    fn name_published(&self, generation: u64, outcomes: &[Outcome<K>], by_method: &ByMethod) {
        let mut names = String::new();
        let mut ends = Vec::with_capacity(outcomes.len());
        for outcome in outcomes.iter().filter(|outcome| outcome.result.is_ok()) {
            outcome.method.append_short_name(&mut names);
            ends.push((outcome, names.len()));
        }
        let mut begin = 0;
        let named = ends.iter().filter_map(|&(outcome, end)| {
            let name = &names[std::mem::replace(&mut begin, end)..end];
            let function = by_method.find(&outcome.method)?;
            Some(Named {
                address: function.address,
                size: function.size,
                name,
            })
        });
        self.name(generation, &by_method.all.data, named);
    }

    /// Links the object into the slot's generation.
    fn link(
        &self,
        slot: &mut Option<Open<K>>,
        begun: &[Begun<K>],
        object: &[u8],
        batch: &mut Batch<'_, K>,
    ) -> Result<Added, Error> {
        let name = || match begun {
            [one] => one.name(),
            many => format!("a batch of {} methods", many.len()),
        };
        let link_error = |source| Error::Link {
            method: name(),
            source,
        };
        let object = Object::parse(object).map_err(link_error)?;
        batch.sort_callees();
        // Asked for before the fork lock is taken: it may be a front end that answers.
        let known: HashMap<&str, Option<u64>> = object
            .undefined()
            .map(|symbol| (symbol, self.resolve_symbol(symbol, batch)))
            .collect();
        let open = slot.as_mut().expect("opened by `attempt`");
        let growth = open.body.region.growth(&self.space, &object);
        self.admit(open, growth, &name)?;
        let added = fork::while_not_forking(|| {
            let mut resolve = |symbol: &str| known.get(symbol).copied().flatten();
            let holds = self.domain.holds();
            let region = &mut open.body.region;
            region.add(
                &self.space,
                holds,
                &object,
                &mut resolve,
                self.config.keep_recipes && !open.staying,
            )
        });
        if added.is_err() {
            let mapped = open.body.region.mapped();
            self.ledger().charge(open.id, mapped, open.context_bytes);
        }
        added.map_err(|failure| match failure {
            Failure::Link(source) => link_error(source),
            Failure::Memory(error) => error,
        })
    }

    /// Makes room for what the generation will grow by, or says that the hard limit leaves none.
    pub(super) fn admit(
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
        drop(ledger);
        self.evacuate_for(growth);
        let beside = self.beside_generations();
        let mut ledger = self.ledger();
        let limit = ledger.limits.hard_limit;
        let in_use = ledger.in_use() + beside;
        let fits = in_use.saturating_add(needed) <= limit;
        if fits {
            ledger.reserve(open.id, growth);
        }
        drop(ledger);
        self.ring_if_dead();
        if !fits {
            return Err(Error::HardLimit {
                method: batch(),
                needed,
                in_use,
                limit,
            });
        }
        Ok(())
    }

    /// What an undefined symbol of a batch's object means.
    fn resolve_symbol(&self, symbol: &str, batch: &mut Batch<'_, K>) -> Option<u64> {
        let mut symbol = symbol;
        if symbol.starts_with("inkpot.") {
            let cells = self.table.cells();
            match parse_symbol(symbol)? {
                OwnSymbol::Cell(number) => {
                    return batch.refer_to(number).then(|| cells.word_address(number));
                }
                OwnSymbol::Address(number) => {
                    return batch
                        .refer_to(number)
                        .then(|| cells.canonical(number) as u64);
                }
                OwnSymbol::PollFlag => return Some(cells.flag_address()),
                OwnSymbol::PollSafepoint => return Some(cells.poll_entry() as u64),
                OwnSymbol::CounterFull => return Some(cells.full_entry() as u64),
                OwnSymbol::CounterRound => return Some(cells.round_entry() as u64),
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
}

/// What was linked, by the methods that it is of.
struct ByMethod {
    all: Added,
    /// Numbers of cells, and where in `all` the function is; ascending.
    functions: Vec<(u32, usize)>,
    /// The same of those that failed.
    failed: Vec<(u32, usize)>,
    /// Bytes of all functions.
    text: u64,
}

impl ByMethod {
    fn new(all: Added) -> Self {
        /// Of two functions of a name the first is found.
        fn sorted<'s>(names: impl Iterator<Item = &'s str>) -> Vec<(u32, usize)> {
            let numbered = names.enumerate();
            let numbered = numbered.filter_map(|(at, name)| Some((method_of(name)?, at)));
            let mut sorted: Vec<_> = numbered.collect();
            sorted.sort_unstable();
            sorted
        }
        Self {
            functions: sorted(all.functions.iter().map(|f| &*f.name)),
            failed: sorted(all.failed.iter().map(|(name, _)| &**name)),
            text: all.functions.iter().map(|f| f.size.max(1)).sum(),
            all,
        }
    }

    fn place<K: Key>(among: &[(u32, usize)], method: &Method<K>) -> Option<usize> {
        let first = among.partition_point(|&(number, _)| number < method.cell);
        let &(number, at) = among.get(first)?;
        (number == method.cell).then_some(at)
    }

    fn find<K: Key>(&self, method: &Method<K>) -> Option<&LinkedFunction> {
        Self::place(&self.functions, method).map(|at| &self.all.functions[at])
    }

    fn function<K: Key>(&mut self, method: &Method<K>) -> Option<&mut LinkedFunction> {
        Self::place(&self.functions, method).map(|at| &mut self.all.functions[at])
    }

    fn failure<K: Key>(&self, method: &Method<K>) -> Option<&link::LinkError> {
        Self::place(&self.failed, method).map(|at| &self.all.failed[at].1)
    }
}
