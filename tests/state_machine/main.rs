//! The life of methods and generations, as a state machine beside a model: after any sequence of
//! operations what is resident, live counts and bytes agree, and nothing is freed early, or never.
//!
//! Freed early: a participant keeps bare pointers as long as its pin lasts, and calls them whatever
//! became of the methods. Freed never: once no thread stays pinned, a few steps of the reclaimer
//! free all that is dead.

mod model;
#[path = "../support/mod.rs"]
mod support;
mod system;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use inkpot::{Error, Statistics};
use proptest::test_runner::Config;
use proptest_state_machine::{StateMachineTest, prop_state_machine};

use model::{Model, PARTICIPANTS, Reference, Transition};
use support::synthetic::{CONTEXT, How, method};
use system::{Command, Reply, System};

/// Steps of the reclaimer after which everything that can be freed is.
const STEPS: usize = 8;

prop_state_machine! {
    #![proptest_config(Config { cases: 192, max_shrink_time: 120_000, failure_persistence: None, ..Config::default() })]

    #[test]
    fn methods_and_generations_live_as_in_the_model(sequential 1..80 => Lives);
}

struct Lives;

impl StateMachineTest for Lives {
    type SystemUnderTest = System;
    type Reference = Reference;

    fn init_test(model: &Model) -> System {
        System::new(model.quarantine)
    }

    fn apply(mut system: System, model: &Model, transition: Transition) -> System {
        let cache = &system.cache;
        match transition {
            Transition::Get(p, code) => check(system.tell(p, Command::Get(code)), code),
            Transition::Entry(p, code) => {
                let reply = system.tell(p, Command::Entry(code));
                // Whether it was resident shows in the counts of hits and misses.
                if !matches!(reply, Reply::Nothing) {
                    check(reply, code);
                }
            }
            Transition::CallHeld(p, i) => {
                let code = model.participants[p].held[i];
                check(system.tell(p, Command::CallHeld(i)), code);
            }
            Transition::CallAddress(p, code) => {
                check(system.tell(p, Command::CallAddress(code)), code);
            }
            Transition::Request(code) => method(cache, code).request().unwrap(),
            Transition::Evict(code) => {
                cache.evict(&code);
            }
            Transition::EvictAll => cache.evict_all(),
            Transition::Invalidate(code) => drop(cache.invalidate(&code)),
            Transition::InvalidateEven => drop(cache.invalidate_if(|c| c.n.is_multiple_of(2))),
            Transition::Keep(code) => {
                let keep = method(cache, code).keep();
                system.keeps.push(keep);
            }
            Transition::Unkeep(i) => drop(system.keeps.remove(i)),
            Transition::Seal => cache.seal(),
            Transition::Pin(p) => expect_done(&system.tell(p, Command::Pin)),
            Transition::Unpin(p) => expect_done(&system.tell(p, Command::Unpin)),
            Transition::Repin(p) => expect_done(&system.tell(p, Command::Repin)),
            Transition::Maintain => {
                let waits = cache.maintain();
                let statistics = cache.statistics();
                assert_eq!(statistics.generations_dead, 0);
                assert_eq!(waits, statistics.generations_fallow > 0);
            }
            Transition::Rounds => rounds(&system, model),
            Transition::SetBudget { room: true } => cache.set_budget(u64::MAX),
            Transition::SetBudget { room: false } => cache.seal(),
        }
        if model.no_room {
            // A worker would do this too, some time later.
            settle(&system, || compare_compiled(&system, model));
            system.cache.set_budget(1);
        }
        system
    }

    fn check_invariants(system: &System, model: &Model) {
        settle(system, || compare(system, model));
    }

    fn teardown(mut system: System, model: Model) {
        system.end_participants();
        system.keeps.clear();
        drop(system.cache.invalidate_all());
        system.cache.seal();
        for _ in 0..STEPS {
            system.cache.maintain();
        }
        settle(&system, || compare_end(&system, &model));
        let counts = system.counts.clone();
        drop(system);
        assert_eq!(counts.contexts.load(Ordering::SeqCst), 0);
    }
}

/// What was asked for is compiled, also when nobody waited.
fn compare_compiled(system: &System, model: &Model) -> Result<(), String> {
    let now = system.cache.statistics();
    let compiled = (model.compiles + model.failures) as usize;
    same("compiled", now.compiles + now.failures, compiled)
}

fn expect_done(reply: &Reply) {
    assert!(matches!(reply, Reply::Done));
}

/// What a participant was told is what the method's key promises.
fn check(reply: Reply, code: support::synthetic::Code) {
    let right = match (&reply, code.how) {
        (Reply::Failed(Error::Codegen { .. }), How::Refuse | How::GiveUp) => true,
        (Reply::Failed(Error::CompilePanicked { .. }), How::Panic) => true,
        (Reply::Failed(Error::Link { .. }), How::Unresolved) => true,
        _ => reply.is_result_of(code),
    };
    assert!(right, "{code:?} answered {:?}", Shown(&reply));
}

struct Shown<'a>(&'a Reply);

impl std::fmt::Debug for Shown<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Reply::Done => f.write_str("done"),
            Reply::Nothing => f.write_str("nothing"),
            Reply::Returned(y) => write!(f, "{y}"),
            Reply::Failed(error) => write!(f, "{error}"),
        }
    }
}

/// Everybody re-pins between the reclaimer's steps: unless a thread has a second guard, that frees
/// all that is dead.
fn rounds(system: &System, model: &Model) {
    for _ in 0..STEPS {
        system.cache.maintain();
        for p in 0..PARTICIPANTS {
            expect_done(&system.tell(p, Command::Repin));
        }
    }
    if !model.somebody_stays() {
        let statistics = system.cache.statistics();
        assert_eq!(statistics.generations_recycled, model.died.len() as u64);
        assert!(!system.cache.maintain());
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

fn same(what: &str, is: u64, expected: usize) -> Result<(), String> {
    if is == expected as u64 {
        return Ok(());
    }
    Err(format!("{what}: {is}, expected {expected}"))
}

/// All is unlinked and nobody pinned: everything is free again.
fn compare_end(system: &System, model: &Model) -> Result<(), String> {
    let end = system.cache.statistics();
    let generations = model.generations.len() + model.died.len();
    same("participants", end.participants, 0)?;
    same("recycled", end.generations_recycled, generations)?;
    same("code", end.mapped_code_bytes, 0)?;
    same("retired", end.bytes.retired, 0)?;
    same("charged", end.bytes.charged - end.bytes.bookkeeping, 0)?;
    same("known", end.methods_known, end.addresses_taken as usize)?;
    if !model.quarantine {
        same("mapped", end.mapped, system.mapped_at_first as usize)?;
    }
    Ok(())
}

fn compare(system: &System, model: &Model) -> Result<(), String> {
    let now = system.cache.statistics();
    same("resident", now.methods_resident, model.resident.len())?;
    same("on probation", now.methods_on_probation, 0)?;
    let open = usize::from(model.open.is_some());
    same("open", now.generations_open, open)?;
    same(
        "sealed",
        now.generations_sealed,
        model.generations.len() - open,
    )?;
    let gone = now.generations_dead + now.generations_fallow + now.generations_recycled;
    same("died", gone, model.died.len())?;
    let recycled = now.generations_recycled as usize;
    if recycled > model.reclaimable() {
        return Err(format!("{recycled} freed, {} can be", model.reclaimable()));
    }
    same("known", now.methods_known, model.known(recycled))?;
    same("compiles", now.compiles, model.compiles as usize)?;
    same("failures", now.failures, model.failures as usize)?;
    same("evictions", now.evictions, model.evictions as usize)?;
    same("hits", now.hits, model.hits as usize)?;
    same("misses", now.misses, model.misses as usize)?;
    let spare = now.bytes.spare_contexts / CONTEXT;
    // A context goes as soon as the reclaimer has seen that its generation is dead.
    let with_context = model.generations.len() + now.generations_dead as usize;
    let contexts = with_context + spare as usize;
    same("contexts", now.contexts, contexts)?;
    let alive = system.counts.contexts.load(Ordering::SeqCst);
    same("contexts alive", alive as u64, contexts)?;
    let pinned = model.participants.iter().any(|p| p.guards > 0);
    same(
        "pinned",
        u64::from(now.longest_pinned.is_some()),
        usize::from(pinned),
    )?;
    compare_bytes(system, model, &now)
}

fn compare_bytes(system: &System, model: &Model, now: &Statistics) -> Result<(), String> {
    let bytes = &now.bytes;
    let within = |what: &str, is: u64, (least, most): (u64, u64)| {
        if (least..=most).contains(&is) {
            return Ok(());
        }
        Err(format!("{what}: {is} bytes, expected {least} to {most}"))
    };
    let exactly = |what: &str, is: u64, expected: u64| within(what, is, (expected, expected));
    let sum = |a: (u64, u64), b: (u64, u64)| (a.0 + b.0, a.1 + b.1);
    let alive = || model.generations.values();
    let text = alive().map(|g| g.size.text()).fold((0, 0), sum);
    within("text", bytes.text, text)?;
    let constants = alive().map(|g| g.size.constants()).sum();
    exactly("constants", bytes.constants, constants)?;
    exactly("data", bytes.data, 0)?;
    exactly(
        "unwind",
        bytes.unwind,
        alive().map(|g| g.size.unwind()).sum(),
    )?;
    exactly(
        "contexts",
        bytes.contexts,
        alive().map(|g| g.size.context).sum(),
    )?;
    let kept = model
        .kept_generations()
        .map(|g| g.size.total())
        .fold((0, 0), sum);
    within("kept", bytes.kept, kept)?;
    let fallow = &model.died[now.generations_recycled as usize..];
    let retired = fallow.iter().map(|g| g.size.total()).fold((0, 0), sum);
    let seen = fallow.len() - now.generations_dead as usize;
    let disposed: u64 = fallow[..seen].iter().map(|g| g.size.context).sum();
    let retired = (retired.0 - disposed, retired.1 - disposed);
    within("retired", bytes.retired, retired)?;
    let code = bytes.text + bytes.constants + bytes.unwind;
    let charged = code + bytes.contexts - bytes.kept + bytes.bookkeeping;
    exactly("charged", bytes.charged, charged)?;
    if !model.quarantine {
        let contexts: u64 = fallow[seen..].iter().map(|g| g.size.context).sum();
        let mapped = system.mapped_at_first + code + bytes.retired - contexts;
        exactly("mapped", now.mapped, mapped)?;
    }
    Ok(())
}
