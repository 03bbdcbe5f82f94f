//! Panics pass through jitted frames, wherever the code lies and however its tables are kept.

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};

use inkpot::{Cache, Participant, Reclaimer};
use support::synthetic::{Code, How, Synthetic, method};

/// Calls the method, whose host function panics, and sees the panic come out.
fn panics_through(cache: &Cache<Code>, me: &Participant, code: Code) {
    let handle = method(cache, code);
    let mut guard = me.pin();
    let entry = handle.get(&mut guard).unwrap();
    // SAFETY: the type is right.
    let call = || unsafe { entry.call(-3) };
    let panic = catch_unwind(AssertUnwindSafe(call)).expect_err("the host function panics");
    assert_eq!(panic.downcast_ref::<i64>(), Some(&-3));
}

fn by_hand() -> Cache<Code> {
    let builder = Cache::with_backend(Synthetic::default());
    builder.reclaimer(Reclaimer::Manual).build().unwrap()
}

fn host(n: u32) -> Code {
    Code::new(n, How::Host).framed()
}

#[test]
fn through_open_and_sealed_generations() {
    let cache = by_hand();
    let me = cache.participant("test");
    for round in 0..3 {
        for n in 0..20 {
            panics_through(&cache, &me, host(100 * round + n));
        }
        cache.seal();
        for n in 0..20 {
            panics_through(&cache, &me, host(100 * round + n));
        }
    }
    assert_eq!(cache.statistics().compiles, 60);
}

/// A generation's code need not be in one piece: another's can lie in between. An unwinder that
/// searches tables by where their code begins must not be sent to the wrong one.
#[test]
fn through_a_generation_around_another() {
    let cache = by_hand();
    let me = cache.participant("test");
    // Three generations, one slot after the other.
    for n in 0..3 {
        panics_through(&cache, &me, host(n));
        cache.seal();
    }
    assert!(cache.evict(&host(1)));
    while cache.maintain() {}
    assert_eq!(cache.statistics().generations_recycled, 1);
    // The next one begins in the gap, and goes on behind the third.
    let pieces = [host(10), host(11).padded(20_000), host(12)];
    for code in pieces {
        panics_through(&cache, &me, code);
    }
    cache.seal();
    for code in pieces.into_iter().chain([host(0), host(2)]) {
        panics_through(&cache, &me, code);
    }
}
