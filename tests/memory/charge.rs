//! What a context is charged, against the allocator's own figures.

use std::time::Duration;

use inkpot::{Cache, ContextRelease, OptLevel};

use crate::support::child;
use crate::workloads::{Filler, Filling, Key, Kind};
use crate::{builder, compile};

const PATIENCE: Duration = Duration::from_secs(300);

/// Bytes of the C heap in use.
fn heap() -> i64 {
    // SAFETY: no preconditions.
    let info = unsafe { libc::mallinfo2() };
    (info.uordblks + info.hblkhd) as i64
}

fn maintain(cache: &Cache<Key>) {
    while cache.maintain() {
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Fills a context and disposes of it, twice: what is allocated once is allocated the first time.
fn check(filling: &Filling) {
    let filler = Filler::default();
    let gate = filler.gate.clone();
    let cache = builder(filler, filling).build().unwrap();
    let warm_up = Filling {
        methods: 128,
        ..*filling
    };
    compile(&cache, &gate, &warm_up, 1_000_000);
    cache.seal();
    maintain(&cache);

    let (empty, before) = (heap(), cache.statistics().bytes);
    assert_eq!(before.contexts, 0);
    compile(&cache, &gate, filling, 0);
    maintain(&cache); // a spare context instead of the one that was taken
    let (full, after) = (heap(), cache.statistics().bytes);
    cache.seal(); // gives the charge up, and leaves the context to the reclaimer
    assert_eq!(cache.statistics().bytes.contexts, 0);
    let sealed = heap();
    maintain(&cache);

    let charge = after.contexts as i64;
    let cost = sealed - heap();
    let charged = charge + after.bookkeeping as i64 - before.bookkeeping as i64;
    let grown = full - empty;
    println!(
        "{filling:?}: contexts {charge} for {cost} ({:.3}), all {charged} for {grown} ({:.3})",
        charge as f64 / cost as f64,
        charged as f64 / grown as f64,
    );
    // A measurement of the allocator's is off by its own header and rounding, each time.
    let rounding = 80 * (filling.methods as i64) / (filling.batch as i64);
    let tolerance = cost / 4 + rounding;
    assert!((charge - cost).abs() <= tolerance, "contexts: {filling:?}");
    assert!((charged - grown).abs() <= grown / 4, "all: {filling:?}");
}

fn check_all(test: &str, kind: Kind) {
    let ended = child::run(test, PATIENCE, || {
        for level in [OptLevel::O0, OptLevel::O2] {
            for (batch, methods) in [(1, 300), (64, 640)] {
                check(&Filling {
                    kind,
                    methods,
                    batch,
                    level,
                });
            }
        }
    });
    if let Some(ended) = ended {
        println!("{}", ended.output);
        ended.expect_code(0);
    }
}

#[test]
fn tiny_methods_are_charged_what_they_cost() {
    check_all(
        "charge::tiny_methods_are_charged_what_they_cost",
        Kind::Tiny,
    );
}

#[test]
fn methods_of_700_bytes_are_charged_what_they_cost() {
    let test = "charge::methods_of_700_bytes_are_charged_what_they_cost";
    check_all(test, Kind::Medium);
}

#[test]
fn constants_are_charged_what_they_cost() {
    check_all(
        "charge::constants_are_charged_what_they_cost",
        Kind::Constants,
    );
}

#[test]
fn types_are_charged_what_they_cost() {
    check_all("charge::types_are_charged_what_they_cost", Kind::Types);
}

/// Spares count as contexts from the beginning, and a generation's until it goes.
#[test]
fn contexts_are_counted_while_they_live() {
    let filling = Filling {
        kind: Kind::Tiny,
        methods: 10,
        batch: 1,
        level: OptLevel::O0,
    };
    for release in [ContextRelease::WithGeneration, ContextRelease::AtSealing] {
        let filler = Filler::default();
        let gate = filler.gate.clone();
        let builder = builder(filler, &filling).release_context(release);
        let cache = builder.build().unwrap();
        let spare = cache.statistics();
        assert_eq!((spare.contexts, spare.bytes.contexts), (1, 0));
        assert!(spare.bytes.spare_contexts > 0);

        compile(&cache, &gate, &filling, 0);
        let open = cache.statistics();
        assert_eq!((open.contexts, open.generations_open), (1, 1));
        assert_eq!(open.bytes.spare_contexts, 0, "taken");
        assert!(open.bytes.contexts > spare.bytes.spare_contexts / 2);
        maintain(&cache);
        assert_eq!(cache.statistics().contexts, 2, "there is a spare one again");

        cache.seal();
        let sealed = cache.statistics();
        assert_eq!(sealed.contexts, 2, "it is sealed, and not yet disposed of");
        assert_eq!((sealed.generations_open, sealed.generations_sealed), (0, 1));
        maintain(&cache);
        let sealed = cache.statistics();
        match release {
            ContextRelease::WithGeneration => {
                assert_eq!(sealed.contexts, 2);
                assert_eq!(sealed.bytes.contexts, open.bytes.contexts);
            }
            ContextRelease::AtSealing => {
                assert_eq!((sealed.contexts, sealed.bytes.contexts), (1, 0));
            }
        }

        cache.evict_all();
        maintain(&cache);
        let end = cache.statistics();
        assert_eq!((end.contexts, end.bytes.contexts), (1, 0));
        assert_eq!((end.generations_sealed, end.generations_recycled), (0, 1));
    }
}

#[test]
fn each_worker_has_a_spare_context() {
    for workers in 1..4 {
        let builder = Cache::builder(Filler::default()).workers(workers);
        let cache = builder.build().unwrap();
        let statistics = cache.statistics();
        assert_eq!(statistics.contexts, workers as u64);
        assert!(statistics.bytes.spare_contexts > 1000 * workers as u64);
    }
}
