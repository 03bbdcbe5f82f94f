//! Generations as the ledger knows them: what each is charged, what is live in it, and its life from open to dead.

use super::Ledger;
use crate::evict::MethodId;
use crate::generation::{Body, Sizes};
use crate::method::Key;
use crate::observe::{MethodIs, Occupancy, Staying, event};
use crate::sync::time::Instant;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Stage {
    Open,
    Sealed,
}

/// What a generation is charged for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Charge {
    pub(crate) sizes: Sizes,
    pub(crate) context: u64,
}

impl Charge {
    pub(crate) fn total(&self) -> u64 {
        self.sizes.code() + self.sizes.unwind + self.context
    }
}

/// A generation that is open or sealed.
pub(crate) struct Info<K: Key> {
    pub(crate) stage: Stage,
    /// Everything that was published in it, and what has become of it.
    pub(crate) members: Vec<Member>,
    /// Published and not yet dropped, those in probation included.
    pub(crate) live: usize,
    /// Bytes of all that was ever published in it, and of what is live of that.
    pub(super) bytes: u64,
    pub(super) live_bytes: u64,
    /// The part of it that cannot be moved, but has to be compiled again.
    pub(super) fixed_bytes: u64,
    /// Of the live ones, those on the ledger's list of probation, and their bytes.
    pub(super) cold: usize,
    pub(super) cold_bytes: u64,
    /// Live ones that are kept: while there are any, eviction cannot free the generation.
    pub(super) kept: usize,
    pub(crate) charge: Charge,
    /// Methods that were compiled to stay, those that have other code since too. Each counts as live
    /// and as kept for ever.
    pub(crate) staying: Vec<Staying>,
    /// Whether it has a context still.
    context: bool,
    /// What is in it was moved there.
    pub(super) survivors: bool,
    /// Its survivors have been sent elsewhere: it waits for them to have code there.
    pub(super) leaving: bool,
    /// It could not be left.
    pub(super) stuck: bool,
    /// What it will give back when its survivors have been moved, if that pays.
    pub(super) slack: Slack,
    /// `None` while open, and while its survivors are being moved: its worker has it.
    pub(super) body: Option<Body<K>>,
}

/// A method's code in a generation: alive for as long as it is what the method has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Member {
    pub(crate) id: MethodId,
    pub(crate) entry: usize,
}

/// Bytes that moving survivors would give back: of code, and of everything.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Slack {
    pub(crate) code: u64,
    pub(crate) total: u64,
}

/// Sealed, and without a live method: for the reclaimer.
pub(crate) struct Corpse<K: Key> {
    pub(crate) id: u64,
    pub(crate) body: Body<K>,
    pub(crate) charge: Charge,
    pub(crate) died: Instant,
    /// Its grace period was over, and somebody held it.
    pub(crate) was_held: bool,
}

fn add(sum: &mut Charge, charge: &Charge) {
    sum.sizes = sum.sizes.plus(charge.sizes);
    sum.context += charge.context;
}

fn subtract(sum: &mut Charge, charge: &Charge) {
    sum.sizes.text -= charge.sizes.text;
    sum.sizes.constants -= charge.sizes.constants;
    sum.sizes.data -= charge.sizes.data;
    sum.sizes.unwind -= charge.sizes.unwind;
    sum.context -= charge.context;
}

impl<K: Key> Ledger<K> {
    /// A generation begins; with a context of so many bytes, if it has one.
    pub(crate) fn open(&mut self, context: Option<u64>) -> u64 {
        let id = self.counters.generations;
        self.counters.generations += 1;
        let charge = Charge {
            context: context.unwrap_or(0),
            ..Charge::default()
        };
        add(&mut self.alive, &charge);
        self.generations.insert(
            id,
            Info {
                stage: Stage::Open,
                members: Vec::new(),
                live: 0,
                bytes: 0,
                live_bytes: 0,
                fixed_bytes: 0,
                cold: 0,
                cold_bytes: 0,
                kept: 0,
                charge,
                staying: Vec::new(),
                context: context.is_some(),
                survivors: context.is_none(),
                leaving: false,
                stuck: false,
                slack: Slack::default(),
                body: None,
            },
        );
        id
    }

    /// What an open or sealed generation takes now.
    pub(crate) fn charge(&mut self, id: u64, sizes: Sizes, context: u64) {
        self.set_charge(id, Charge { sizes, context });
        let code = self.alive.sizes.code() + self.retired.sizes.code();
        self.counters.code_peak = self.counters.code_peak.max(code);
        let total = self.alive.total() + self.retired.total();
        self.counters.total_peak = self.counters.total_peak.max(total);
    }

    /// What it is about to map: other workers must not count on it. The next [`Ledger::charge`] says what came of it.
    pub(crate) fn reserve(&mut self, id: u64, growth: Sizes) {
        let Charge { sizes, context } = self.generations[&id].charge;
        let sizes = sizes.plus(growth);
        self.set_charge(id, Charge { sizes, context });
    }

    fn set_charge(&mut self, id: u64, charge: Charge) {
        let info = self.generations.get_mut(&id).expect("open or sealed");
        subtract(&mut self.alive, &info.charge);
        add(&mut self.alive, &charge);
        if info.kept > 0 {
            subtract(&mut self.kept, &info.charge);
            add(&mut self.kept, &charge);
        }
        info.charge = charge;
        self.settle(id);
    }

    /// A worker gives its generation up: no more batches.
    pub(crate) fn seal(&mut self, id: u64, body: Body<K>) {
        let info = self.generations.get_mut(&id).expect("it was open");
        info.stage = Stage::Sealed;
        info.members.shrink_to_fit();
        info.context = body.context.is_some();
        self.give_body(id, body);
    }

    /// The body of a sealed generation comes back to the ledger.
    pub(crate) fn give_body(&mut self, id: u64, body: Body<K>) {
        let info = self.generations.get_mut(&id).expect("it has no body yet");
        info.body = Some(body);
        self.settle(id);
        self.bury_if_dead(id);
    }

    pub(super) fn bury_if_dead(&mut self, id: u64) {
        let info = &self.generations[&id];
        if info.live == 0 && info.body.is_some() {
            self.bury(id);
        }
    }

    fn bury(&mut self, id: u64) {
        let info = self.generations.remove(&id).expect("sealed");
        debug_assert_eq!((info.kept, info.live_bytes, info.cold), (0, 0, 0));
        self.slack.code -= info.slack.code;
        self.slack.total -= info.slack.total;
        subtract(&mut self.alive, &info.charge);
        add(&mut self.retired, &info.charge);
        let body = info.body.expect("a sealed generation has its body");
        self.dead.push(Corpse {
            id,
            body,
            charge: info.charge,
            died: Instant::now(),
            was_held: false,
        });
        let waiting = self.retired.sizes.code() - self.held.sizes.code();
        self.counters.pinned_peak = self.counters.pinned_peak.max(waiting);
        event!("dead", generation = id, bytes = info.charge.total());
    }

    /// The reclaimer has disposed of a retired generation's context.
    pub(crate) fn disposed(&mut self, context: u64) {
        self.retired.context -= context;
    }

    /// A retired generation's grace period is over, and it is held.
    pub(crate) fn hold(&mut self, charge: &Charge) {
        add(&mut self.held, charge);
        let held = self.held.sizes.code();
        self.counters.held_peak = self.counters.held_peak.max(held);
    }

    /// It is held no more, and freed next.
    pub(crate) fn unhold(&mut self, charge: &Charge) {
        subtract(&mut self.held, charge);
    }

    /// The reclaimer has freed a generation.
    pub(crate) fn recycled(&mut self, charge: &Charge) {
        subtract(&mut self.retired, charge);
        self.cramped = false;
        self.counters.recycled += 1;
    }

    /// Everything that generations own here, for the end of the cache.
    pub(crate) fn take_bodies(&mut self) -> Vec<Body<K>> {
        let dead = std::mem::take(&mut self.dead).into_iter().map(|c| c.body);
        let sealed = std::mem::take(&mut self.generations)
            .into_values()
            .filter_map(|i| i.body);
        dead.chain(sealed).collect()
    }

    pub(super) fn count_kept(&mut self, generation: u64) {
        let info = self
            .generations
            .get_mut(&generation)
            .expect("it has a live method");
        info.kept += 1;
        if info.kept == 1 {
            add(&mut self.kept, &info.charge);
        }
    }

    pub(super) fn uncount_kept(&mut self, generation: u64) {
        let info = self
            .generations
            .get_mut(&generation)
            .expect("it has a live method");
        info.kept -= 1;
        if info.kept == 0 {
            subtract(&mut self.kept, &info.charge);
        }
    }

    /// Who lives where, by generation.
    pub(crate) fn occupancy(&self) -> Vec<Occupancy> {
        let what_is = |member: &Member| match self.resident_at(member.id, member.entry) {
            Some(resident) if resident.probation => MethodIs::Cold,
            Some(_) => MethodIs::Hot,
            None => MethodIs::Dead,
        };
        let all = self.generations.iter().map(|(id, info)| Occupancy {
            generation: *id,
            open: info.stage == Stage::Open,
            code_bytes: info.charge.sizes.code(),
            live_bytes: info.live_bytes,
            methods: info.members.iter().map(what_is).collect(),
        });
        let mut all: Vec<_> = all.collect();
        all.sort_unstable_by_key(|o| o.generation);
        all
    }

    pub(crate) fn open_generations(&self) -> u64 {
        self.generations
            .values()
            .filter(|i| i.stage == Stage::Open)
            .count() as u64
    }

    /// Contexts of open, sealed and dead generations.
    pub(crate) fn contexts(&self) -> u64 {
        let of_living = self.generations.values().filter(|i| i.context);
        (of_living.count()
            + self
                .dead
                .iter()
                .filter(|c| c.body.context.is_some())
                .count()) as u64
    }

    /// Over all sealed generations: bytes of pages written, and of sections in them.
    pub(crate) fn density(&self) -> (u64, u64) {
        let sealed = self.generations.values().filter_map(|i| i.body.as_ref());
        sealed
            .map(|b| b.region.density())
            .fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
    }
}
