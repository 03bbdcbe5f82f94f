//! Everything at once, for as long as one likes: `make soak` is ten minutes, `SOAK_SECONDS` says how many; the short form is a
//! few seconds. Two caches: one of synthetic code, whose methods come and go by the million, and one of LLVM's with
//! tiers and fallbacks. What is unmapped stays so for a while (a late call is a crash), each result is checked, and
//! at intervals everybody stops, and the statistics, the events that were told and what lives where are held against each other.

#[path = "../support/mod.rs"]
mod support;

mod engine;
mod programs;
mod tally;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

/// What all threads look at.
#[derive(Default)]
struct Stage {
    over: AtomicBool,
    /// Shared while somebody does something, exclusive while accounts are made up.
    acting: RwLock<()>,
}

impl Stage {
    fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// A turn: not taken while accounts are made up.
    fn turn(&self) -> RwLockReadGuard<'_, ()> {
        self.acting.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn stand_still(&self) -> RwLockWriteGuard<'_, ()> {
        self.acting.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whatever happens to its thread, the others stop.
struct Ends<'s>(&'s Stage);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.over.store(true, Ordering::Relaxed);
    }
}

fn seed() -> u64 {
    let given = std::env::var("INKPOT_SEED").ok();
    given.map_or(20131106, |s| s.parse().expect("INKPOT_SEED is a number"))
}

#[test]
fn everything_at_once() {
    let given = std::env::var("SOAK_SECONDS").ok();
    let seconds = given.map_or(4, |s| s.parse().expect("SOAK_SECONDS is a number"));
    let (started, lasts) = (Instant::now(), Duration::from_secs(seconds));
    println!("seed {}, {seconds} seconds", seed());
    let stage = Stage::default();
    let engine = engine::Engine::new(seed());
    let programs = programs::Programs::new(seed());
    std::thread::scope(|threads| {
        let ends = Ends(&stage);
        let all = [engine.threads(&stage), programs.threads(&stage)];
        for run in all.into_iter().flatten() {
            threads.spawn(|| {
                let _ends = Ends(&stage);
                run();
            });
        }
        let mut told = Instant::now();
        while !stage.is_over() && started.elapsed() < lasts {
            std::thread::sleep(Duration::from_millis(if seconds > 30 { 1000 } else { 300 }));
            let _still = stage.stand_still();
            engine.check();
            programs.check();
            if told.elapsed() > Duration::from_secs(60) {
                told = Instant::now();
                println!("after {:.0?}", started.elapsed());
                engine.report();
                programs.report();
            }
        }
        drop(ends);
    });
    println!("the end, after {:.1?}", started.elapsed());
    engine.finish();
    programs.finish();
}
