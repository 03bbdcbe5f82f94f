//! Look-ups while another thread does something, too.

use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use inkpot::{Cache, Guard, Reclaimer};

use crate::many::{self, FEW, Often, Unary};
use crate::measure::{Pair, quantile};

/// Keys of one run, which are looked up again and again.
const RUN: usize = 20_000;
const TIMES: usize = 60;

fn look_up(cache: &Cache<u64>, guard: &Guard<'_>, keys: &[u64]) -> u64 {
    keys.iter().fold(0, |sum, key| {
        // SAFETY: the type is right; it is not called.
        let entry = unsafe { cache.entry::<Unary>(key, guard).map(|e| e.pointer()) };
        sum ^ entry.expect("it is resident") as usize as u64
    })
}

/// Seconds that a thread takes for its look-ups, in quanta.
fn timed(cache: &Cache<u64>, keys: &[u64], start: &Barrier) -> f64 {
    let me = cache.participant("looks up");
    let mut guard = me.pin();
    black_box(look_up(cache, &guard, keys));
    start.wait();
    let started = Instant::now();
    for _ in 0..TIMES {
        black_box(look_up(cache, &guard, black_box(keys)));
        guard.repin();
    }
    started.elapsed().as_secs_f64()
}

/// How many times as much two threads do in the time of one, each in its cache.
fn gain(caches: [&Cache<u64>; 2], keys: &[u64]) -> f64 {
    let alone = timed(caches[0], keys, &Barrier::new(1));
    let start = Barrier::new(2);
    let both = std::thread::scope(|scope| {
        let threads = caches.map(|cache| scope.spawn(|| timed(cache, keys, &start)));
        threads.map(|thread| thread.join().expect("it only looks up"))
    });
    2.0 * alone / both[0].max(both[1])
}

/// Two threads in one cache, against two that have one each.
pub fn scaling() {
    let caches = [(); 3].map(|()| {
        let cache = many::builder().build().expect("a cache");
        many::fill(&cache, FEW);
        cache
    });
    let [shared, own, other] = &caches;
    let keys = many::keys(Often::Uniform, FEW, RUN);
    let pair = Pair {
        name: "lookup_scaling_rate",
        ours: "two threads gain in one cache",
        theirs: "in one each",
        unit: "times",
    };
    pair.rounds(|| {
        // The median of some: whatever else runs takes a whole processor from one of them.
        let figures = (0..9).map(|_| (gain([shared, shared], &keys), gain([own, other], &keys)));
        let (ours, theirs): (Vec<_>, Vec<_>) = figures.unzip();
        (quantile(&ours, 0.5), quantile(&theirs, 0.5))
    });
}

/// Methods that come and go, beside those that are looked up.
const CHANGING: u64 = 2_048;
/// So many at a time.
const AT_A_TIME: u64 = 64;

/// Evicts methods and compiles them again until it is told to stop; which are not those that others look up.
fn churn(cache: &Cache<u64>, stop: &AtomicBool, evicted: &AtomicU64) {
    let handles: Vec<_> = (FEW..FEW + CHANGING)
        // SAFETY: the type is right.
        .map(|key| unsafe { cache.method::<Unary>(&key) }.expect("there are cells"))
        .collect();
    let mut turns = handles.chunks(AT_A_TIME as usize).cycle();
    while !stop.load(Ordering::Relaxed) {
        let turn = turns.next().expect("it is a cycle");
        for handle in turn {
            cache.evict(handle.key());
            handle.request().expect("the cache is open");
        }
        while cache.compile_some(usize::MAX) > 0 {}
        cache.maintain();
        evicted.fetch_add(AT_A_TIME, Ordering::Relaxed);
    }
}

fn compute(stop: &AtomicBool) {
    let mut x = 1u64;
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..1_000 {
            x = black_box(x.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (x >> 29));
        }
    }
}

/// Beside a thread that evicts and compiles all the time, against one that only computes.
pub fn while_evicting() {
    // All that the cache does is done by the one other thread.
    let cache = many::builder().workers(0).reclaimer(Reclaimer::Manual);
    let cache = cache.build().expect("a cache");
    let compiled = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !compiled.load(Ordering::Relaxed) {
                cache.compile_some(usize::MAX);
            }
        });
        many::fill(&cache, FEW);
        compiled.store(true, Ordering::Relaxed);
    });
    cache.seal();
    let keys = many::keys(Often::Uniform, FEW, RUN);
    let pair = Pair {
        name: "lookup_while_evicting",
        ours: "beside evictions",
        theirs: "beside computing",
        unit: "ns",
    };
    let evicted = AtomicU64::new(0);
    let beside = |other: &(dyn Fn(&AtomicBool) + Sync)| {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| other(&stop));
            let start = Barrier::new(1);
            let times = (0..9).map(|_| timed(&cache, &keys, &start));
            let times: Vec<f64> = times.collect();
            stop.store(true, Ordering::Relaxed);
            quantile(&times, 0.5) * 1e9 / (RUN * TIMES) as f64
        })
    };
    let started = Instant::now();
    pair.in_turns(
        || beside(&|stop| churn(&cache, stop, &evicted)),
        || beside(&compute),
    );
    // Half of the time.
    let rate = 2.0 * evicted.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64();
    eprintln!("lookup_while_evicting: about {rate:.0} evictions and compilations a second");
}
