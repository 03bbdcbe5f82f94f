//! Who goes when memory is short: the policy says who is cold, generations say what it would give.
//!
//! Calls between compiled methods do not pass the host's look-up, so a hot leaf looks cold to any
//! policy. Eviction therefore has two steps: a victim is first put on **probation** (its cell goes
//! to its thunk, its code stays), where a call links it again within a microsecond; only those
//! that nobody called are dropped.
//!
//! Memory comes back by generations, so of those on probation the ones go first whose generation gives
//! most for each method lost: all of it if nothing else is live in it, or what is left when the
//! others have moved away, if that pays. This is the cost-benefit rule by which log-structured file
//! systems choose what to clean (Rosenblum and Ousterhout, *The Design and Implementation of a
//! Log-Structured File System*, 1992), with the policy's order in place of the age.

use std::sync::Arc;

use super::generations::{Info, Stage};
use super::homes::Home;
use super::{Ledger, relink};
use crate::config::Victims;
use crate::evict::MethodId;
use crate::method::{Key, Method, Resident};

/// Methods that are dropped in the order of the policy before it is looked again whether that of
/// generations has something to give.
const IN_ORDER: usize = 16;

impl<K: Key> Ledger<K> {
    /// Who is dropped next: one on probation that nobody called, or else the policy's choice, without
    /// probation.
    pub(super) fn next_victim(&mut self) -> Option<Arc<Method<K>>> {
        loop {
            let Some(id) = self.doomed.pop() else {
                if self.probation.is_empty() {
                    return self.choose();
                }
                self.doom();
                continue;
            };
            if let Some(method) = self.method(id)
                && self.still_on_probation(&method)
            {
                return Some(method);
            }
        }
    }

    /// Chooses who goes next among those on probation: the last of `doomed` is the first.
    fn doom(&mut self) {
        let best = match self.victims {
            Victims::Plain => None,
            Victims::Generation => self.most_giving(),
        };
        let mut doomed = match best {
            Some(generation) => self.cold_of(generation),
            None => Vec::new(),
        };
        if doomed.is_empty() {
            doomed.extend(self.probation.values().take(IN_ORDER));
        }
        doomed.reverse();
        self.doomed = doomed;
    }

    /// The generation that gives most for each of its methods on probation.
    fn most_giving(&self) -> Option<u64> {
        let gain = |info: &Info<K>| {
            if info.cold == 0 || info.kept > 0 || info.stage == Stage::Open {
                return 0.0;
            }
            let gives = if info.cold == info.live {
                info.charge.total()
            } else {
                let left = info.live_bytes - info.cold_bytes;
                let worth = self
                    .work
                    .filter(|_| info.fixed_bytes == 0)
                    .and_then(|work| info.worth(work, left, 0));
                worth.map_or(0, |slack| slack.total)
            };
            // What is to be had already is no reason.
            gives.saturating_sub(info.slack.total) as f64 / info.cold as f64
        };
        let all = self.generations.iter().map(|(id, info)| (gain(info), *id));
        // Of equals the oldest.
        let best = all.max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));
        best.filter(|(gain, _)| *gain > 0.0).map(|(_, id)| id)
    }

    /// Its methods on the list of probation, the coldest first.
    fn cold_of(&self, generation: u64) -> Vec<MethodId> {
        let info = &self.generations[&generation];
        let mut cold: Vec<(u64, MethodId)> = Vec::with_capacity(info.cold);
        for member in &info.members {
            let resident = self.resident_at(member.id, member.entry);
            if let Some(resident) = resident.filter(Resident::is_listed) {
                cold.push((resident.place, member.id));
            }
        }
        cold.sort_unstable();
        cold.into_iter().map(|(_, id)| id).collect()
    }

    /// How a method has this very code, if it has.
    pub(super) fn resident_at(&self, id: MethodId, entry: usize) -> Option<Resident> {
        let resident = self.homes.get(id)?.method.lock().resident;
        resident.filter(|r| r.entry == entry)
    }

    /// Whether nobody has called it, or waits for it. If somebody has it is a candidate again.
    pub(crate) fn still_on_probation(&mut self, method: &Arc<Method<K>>) -> bool {
        let mut state = method.lock();
        let Some(resident) = &mut state.resident else {
            return false;
        };
        if resident.probation && !method.is_waited_for() {
            return true;
        }
        let listed = *resident;
        if resident.probation {
            relink(method, resident);
        }
        let relinked = std::mem::take(&mut resident.relinked);
        drop(state);
        if relinked {
            self.unlist(method.id, &listed);
            self.counters.relinks += 1;
            self.policy.insert(method.id, self.homes[method.id].cost);
            self.policy.hit(method.id);
        }
        false
    }

    /// Takes a method off the list of those on probation, as it was on it.
    pub(super) fn unlist(&mut self, id: MethodId, listed: &Resident) {
        self.probation.remove(&listed.place);
        let bytes = self.homes[id].cost.bytes;
        if let Some(info) = self.generations.get_mut(&listed.generation) {
            info.cold -= 1;
            info.cold_bytes -= bytes;
        }
    }

    /// The policy's next victim that was not called since the policy last heard, and that nobody
    /// waits for. Bounded: a policy without progress costs memory, not a hang.
    fn choose(&mut self) -> Option<Arc<Method<K>>> {
        for _ in 0..=2 * self.homes.len() {
            let id = self.policy.victim()?;
            let Some(method) = self.method(id) else {
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
    /// eighth of the methods, while `short`.
    pub(crate) fn fill_probation(&mut self, short: impl Fn(&Self) -> bool) {
        // Those that were called, or are gone, make place.
        while let Some((place, id)) = self.probation.first_key_value().map(|(p, id)| (*p, *id)) {
            match self.method(id) {
                Some(method) if self.still_on_probation(&method) => break,
                _ => drop(self.probation.remove(&place)),
            }
        }
        let room = self.homes.len() / 8;
        while self.probation.len() < room && short(self) {
            let Some(method) = self.choose() else { return };
            self.policy.remove(method.id);
            let place = self.counters.probations;
            let mut state = method.lock();
            let Some(resident) = state.resident.as_mut().filter(|r| !r.is_listed()) else {
                return; // the policy names whom it was told to forget
            };
            self.counters.probations += 1;
            method.begin_probation(resident, place);
            let generation = resident.generation;
            drop(state);
            self.probation.insert(place, method.id);
            let bytes = self.homes[method.id].cost.bytes;
            let info = self.generations.get_mut(&generation);
            let info = info.expect("code is in a generation");
            info.cold += 1;
            info.cold_bytes += bytes;
        }
    }

    /// Links everything on probation again.
    pub(crate) fn end_probation(&mut self) {
        for id in self.probation.values() {
            if let Some(Home { method, .. }) = self.homes.get(*id)
                && let Some(resident) = &mut method.lock().resident
                && resident.probation
            {
                relink(method, resident);
            }
        }
    }
}
