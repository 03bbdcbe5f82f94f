//! What it takes to move a method, against compiling it.
//!
//! Both by the cache's own statistics, of the same methods at O1: all of a compilation, and all of a move,
//! with everything that is done for it under locks.

use std::sync::atomic::AtomicU64;

use crate::measure::Pair;
use crate::methods::{self, Bursts, Size};

const BURST: u64 = 512;

pub fn run() {
    static EMITTING: AtomicU64 = AtomicU64::new(0);
    let builder = methods::builder(&EMITTING).evacuate(false);
    let cache = builder.build().expect("a cache");
    let mut bursts = Bursts::new(cache.clone(), Size::Medium, BURST);
    let pair = Pair {
        name: "relink",
        ours: "to move",
        theirs: "to compile",
        unit: "us a method",
    };
    pair.rounds(|| {
        let before = cache.statistics();
        bursts.compile();
        cache.seal();
        assert!(cache.compact() > 0, "there is something to move");
        let after = cache.statistics();
        bursts.clear();
        let (t, u) = (&after.compile_time, &before.compile_time);
        let compiling = (t.emit + t.optimise + t.generate + t.overhead)
            - (u.emit + u.optimise + u.generate + u.overhead);
        let compiled = after.compiles - before.compiles;
        let moving = after.moving - before.moving;
        let moved = after.moves - before.moves;
        assert_eq!((compiled, moved), (BURST, BURST));
        let each = |seconds: f64| seconds * 1e6 / BURST as f64;
        (each(moving.as_secs_f64()), each(compiling.as_secs_f64()))
    });
}
