//! Making room: who goes when memory is short, and who is warned.
//!
//! Calls between compiled methods do not pass the host's look-up, so a hot leaf looks cold to any
//! policy. Eviction therefore has two steps: a victim is first put on **probation** (its cell goes
//! to its thunk, its code stays), where a call links it again within a microsecond; only those
//! that nobody called are dropped.

use std::sync::Arc;

use super::{Cause, Ledger, relink};
use crate::engine::open::LEAST_CODE;
use crate::method::{Key, Method};

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

impl<K: Key> Ledger<K> {
    /// Evicts until what is coming fits below the low-water mark, if it does not fit below the
    /// high one; and puts the next victims on probation. `beside` is charged besides generations.
    pub(crate) fn make_room(&mut self, coming_code: u64, coming: u64, beside: u64) {
        let extra = (coming_code, coming + beside);
        if self.is_above(self.limits.high, extra) {
            while self.is_above(self.limits.low, extra) {
                match self.next_victim() {
                    Some(method) => self.drop_code(&method, Cause::Evicted),
                    None => break,
                };
            }
        }
        self.fill_probation(extra);
    }

    /// Whether what eviction can free is above this fraction of a budget. What is kept, and what
    /// is retired already, is not: no eviction would bring it down.
    fn is_above(&self, mark: f64, (code, total): (u64, u64)) -> bool {
        let above =
            |bytes: u64, budget: u64| budget != u64::MAX && bytes as f64 > mark * budget as f64;
        above(
            self.alive.sizes.code() - self.kept.sizes.code() + code,
            attainable(self.limits.code_budget),
        ) || above(
            self.alive.total() - self.kept.total() + total,
            self.limits.budget,
        )
    }

    /// Who is dropped next: the oldest on probation that nobody called, or else the policy's
    /// choice, without probation.
    fn next_victim(&mut self) -> Option<Arc<Method<K>>> {
        while let Some((_, id)) = self.probation.pop_first() {
            match self.resident.get(&id).cloned() {
                Some(method) if self.still_on_probation(&method) => return Some(method),
                _ => {}
            }
        }
        self.choose()
    }

    /// False when the method is linked again, by a call or because somebody waits for it; it is
    /// a candidate again then.
    fn still_on_probation(&mut self, method: &Arc<Method<K>>) -> bool {
        let mut state = method.lock();
        let Some(resident) = &mut state.resident else {
            return false;
        };
        if resident.probation && !method.is_waited_for() {
            return true;
        }
        if resident.probation {
            relink(method, resident);
        }
        let relinked = std::mem::take(&mut resident.relinked);
        drop(state);
        if relinked {
            self.counters.relinks += 1;
            self.policy.insert(method.id, self.costs[&method.id]);
            self.policy.hit(method.id);
        }
        false
    }

    /// The policy's next victim that was not called since the policy last heard, and that nobody
    /// waits for. Bounded: a policy without progress costs memory, not a hang.
    fn choose(&mut self) -> Option<Arc<Method<K>>> {
        for _ in 0..=2 * self.resident.len() {
            let id = self.policy.victim()?;
            let Some(method) = self.resident.get(&id).cloned() else {
                self.policy.remove(id);
                continue;
            };
            if method.was_called() || method.is_waited_for() {
                self.policy.hit(id);
                continue;
            }
            return Some(method);
        }
        None
    }

    /// Unlinks the next victims ahead of need, so that a call can still save them: up to an
    /// eighth of the methods, from the low-water mark on.
    fn fill_probation(&mut self, extra: (u64, u64)) {
        // Those that were called, or are gone, make place.
        while let Some((_, id)) = self.probation.first_key_value() {
            match self.resident.get(id).cloned() {
                Some(method) if self.still_on_probation(&method) => break,
                _ => self.probation.pop_first(),
            };
        }
        let room = self.resident.len() / 8;
        while self.probation.len() < room && self.is_above(self.limits.low, extra) {
            let Some(method) = self.choose() else { return };
            self.policy.remove(method.id);
            let place = self.counters.probations;
            if let Some(resident) = &mut method.lock().resident {
                method.begin_probation(resident, place);
            }
            self.counters.probations += 1;
            self.probation.insert(place, method.id);
        }
    }

    /// Links everything on probation again.
    pub(crate) fn end_probation(&mut self) {
        for id in self.probation.values() {
            if let Some(method) = self.resident.get(id)
                && let Some(resident) = &mut method.lock().resident
                && resident.probation
            {
                relink(method, resident);
            }
        }
    }

    /// Whether the open generation had better be sealed: nothing in it is live, or memory is
    /// short and eviction has found nothing more.
    pub(crate) fn wants_seal(&self, id: u64) -> bool {
        let info = &self.generations[&id];
        info.live == 0 && info.charge.sizes.text > 0 && self.is_above(self.limits.high, (0, 0))
    }
}
