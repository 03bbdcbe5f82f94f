//! Tiers: what is worth it is compiled again, better, while its old code is called.

mod counting;
mod emitter;
mod inlining;
mod promoting;
mod stress;
#[path = "../support/mod.rs"]
mod support;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use inkpot::{BoxError, Builder, Cache, Frontend, Handle, MethodType, Participant, Unit};
use support::Unary;
use support::texts::{Name, Texts};

/// Calls after which methods of these tests are promoted.
const CALLS: u32 = 100;

/// Texts, and who was asked for what: the name, and the tier that it was emitted for.
#[derive(Clone)]
struct Seen {
    texts: Arc<Texts>,
    emitted: Arc<Mutex<Vec<(Name, usize)>>>,
}

impl Seen {
    fn new<const N: usize>(texts: [(&'static str, &str); N]) -> Self {
        Self {
            texts: Arc::new(Texts::new(texts)),
            emitted: Arc::default(),
        }
    }

    fn emitted(&self) -> Vec<(Name, usize)> {
        self.emitted.lock().unwrap().clone()
    }

    fn cache(&self) -> Builder<Name> {
        let tiers = inkpot::Tier::defaults().map(|tier| tier.promote_after(CALLS));
        Cache::builder(self.clone()).tiers(tiers)
    }
}

impl Frontend for Seen {
    type Key = Name;

    fn emit<'ctx>(&self, key: &Name, unit: &mut Unit<'_, 'ctx, Name>) -> Result<(), BoxError> {
        let tier = unit.tier();
        self.emitted.lock().unwrap().push((key.clone(), tier));
        self.texts.emit(key, unit)
    }
}

/// Calls a method so many times, each under a guard of its own.
fn call(handle: &Handle<Name, Unary>, me: &Participant, x: i64, times: u32) -> i64 {
    let mut last = 0;
    for _ in 0..times {
        let mut guard = me.pin();
        let entry = handle.get(&mut guard).unwrap();
        // SAFETY: the texts of these tests have this type.
        last = unsafe { entry.call(x) };
    }
    last
}

/// Waits until a method has code of a tier.
fn wait_for_tier<F: MethodType>(handle: &Handle<Name, F>, tier: usize) {
    let started = Instant::now();
    while handle.tier() != Some(tier) {
        assert!(
            started.elapsed() < Duration::from_secs(30),
            "{:?}",
            handle.tier()
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Waits until nothing is queued or being compiled, as far as can be seen.
fn settle(cache: &Cache<Name>) {
    let quiet = || cache.statistics().queued == 0;
    for _ in 0..20 {
        while !quiet() {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}
