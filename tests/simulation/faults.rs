//! The checks can fail: with a fault in the source, each time another, one of them does.

use std::panic::{AssertUnwindSafe, catch_unwind};

use inkpot::__simulation::seed;

use crate::promises as of;
use crate::run;
use crate::synthetic::Random;

/// Seeds within which a fault shows.
const SEEDS: u64 = 4000;

type Check = fn(&mut Random);

/// Each fault, and the check that finds it.
const FAULTS: [(&str, Check); 20] = [
    // A generation is recycled before its grace period is over, or while it is held.
    ("recycle.grace", of::no_thread_in_memory_that_is_gone),
    ("recycle.held", of::no_thread_in_memory_that_is_gone),
    // A thread does not pin; re-pins under another guard; comes to a safepoint that holds nothing.
    ("pin", of::no_thread_in_memory_that_is_gone),
    ("repin.alone", of::a_guard_below_another),
    ("safepoint.holds", of::no_thread_in_memory_that_is_gone),
    // It gives up what it held before it has looked what it is inside of.
    ("safepoint.old_last", of::two_safepoints),
    // Slots do not say whose they are; a hold does not compare what they say.
    ("region.own", of::no_thread_in_memory_that_is_gone),
    ("hold.serial", of::what_only_looks_like_an_address),
    // Code goes, and calls go on to it.
    ("evict.unlink", of::no_thread_in_memory_that_is_gone),
    // What was invalidated is published; an invalidation is not counted.
    ("publish.version", of::once_at_a_time_and_never_stale),
    ("invalidate.version", of::once_at_a_time_and_never_stale),
    // What fell meanwhile is published; what relies on it is not unlinked.
    ("publish.bonds", of::assumptions_fall),
    ("fall.unlink", of::assumptions_fall),
    // What is kept is evicted.
    ("keep", of::what_is_kept_stays),
    // A key has two methods.
    ("intern.stands", of::handles_are_made_at_once),
    // A key that is on its way is queued again.
    ("flight", of::once_at_a_time_and_never_stale),
    // Code does not keep what it calls.
    ("callees", of::what_code_refers_to_outlives_it),
    // Nothing is evicted.
    ("room", of::memory_is_bounded),
    // Who waits is not told; the dead are not buried.
    ("publish.notify", of::once_at_a_time_and_never_stale),
    ("bury", of::the_dead_are_buried),
];

#[test]
fn seeded_faults_are_found() {
    let mut missed = Vec::new();
    // One alone, where it is asked for.
    let only = std::env::var("INKPOT_FAULT").ok();
    let asked_for = |fault: &str| only.as_ref().is_none_or(|only| only == fault);
    for (fault, check) in FAULTS.into_iter().filter(|(fault, _)| asked_for(fault)) {
        seed(Some(fault));
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(|_| {}));
        let found = catch_unwind(AssertUnwindSafe(|| run::attempt(0..SEEDS, check)));
        std::panic::set_hook(hook);
        seed(None);
        match found {
            Ok(Err((seed, why))) => {
                let why: String = why.chars().take(160).collect();
                println!("{fault}: seed {seed}: {why}");
            }
            _ => missed.push(fault),
        }
    }
    assert!(missed.is_empty(), "nobody notices {missed:?}");
}
