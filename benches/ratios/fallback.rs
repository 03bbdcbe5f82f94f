//! Calls that go to a fallback: by its thunk, and by a cell without code, which asks for the method first; and calls of the
//! fallback itself.

use std::hint::black_box;
use std::time::Duration;

use inkpot::{Cache, Handle};

use crate::measure::{Pair, nanoseconds};
use crate::synthetic::{Code, How, Synthetic, Unary, method};

const CALLS: u64 = 100_000;
/// Calls that ask are some hundred times as slow.
const ASKING: u64 = 10_000;

inkpot::fallback! {
    unsafe extern "C-unwind" fn interpret(word: usize, x: i64) -> i64 {
        x + word as i64 + 1
    }
}

/// A method that failed, and will not be tried again.
fn refused() -> (Cache<Code>, Handle<Code, Unary>) {
    const LONG: Duration = Duration::from_secs(3600);
    let cache = Cache::with_backend(Synthetic::default())
        .fallback(interpret as *const ())
        .retry_after(LONG, LONG)
        .build()
        .expect("a cache");
    let refused = method(&cache, Code::new(1, How::Refuse));
    let me = cache.participant("caller");
    assert!(refused.get(&mut me.pin()).is_err());
    (cache, refused)
}

pub fn thunk() {
    let (cache, refused) = refused();
    let me = cache.participant("caller");
    let guard = me.pin();
    // SAFETY: it is called under the guard, on this thread.
    let thunk = unsafe { refused.entry_or_fallback(&guard).pointer() };
    let pair = Pair {
        name: "fallback",
        ours: "call by a fallback's thunk",
        theirs: "call of the fallback",
        unit: "ns",
    };
    pair.rounds(|| {
        nanoseconds(
            CALLS,
            |n| calls(black_box(thunk), n),
            |n| calls(black_box(interpret), n),
        )
    });
}

pub fn asking() {
    let (cache, refused) = refused();
    let me = cache.participant("caller");
    let _guard = me.pin();
    // SAFETY: the type is the methods'.
    let canonical = unsafe { std::mem::transmute::<*const (), Unary>(refused.address()) };
    let pair = Pair {
        name: "fallback_asking",
        ours: "call of a method without code, by its address",
        theirs: "call of the fallback",
        unit: "ns",
    };
    pair.rounds(|| {
        nanoseconds(
            ASKING,
            |n| calls(black_box(canonical), n),
            |n| calls(black_box(interpret), n),
        )
    });
}

pub fn entry() {
    let (cache, refused) = refused();
    let me = cache.participant("caller");
    let guard = me.pin();
    let pair = Pair {
        name: "fallback_entry",
        ours: "entry_or_fallback and call, without code",
        theirs: "call of the fallback",
        unit: "ns",
    };
    pair.rounds(|| {
        nanoseconds(
            ASKING,
            |n| {
                let mut x = 0;
                for _ in 0..n {
                    // SAFETY: any number will do.
                    x = unsafe { black_box(&refused).entry_or_fallback(&guard).call(x) };
                }
                assert_eq!(black_box(x), n as i64);
            },
            |n| calls(black_box(interpret), n),
        )
    });
}

#[inline(never)]
fn calls(code: Unary, n: u64) {
    let mut x = 0;
    for _ in 0..n {
        // SAFETY: any number will do.
        x = unsafe { code(x) };
    }
    assert_eq!(black_box(x), n as i64);
}
