//! A call by a callback, on a thread that did not register; and one by the canonical address, with
//! a pin of its own, as a thread that did would make it.

use std::hint::black_box;
use std::sync::atomic::AtomicU64;

use inkpot::Participant;

use crate::measure::{Pair, nanoseconds};
use crate::methods::{self, Code, Name, Size};

const CALLS: u64 = 100_000;

pub fn run() {
    static EMITTING: AtomicU64 = AtomicU64::new(0);
    let cache = methods::builder(&EMITTING).build().expect("a cache");
    let name = Name {
        size: Size::Tiny,
        number: 1,
    };
    let handle = methods::handle(&cache, name);
    let participant = cache.participant("caller");
    handle.get(&mut participant.pin()).expect("it compiles");
    // SAFETY: the type is the methods'.
    let [callback, canonical] = unsafe {
        let callback = handle.callback().expect("there are callbacks");
        [callback, handle.address()].map(|a| std::mem::transmute::<*const (), Code>(a))
    };
    let pair = Pair {
        name: "callback",
        ours: "call by callback",
        theirs: "pin, call by address, unpin",
        unit: "ns",
    };
    pair.rounds(|| {
        nanoseconds(
            CALLS,
            |n| by_callback(black_box(callback), n),
            |n| by_address(black_box(&participant), black_box(canonical), n),
        )
    });
}

#[inline(never)]
fn by_callback(callback: Code, n: u64) {
    let mut x = 0;
    for _ in 0..n {
        // SAFETY: a tiny method does not look at its object.
        x = unsafe { callback(std::ptr::null_mut(), x) };
    }
    assert_eq!(black_box(x), n as i64);
}

#[inline(never)]
fn by_address(me: &Participant, canonical: Code, n: u64) {
    let mut x = 0;
    for _ in 0..n {
        let _guard = me.pin();
        // SAFETY: as above, on a pinned thread.
        x = unsafe { canonical(std::ptr::null_mut(), x) };
    }
    assert_eq!(black_box(x), n as i64);
}
