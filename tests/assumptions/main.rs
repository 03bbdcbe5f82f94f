//! Assumptions: what relies on them is unlinked when they fall, each method once, and nothing that was
//! begun before is published.

mod falling;
mod frames;
mod left_behind;
mod linear;
mod storm;
#[path = "../support/mod.rs"]
mod support;

use std::sync::Arc;

use inkpot::{Assumption, Builder, Cache};
use support::synthetic::{Code, Synthetic, method};

/// A cache whose methods rely on what `relies` says of their number.
fn relying(relies: impl Fn(u32) -> Vec<Assumption> + Send + Sync + 'static) -> Builder<Code> {
    Cache::with_backend(Synthetic::relying(move |code| relies(code.n)))
}

/// A cache whose methods all rely on one assumption.
fn relying_on_one() -> (Cache<Code>, Assumption) {
    let a = Assumption::new();
    let all = a.clone();
    let cache = relying(move |_| vec![all.clone()]).build().unwrap();
    (cache, a)
}

/// So many assumptions.
fn many(n: usize) -> Arc<Vec<Assumption>> {
    Arc::new((0..n).map(|_| Assumption::new()).collect())
}

/// Compiles these, and calls them.
fn compile(cache: &Cache<Code>, numbers: impl IntoIterator<Item = u32>) {
    let me = cache.participant("compiles");
    let handles: Vec<_> = numbers
        .into_iter()
        .map(|n| method(cache, Code::leaf(n)))
        .collect();
    for handle in &handles {
        handle.request().unwrap();
    }
    for handle in &handles {
        let mut guard = me.pin();
        let entry = handle.get(&mut guard).unwrap();
        // SAFETY: the type is right.
        assert_eq!(unsafe { entry.call(1) }, handle.key().result(1));
    }
}

fn resident(cache: &Cache<Code>, numbers: std::ops::Range<u32>) -> Vec<u32> {
    numbers
        .filter(|&n| cache.is_resident(&Code::leaf(n)))
        .collect()
}
