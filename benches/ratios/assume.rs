//! What it takes to unlink a method because what it relied on fell: with many that rely on one thing,
//! against a few. Their call sites are there, as they are where code is in use.

use std::time::Instant;

use inkpot::{Assumption, Backend, Batch, Cache, Error};

use crate::measure::Pair;
use crate::synthetic::{Code, Context, Synthetic, method};

/// Has all methods rely on one assumption.
struct Relying {
    backend: Synthetic,
    on: Assumption,
}

impl Backend<Code> for Relying {
    type Context = Context;

    fn open(&self) -> Result<(Context, u64), Error> {
        self.backend.open()
    }

    fn compile(
        &self,
        context: &mut Context,
        batch: &mut Batch<'_, Code>,
    ) -> Result<Vec<u8>, Error> {
        for i in 0..batch.len() {
            batch.assume(i, &self.on);
        }
        self.backend.compile(context, batch)
    }
}

/// Microseconds a method, of so many.
fn fall(methods: u32) -> f64 {
    let on = Assumption::new();
    let backend = Relying {
        backend: Synthetic::default(),
        on: on.clone(),
    };
    let cache = Cache::with_backend(backend)
        .budget(8 << 30)
        .evacuate(false)
        .build()
        .expect("a cache");
    let handles: Vec<_> = (0..methods)
        .map(|n| {
            let handle = method(&cache, Code::leaf(n));
            handle.request().expect("the cache is open");
            handle
        })
        .collect();
    while cache.statistics().compiles < u64::from(methods) {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let started = Instant::now();
    drop(on.invalidate());
    let took = started.elapsed();
    assert_eq!(
        cache.statistics().unlinked_by_assumptions,
        u64::from(methods)
    );
    drop(handles);
    took.as_secs_f64() * 1e6 / f64::from(methods)
}

fn compare(name: &'static str, many: u32, few: u32) {
    let pair = Pair {
        name,
        ours: "of many",
        theirs: "of few",
        unit: "us a method",
    };
    pair.in_turns(|| fall(many), || fall(few));
}

pub fn linear() {
    compare("assume", 100_000, 10_000);
}

pub fn million() {
    compare("assume_million", 1_000_000, 100_000);
}
