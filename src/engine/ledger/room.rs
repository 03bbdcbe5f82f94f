//! Making room: how much has to go.
//!
//! What moving survivors together will give back (see [`super::homes`]) counts as had: eviction stops
//! when that is enough, and the worker that makes room moves them next.

use std::sync::Arc;

use super::leaving::LEAST_GAIN;
use super::{Cause, Ledger, Slack};
use crate::engine::open::LEAST_CODE;
use crate::generation::Sizes;
use crate::method::{Key, Method, Resident, State};
use crate::sync::fault::kept;
use crate::sync::time::Instant;

/// What eviction works towards. An open generation takes a slot of text and one of constants however
/// few its methods are, so a budget of one slot is exceeded by any. To evict what is in it would
/// free nothing, and have every call compile again what the last one compiled. (A budget of less
/// than a slot means that nothing shall be there.)
fn attainable(code_budget: u64) -> u64 {
    match code_budget < LEAST_CODE / 2 {
        true => code_budget,
        false => code_budget.max(LEAST_CODE),
    }
}

/// How full is full.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mark {
    High,
    Low,
}

impl<K: Key> Ledger<K> {
    /// Evicts until what is coming fits below the low-water mark, if it does not fit below the
    /// high one; and puts the next victims on probation. `beside` is charged besides generations.
    pub(crate) fn make_room(&mut self, coming_code: u64, coming: u64, beside: u64) {
        let extra = (coming_code, coming + beside);
        self.doomed.clear();
        if self.is_above(self.limits.high, extra) && kept("room") {
            while self.is_above(self.limits.low, extra) {
                match self.next_victim() {
                    Some(method) => self.squeeze_out(&method),
                    None => break,
                };
            }
        }
        self.fill_probation(|ledger| ledger.is_above(ledger.limits.low, extra));
    }

    /// Evicts a method because memory is short. False when it had no code, or was called since it was chosen.
    pub(crate) fn squeeze_out(&mut self, method: &Arc<Method<K>>) -> bool {
        let before = self.counters.evictions;
        // A call takes no lock of ours.
        let cold = |resident: &Resident| !resident.relinked || !kept("probation.called");
        let evicted = self.drop_code_if(method, Cause::Evicted, cold);
        if evicted {
            let mut state = method.lock();
            state.thrash.evicted(before, Instant::now(), self.damping);
        }
        evicted
    }

    /// A method was compiled: perhaps so soon after it was evicted that memory is too short for it.
    pub(super) fn note_compiled(&mut self, state: &mut State) {
        let live = self.homes.len() as u64;
        let evictions = self.counters.evictions;
        let soon = state
            .thrash
            .compiled(evictions, live, Instant::now(), self.damping);
        self.counters.thrashes += u64::from(soon);
    }

    /// What a hard limit is held against, besides what is charged elsewhere.
    pub(crate) fn in_use(&self) -> u64 {
        self.alive.total() + self.retired.total() + self.recipe_bytes + self.empty_bytes()
    }

    /// Whether memory is short for as long as survivors are where they are.
    pub(crate) fn wants_evacuation(&self, mark: Mark, coming: Sizes, beside: u64) -> bool {
        let extra = (coming.code(), coming.code() + coming.unwind + beside);
        let mark = match mark {
            Mark::High => self.limits.high,
            Mark::Low => self.limits.low,
        };
        self.to_be_had() != Slack::default() && self.exceeds(mark, extra, Slack::default())
    }

    /// Whether what eviction can free is above this fraction of a budget, when all has moved that
    /// pays to move.
    fn is_above(&self, mark: f64, extra: (u64, u64)) -> bool {
        self.exceeds(mark, extra, self.to_be_had())
    }

    /// What moving survivors gives back: nothing as long as it would fill what they would need.
    fn to_be_had(&self) -> Slack {
        match self.cramped || self.slack.total < LEAST_GAIN {
            true => Slack::default(),
            false => self.slack,
        }
    }

    /// What is kept, and what is retired already, does not count: no eviction would bring it down.
    fn exceeds(&self, mark: f64, (code, total): (u64, u64), slack: Slack) -> bool {
        let above =
            |bytes: u64, budget: u64| budget != u64::MAX && bytes as f64 > mark * budget as f64;
        above(
            self.alive.sizes.code() - self.kept.sizes.code() - slack.code + code,
            attainable(self.limits.code_budget),
        ) || above(
            self.alive.total() - self.kept.total() - slack.total
                + self.recipe_bytes
                + self.empty_bytes()
                + total,
            self.limits.budget,
        )
    }

    /// Whether the open generation had better be sealed: nothing in it is live, or memory is
    /// short and eviction has found nothing more.
    pub(crate) fn wants_seal(&self, id: u64) -> bool {
        let info = &self.generations[&id];
        info.live == 0 && info.charge.sizes.text > 0 && self.is_above(self.limits.high, (0, 0))
    }
}
