//! Whole caches, whose threads, clock and memory a seed decides on: see design/17-simulation.md.
//!
//! ```sh
//! cargo test --features _shuttle --test simulation           # the short form
//! INKPOT_SEED=17 cargo test --features _shuttle --test simulation -- storm   # one seed again
//! ```

mod caller;
mod faults;
mod processor;
mod promises;
mod run;
mod storm;
#[path = "../support/synthetic.rs"]
#[allow(dead_code, reason = "each test uses a part of it")]
mod synthetic;
mod watched;

use std::ops::Range;

/// The seeds to run: one that was asked for, or so many, and in the long form so many.
fn seeds(short: u64, long: u64) -> Range<u64> {
    if let Ok(seed) = std::env::var("INKPOT_SEED") {
        let seed: u64 = seed.parse().expect("INKPOT_SEED is a number");
        return seed..seed + 1;
    }
    let long = std::env::var_os("INKPOT_SOAK").is_some().then_some(long);
    0..long.unwrap_or(short)
}

/// Schedules by priorities, where no seed was asked for.
fn priorities(short: usize, long: usize) -> usize {
    match (
        std::env::var_os("INKPOT_SEED"),
        std::env::var_os("INKPOT_SOAK"),
    ) {
        (Some(_), _) => 0,
        (_, Some(_)) => long,
        _ => short,
    }
}

#[test]
fn storm() {
    let seeds = seeds(300, 100_000);
    let trace = run::run(seeds.clone(), storm::storm);
    println!("seeds {seeds:?}: the last one's trace is {trace:x}");
}

/// What a seed does it does again, whatever was run in between.
#[test]
fn a_seed_repeats_its_run() {
    let traces = |seeds: Range<u64>| -> Vec<u64> {
        seeds
            .map(|seed| run::run(seed..seed + 1, storm::storm))
            .collect()
    };
    let first = traces(0..40);
    assert_eq!(first, traces(0..40));
    let different: std::collections::BTreeSet<_> = first.iter().collect();
    assert!(different.len() > 30, "seeds make a difference");
}
