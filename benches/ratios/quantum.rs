//! The end of a quantum: re-pinning a kept guard, and what it replaces, crossbeam's pin and unpin.

use std::hint::black_box;
use std::sync::atomic::AtomicU64;

use inkpot::Guard;

use crate::measure::{Pair, nanoseconds};
use crate::methods;

const QUANTA: u64 = 200_000;

pub fn run() {
    static EMITTING: AtomicU64 = AtomicU64::new(0);
    let cache = methods::builder(&EMITTING).build().expect("a cache");
    let participant = cache.participant("worker");
    let mut guard = participant.pin();
    let pair = Pair {
        name: "quantum",
        ours: "re-pin",
        theirs: "crossbeam's pin and unpin",
        unit: "ns",
    };
    pair.rounds(|| nanoseconds(QUANTA, |n| repin(black_box(&mut guard), n), pin_and_unpin));
}

/// Quanta in one turn of the loop: its own branch would be half of what a re-pin costs. (Beside
/// crossbeam's locked instruction it is nothing.)
const UNROLLED: u64 = 8;

#[inline(never)]
fn repin(guard: &mut Guard<'_>, n: u64) {
    for _ in 0..n / UNROLLED {
        guard.repin();
        guard.repin();
        guard.repin();
        guard.repin();
        guard.repin();
        guard.repin();
        guard.repin();
        guard.repin();
    }
}

#[inline(never)]
fn pin_and_unpin(n: u64) {
    for _ in 0..n {
        drop(crossbeam_epoch::pin());
    }
}
