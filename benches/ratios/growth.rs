//! What a million methods cost beside the least that such a number can cost.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use inkpot::evict::{Lru, MethodId};
use lru::LruCache;

use crate::many::{self, MANY};
use crate::measure::Pair;

/// Evictions that are timed together.
const EVICTED: u64 = 2_000;

/// One eviction among a million methods, against what cannot be left out of it: the least recently used one is taken
/// out of a list, and one word of its own is written.
pub fn evict() {
    let cache = many::builder()
        .policy(Lru::new())
        .evacuate(false)
        .water_marks(1.0, 1.0);
    let cache = cache.build().expect("a cache");
    many::fill(&cache, MANY);
    // The list in the order of the keys, as the cache's is: methods are hit in that order when they have
    // been compiled in it.
    let mut order = LruCache::unbounded();
    (0..MANY).for_each(|id| assert!(order.put(MethodId::new(id), ()).is_none()));
    let words: Vec<[AtomicUsize; 2]> = (0..MANY).map(|_| Default::default()).collect();
    let pair = Pair {
        name: "growth_evict",
        ours: "an eviction, of a million",
        theirs: "pop_lru and a store",
        unit: "ns",
    };
    pair.in_turns(
        || {
            let before = cache.statistics();
            let code = before.bytes.text + before.bytes.constants;
            let each = code / before.methods_resident;
            let started = Instant::now();
            cache.set_code_budget(code - EVICTED * each);
            let took = started.elapsed();
            cache.set_code_budget(u64::MAX);
            let evicted = cache.statistics().evictions - before.evictions;
            took.as_secs_f64() * 1e9 / evicted as f64
        },
        || {
            let started = Instant::now();
            for _ in 0..EVICTED {
                let (id, ()) = order.pop_lru().expect("there are more");
                words[id.get() as usize][0].store(1, Ordering::Release);
            }
            started.elapsed().as_secs_f64() * 1e9 / EVICTED as f64
        },
    );
}
