//! Where memory is too short for what is called, the service slows down: what is called has its fallback, and what has code
//! keeps it.

mod support;

use std::time::Duration;

use inkpot::{Cache, Handle, Statistics};
use support::synthetic::{self, Code, Synthetic, Unary};

inkpot::fallback! {
    unsafe extern "C-unwind" fn interpreted(_word: usize, x: i64) -> i64 {
        1_000_000 + x
    }
}

const METHODS: u32 = 64;
const ROUNDS: i64 = 400;
/// Room for a quarter of them.
const SMALL: u64 = 64 << 10;

const OFF: (Duration, Duration) = (Duration::ZERO, Duration::ZERO);
const ON: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(2));

fn methods(cache: &Cache<Code>) -> Vec<(u32, Handle<Code, Unary>)> {
    let all = (0..METHODS).map(|n| (n, synthetic::method(cache, Code::leaf(n).padded(2000))));
    all.collect()
}

fn cache(code_budget: u64, damping: (Duration, Duration)) -> Cache<Code> {
    Cache::with_backend(Synthetic::default())
        .fallback(interpreted as *const ())
        .code_budget(code_budget)
        .batch_limit(4)
        .generation_methods(4)
        .damping(damping.0, damping.1)
        .build()
        .unwrap()
}

/// Calls all methods in turns. Returns what was to be seen of it, and how many calls ran compiled code.
fn call_in_turns(cache: &Cache<Code>) -> (Statistics, u64) {
    let me = cache.participant("test");
    let mut guard = me.pin();
    let all = methods(cache);
    let mut compiled = 0;
    for round in 0..ROUNDS {
        for (n, method) in &all {
            // SAFETY: the type is right.
            let y = unsafe { method.entry_or_fallback(&guard).call(round) };
            let by_code = y == round + i64::from(*n);
            assert!(by_code || y == 1_000_000 + round, "{n}: {y}");
            compiled += u64::from(by_code);
            guard.repin();
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    (cache.statistics(), compiled)
}

#[test]
fn under_pressure_far_less_is_compiled_for_the_same_calls() {
    let (without, by_code) = call_in_turns(&cache(SMALL, OFF));
    let (with, by_code_then) = call_in_turns(&cache(SMALL, ON));
    println!(
        "{} compilations without, {} with; {by_code} and {by_code_then} calls by code",
        without.compiles, with.compiles
    );
    assert!(without.thrashes > 100, "{without:#?}");
    assert_eq!(without.damped, 0);
    assert!(with.damped > 1000 && with.thrashes > 0, "{with:#?}");
    assert!(
        with.compiles * 4 < without.compiles,
        "{} and {}",
        with.compiles,
        without.compiles
    );
}

#[test]
fn without_pressure_nothing_is_put_off() {
    let cache = cache(u64::MAX, ON);
    let (calm, by_code) = call_in_turns(&cache);
    assert_eq!(
        (calm.thrashes, calm.damped, calm.compiles),
        (0, 0, u64::from(METHODS))
    );
    assert!(by_code > 0);
    // What is evicted because somebody says so is no sign of pressure either.
    for _ in 0..20 {
        cache.evict_all();
        for (_, method) in methods(&cache) {
            method.request().unwrap();
        }
    }
    let calm = cache.statistics();
    assert_eq!((calm.thrashes, calm.damped), (0, 0));
}

#[test]
fn who_waits_is_served_whatever_it_costs() {
    const LONG: Duration = Duration::from_secs(3600);
    let cache = cache(SMALL, (LONG, LONG));
    let me = cache.participant("test");
    let mut guard = me.pin();
    let all = methods(&cache);
    for round in 0..5 {
        for (n, method) in &all {
            // SAFETY: the type is right.
            let y = unsafe { method.get(&mut guard).unwrap().call(round) };
            assert_eq!(y, round + i64::from(*n));
        }
    }
    let s = cache.statistics();
    assert!(s.thrashes > u64::from(METHODS), "{s:#?}");
    assert_eq!(s.damped, 0);
    // A wish for one of those that go and come is not.
    for (_, method) in &all {
        method.request().unwrap();
    }
    assert!(cache.statistics().damped > 0);
}
