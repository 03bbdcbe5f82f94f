//! Memory as the system and the allocator see it, against what the statistics say.

#[path = "../support/mod.rs"]
mod support;
mod workloads;

use std::time::Duration;

use inkpot::{Cache, OptLevel, Reclaimer};
use support::{child, wait_until};
use workloads::{Filler, Filling, KINDS, Key, Kind, method};

const PATIENCE: Duration = Duration::from_secs(120);

/// Bytes of the C heap in use.
fn heap() -> u64 {
    // SAFETY: no preconditions.
    let info = unsafe { libc::mallinfo2() };
    (info.uordblks + info.hblkhd) as u64
}

/// Has the methods compiled in batches of that size: the worker is held up until all are asked
/// for, and this thread allocates nothing while it works.
fn compile(cache: &Cache<Key>, gate: &support::Gate, filling: &Filling, first: u32) {
    let methods = first..first + filling.methods;
    let handles: Vec<_> = methods.map(|n| method(cache, filling.kind, n)).collect();
    let hold = method(cache, Kind::Gate, first);
    let before = cache.statistics().compiles;
    let came = gate.came();
    gate.close();
    hold.request().unwrap();
    wait_until("the worker is held up", || gate.came() > came);
    for handle in &handles {
        handle.request().unwrap();
    }
    gate.open();
    let all = before + u64::from(filling.methods) + 1;
    while cache.statistics().compiles < all {
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn explore() {
    let ended = child::run("explore", PATIENCE, || {
        for level in [OptLevel::O0, OptLevel::O2] {
            for kind in KINDS {
                for (batch, methods) in [(1, 200), (64, 640)] {
                    let filling = Filling {
                        kind,
                        methods,
                        batch,
                        level,
                    };
                    explore_one(&filling);
                }
            }
        }
    });
    if let Some(ended) = ended {
        println!("{}", ended.output);
        ended.expect_code(0);
    }
}

fn explore_one(filling: &Filling) {
    let filler = Filler::default();
    let gate = filler.gate.clone();
    let cache = Cache::builder(filler)
        .reclaimer(Reclaimer::Manual)
        .release_context(inkpot::ContextRelease::AtSealing)
        .generation_methods(100_000)
        .generation_code(1 << 30)
        .generation_context(1 << 30)
        .budget(1 << 40)
        .batch_limit(filling.batch)
        .opt_level(filling.level)
        .build()
        .unwrap();
    compile(&cache, &gate, filling, 0);
    cache.seal();
    while cache.maintain() {}
    for n in 0..2 {
        let (h0, s0) = (heap(), cache.statistics());
        compile(&cache, &gate, filling, 100_000 * (n + 1));
        while cache.maintain() {}
        let (h1, s1) = (heap(), cache.statistics());
        let charge = s1.bytes.contexts;
        let started = std::time::Instant::now();
        heap();
        let took = started.elapsed();
        cache.seal();
        while cache.maintain() {}
        let h2 = heap();
        let s2 = cache.statistics();
        let cost = h1 as i64 - h2 as i64;
        eprintln!(
            "{:<60} charge {charge:>9} disposal {cost:>9} ratio {:.3}; growth {:>9}, bookkeeping {:>8}, spare {} {took:?}",
            format!("{filling:?}"),
            charge as f64 / cost as f64,
            h1 as i64 - h0 as i64,
            s1.bytes.bookkeeping - s0.bytes.bookkeeping,
            s2.bytes.spare_contexts,
        );
    }
}
