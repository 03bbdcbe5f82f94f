//! Which generations are left, and what becomes of them meanwhile.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use super::Ledger;
use super::generations::{Info, Stage};
use crate::engine::open::LEAST_CODE;
use crate::generation::Body;
use crate::link::Recipe;
use crate::method::{Key, Method};

/// What has to be had from sparse generations together, before one is left: a generation of survivors
/// takes as much as that, however few they are.
pub(super) const LEAST_GAIN: u64 = 2 * LEAST_CODE;

/// A generation whose survivors are being moved, with its body: until that is given back it is not
/// buried, whatever becomes of its methods.
pub(crate) struct Leaving<K: Key> {
    pub(crate) id: u64,
    pub(crate) body: Body<K>,
    /// Who is to leave: those that nobody keeps, and the others.
    pub(crate) members: [Vec<Leaver<K>>; 2],
}

/// A method that is to be moved.
pub(crate) struct Leaver<K: Key> {
    pub(crate) method: Arc<Method<K>>,
    /// The code that it has.
    pub(crate) entry: usize,
    pub(crate) recipe: Option<Recipe>,
}

impl<K: Key> Info<K> {
    fn can_be_left(&self) -> bool {
        self.stage == Stage::Sealed && !self.leaving && !self.stuck && self.body.is_some()
    }
}

impl<K: Key> Ledger<K> {
    /// The generation that it pays most to leave: of what comes back for each byte moved, and its age.
    /// What is young is likely to become sparser by itself (the cost-benefit rule of log-structured
    /// file systems: see [`super::victims`]). `in_haste`: only those that help at once, whose methods
    /// need not be compiled again, nor are kept. `None` when what they would leave behind all together
    /// may not be more than what they would need elsewhere. Only those of numbers below `before`: what comes to
    /// be by moving is not left in the same round.
    pub(crate) fn sparsest(&self, work: f64, in_haste: bool, before: u64) -> Option<u64> {
        let now = self.counters.generations;
        let (mut freed, mut best) = (0, None);
        for (id, info) in &self.generations {
            let slow = info.kept > 0 || info.fixed_bytes > 0;
            let Some(worth) = info
                .worth(work, info.live_bytes, info.fixed_bytes)
                .filter(|_| *id < before && info.can_be_left() && !(slow && in_haste))
            else {
                continue;
            };
            freed += worth.total;
            let age = (now - id) as f64;
            let score = worth.total as f64 * age / (info.live_bytes + 1) as f64;
            // Of equals the oldest.
            let better = |(most, than)| score > most || (score == most && *id < than);
            if best.is_none_or(better) {
                best = Some((score, *id));
            }
        }
        best.filter(|_| freed >= LEAST_GAIN).map(|(_, id)| id)
    }

    /// The generations out of which everything can be moved, the oldest first.
    pub(crate) fn movable(&self) -> Vec<u64> {
        let can_move = |info: &Info<K>| info.staying.is_empty() && info.fixed_bytes == 0;
        let all = self.generations.iter();
        let fit = all.filter(|(_, info)| info.can_be_left() && can_move(info));
        let mut ids: Vec<u64> = fit.map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids
    }

    /// Takes a generation's body, and says who lives there. Those on probation that nobody called are
    /// evicted instead if `cold_go`. `None` when it is gone, or somebody else moves it.
    pub(crate) fn begin_leaving(&mut self, id: u64, cold_go: bool) -> Option<Leaving<K>> {
        let info = self.generations.get_mut(&id).filter(|i| i.can_be_left())?;
        let body = info.body.take()?;
        info.leaving = true;
        let there = info.members.clone();
        let mut members = [Vec::new(), Vec::new()];
        for member in there {
            let Some(resident) = self.resident_at(member.id, member.entry) else {
                continue;
            };
            let method = self.homes[member.id].method.clone();
            if cold_go && resident.is_listed() {
                // A policy may panic here, which must not cost the body: its code is live.
                let gone = catch_unwind(AssertUnwindSafe(|| {
                    self.still_on_probation(&method) && self.squeeze_out(&method)
                }));
                match gone {
                    Ok(true) => continue,
                    Ok(false) => {}
                    Err(panic) => {
                        self.gone.methods.push(method);
                        self.end_leaving(Leaving { id, body, members }, true);
                        resume_unwind(panic);
                    }
                }
            }
            let kept = usize::from(method.is_kept());
            members[kept].push(Leaver {
                recipe: self.homes[member.id].recipe.clone(),
                entry: member.entry,
                method,
            });
        }
        self.settle(id);
        Some(Leaving { id, body, members })
    }

    /// Its body is given back. It waits for those that are compiled again, or, if it `stays`, is what it
    /// was.
    pub(crate) fn end_leaving(&mut self, leaving: Leaving<K>, stays: bool) {
        let info = self.generations.get_mut(&leaving.id);
        let info = info.expect("it is not buried without its body");
        info.leaving = !stays;
        if !stays {
            self.counters.evacuations += 1;
        }
        for leaver in leaving.members.into_iter().flatten() {
            self.gone.methods.push(leaver.method);
        }
        self.give_body(leaving.id, leaving.body);
    }

    /// A method that was to leave a generation was not compiled again: the generation is what it was. It is not
    /// tried again if that was `for_good`.
    pub(super) fn give_leaving_up(&mut self, id: u64, for_good: bool) {
        if let Some(info) = self.generations.get_mut(&id).filter(|i| i.leaving) {
            info.leaving = false;
            info.stuck |= for_good;
            self.settle(id);
        }
    }

    /// As that, for a method whose compilation came to nothing, not even an error.
    pub(crate) fn came_to_nothing(&mut self, method: &Method<K>) {
        let resident = method.lock().resident;
        if let Some(resident) = resident {
            self.give_leaving_up(resident.generation, false);
        }
    }
}
