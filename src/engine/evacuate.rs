//! Evacuation: what survives in sparse generations moves together, so that these can go.
//!
//! A generation lives as long as its last method. When that keeps more memory than it would take to
//! move what lives there (see [`super::ledger`]), a compile worker moves it into a generation of
//! survivors: linked again from its [`Recipe`] and the bytes of the old code, which takes
//! microseconds; or, where there is no recipe, compiled again. Then the old generation dies like any
//! other: threads that are inside of the old code, or hold it, leave it when they return.
//!
//! ```text
//! sealed, sparse      | a . . . b . . . . . c . |      | . . d . . . |
//!                       └──────┐  └──┐      └─┐ ┌──────────┘
//! open, of survivors  | ...    a     b        c d            |
//! ```
//!
//! A method that moves has its code all the time. Its cell, its canonical address and its callback are
//! what they were; whoever loads the cell from then on gets the new code.

use std::sync::Arc;

use super::ask::Asker;
use super::core::{Core, lock};
use super::fork;
use super::ledger::{Leaver, Leaving, Mark, Move};
use crate::code::Named;
use crate::error::Error;
use crate::generation::{Failure, Open, Sizes};
use crate::link::Recipe;
use crate::method::{Key, Method, State};
use crate::sync::time::Instant;

/// Methods that are moved at a time.
const TOGETHER: usize = 64;
/// Without need a generation is left only if that is so many times less work than it may be.
const IDLE: f64 = 8.0;

/// Why survivors move.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Why {
    /// Memory is short.
    Short,
    /// A worker has nothing else to do.
    Idle,
    /// It is asked for, whether it pays or not.
    Asked,
}

/// A generation that is being left. Whatever happens, its body comes back to the ledger.
struct Away<'c, K: Key> {
    core: &'c Core<K>,
    /// It is as it was.
    stays: bool,
    leaving: Option<Leaving<K>>,
}

impl<K: Key> Drop for Away<'_, K> {
    fn drop(&mut self) {
        if let Some(leaving) = self.leaving.take() {
            self.core.ledger().end_leaving(leaving, self.stays);
            self.core.ring_if_dead();
        }
    }
}

impl<K: Key> Core<K> {
    /// Leaves sparse generations: while memory is short, or, if this worker is `resting`, those that it
    /// pays to leave in any case.
    pub(super) fn evacuate(&self, resting: bool) {
        if !self.config.evacuate {
            return;
        }
        self.evacuate_for(Sizes::default());
        if resting {
            let undisturbed = || self.queue.len() == 0 && !self.queue.is_closed();
            self.leave_while(self.config.evacuation_work / IDLE, undisturbed);
        }
    }

    /// Leaves all generations that it pays to leave. Returns how many.
    pub(crate) fn evacuate_now(&self) -> u64 {
        self.leave_while(self.config.evacuation_work, || !self.queue.is_closed())
    }

    fn leave_while(&self, work: f64, go_on: impl Fn() -> bool) -> u64 {
        let mut left = 0;
        let before = self.ledger().counters.generations;
        while go_on() {
            let pick = self.ledger().sparsest(work, false, before);
            if !pick.is_some_and(|generation| self.leave(generation, Why::Idle)) {
                break;
            }
            left += 1;
        }
        left
    }

    /// Leaves sparse generations if what comes does not fit, until it fits well. Where there is no memory
    /// even for those that move, evicts as if nothing could be moved.
    pub(super) fn evacuate_for(&self, coming: Sizes) {
        let mut mark = Mark::High;
        let before = self.ledger().counters.generations;
        loop {
            let beside = self.beside_generations();
            let mut ledger = self.ledger();
            if !ledger.wants_evacuation(mark, coming, beside) {
                return;
            }
            let Some(generation) = ledger.sparsest(self.config.evacuation_work, true, before)
            else {
                return;
            };
            drop(ledger);
            if !self.leave(generation, Why::Short) {
                ledger = self.ledger();
                ledger.cramped = true;
                ledger.make_room(coming.code(), coming.code() + coming.unwind, beside);
                return;
            }
            mark = Mark::Low;
        }
    }

    /// Leaves all sealed generations out of which everything can be moved, whether it pays or not.
    /// Returns how many.
    pub(crate) fn compact(&self) -> u64 {
        let all = self.ledger().movable();
        let left = |id: &u64| !self.queue.is_closed() && self.leave(*id, Why::Asked);
        all.iter().take_while(|id| left(id)).count() as u64
    }

    /// Under stress: leaves the oldest generation that can be left.
    pub(super) fn leave_any(&self) {
        let oldest = self.ledger().movable().first().copied();
        if let Some(generation) = oldest {
            self.leave(generation, Why::Asked);
        }
    }

    /// Moves what lives in a generation elsewhere. False if there is no memory for it.
    fn leave(&self, generation: u64, why: Why) -> bool {
        let started = Instant::now();
        let leaving = self.ledger().begin_leaving(generation, why == Why::Short);
        let Some(leaving) = leaving else {
            return true; // somebody was quicker
        };
        let mut away = Away {
            core: self,
            stays: true,
            leaving: Some(leaving),
        };
        let Some(fixed) = away.leaving.as_mut().and_then(|l| self.move_all(l).ok()) else {
            return false;
        };
        away.stays = why == Why::Asked && !fixed.is_empty();
        drop(away);
        self.ledger().counters.moving += started.elapsed();
        if why != Why::Asked {
            for method in &fixed {
                self.compile_again(method, generation);
            }
        }
        true
    }

    /// Moves all who are to leave a generation. Returns those that have to be compiled again.
    fn move_all(&self, leaving: &mut Leaving<K>) -> Result<Vec<Arc<Method<K>>>, Error> {
        let mut fixed = Vec::new();
        for kept in [false, true] {
            let members = std::mem::take(&mut leaving.members[usize::from(kept)]);
            let (with, without): (Vec<_>, Vec<_>) =
                members.into_iter().partition(|l| l.recipe.is_some());
            fixed.extend(without.into_iter().map(|leaver| leaver.method));
            if with.is_empty() {
                continue;
            }
            // Keys say their names before the lock is taken, and are dropped after it.
            let names: Vec<String> = with.iter().map(|l| l.method.short_name()).collect();
            let mut slot = lock(self.open.survivors(kept));
            for (some, names) in with.chunks(TOGETHER).zip(names.chunks(TOGETHER)) {
                fixed.append(&mut self.move_some(&mut slot, leaving, some, names)?);
                self.seal_if_full(&mut slot);
            }
        }
        Ok(fixed)
    }

    /// Moves methods of a generation. Returns those that cannot be linked where they would come to lie.
    fn move_some(
        &self,
        slot: &mut Option<Open<K>>,
        leaving: &Leaving<K>,
        some: &[Leaver<K>],
        names: &[String],
    ) -> Result<Vec<Arc<Method<K>>>, Error> {
        let recipes: Vec<&Recipe> = some.iter().filter_map(|l| l.recipe.as_ref()).collect();
        let open = slot.get_or_insert_with(|| self.open_for_survivors());
        let growth = open.body.region.growth_for(&self.space, &recipes);
        self.reserve_for_survivors(open, growth)?;
        let taken = fork::while_not_forking(|| {
            let region = &mut open.body.region;
            region.take_over(
                &self.space,
                self.domain.holds(),
                &recipes,
                &leaving.body.region,
            )
        });
        let mapped = open.body.region.mapped();
        let taken = match taken {
            Ok(taken) => taken,
            Err(failure) => {
                self.ledger().charge(open.id, mapped, open.context_bytes);
                return match failure {
                    Failure::Memory(error) => Err(error),
                    // Not together, so perhaps not at all.
                    Failure::Link(_) => Ok(some.iter().map(|l| l.method.clone()).collect()),
                };
            }
        };
        self.take_along(open, leaving, &recipes);
        open.methods += some.len();
        let functions = names.iter().zip(&taken.functions);
        let named = functions.filter_map(|(name, f)| {
            let function = f.as_ref()?;
            Some(Named {
                address: function.address,
                size: function.size,
                name,
            })
        });
        self.name(open.id, &taken.data, named);
        let mut moves = Vec::with_capacity(some.len());
        let mut failed = Vec::new();
        for (leaver, function) in some.iter().zip(&taken.functions) {
            match function {
                Some(function) => moves.push(Move {
                    method: leaver.method.clone(),
                    from: leaver.entry,
                    to: function.address as usize,
                    recipe: function.recipe.clone().expect("made again"),
                }),
                None => failed.push(leaver.method.clone()),
            }
        }
        let mut ledger = self.ledger();
        ledger.charge(open.id, mapped, open.context_bytes);
        // Those of methods that have gone meanwhile are not there, and these are not moved.
        let relied_on = moves.iter().flat_map(|m| ledger.bonds.of(m.method.id));
        open.body.assumptions.extend(relied_on.cloned());
        crate::invalidate::sort(&mut open.body.assumptions);
        ledger.publish_moves(leaving.id, open.id, moves);
        Ok(failed)
    }

    /// What moved code refers to lives as long as it does in its new place, too.
    fn take_along(&self, open: &mut Open<K>, leaving: &Leaving<K>, recipes: &[&Recipe]) {
        let cells = self.table.cells();
        let mut numbers: Vec<u32> = recipes
            .iter()
            .flat_map(|recipe| recipe.outside())
            .filter_map(|address| cells.number_at(address))
            .collect();
        numbers.sort_unstable();
        numbers.dedup();
        let old = &leaving.body.callees;
        let known = numbers.into_iter().filter_map(|number| {
            let place = old.binary_search_by_key(&number, |m| m.cell).ok()?;
            Some(old[place].clone())
        });
        let callees = &mut open.body.callees;
        callees.extend(known);
        crate::compile::sort(callees);
    }

    /// Room for what moves: it is taken before what it frees comes back.
    fn reserve_for_survivors(&self, open: &Open<K>, growth: Sizes) -> Result<(), Error> {
        let needed = growth.code() + growth.unwind;
        let beside = self.beside_generations();
        let mut ledger = self.ledger();
        let limit = ledger.limits.hard_limit;
        let in_use = ledger.in_use() + beside;
        if in_use.saturating_add(needed) > limit {
            return Err(Error::HardLimit {
                method: "survivors of a generation".to_owned(),
                needed,
                in_use,
                limit,
            });
        }
        ledger.reserve(open.id, growth);
        Ok(())
    }

    /// Has a method compiled that has code still, in a generation that is being left.
    fn compile_again(&self, method: &Arc<Method<K>>, generation: u64) {
        let due = |state: &State| {
            let there = state.resident.filter(|r| r.generation == generation);
            there.map(|resident| resident.tier)
        };
        // If the cache is shutting down it stays where it is.
        let _ = self.enqueue(method, Asker::Wishes, due);
    }
}
