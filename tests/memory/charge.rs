//! What a context is charged, against the allocator's own figures.

use std::time::Duration;

use inkpot::{Cache, ContextRelease, OptLevel};

use crate::support::child;
use crate::workloads::{Filler, Filling, Key, Kind, method};
use crate::{builder, compile};

const PATIENCE: Duration = Duration::from_secs(300);

/// Bytes of the C heap in use.
pub fn heap() -> i64 {
    // SAFETY: no preconditions.
    let info = unsafe { libc::mallinfo2() };
    (info.uordblks + info.hblkhd) as i64
}

/// Fills what the allocator keeps for this thread: else pieces of a context that go there when they
/// are freed are still in use, to the allocator.
fn fill_store() {
    let sizes = (24..=1032).step_by(16);
    let pieces: Vec<Vec<u8>> = sizes
        .flat_map(|size| (0..7).map(move |_| Vec::with_capacity(size)))
        .collect();
    drop(pieces);
}

fn maintain(cache: &Cache<Key>) {
    // What it returns says nothing of what the table has let go of.
    for _ in 0..8 {
        while cache.maintain() {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Fills a context and disposes of it, twice: what is allocated once is allocated the first time.
fn check(filling: &Filling) {
    let filler = Filler::default();
    let gate = filler.gate.clone();
    let cache = builder(filler, filling).build().unwrap();
    // So many methods that the table does not grow in the middle of it.
    let others = match filling.kind {
        Kind::Strangers => 17_000,
        _ => 1_100,
    };
    let other = |n: u32| method(&cache, Kind::Gate, 2_000_000 + n);
    let _others: Vec<_> = (0..others).map(other).collect();
    // What the table had before is freed when others come and go.
    if filling.kind == Kind::Strangers {
        (0..others).for_each(|n| drop(other(others + n)));
    }
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
    fill_store();
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
    assert!((charge - cost).abs() <= cost / 4, "contexts: {filling:?}");
    // A record is charged as if it had code, which those of strangers have not.
    if filling.kind != Kind::Strangers {
        assert!((charged - grown).abs() <= grown / 4, "all: {filling:?}");
    }
}

fn check_all(test: &str, kind: Kind) {
    alone(test, || {
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

/// A record that a batch is the first to mention is bookkeeping, and not its context's.
#[test]
fn unknown_callees_are_charged_once() {
    check_all("charge::unknown_callees_are_charged_once", Kind::Strangers);
}

#[test]
fn types_are_charged_what_they_cost() {
    check_all("charge::types_are_charged_what_they_cost", Kind::Types);
}

/// Runs a test's body in a process of its own: what other tests allocate would be charged too.
fn alone(test: &str, body: impl FnOnce()) {
    if let Some(ended) = child::run(test, PATIENCE, body) {
        println!("{}", ended.output);
        ended.expect_code(0);
    }
}

/// Spares count as contexts from the beginning, and a generation's until it goes.
#[test]
fn contexts_are_counted_while_they_live() {
    alone("charge::contexts_are_counted_while_they_live", || {
        count_contexts(ContextRelease::WithGeneration);
        count_contexts(ContextRelease::AtSealing);
    });
}

fn count_contexts(release: ContextRelease) {
    let filling = Filling {
        kind: Kind::Tiny,
        methods: 10,
        batch: 1,
        level: OptLevel::O0,
    };
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

#[test]
fn each_worker_has_a_spare_context() {
    alone("charge::each_worker_has_a_spare_context", || {
        for workers in 1..4 {
            let builder = Cache::builder(Filler::default()).workers(workers);
            let cache = builder.build().unwrap();
            let statistics = cache.statistics();
            assert_eq!(statistics.contexts, workers as u64);
            assert!(statistics.bytes.spare_contexts > 1000 * workers as u64);
        }
    });
}
