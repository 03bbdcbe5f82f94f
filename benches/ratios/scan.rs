//! What a scan of 32 KiB of stack takes, against summing the same words one by one: a `blocking` that waits
//! for nothing looks over all that lies between it and the pin, whether something is to be freed or
//! not.

use std::hint::black_box;
use std::sync::atomic::AtomicU64;

use inkpot::Participant;

use crate::measure::{Pair, nanoseconds};
use crate::methods;

const WORDS: usize = (32 << 10) / size_of::<u64>();
const SCANS: u64 = 100;

pub fn run() {
    static EMITTING: AtomicU64 = AtomicU64::new(0);
    let cache = methods::builder(&EMITTING).build().expect("a cache");
    let me = cache.participant("scanner");
    let pair = Pair {
        name: "scan",
        ours: "scanned",
        theirs: "summed",
        unit: "us for 32 KiB",
    };
    me.pinned(|_| pair.rounds(|| deep(&me)));
}

/// Measures with so many words on the stack.
#[inline(never)]
fn deep(me: &Participant) -> (f64, f64) {
    // What stacks are full of: small numbers, and addresses of the host's and of the stack.
    let (host, stack) = (run as *const () as u64, (&raw const me) as u64);
    let words: [u64; WORDS] = std::array::from_fn(|i| match i % 3 {
        0 => host + i as u64,
        1 => stack + i as u64,
        _ => i as u64,
    });
    let words = black_box(&words);
    let (scan, sum) = nanoseconds(SCANS, |n| scan(me, n), |n| sum(words, n));
    (scan / 1e3, sum / 1e3)
}

fn scan(me: &Participant, n: u64) {
    for _ in 0..n {
        // SAFETY: nothing was loaded.
        unsafe { me.blocking(|| black_box(())) };
    }
}

fn sum(words: &[u64; WORDS], n: u64) {
    for _ in 0..n {
        let mut sum = 0_u64;
        for word in words {
            // SAFETY: it is a reference. Volatile, so that words are read one by one, as by a scan.
            sum = sum.wrapping_add(unsafe { std::ptr::from_ref(word).read_volatile() });
        }
        black_box(sum);
    }
}
