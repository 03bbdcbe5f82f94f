//! The life of methods and generations, as a state machine beside a model: after any sequence of
//! operations what is resident, live counts and bytes agree, and nothing is freed early, or never.
//!
//! Freed early: participants keep bare pointers on their stacks as long as their pins last, are
//! inside of methods, block there, and suspend fibres inside of methods; and they go on with all of
//! these whatever became of the methods. Freed never: once everybody has re-pinned or come to a
//! safepoint, a few steps of the reclaimer free all that is dead, but for what stacks and leases
//! hold.

mod compare;
mod model;
mod participant;
#[path = "../support/mod.rs"]
mod support;
mod system;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use inkpot::{Error, Handle};
use proptest::test_runner::Config;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

use model::{Model, PARTICIPANTS, Reference, Transition};
use participant::{Command, Reply};
use support::synthetic::{Code, How, Unary, method};
use system::System;

/// Steps of the reclaimer after which everything that can be freed is.
const STEPS: usize = 8;

prop_state_machine! {
    #![proptest_config(Config { cases: cases(), max_local_rejects: 1 << 24, max_shrink_time: 120_000, failure_persistence: None, ..Config::default() })]

    #[test]
    fn methods_and_generations_live_as_in_the_model(sequential 1..100 => Lives);
}

/// The long form is `INKPOT_SOAK=1`.
fn cases() -> u32 {
    let soak = std::env::var_os("INKPOT_SOAK").is_some_and(|v| v != "0");
    if soak { 4096 } else { 256 }
}

struct Lives;

impl StateMachineTest for Lives {
    type SystemUnderTest = System;
    type Reference = Reference;

    fn init_test(model: &Model) -> System {
        System::new(model.quarantine)
    }

    fn apply(mut system: System, model: &Model, transition: Transition) -> System {
        step(&mut system, model, &transition);
        if model.no_room {
            // A worker would do this too, some time later.
            settle(&system, || compare::compiled(&system, model));
            system.cache.set_budget(1);
        }
        system
    }

    fn check_invariants(system: &System, model: &Model) {
        settle(system, || compare::everything(system, model));
    }

    fn teardown(system: System, model: Model) {
        let (mut system, model) = go_home(system, model);
        system.end_participants();
        system.keeps.clear();
        drop(system.cache.invalidate_all());
        system.cache.seal();
        for _ in 0..STEPS {
            system.cache.maintain();
        }
        settle(&system, || compare::the_end(&system, &model));
        let counts = system.counts.clone();
        drop(system);
        assert_eq!(counts.contexts.load(Ordering::SeqCst), 0);
    }
}

/// Everybody comes out of where they are, fibres end, and leases too.
fn go_home(mut system: System, mut model: Model) -> (System, Model) {
    let mut next = |transition: Transition| {
        model = Reference::apply(model.clone(), &transition);
        step(&mut system, &model, &transition);
        if model.no_room {
            settle(&system, || compare::compiled(&system, &model));
            system.cache.set_budget(1);
        }
        settle(&system, || compare::everything(&system, &model));
        model.clone()
    };
    let mut now = next(Transition::Maintain);
    for p in 0..PARTICIPANTS {
        while now.participants[p].depth() > 0 {
            now = next(Transition::Out(p));
        }
    }
    if now.participants[0].guards() == 0 {
        now = next(Transition::Pin(0));
    }
    while !now.fibres.is_empty() {
        now = next(Transition::Resume(0, 0));
    }
    while !now.leases.is_empty() {
        now = next(Transition::Unlease(0));
    }
    (system, now)
}

/// `model` is what it is afterwards.
fn step(system: &mut System, model: &Model, transition: &Transition) {
    let cache = &system.cache;
    match *transition {
        Transition::Request(code) => request(&method(cache, code)),
        Transition::Promote(code) => {
            method(cache, code).promote().unwrap();
        }
        Transition::Evict(code) => {
            cache.evict(&code);
        }
        Transition::EvictAll => cache.evict_all(),
        Transition::Invalidate(code) => drop(cache.invalidate(&code)),
        Transition::InvalidateEven => drop(cache.invalidate_if(|c| c.n.is_multiple_of(2))),
        Transition::Fall(i) => drop(system.assumptions[i].invalidate()),
        Transition::Keep(code) => {
            let keep = method(cache, code).keep();
            system.keeps.push(keep);
        }
        Transition::Unkeep(i) => drop(system.keeps.remove(i)),
        Transition::Unlease(i) => drop(system.leases.remove(i)),
        Transition::Seal => cache.seal(),
        Transition::Compact => drop(cache.compact()),
        Transition::Maintain => {
            let waits = cache.maintain();
            let statistics = cache.statistics();
            assert_eq!(statistics.generations_dead, 0);
            assert_eq!(waits, statistics.generations_fallow > 0);
        }
        Transition::Rounds => rounds(system, model),
        Transition::SetBudget { room: true } => cache.set_budget(u64::MAX),
        Transition::SetBudget { room: false } => cache.seal(),
        _ => act(system, model, transition),
    }
}

/// One that is wished for stays so when somebody who waited besides gives up, and is there when who waits without a
/// thread is told so. (Of what fails each who asks may begin a try of its own.)
fn request(handle: &Handle<Code, Unary>) {
    let code = *handle.key();
    let fails = [How::Refuse, How::GiveUp, How::Panic, How::Unresolved].contains(&code.how);
    let mut waits = (!fails).then(|| handle.compiled());
    handle.request().unwrap();
    while let Some(future) = &mut waits
        && code.n.is_multiple_of(2)
    {
        let mut context = Context::from_waker(Waker::noop());
        if let Poll::Ready(ready) = Pin::new(future).poll(&mut context) {
            assert!(ready.is_ok(), "{ready:?}");
            return;
        }
        std::thread::yield_now();
    }
}

/// What a participant does.
fn act(system: &mut System, model: &Model, transition: &Transition) {
    match *transition {
        Transition::Get(p, code) => check(&system.tell(p, Command::Get(code)), code),
        Transition::Entry(p, code) => {
            let reply = system.tell(p, Command::Entry(code));
            // Whether it was resident shows in the counts of hits and misses.
            if !matches!(reply, Reply::Nothing) {
                check(&reply, code);
            }
        }
        Transition::CallHeld(p, i) => {
            let (code, _) = model.participants[p].here().held[i];
            check(&system.tell(p, Command::CallHeld(i)), code);
        }
        Transition::CallAddress(p, code) => {
            check(&system.tell(p, Command::CallAddress(code)), code);
        }
        Transition::Lease(p, code) => match system.tell(p, Command::Lease(code)) {
            Reply::Leased(lease) => system.leases.push(Arc::new(lease)),
            other => panic!("{code:?} answered {other:?}"),
        },
        Transition::CallLease(p, i) => {
            let lease = system.leases[i].clone();
            check(
                &system.tell(p, Command::CallLease(lease)),
                model.leases[i].0,
            );
        }
        Transition::Spawn(p, code) => match system.tell(p, Command::Spawn(code)) {
            Reply::Suspended(fibre) => system.fibres.push(fibre),
            other => panic!("a fibre in {code:?} answered {other:?}"),
        },
        Transition::Resume(p, i) => resume(system, model, p, i),
        _ => move_about(system, model, transition),
    }
}

/// Pins, and goes in and out.
fn move_about(system: &System, model: &Model, transition: &Transition) {
    let (p, command) = match *transition {
        Transition::Pin(p) => (p, Command::Pin),
        Transition::Unpin(p) => (p, Command::Unpin),
        Transition::Repin(p) => (p, Command::Repin),
        Transition::Safepoint(p) => (p, Command::Safepoint),
        Transition::SafepointByGuard(p) => (p, Command::SafepointByGuard),
        Transition::Enter(p, code) => (p, Command::Enter(code)),
        Transition::Block(p) => (p, Command::Block),
        Transition::BlockByGuard(p) => (p, Command::BlockByGuard),
        Transition::Out(p) => (p, Command::Out),
        ref other => unreachable!("{other:?} is done elsewhere"),
    };
    let out = matches!(command, Command::Out);
    // It was to be where it has no guard yet.
    let blocks = matches!(command, Command::BlockByGuard);
    let refused = blocks && model.participants[p].here().guards > 0;
    let reply = system.tell(p, command);
    let right = match &reply {
        Reply::Failed(Error::AnotherGuard) => refused,
        Reply::Done => !refused,
        // It came out of a method.
        Reply::Returned(_) => out,
        _ => false,
    };
    assert!(right, "{transition:?} answered {reply:?}");
}

fn resume(system: &mut System, model: &Model, p: usize, i: usize) {
    let fibre = system.fibres.remove(i);
    let ends = model.fibres.len() == system.fibres.len();
    match system.tell(p, Command::Resume(fibre)) {
        Reply::Suspended(fibre) if !ends => system.fibres.insert(i, fibre),
        Reply::Returned(_) if ends => {}
        other => panic!("a fibre answered {other:?}"),
    }
}

/// What a participant was told is what the method's key promises.
fn check(reply: &Reply, code: Code) {
    let right = match (reply, code.how) {
        (Reply::Failed(Error::Codegen { .. }), How::Refuse | How::GiveUp) => true,
        (Reply::Failed(Error::CompilePanicked { .. }), How::Panic) => true,
        (Reply::Failed(Error::Link { .. }), How::Unresolved) => true,
        _ => reply.is_result_of(code),
    };
    assert!(right, "{code:?} answered {reply:?}");
}

/// Everybody re-pins, or comes to a safepoint, between the reclaimer's steps: that frees all that is
/// dead, but for what is held.
fn rounds(system: &System, model: &Model) {
    for _ in 0..STEPS {
        system.cache.maintain();
        for p in 0..PARTICIPANTS {
            let reply = system.tell(p, Command::Refresh);
            assert!(matches!(reply, Reply::Done), "{reply:?}");
        }
    }
    let waits = system.cache.maintain();
    let now = system.cache.statistics();
    assert_eq!(now.generations_fallow, now.generations_held, "{now:#?}");
    if model.nobody_is_inside() {
        assert_eq!(now.generations_recycled, model.reclaimable() as u64);
        assert_eq!(waits, model.reclaimable() < model.died.len());
    }
}

/// Waits until there is no difference: a worker seals, and lets go of methods, a moment after it
/// has answered.
fn settle(system: &System, compare: impl Fn() -> Result<(), String>) {
    let started = Instant::now();
    while let Err(difference) = compare() {
        let statistics = system.cache.statistics();
        assert!(
            started.elapsed() < Duration::from_secs(5),
            "{difference}\n{statistics:#?}"
        );
        std::thread::yield_now();
    }
}
