//! What can happen, when, and what becomes of the model.

use proptest::prelude::*;
use proptest_state_machine::ReferenceStateMachine;

use super::threads::Kind;
use super::{
    BAD, CALLED_BY_FIBRES, Code, DEEPEST, Fibre, GOOD, GROUP, HELD, HOSTS, INNERMOST, Model,
    PARTICIPANTS, RESUMES, key,
};

#[derive(Clone, Debug)]
pub enum Transition {
    /// A participant asks for a method, and calls it.
    Get(usize, Code),
    /// It calls what is resident; if it has a guard it keeps the bare pointer.
    Entry(usize, Code),
    /// It calls a bare pointer that it has kept.
    CallHeld(usize, usize),
    /// It calls the canonical address.
    CallAddress(usize, Code),
    /// It calls a resident method, and takes commands inside of it.
    Enter(usize, Code),
    /// It blocks as one does inside of code, and takes commands meanwhile.
    Block(usize),
    /// It blocks by its guard: refused if it has another.
    BlockByGuard(usize),
    /// It comes back from the innermost of these.
    Out(usize),
    /// A safepoint as inside of code.
    Safepoint(usize),
    /// A safepoint by the guard.
    SafepointByGuard(usize),
    Pin(usize),
    Unpin(usize),
    Repin(usize),
    /// A participant begins a fibre, which calls a method, and is suspended inside.
    Spawn(usize, Code),
    /// It resumes a fibre, which calls a method, comes to a safepoint, and is suspended again, or
    /// ends.
    Resume(usize, usize),
    /// A participant leases a method's code.
    Lease(usize, Code),
    CallLease(usize, usize),
    Unlease(usize),
    Request(Code),
    /// A method comes to the next tier, if it has code of the first.
    Promote(Code),
    Evict(Code),
    EvictAll,
    Invalidate(Code),
    InvalidateEven,
    /// An assumption falls, or the group of two of them.
    Fall(usize),
    Keep(Code),
    Unkeep(usize),
    Seal,
    /// Everything in sealed generations moves together.
    Compact,
    Maintain,
    /// The reclaimer runs often, and everybody re-pins, or comes to a safepoint, in between.
    Rounds,
    /// Leaves the budget no room at all, or all there is.
    SetBudget {
        room: bool,
    },
}

/// Keeps, leases and fibres at a time, at most.
const MOST: usize = 3;

fn good() -> impl Strategy<Value = Code> {
    proptest::sample::select(&GOOD[..])
}

fn any_code() -> impl Strategy<Value = Code> {
    prop_oneof![8 => good(), 1 => proptest::sample::select(&BAD[..])]
}

fn host() -> impl Strategy<Value = Code> {
    proptest::sample::select(&HOSTS[..])
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

    fn transitions(_: &Model) -> BoxedStrategy<Transition> {
        use Transition::*;
        let p = || 0..PARTICIPANTS;
        let threads = prop_oneof![
            12 => (p(), any_code()).prop_map(|(p, code)| Get(p, code)),
            8 => (p(), good()).prop_map(|(p, code)| Entry(p, code)),
            8 => (p(), 0..HELD).prop_map(|(p, i)| CallHeld(p, i)),
            3 => (p(), good()).prop_map(|(p, code)| CallAddress(p, code)),
            8 => (p(), host()).prop_map(|(p, code)| Enter(p, code)),
            4 => p().prop_map(Block),
            3 => p().prop_map(BlockByGuard),
            6 => p().prop_map(Out),
            8 => p().prop_map(Safepoint),
            3 => p().prop_map(SafepointByGuard),
            9 => p().prop_map(Pin),
            4 => p().prop_map(Unpin),
            3 => p().prop_map(Repin),
            5 => (p(), host()).prop_map(|(p, code)| Spawn(p, code)),
            5 => (p(), 0..MOST).prop_map(|(p, i)| Resume(p, i)),
            2 => (p(), good()).prop_map(|(p, code)| Lease(p, code)),
            3 => (p(), 0..MOST).prop_map(|(p, i)| CallLease(p, i)),
        ];
        let others = prop_oneof![
            2 => (0..MOST).prop_map(Unlease),
            6 => any_code().prop_map(Request),
            6 => good().prop_map(Promote),
            8 => good().prop_map(Evict),
            3 => Just(EvictAll),
            5 => good().prop_map(Invalidate),
            1 => Just(InvalidateEven),
            3 => (0..=GROUP).prop_map(Fall),
            2 => good().prop_map(Keep),
            2 => (0..MOST).prop_map(Unkeep),
            7 => Just(Seal),
            5 => Just(Compact),
            10 => Just(Maintain),
            3 => Just(Rounds),
            1 => any::<bool>().prop_map(|room| SetBudget { room }),
        ];
        prop_oneof![2 => threads, 1 => others].boxed()
    }

    fn preconditions(model: &Model, transition: &Transition) -> bool {
        use Transition::*;
        let of = |p: usize| &model.participants[p];
        match *transition {
            CallHeld(p, i) => i < of(p).here().held.len(),
            Enter(p, code) => {
                of(p).here().guards > 0 && of(p).depth() < INNERMOST && model.is_resident(code)
            }
            Block(p) => of(p).depth() < INNERMOST,
            BlockByGuard(p) => of(p).here().guards > 0 && of(p).depth() < INNERMOST,
            Out(p) => of(p).depth() > 0,
            SafepointByGuard(p) | Unpin(p) | Repin(p) => of(p).here().guards > 0,
            Pin(p) => of(p).here().guards < DEEPEST,
            Spawn(p, code) => {
                of(p).here().guards > 0 && model.fibres.len() < MOST && model.is_resident(code)
            }
            Resume(p, i) => of(p).guards() > 0 && i < model.fibres.len(),
            Lease(..) => model.leases.len() < MOST,
            CallLease(_, i) | Unlease(i) => i < model.leases.len(),
            Unkeep(i) => i < model.kept.len(),
            Keep(_) => model.kept.len() < MOST,
            Compact | Promote(_) => !model.no_room,
            _ => true,
        }
    }

    fn apply(mut model: Model, transition: &Transition) -> Model {
        model.step(transition);
        if model.no_room {
            // Whoever waited has had it.
            model.evict_all();
        }
        model
    }
}

impl Model {
    fn step(&mut self, transition: &Transition) {
        use Transition::*;
        match *transition {
            Request(code) if self.is_resident(code) => {}
            Request(code) => self.compile(code),
            Promote(code) => self.promote(code),
            Evict(code) => {
                let evicted = !self.is_kept(code) && self.drop_code(code);
                self.evictions += u64::from(evicted);
            }
            EvictAll => self.evict_all(),
            Invalidate(code) => {
                self.drop_code(code);
            }
            InvalidateEven => {
                let even = GOOD.iter().filter(|code| code.n.is_multiple_of(2));
                even.for_each(|&code| {
                    self.drop_code(code);
                });
            }
            Fall(assumption) => self.fall(assumption),
            Keep(code) => self.kept.push(code),
            Unkeep(i) => {
                self.kept.remove(i);
            }
            Unlease(i) => {
                self.leases.remove(i);
            }
            Seal => self.seal_all(),
            Compact => self.compact(),
            Maintain => {}
            Rounds => (0..PARTICIPANTS).for_each(|p| self.refresh(p)),
            SetBudget { room } => {
                self.no_room = !room;
                if !room {
                    self.seal_all();
                }
            }
            _ => self.act(transition),
        }
    }

    /// What a participant does.
    fn act(&mut self, transition: &Transition) {
        use Transition::*;
        match *transition {
            Get(p, code) => {
                self.look_up(p, code);
                if GOOD.contains(&code) {
                    self.run(p, code);
                }
            }
            Entry(p, code) => {
                if let Some(pointer) = self.entry(code) {
                    let here = self.participants[p].here_mut();
                    if here.guards > 0 && here.held.len() < HELD {
                        here.held.push(pointer);
                    }
                    self.run(p, code);
                }
            }
            CallHeld(p, i) => self.run(p, self.participants[p].here().held[i].0),
            CallAddress(p, code) => self.call_address(p, code),
            Lease(p, code) => {
                self.look_up(p, code);
                self.leases.push((code, self.resident[&key(code)]));
            }
            CallLease(p, i) => self.run(p, self.leases[i].0),
            Spawn(_, code) => {
                let frame = self.entry(code).expect("resident, by precondition");
                let resumes = RESUMES;
                self.fibres.push(Fibre { frame, resumes });
            }
            Resume(p, i) => {
                self.call_address(p, CALLED_BY_FIBRES);
                self.renew(p);
                self.fibres[i].resumes -= 1;
                if self.fibres[i].resumes == 0 {
                    self.fibres.remove(i);
                }
            }
            _ => self.move_about(transition),
        }
    }

    /// Pins, and goes in and out.
    fn move_about(&mut self, transition: &Transition) {
        use Transition::*;
        match *transition {
            Enter(p, code) => {
                let pointer = self.entry(code).expect("resident, by precondition");
                self.participants[p].go_in(Kind::Method(pointer));
            }
            Block(p) => {
                self.participants[p].go_in(Kind::Blocking);
                self.participants[p].pin = None;
            }
            BlockByGuard(p) if self.participants[p].is_alone() => {
                self.participants[p].here_mut().held.clear();
                self.participants[p].go_in(Kind::Blocking);
                self.participants[p].pin = None;
            }
            Out(p) => {
                let left = self.participants[p].places.pop().expect("by precondition");
                if matches!(left.kind, Kind::Blocking) {
                    self.renew(p);
                }
            }
            Safepoint(p) => self.renew(p),
            SafepointByGuard(p) | Repin(p) if self.participants[p].is_alone() => {
                self.end_quantum(p);
            }
            Pin(p) => {
                self.participants[p].here_mut().guards += 1;
                if self.participants[p].guards() == 1 {
                    self.renew(p);
                }
            }
            Unpin(p) => {
                self.participants[p].here_mut().guards -= 1;
                if self.participants[p].guards() == 0 {
                    self.end_quantum(p);
                }
            }
            _ => {}
        }
    }

    fn call_address(&mut self, p: usize, code: Code) {
        self.addresses.insert(key(code));
        self.call(p, code);
    }

    /// Re-pins if that does anything, or else comes to a safepoint.
    fn refresh(&mut self, p: usize) {
        match self.participants[p].is_alone() {
            true => self.end_quantum(p),
            false => self.renew(p),
        }
    }
}
