//! A pin and its end, beside crossbeam's own.

use std::hint::black_box;
use std::sync::atomic::AtomicU64;

use inkpot::Participant;

use crate::measure::{Pair, nanoseconds};
use crate::methods;

const PINS: u64 = 100_000;

pub fn run() {
    static EMITTING: AtomicU64 = AtomicU64::new(0);
    let cache = methods::builder(&EMITTING).build().expect("a cache");
    let participant = cache.participant("pins");
    let pair = Pair {
        name: "pin",
        ours: "pin and unpin",
        theirs: "crossbeam's",
        unit: "ns",
    };
    pair.rounds(|| nanoseconds(PINS, |n| ours(black_box(&participant), n), theirs));
}

#[inline(never)]
fn ours(participant: &Participant, n: u64) {
    for _ in 0..n {
        drop(participant.pin());
    }
}

#[inline(never)]
fn theirs(n: u64) {
    for _ in 0..n {
        drop(crossbeam_epoch::pin());
    }
}
