//! Where methods live: who moves into a generation, out of it, and from one to another.

use std::sync::Arc;

use super::{Cause, Ledger};
use crate::compile::Source;
use crate::evict::{Cost, MethodId};
use crate::link::Recipe;
use crate::method::{Key, Method, Resident};
use crate::sync::atomic::Ordering;

use super::generations::{Info, Member, Slack, Stage};

/// A method with code, which it keeps alive, and what is known of it.
pub(super) struct Home<K: Key> {
    pub(super) method: Arc<Method<K>>,
    pub(super) cost: Cost,
    /// How it is linked again elsewhere. Without one it has to be compiled again.
    pub(super) recipe: Option<Recipe>,
    /// Its IR, if that is kept.
    pub(super) source: Option<Box<Source<K>>>,
}

impl<K: Key> Home<K> {
    pub(super) fn recipe_bytes(&self) -> u64 {
        self.recipe.as_ref().map_or(0, Recipe::heap_bytes)
    }

    /// Has all of it in the processor's cache.
    pub(super) fn look(&self) -> usize {
        let word = self.method.word().entry.load(Ordering::Relaxed);
        let recipe = self.recipe.as_ref().map_or(0, Recipe::heap_bytes);
        word ^ recipe as usize ^ usize::from(self.method.is_kept())
    }

    fn fixed_bytes(&self) -> u64 {
        match self.recipe {
            Some(_) => 0,
            None => self.cost.bytes,
        }
    }
}

/// To compile a byte of code again counts as much as to move so many: a method that is compiled takes
/// hundreds of times as long as one that is moved, and one in a few of those that are evicted instead
/// will have to be compiled again too.
const COMPILED: u64 = 32;

/// A generation that was sealed with less code than this, because of its age, was not worth its memory
/// from the beginning. (One of survivors was: else they would move for ever, where generations are small.)
const SMALL: u64 = 4 << 10;

impl<K: Key> Info<K> {
    /// Which part of its memory would not be needed elsewhere for so many bytes of live code. What it
    /// takes is more than what is in it, as memory comes in slots; so it will elsewhere.
    fn lost(&self, live: u64) -> f64 {
        let memory = self.charge.sizes.code() + self.charge.sizes.unwind;
        let whole = if self.bytes <= SMALL && !self.survivors {
            memory
        } else {
            self.bytes
        };
        whole.saturating_sub(live) as f64 / whole.max(1) as f64
    }

    /// What it gives back when it is left, with so many bytes of live code to take along, of which
    /// `fixed` have to be compiled again. `None` where that is more work than it is worth: `work` is the
    /// bytes that may be moved for each byte that comes back.
    pub(super) fn worth(&self, work: f64, live: u64, fixed: u64) -> Option<Slack> {
        let tied = !self.staying.is_empty() || (self.kept > 0 && fixed > 0);
        // One that waits for compilations gives nothing back before they are done.
        let waits = self.leaving && self.body.is_some();
        if self.stage == Stage::Open || self.stuck || waits || tied {
            return None;
        }
        let lost = self.lost(live);
        let of = |bytes: u64| (bytes as f64 * lost) as u64;
        let freed = of(self.charge.sizes.code() + self.charge.sizes.unwind);
        let moved = (live - fixed) + COMPILED * fixed;
        let pays = freed > 0 && moved as f64 <= work * freed as f64;
        pays.then(|| Slack {
            code: of(self.charge.sizes.code()),
            total: freed + self.charge.context,
        })
    }
}

/// A method that was linked again elsewhere.
pub(crate) struct Move<K: Key> {
    pub(crate) method: Arc<Method<K>>,
    /// The code that it had.
    pub(crate) from: usize,
    /// The code that it has now.
    pub(crate) to: usize,
    pub(crate) recipe: Recipe,
}

impl<K: Key> Ledger<K> {
    /// The method, if it has code.
    pub(super) fn method(&self, id: MethodId) -> Option<Arc<Method<K>>> {
        self.homes.get(id).map(|home| home.method.clone())
    }

    /// The method of this number, if it has code.
    pub(crate) fn by_number(&self, number: u64) -> Option<Arc<Method<K>>> {
        self.method(MethodId::new(number))
    }

    /// The IR that is kept of a method with code.
    pub(crate) fn source_of(&self, method: &Method<K>) -> Option<Source<K>> {
        self.homes.get(method.id)?.source.as_deref().cloned()
    }

    /// Methods with code.
    pub(crate) fn resident(&self) -> impl Iterator<Item = &Arc<Method<K>>> {
        self.homes.iter().map(|(_, home)| &home.method)
    }

    /// How many these are.
    pub(crate) fn residents(&self) -> usize {
        self.homes.len()
    }

    /// Bytes of the ledger's own besides those that are counted for each method.
    pub(crate) fn empty_bytes(&self) -> u64 {
        self.homes.empty_bytes()
    }

    /// Forgets all, for the end of the cache.
    pub(crate) fn take_homes(&mut self) -> impl Iterator<Item = impl Sized + use<K>> + use<K> {
        std::mem::take(&mut self.homes).into_values()
    }

    /// A method has code in a generation now.
    pub(super) fn move_in(&mut self, method: &Method<K>, resident: &Resident) {
        let home = &self.homes[method.id];
        let (bytes, fixed) = (home.cost.bytes, home.fixed_bytes());
        let info = self.generations.get_mut(&resident.generation);
        let info = info.expect("code is in a generation");
        info.members.push(Member {
            id: method.id,
            entry: resident.entry,
        });
        info.live += 1;
        info.bytes += bytes;
        info.live_bytes += bytes;
        info.fixed_bytes += fixed;
        if resident.is_listed() {
            info.cold += 1;
            info.cold_bytes += bytes;
        }
        if method.is_kept() {
            self.count_kept(resident.generation);
        }
        self.settle(resident.generation);
    }

    /// It has this code no more. What it leaves is not yet buried.
    pub(super) fn move_out(&mut self, method: &Method<K>, home: &Home<K>, resident: &Resident) {
        let (bytes, fixed) = (home.cost.bytes, home.fixed_bytes());
        let info = self.generations.get_mut(&resident.generation);
        let info = info.expect("code is in a generation");
        info.live -= 1;
        info.live_bytes -= bytes;
        info.fixed_bytes -= fixed;
        if resident.is_listed() {
            info.cold -= 1;
            info.cold_bytes -= bytes;
        }
        if method.is_kept() {
            self.uncount_kept(resident.generation);
        }
        self.settle(resident.generation);
    }

    /// Something of a generation has changed: what is to be had from it?
    pub(super) fn settle(&mut self, id: u64) {
        let work = self.work;
        let Some(info) = self.generations.get_mut(&id) else {
            return;
        };
        // What is kept is not in the sum that this is held against, and nobody waits for compilations.
        let counts = info.kept == 0 && info.live > 0 && info.fixed_bytes == 0;
        let worth = work
            .filter(|_| counts)
            .and_then(|work| info.worth(work, info.live_bytes, 0));
        let now = worth.unwrap_or_default();
        let before = std::mem::replace(&mut info.slack, now);
        self.slack.code = self.slack.code - before.code + now.code;
        self.slack.total = self.slack.total - before.total + now.total;
    }

    /// Sends calls to where methods were moved, if they have the code still that was moved. What they
    /// leave is not buried: its body is with who moves them. Returns how many it were.
    pub(crate) fn publish_moves(&mut self, from: u64, to: u64, moves: Vec<Move<K>>) -> u64 {
        let mut moved = 0;
        for Move {
            method,
            from: before,
            to: entry,
            recipe,
        } in moves
        {
            let mut state = method.lock();
            let there = state.resident.as_mut();
            let there = there.filter(|r| r.generation == from && r.entry == before);
            if let Some(resident) = there {
                let old = *resident;
                resident.generation = to;
                resident.entry = entry;
                let new = *resident;
                method.moved(before, entry, !new.probation);
                drop(state);
                let mut home = self.homes.remove(method.id).expect("it has code");
                self.move_out(&method, &home, &old);
                self.recipe_bytes -= home.recipe_bytes();
                home.recipe = Some(recipe);
                self.recipe_bytes += home.recipe_bytes();
                self.homes.insert(method.id, home);
                self.move_in(&method, &new);
                self.space.symbols().unlinked(before as u64, Cause::Moved);
                moved += 1;
            } else {
                drop(state);
            }
            self.gone.methods.push(method);
        }
        self.counters.moves += moved;
        moved
    }
}
