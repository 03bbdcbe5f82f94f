//! What a cache with one worker, and a reclaimer that runs by hand, must do.

mod machine;
mod memory;
mod threads;

use std::collections::{BTreeMap, BTreeSet};

use crate::support::synthetic::{CONTEXT, CONTEXT_PER_METHOD, Code, How};

pub use machine::{Reference, Transition};
pub use memory::Generation;
pub use threads::{Participant, Pointer};

/// Groups of methods, by their numbers.
pub const GROUPS: usize = 2;
pub const TIERS: usize = 2;
/// Methods of a generation, at most.
pub const LIMIT: usize = 6;
pub const PARTICIPANTS: usize = 2;
/// Guards that one participant nests in a place, at most.
const DEEPEST: usize = 2;
/// Methods and `blocking`s that one participant nests, at most.
const INNERMOST: usize = 3;
/// Bare pointers that a participant keeps in a place, at most.
pub const HELD: usize = 4;
/// Times that a fibre is resumed.
pub const RESUMES: u8 = 2;
/// Larger than a slot of text.
const BIG: u16 = 20_000;

/// What a fibre calls, by its address, whenever it is resumed.
pub const CALLED_BY_FIBRES: Code = Code::leaf(2);

/// Methods that can be called.
const GOOD: [Code; 11] = [
    Code::leaf(1),
    Code::leaf(2).framed(),
    Code::leaf(300).padded(BIG),
    Code::new(2, How::Call),
    Code::new(3, How::Jump),
    Code::new(8, How::Call).depth(2).framed(),
    Code::new(4, How::Call).framed(),
    Code::new(5, How::CallAddress),
    CALLED_BY_FIBRES,
    HOSTS[0],
    HOSTS[1],
];
/// Methods that call the host.
const HOSTS: [Code; 2] = [
    Code::new(4, How::Host),
    Code::new(9, How::Host).framed().padded(200),
];
/// Methods that cannot be compiled.
const BAD: [Code; 4] = [
    Code::new(11, How::Refuse),
    Code::new(12, How::Panic),
    Code::new(13, How::GiveUp),
    Code::new(14, How::Unresolved),
];

/// The group of the first two assumptions.
pub const GROUP: usize = 3;

/// The assumptions that a method relies on: on one of the first two, and some on the third.
pub fn relies_on(code: &Code) -> impl Iterator<Item = usize> + use<> {
    let of_group = code.n as usize % 2;
    std::iter::once(of_group).chain(code.n.is_multiple_of(3).then_some(2))
}

/// A code, in an order: its place in the lists.
type Key = usize;

fn key(code: Code) -> Key {
    let mut all = GOOD.iter().chain(&BAD);
    all.position(|c| *c == code).expect("one of the codes")
}

/// A suspended fibre, with a method's frame on its stack.
#[derive(Clone, Debug)]
pub struct Fibre {
    pub frame: Pointer,
    /// Times that it will be resumed.
    pub resumes: u8,
}

#[derive(Clone, Debug, Default)]
pub struct Model {
    pub quarantine: bool,
    pub no_room: bool,
    pub resident: BTreeMap<Key, u64>,
    /// Those of the second tier.
    pub promoted: BTreeSet<Key>,
    /// Keeps, in order.
    pub kept: Vec<Code>,
    /// Leases, in order.
    pub leases: Vec<Pointer>,
    pub fibres: Vec<Fibre>,
    /// Open and sealed ones.
    pub generations: BTreeMap<u64, Generation>,
    /// Open for what is compiled, by tiers and groups.
    pub open: [Option<u64>; TIERS * GROUPS],
    /// Open for what moves: for those that are not kept, and those that are.
    pub open_for_survivors: [Option<u64>; 2],
    next_generation: u64,
    /// In the order of their deaths.
    pub died: Vec<Generation>,
    addresses: BTreeSet<Key>,
    pub participants: [Participant; PARTICIPANTS],
    next_pin: u64,
    pub compiles: u64,
    pub promotions: u64,
    pub failures: u64,
    pub evictions: u64,
    pub moves: u64,
    /// Methods unlinked because of assumptions.
    pub fallen: u64,
    pub hits: u64,
    pub misses: u64,
}

impl Model {
    pub fn is_resident(&self, code: Code) -> bool {
        self.resident.contains_key(&key(code))
    }

    pub fn is_kept(&self, code: Code) -> bool {
        self.kept.contains(&code)
    }

    /// For each of the dead, whether it must stay: a thread that was pinned when it died still is,
    /// or it has frames on a stack, or pointers to it, or a lease.
    fn stays(&self) -> Vec<bool> {
        let pins: BTreeSet<u64> = self.participants.iter().filter_map(|p| p.pin).collect();
        let mut needed: BTreeSet<u64> = self.participants.iter().flat_map(|p| p.needs()).collect();
        needed.extend(self.leases.iter().map(|&(_, generation)| generation));
        needed.extend(self.fibres.iter().map(|fibre| fibre.frame.1));
        let stays = |g: &Generation| !g.blockers.is_disjoint(&pins) || needed.contains(&g.id);
        self.died.iter().map(stays).collect()
    }

    /// How many of the dead may be gone.
    pub fn reclaimable(&self) -> usize {
        self.stays().iter().filter(|stays| !**stays).count()
    }

    /// The dead of which the last `unseen` are not known to the reclaimer yet: those that are there
    /// for certain, and the others.
    pub fn certain_and_others(&self, unseen: usize) -> (Vec<&Generation>, Vec<&Generation>) {
        let seen = self.died.len() - unseen;
        let stays = self.stays().into_iter().enumerate();
        let certain: Vec<bool> = stays.map(|(i, stays)| stays || i >= seen).collect();
        let pick = |which: bool| {
            let with = self.died.iter().zip(&certain);
            with.filter(move |(_, c)| **c == which).map(|(g, _)| g)
        };
        (pick(true).collect(), pick(false).collect())
    }

    /// Methods that somebody can mention when these of the dead are there.
    pub fn known<'a>(&'a self, there: impl Iterator<Item = &'a Generation>) -> usize {
        let generations = self.generations.values().chain(there);
        let mut known: BTreeSet<Key> = generations.flat_map(|g| g.callees.clone()).collect();
        known.extend(self.resident.keys());
        known.extend(self.kept.iter().map(|&code| key(code)));
        known.extend(&self.addresses);
        known.len()
    }

    /// Generations with kept methods.
    pub fn kept_generations(&self) -> impl Iterator<Item = &Generation> {
        let kept: BTreeSet<Key> = self.kept.iter().map(|&code| key(code)).collect();
        let has_kept = move |g: &&Generation| !g.live.is_disjoint(&kept);
        self.generations.values().filter(has_kept)
    }

    /// Whether no stack but for guards and pointers has anything on it: then nothing is held that
    /// need not be, once all have re-pinned. (A scan finds addresses that are not used any more.)
    pub fn nobody_is_inside(&self) -> bool {
        let own_loop = |p: &Participant| p.depth() == 0 && p.guards() <= 1;
        self.fibres.is_empty() && self.participants.iter().all(own_loop)
    }

    /// A participant is seen pinned anew.
    fn renew(&mut self, p: usize) {
        self.next_pin += 1;
        let participant = &mut self.participants[p];
        participant.pin = (participant.guards() > 0).then_some(self.next_pin);
    }

    /// The same, and what it has loaded where it is ends.
    fn end_quantum(&mut self, p: usize) {
        self.renew(p);
        self.participants[p].here_mut().held.clear();
    }

    fn drop_code(&mut self, code: Code) -> bool {
        let Some(id) = self.resident.remove(&key(code)) else {
            return false;
        };
        self.promoted.remove(&key(code));
        let generation = self.generations.get_mut(&id).expect("it has a live method");
        generation.live.remove(&key(code));
        self.bury_if_dead(id);
        true
    }

    fn bury_if_dead(&mut self, id: u64) {
        let mut open = self.open_for_survivors.iter().chain(&self.open);
        if open.any(|open| *open == Some(id)) || !self.generations[&id].live.is_empty() {
            return;
        }
        let mut generation = self.generations.remove(&id).expect("looked at above");
        generation.blockers = self.participants.iter().filter_map(|p| p.pin).collect();
        self.died.push(generation);
    }

    /// What resident methods rely on, each for itself.
    pub fn bonds(&self) -> usize {
        let resident = self.resident.keys();
        resident.map(|key| relies_on(&GOOD[*key]).count()).sum()
    }

    fn fall(&mut self, assumption: usize) {
        for code in GOOD {
            let mut on = relies_on(&code);
            let relies = on.any(|a| a == assumption || (assumption == GROUP && a < 2));
            if relies && self.drop_code(code) {
                self.fallen += 1;
            }
        }
    }

    fn evict_all(&mut self) {
        for code in GOOD {
            if !self.is_kept(code) && self.drop_code(code) {
                self.evictions += 1;
            }
        }
    }

    /// Where a method is compiled: a small budget has no room for several open generations.
    fn group(&self, code: Code, tier: usize) -> usize {
        match self.no_room {
            true => 0,
            false => tier * GROUPS + code.n as usize % GROUPS,
        }
    }

    fn seal(&mut self, group: usize) {
        if let Some(id) = self.open[group].take() {
            self.bury_if_dead(id);
        }
    }

    /// Those of survivors, too.
    fn seal_all(&mut self) {
        for group in 0..TIERS * GROUPS {
            self.seal(group);
        }
        for kept in [0, 1] {
            self.seal_survivors(kept);
        }
    }

    fn seal_survivors(&mut self, kept: usize) {
        if let Some(id) = self.open_for_survivors[kept].take() {
            self.bury_if_dead(id);
        }
    }

    /// Everything moves out of the generations that are sealed now.
    fn compact(&mut self) {
        let open: Vec<u64> = self
            .open_for_survivors
            .iter()
            .chain(&self.open)
            .flatten()
            .copied()
            .collect();
        let sealed = self.generations.keys().filter(|id| !open.contains(id));
        for id in sealed.copied().collect::<Vec<_>>() {
            let live = std::mem::take(&mut self.generations.get_mut(&id).expect("there").live);
            let codes = live.into_iter().map(|key| GOOD[key]);
            let (kept, others): (Vec<Code>, Vec<Code>) =
                codes.partition(|code| self.is_kept(*code));
            for (kept, codes) in [(0, others), (1, kept)] {
                self.move_to(kept, &codes);
            }
            self.bury_if_dead(id);
        }
    }

    fn move_to(&mut self, kept: usize, codes: &[Code]) {
        if codes.is_empty() {
            return;
        }
        let id = self.open_for_survivors[kept].unwrap_or_else(|| {
            let id = self.begin(0);
            self.generations.get_mut(&id).expect("begun").survivors = true;
            self.open_for_survivors[kept] = Some(id);
            id
        });
        let generation = self.generations.get_mut(&id).expect("open");
        generation.size.move_in(codes);
        generation.methods += codes.len();
        for code in codes {
            generation.live.insert(key(*code));
            generation.callees.extend(code.callee().map(key));
            self.resident.insert(key(*code), id);
        }
        self.moves += codes.len() as u64;
        if generation.methods >= LIMIT {
            self.seal_survivors(kept);
        }
    }

    /// A new generation, with a context of so many bytes.
    fn begin(&mut self, context: u64) -> u64 {
        let id = self.next_generation;
        let mut generation = Generation {
            id,
            ..Generation::default()
        };
        generation.size.context = context;
        self.generations.insert(id, generation);
        self.next_generation += 1;
        id
    }

    /// The generation that takes the next batch.
    fn open(&mut self, group: usize) -> u64 {
        if let Some(id) = self.open[group] {
            return id;
        }
        let id = self.begin(CONTEXT);
        self.open[group] = Some(id);
        id
    }

    /// The worker compiles a method for the second tier, and its old code goes.
    fn promote(&mut self, code: Code) {
        if self.is_resident(code) && !self.promoted.contains(&key(code)) {
            self.compile_for(code, 1);
            self.promoted.insert(key(code));
            self.promotions += 1;
        }
    }

    /// The worker compiles a method that is not resident.
    fn compile(&mut self, code: Code) {
        self.compile_for(code, 0);
    }

    fn compile_for(&mut self, code: Code, tier: usize) {
        let group = self.group(code, tier);
        let id = self.open(group);
        let no_room = self.no_room;
        let emitted = !matches!(code.how, How::Refuse | How::GiveUp | How::Panic);
        if no_room {
            self.evict_all();
        }
        let generation = self.generations.get_mut(&id).expect("open");
        generation.methods += usize::from(!matches!(code.how, How::GiveUp | How::Panic));
        if emitted {
            generation.size.context += CONTEXT_PER_METHOD;
            generation.size.add(code);
        }
        if let Some(callee) = code.callee() {
            generation.callees.insert(key(callee));
            if code.how == How::CallAddress {
                self.addresses.insert(key(callee));
            }
        }
        let full = no_room || code.how == How::Panic || generation.methods >= LIMIT;
        if GOOD.contains(&code) {
            generation.live.insert(key(code));
            self.compiles += 1;
            if let Some(left) = self.resident.insert(key(code), id) {
                let left_by = self.generations.get_mut(&left).expect("it is live there");
                left_by.live.remove(&key(code));
                self.bury_if_dead(left);
            }
        } else {
            self.failures += 1;
        }
        if full {
            self.seal(group);
        }
    }

    /// A call of a method through its cell. Without code, the thread waits for it unpinned, with
    /// holds on what is on its stack.
    fn call(&mut self, p: usize, code: Code) {
        if !self.is_resident(code) {
            self.participants[p].pin = None;
            self.compile(code);
            self.renew(p);
        }
        self.run(p, code);
    }

    /// A method runs, whether it is still resident or not.
    fn run(&mut self, p: usize, code: Code) {
        if let Some(callee) = code.callee() {
            self.call(p, callee);
        }
    }

    /// A look-up that compiles and waits: unpinned, if there is no other guard.
    fn look_up(&mut self, p: usize, code: Code) {
        if self.is_resident(code) {
            self.hits += 1;
            return;
        }
        self.misses += 1;
        let alone = self.participants[p].is_alone();
        if alone {
            self.participants[p].pin = None;
        }
        self.compile(code);
        if alone {
            self.end_quantum(p);
        }
    }

    /// A look-up that does not wait: where the code is.
    fn entry(&mut self, code: Code) -> Option<Pointer> {
        let generation = self.resident.get(&key(code)).copied();
        *match generation {
            Some(_) => &mut self.hits,
            None => &mut self.misses,
        } += 1;
        Some((code, generation?))
    }
}
