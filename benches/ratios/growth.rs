//! What a million methods cost beside the least that such a number can cost.

use std::hint::black_box;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use foldhash::fast::RandomState;
use inkpot::evict::{Lru, MethodId};
use inkpot::{Cache, Guard};
use lru::LruCache;

use crate::many::{self, MANY, Random, Unary};
use crate::measure::{Pair, nanoseconds};

/// Look-ups in a run.
const RUN: u64 = 20_000;

/// A look-up by key, under a held guard, against one in an ordinary hash table that nobody shares: of the same keys and
/// entries, with the same hasher. Which key is next depends on what was found.
pub fn lookup() {
    let cache = many::cache_of(MANY);
    let me = cache.participant("looks up");
    let entries = many::entries(cache, &me, MANY);
    let mut map = hashbrown::HashMap::with_hasher(RandomState::default());
    map.extend((0..).zip(entries));
    let guard = me.pin();
    let pair = Pair {
        name: "growth_lookup",
        ours: "by key, of a million",
        theirs: "hashbrown's map",
        unit: "ns",
    };
    let (mut ours, mut theirs) = (1, 1);
    pair.rounds(|| {
        nanoseconds(
            RUN,
            |n| ours = by_key(cache, &guard, ours, n),
            |n| theirs = in_a_map(&map, theirs, n),
        )
    });
}

/// A key that nobody can guess before the entry is known; another one at each turn, also for the same entry.
#[inline(always)]
fn next(turn: u64, entry: u64) -> u64 {
    Random(turn ^ entry.rotate_left(32)).below(MANY)
}

#[inline(never)]
fn by_key(cache: &Cache<u64>, guard: &Guard<'_>, mut key: u64, n: u64) -> u64 {
    for turn in 0..n {
        // SAFETY: the type is right; it is not called.
        let entry = unsafe { cache.entry::<Unary>(&key, guard).map(|e| e.pointer()) };
        key = next(turn, entry.expect("it is resident") as usize as u64);
    }
    black_box(key)
}

#[inline(never)]
fn in_a_map(map: &hashbrown::HashMap<u64, u64, RandomState>, mut key: u64, n: u64) -> u64 {
    for turn in 0..n {
        key = next(turn, *map.get(&key).expect("it is there"));
    }
    black_box(key)
}

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
