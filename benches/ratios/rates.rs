//! Methods that come, and go, beside LLJIT with a module and a resource tracker for each.

use std::sync::atomic::AtomicU64;
use std::time::Instant;

use inkpot::{ContextRelease, Reclaimer};

use crate::batch::Bare;
use crate::mcjit;
use crate::measure::{Pair, quantile};
use crate::methods::{self, Bursts, Name, Size};
use crate::trackers::Trackers;

static EMITTING: AtomicU64 = AtomicU64::new(0);

pub fn small() {
    compile("compile_rate_small", Size::Tiny, 384);
}

pub fn medium() {
    compile("compile_rate_medium", Size::Medium, 192);
}

/// A burst through the cache, until all can be called; and the same IR, with the same passes, through LLJIT.
fn compile(name: &'static str, size: Size, burst: u64) {
    let cache = methods::builder(&EMITTING).build().expect("a cache");
    let mut ours = Bursts::new(cache, size, burst);
    let mut theirs = Bare::new(size, burst);
    let trackers = Trackers::new();
    let pair = Pair {
        name,
        ours: "through the cache",
        theirs: "through LLJIT",
        unit: "methods/s",
    };
    pair.in_turns(
        || burst as f64 / ours.run(),
        || {
            let mut numbers = Vec::new();
            let started = Instant::now();
            let contexts = theirs.each(|number, object| {
                trackers.add(number, &object);
                numbers.push(number);
            });
            let took = started.elapsed().as_secs_f64();
            drop(contexts);
            trackers.remove(numbers);
            burst as f64 / took
        },
    );
    let rates: Vec<f64> = (0..5).map(|_| mcjit::rate(size, burst)).collect();
    let rate = quantile(&rates, 0.5);
    eprintln!("{name}: through MCJIT {rate:.3} methods/s (median of 5)");
}

/// Methods of a batch, and of a generation.
pub const BATCH: usize = 64;

/// A generation's methods are evicted, and its memory comes back; and trackers, each with a method, are removed.
pub fn recycle() {
    let cache = methods::builder(&EMITTING)
        .workers(0)
        .generation_methods(BATCH)
        .batch_limit(BATCH)
        .release_context(ContextRelease::AtSealing)
        .reclaimer(Reclaimer::Manual);
    let cache = cache.build().expect("a cache");
    let mut bare = Bare::new(Size::Medium, BATCH as u64);
    let trackers = Trackers::new();
    let mut next = 0;
    let pair = Pair {
        name: "recycle",
        ours: "a generation of 64",
        theirs: "64 trackers",
        unit: "us",
    };
    pair.in_turns(
        || {
            let numbers = next..next + BATCH as u64;
            next = numbers.end;
            for number in numbers {
                let size = Size::Medium;
                let handle = methods::handle(&cache, Name { size, number });
                handle.request().expect("the cache is open");
            }
            while cache.compile_some(BATCH) > 0 {}
            cache.seal();
            // Contexts go at sealing, as theirs are gone when code is: neither is in the time.
            (0..3).for_each(|_| {
                cache.maintain();
            });
            let before = cache.statistics();
            assert_eq!(before.methods_resident, BATCH as u64);
            let started = Instant::now();
            cache.evict_all();
            while cache.maintain() {}
            let took = started.elapsed();
            let recycled = cache.statistics().generations_recycled - before.generations_recycled;
            assert!(recycled > 0);
            took.as_secs_f64() * 1e6
        },
        || {
            let mut numbers = Vec::new();
            let contexts = bare.each(|number, object| {
                trackers.add(number, &object);
                numbers.push(number);
            });
            drop(contexts);
            let started = Instant::now();
            trackers.remove(numbers);
            started.elapsed().as_secs_f64() * 1e6
        },
    );
}
