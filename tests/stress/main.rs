//! Threads call methods while others evict, invalidate, seal and reclaim at full speed. What was
//! freed stays `PROT_NONE` for a while: a late call is a crash. Every result is checked.
//!
//! The short form takes seconds. `INKPOT_SOAK=1` (`make long`) is the long one, with more than a
//! million evictions. `INKPOT_SEED` starts from another number.

mod storm;
#[path = "../support/mod.rs"]
mod support;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use inkpot::{Cache, OptLevel, Reclaimer, Stress, evict::Sieve};

use storm::Storm;
use support::synthetic::{Code, Counts, How, Synthetic};
use support::{Calculator, Op};

fn soak() -> bool {
    std::env::var_os("INKPOT_SOAK").is_some_and(|v| v != "0")
}

fn seed() -> u64 {
    let given = std::env::var("INKPOT_SEED").ok();
    given.map_or(20130613, |s| s.parse().expect("INKPOT_SEED is a number"))
}

/// So many evictions in the short form, so many in the long one.
fn evictions(short: u64, long: u64) -> u64 {
    if soak() { long } else { short }
}

fn quarantine() -> Stress {
    let mut stress = Stress::default();
    stress.quarantine = true;
    stress
}

/// Leaves and callers of all kinds, small ones and some that take several slots.
fn codes() -> Vec<Code> {
    let leaves = (0..24).map(Code::leaf);
    let framed = (0..8).map(|n| Code::leaf(n).framed());
    let large = (100..104).map(|n| Code::leaf(n).padded(9_000 * (n as u16 - 99)));
    let callers = (0..24).map(|n| {
        let how = [How::Call, How::Jump, How::CallAddress][n as usize % 3];
        let code = Code::new(n + 20, how).depth(1 + (n % 4) as u8);
        if n % 2 == 0 { code.framed() } else { code }
    });
    let hosts = (0..6).map(|n| Code::new(n, How::Host).framed());
    let all = leaves
        .chain(framed)
        .chain(large)
        .chain(callers)
        .chain(hosts);
    all.collect()
}

fn synthetic() -> (inkpot::Builder<Code>, Arc<Counts>) {
    let backend = Synthetic::default();
    let counts = backend.counts.clone();
    let builder = Cache::with_backend(backend).stress(quarantine());
    (builder, counts)
}

fn storm(name: &'static str, cache: Cache<Code>, evictions: u64) -> Storm<Code> {
    Storm {
        name,
        caches: vec![cache],
        keys: codes(),
        callers: 3,
        takers: 2,
        evictions,
        budgets: Vec::new(),
        some_die_pinned: false,
        by_hand: false,
        seed: seed(),
    }
}

#[test]
fn callers_against_takers() {
    let (builder, counts) = synthetic();
    let cache = builder.workers(2).generation_methods(16).build().unwrap();
    storm("callers against takers", cache, evictions(20_000, 700_000)).run();
    assert_eq!(counts.contexts.load(Ordering::SeqCst), 0);
}

#[test]
fn reclaimed_by_hand() {
    let (builder, counts) = synthetic();
    let builder = builder.reclaimer(Reclaimer::Manual);
    let cache = builder.generation_methods(16).build().unwrap();
    let mut storm = storm("reclaimed by hand", cache, evictions(10_000, 200_000));
    storm.by_hand = true;
    storm.run();
    assert_eq!(counts.contexts.load(Ordering::SeqCst), 0);
}

#[test]
fn budgets_that_hold_next_to_nothing() {
    let (builder, counts) = synthetic();
    let builder = builder.code_budget(96 << 10).policy(Sieve::new());
    let cache = builder.workers(2).build().unwrap();
    let mut storm = storm("tiny budgets", cache, evictions(10_000, 200_000));
    storm.takers = 1;
    storm.budgets = vec![0, 1, 64 << 10, 256 << 10, 1 << 20];
    storm.run();
    assert_eq!(counts.contexts.load(Ordering::SeqCst), 0);
}

#[test]
fn several_caches_at_once() {
    let (builders, counts): (Vec<_>, Vec<_>) = (0..3).map(|_| synthetic()).unzip();
    let mut caches = builders
        .into_iter()
        .map(|b| b.generation_methods(16).build().unwrap());
    let mut storm = storm(
        "several caches",
        caches.next().unwrap(),
        evictions(10_000, 100_000),
    );
    storm.caches.extend(caches);
    storm.run();
    for counts in counts {
        assert_eq!(counts.contexts.load(Ordering::SeqCst), 0);
    }
}

#[test]
fn participants_that_die_pinned() {
    let (builder, _) = synthetic();
    let cache = builder.generation_methods(16).build().unwrap();
    let mut storm = storm("some die pinned", cache, evictions(5_000, 50_000));
    storm.some_die_pinned = true;
    storm.run();
}

#[test]
fn the_stress_setting() {
    let (builder, counts) = synthetic();
    let builder = builder.stress(Stress::a_lot_with_invalidation());
    let cache = builder.build().unwrap();
    let mut storm = storm("the stress setting", cache, evictions(10_000, 100_000));
    storm.takers = 0;
    storm.run();
    assert_eq!(counts.contexts.load(Ordering::SeqCst), 0);
}

/// Each mode of stress with and without each other, on two workers and on none, with a quarantine and without.
#[test]
fn all_combinations_of_modes() {
    let all = Stress::a_lot_with_invalidation();
    for combination in 0..64 {
        let on = |mode: u32| combination >> mode & 1;
        let mut stress = Stress::default();
        stress.evict_every = on(0) * all.evict_every;
        stress.invalidate_every = on(1) * all.invalidate_every;
        stress.recycle_every = on(2) * all.recycle_every;
        stress.move_every = on(3) * all.move_every;
        stress.quarantine = on(4) == 1;
        let backend = Synthetic::default();
        let counts = backend.counts.clone();
        let builder = Cache::with_backend(backend).stress(stress);
        let by_hand = on(5) == 1;
        let builder = match by_hand {
            true => builder.reclaimer(Reclaimer::Manual).generation_methods(5),
            false => builder.workers(2),
        };
        let cache = builder.build().unwrap();
        let mut storm = storm("a combination of modes", cache, evictions(150, 20_000));
        (storm.callers, storm.by_hand) = (2, by_hand);
        // Somebody else evicts, unless they do.
        storm.takers = usize::from(on(0) == 0);
        storm.seed ^= u64::from(combination);
        storm.run();
        assert_eq!(counts.contexts.load(Ordering::SeqCst), 0, "{stress:?}");
    }
}

#[test]
fn code_of_llvm() {
    let leaf = |n| Op::Add(n);
    let call = |op, n| Op::CallAdd(Box::new(op), n);
    let leaves = (0..8).map(leaf);
    let callers = (0..8).map(|n| call(leaf(n), 100 + n));
    let high = (0..4).map(|n| call(call(leaf(n), 100 + n), 1000 + n));
    let builder = Cache::builder(Calculator).stress(quarantine()).workers(2);
    let builder = builder.opt_level(OptLevel::O1).generation_methods(16);
    Storm {
        name: "code of LLVM",
        caches: vec![builder.build().unwrap()],
        keys: leaves.chain(callers).chain(high).collect(),
        callers: 2,
        takers: 1,
        evictions: evictions(1_000, 50_000),
        budgets: vec![1, 1 << 20, 64 << 20],
        some_die_pinned: false,
        by_hand: false,
        seed: seed(),
    }
    .run();
}
