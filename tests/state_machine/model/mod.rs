//! What a cache with one worker, and a reclaimer that runs by hand, must do.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use proptest_state_machine::ReferenceStateMachine;

use crate::support::synthetic::{CONTEXT, CONTEXT_PER_METHOD, Code, How};

/// Methods of a generation, at most.
pub const LIMIT: usize = 6;
pub const PARTICIPANTS: usize = 2;
/// Guards that one participant nests, at most.
const DEEPEST: usize = 2;
/// Bare pointers that a participant keeps under its guard, at most.
const HELD: usize = 4;
/// Larger than a slot of text.
const BIG: u16 = 20_000;

/// Methods that can be called.
const GOOD: [Code; 10] = [
    Code::leaf(1),
    Code::leaf(2).framed(),
    Code::leaf(300).padded(BIG),
    Code::new(2, How::Call),
    Code::new(3, How::Jump),
    Code::new(8, How::Call).depth(2).framed(),
    Code::new(4, How::Call).framed(),
    Code::new(5, How::CallAddress),
    Code::leaf(2),
    Code::new(4, How::Host),
];
/// Methods that cannot be compiled.
const BAD: [Code; 4] = [
    Code::new(11, How::Refuse),
    Code::new(12, How::Panic),
    Code::new(13, How::GiveUp),
    Code::new(14, How::Unresolved),
];

#[derive(Clone, Debug)]
pub enum Transition {
    /// A participant asks for a method, and calls it.
    Get(usize, Code),
    /// It calls what is resident; if it is pinned it keeps the bare pointer.
    Entry(usize, Code),
    /// It calls a bare pointer that it has kept.
    CallHeld(usize, usize),
    /// It calls the canonical address.
    CallAddress(usize, Code),
    Request(Code),
    Evict(Code),
    EvictAll,
    Invalidate(Code),
    InvalidateEven,
    Keep(Code),
    Unkeep(usize),
    Seal,
    Pin(usize),
    Unpin(usize),
    Repin(usize),
    Maintain,
    /// The reclaimer runs often, and everybody re-pins in between.
    Rounds,
    /// Leaves the budget no room at all, or all there is.
    SetBudget {
        room: bool,
    },
}

/// Bytes of one generation, without its context: what it takes at least, and at most (its text
/// can be in one piece or in several).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Bytes of the methods' code, and how many of them are larger than a slot.
    text: u64,
    big: u64,
    constants: bool,
    unwind: bool,
    pub context: u64,
}

const SLOT: u64 = 16 << 10;
const UNWIND_SLOT: u64 = 32 << 10;

impl Size {
    fn add(&mut self, code: Code) {
        // Every object is padded by 1 to 31 bytes.
        self.text += u64::from(code.padding) + 48;
        self.big += u64::from(code.padding == BIG);
        self.constants |= matches!(code.how, How::Host | How::Unresolved);
        self.unwind |= code.frames;
    }

    pub fn text(&self) -> (u64, u64) {
        let least = self.text.div_ceil(SLOT) * SLOT;
        (least, least + self.big * SLOT)
    }

    pub fn constants(&self) -> u64 {
        u64::from(self.constants) * SLOT
    }

    pub fn unwind(&self) -> u64 {
        u64::from(self.unwind) * UNWIND_SLOT
    }

    /// Everything, at least and at most.
    pub fn total(&self) -> (u64, u64) {
        let (least, most) = self.text();
        let rest = self.constants() + self.unwind() + self.context;
        (least + rest, most + rest)
    }
}

#[derive(Clone, Debug, Default)]
pub struct Generation {
    pub live: BTreeSet<Key>,
    callees: BTreeSet<Key>,
    methods: usize,
    pub size: Size,
    /// Pins that were there when it died: as long as one is, it must not be freed.
    blockers: BTreeSet<u64>,
}

/// A code, in an order: its place in the lists.
type Key = usize;

fn key(code: Code) -> Key {
    let mut all = GOOD.iter().chain(&BAD);
    all.position(|c| *c == code).expect("one of the codes")
}

#[derive(Clone, Debug, Default)]
pub struct Participant {
    pub guards: usize,
    /// The pin's number: a new one whenever it may have been renewed.
    pin: Option<u64>,
    pub held: Vec<Code>,
}

#[derive(Clone, Debug, Default)]
pub struct Model {
    pub quarantine: bool,
    pub no_room: bool,
    pub resident: BTreeMap<Key, u64>,
    /// Keeps, in order.
    pub kept: Vec<Code>,
    /// Open and sealed ones.
    pub generations: BTreeMap<u64, Generation>,
    pub open: Option<u64>,
    next_generation: u64,
    /// In the order of their deaths.
    pub died: Vec<Generation>,
    addresses: BTreeSet<Key>,
    pub participants: [Participant; PARTICIPANTS],
    next_pin: u64,
    pub compiles: u64,
    pub failures: u64,
    pub evictions: u64,
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

    /// How many of the dead may be gone, oldest first: those before the first that a thread may
    /// still be in.
    pub fn reclaimable(&self) -> usize {
        let pins: BTreeSet<u64> = self.participants.iter().filter_map(|p| p.pin).collect();
        let blocked = |g: &Generation| !g.blockers.is_disjoint(&pins);
        self.died
            .iter()
            .position(blocked)
            .unwrap_or(self.died.len())
    }

    /// Methods that somebody can mention when the first `recycled` of the dead are gone.
    pub fn known(&self, recycled: usize) -> usize {
        let generations = self.generations.values().chain(&self.died[recycled..]);
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

    fn renew(&mut self, p: usize) {
        self.next_pin += 1;
        self.participants[p].pin = Some(self.next_pin);
        self.participants[p].held.clear();
    }

    fn drop_code(&mut self, code: Code) -> bool {
        let Some(id) = self.resident.remove(&key(code)) else {
            return false;
        };
        let generation = self.generations.get_mut(&id).expect("it has a live method");
        generation.live.remove(&key(code));
        self.bury_if_dead(id);
        true
    }

    fn bury_if_dead(&mut self, id: u64) {
        if self.open == Some(id) || !self.generations[&id].live.is_empty() {
            return;
        }
        let mut generation = self.generations.remove(&id).expect("looked at above");
        generation.blockers = self.participants.iter().filter_map(|p| p.pin).collect();
        self.died.push(generation);
    }

    fn evict_all(&mut self) {
        for code in GOOD {
            if !self.is_kept(code) && self.drop_code(code) {
                self.evictions += 1;
            }
        }
    }

    fn seal(&mut self) {
        if let Some(id) = self.open.take() {
            self.bury_if_dead(id);
        }
    }

    /// The generation that takes the next batch.
    fn open(&mut self) -> u64 {
        if let Some(id) = self.open {
            return id;
        }
        let mut generation = Generation::default();
        generation.size.context = CONTEXT;
        self.generations.insert(self.next_generation, generation);
        self.open = Some(self.next_generation);
        self.next_generation += 1;
        self.next_generation - 1
    }

    /// The worker compiles a method that is not resident.
    fn compile(&mut self, code: Code) {
        let id = self.open();
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
            self.resident.insert(key(code), id);
            self.compiles += 1;
        } else {
            self.failures += 1;
        }
        if full {
            self.seal();
        }
    }

    /// A call of a method through its cell.
    fn call(&mut self, code: Code) {
        if !self.is_resident(code) {
            self.compile(code);
        }
        self.run(code);
    }

    /// A method runs, whether it is still resident or not.
    fn run(&mut self, code: Code) {
        if let Some(callee) = code.callee() {
            self.call(callee);
        }
    }

    fn get(&mut self, p: usize, code: Code) {
        if self.is_resident(code) {
            self.hits += 1;
        } else {
            self.misses += 1;
            let guards = self.participants[p].guards;
            if guards == 1 {
                // Not pinned while it waits.
                self.participants[p].pin = None;
            }
            self.compile(code);
            if guards == 1 {
                self.renew(p);
            }
        }
        if GOOD.contains(&code) {
            self.run(code);
        }
    }

    fn entry(&mut self, p: usize, code: Code) {
        if !self.is_resident(code) {
            self.misses += 1;
            return;
        }
        self.hits += 1;
        let participant = &mut self.participants[p];
        if participant.guards > 0 && participant.held.len() < HELD {
            participant.held.push(code);
        }
        self.run(code);
    }
}

fn good() -> impl Strategy<Value = Code> {
    proptest::sample::select(&GOOD[..])
}

fn any_code() -> impl Strategy<Value = Code> {
    prop_oneof![8 => good(), 1 => proptest::sample::select(&BAD[..])]
}

pub struct Reference;

impl ReferenceStateMachine for Reference {
    type State = Model;
    type Transition = Transition;

    fn init_state() -> BoxedStrategy<Model> {
        let with = |quarantine| Model {
            quarantine,
            ..Model::default()
        };
        any::<bool>().prop_map(with).boxed()
    }

    fn transitions(model: &Model) -> BoxedStrategy<Transition> {
        use Transition::*;
        let p = || 0..PARTICIPANTS;
        let kept = model.kept.len().max(1);
        prop_oneof![
            12 => (p(), any_code()).prop_map(|(p, code)| Get(p, code)),
            8 => (p(), good()).prop_map(|(p, code)| Entry(p, code)),
            8 => (p(), 0..HELD).prop_map(|(p, i)| CallHeld(p, i)),
            3 => (p(), good()).prop_map(|(p, code)| CallAddress(p, code)),
            4 => any_code().prop_map(Request),
            6 => good().prop_map(Evict),
            2 => Just(EvictAll),
            4 => good().prop_map(Invalidate),
            1 => Just(InvalidateEven),
            2 => good().prop_map(Keep),
            2 => (0..kept).prop_map(Unkeep),
            5 => Just(Seal),
            6 => p().prop_map(Pin),
            4 => p().prop_map(Unpin),
            3 => p().prop_map(Repin),
            8 => Just(Maintain),
            2 => Just(Rounds),
            1 => any::<bool>().prop_map(|room| SetBudget { room }),
        ]
        .boxed()
    }

    fn preconditions(model: &Model, transition: &Transition) -> bool {
        match *transition {
            Transition::CallHeld(p, i) => i < model.participants[p].held.len(),
            Transition::Unkeep(i) => i < model.kept.len(),
            Transition::Keep(_) => model.kept.len() < 3,
            Transition::Pin(p) => model.participants[p].guards < DEEPEST,
            Transition::Unpin(p) | Transition::Repin(p) => model.participants[p].guards > 0,
            _ => true,
        }
    }

    fn apply(mut model: Model, transition: &Transition) -> Model {
        match *transition {
            Transition::Get(p, code) => model.get(p, code),
            Transition::Entry(p, code) => model.entry(p, code),
            Transition::CallHeld(p, i) => model.run(model.participants[p].held[i]),
            Transition::CallAddress(_, code) => {
                model.addresses.insert(key(code));
                model.call(code);
            }
            Transition::Request(code) if model.is_resident(code) => {}
            Transition::Request(code) => model.compile(code),
            Transition::Evict(code) => {
                let evicted = !model.is_kept(code) && model.drop_code(code);
                model.evictions += u64::from(evicted);
            }
            Transition::EvictAll => model.evict_all(),
            Transition::Invalidate(code) => {
                model.drop_code(code);
            }
            Transition::InvalidateEven => {
                let even = GOOD.iter().filter(|code| code.n.is_multiple_of(2));
                even.for_each(|&code| {
                    model.drop_code(code);
                });
            }
            Transition::Keep(code) => model.kept.push(code),
            Transition::Unkeep(i) => {
                model.kept.remove(i);
            }
            Transition::Seal => model.seal(),
            Transition::Pin(p) => {
                model.participants[p].guards += 1;
                if model.participants[p].guards == 1 {
                    model.renew(p);
                }
            }
            Transition::Unpin(p) => {
                let participant = &mut model.participants[p];
                participant.guards -= 1;
                if participant.guards == 0 {
                    participant.pin = None;
                    participant.held.clear();
                }
            }
            Transition::Repin(p) => model.repin(p),
            Transition::Maintain => {}
            Transition::Rounds => (0..PARTICIPANTS).for_each(|p| model.repin(p)),
            Transition::SetBudget { room } => {
                model.no_room = !room;
                if !room {
                    model.seal();
                }
            }
        }
        if model.no_room {
            // Whoever waited has had it.
            model.evict_all();
        }
        model
    }
}

impl Model {
    fn repin(&mut self, p: usize) {
        if self.participants[p].guards == 1 {
            self.renew(p);
        }
    }

    /// Whether a thread under two guards keeps the dead from being freed, however often it
    /// re-pins.
    pub fn somebody_stays(&self) -> bool {
        self.participants.iter().any(|p| p.guards > 1)
    }
}
