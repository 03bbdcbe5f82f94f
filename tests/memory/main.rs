//! Memory as the allocator and the system see it, against what the statistics say.

mod charge;
mod resident;
#[path = "../support/mod.rs"]
mod support;
mod workloads;

use inkpot::{Builder, Cache, ContextRelease, Reclaimer};

use support::wait_until;
use workloads::{Filler, Filling, Key, Kind, method};

/// A cache that reclaims when it is told to, and in which nothing is ever full.
fn builder(filler: Filler, filling: &Filling) -> Builder<Key> {
    Cache::builder(filler)
        .reclaimer(Reclaimer::Manual)
        .release_context(ContextRelease::AtSealing)
        .generation_methods(usize::MAX)
        .generation_code(1 << 30)
        .generation_context(1 << 40)
        .budget(1 << 50)
        .batch_limit(filling.batch)
        .opt_level(filling.level)
}

/// Has the methods from `first` on compiled in batches of that size: the worker is held up until
/// all are asked for, and nobody else allocates while it works.
fn compile(cache: &Cache<Key>, gate: &support::Gate, filling: &Filling, first: u32) {
    let methods = first..first + filling.methods;
    let handles: Vec<_> = methods.map(|n| method(cache, filling.kind, n)).collect();
    let hold = method(cache, Kind::Gate, first);
    let before = cache.statistics();
    let came = gate.came();
    gate.close();
    hold.request().unwrap();
    wait_until("the worker is held up", || gate.came() > came);
    for handle in &handles {
        handle.request().unwrap();
    }
    gate.open();
    let all = before.compiles + u64::from(filling.methods) + 1;
    wait_until("all are compiled", || {
        std::thread::sleep(std::time::Duration::from_millis(20));
        cache.statistics().compiles == all
    });
    let batches = u64::from(filling.methods).div_ceil(filling.batch as u64) + 1;
    assert_eq!(cache.statistics().batches, before.batches + batches);
}
