//! What counts as an invalidation in the statistics.

mod support;

use inkpot::Cache;
use support::{Calculator, Op, method};

fn counts(cache: &Cache<Op>) -> (u64, u64) {
    let s = cache.statistics();
    (s.invalidations, s.evictions)
}

#[test]
fn a_method_counts_whether_it_has_code_or_not() {
    let cache = Cache::builder(Calculator).build().unwrap();
    let me = cache.participant("test");
    let add = method(&cache, &Op::Add(1));
    drop(cache.invalidate(&Op::Add(1)));
    assert_eq!(counts(&cache), (1, 0), "it has a handle, and no code");
    add.get(&mut me.pin()).unwrap();
    drop(cache.invalidate(&Op::Add(1)));
    assert_eq!(counts(&cache), (2, 0), "it had code");
    drop(cache.invalidate(&Op::Add(1)));
    assert_eq!(counts(&cache), (3, 0), "again");
}

#[test]
fn a_key_that_nobody_has_mentioned_does_not_count() {
    let cache = Cache::builder(Calculator).build().unwrap();
    let me = cache.participant("test");
    drop(cache.invalidate(&Op::Add(1)));
    drop(cache.invalidate_all());
    assert_eq!(counts(&cache), (0, 0), "there are no methods");
    drop(method(&cache, &Op::Add(1)));
    drop(cache.invalidate(&Op::Add(1)));
    assert_eq!(counts(&cache), (0, 0), "nobody can mention it any more");
    let caller = method(&cache, &Op::CallAdd(Box::new(Op::Add(2)), 1));
    caller.get(&mut me.pin()).unwrap();
    drop(cache.invalidate(&Op::Add(2)));
    assert_eq!(counts(&cache), (1, 0), "code calls it, though it has none");
}

#[test]
fn predicates_count_what_they_are_true_of() {
    let cache = Cache::builder(Calculator).build().unwrap();
    let me = cache.participant("test");
    let adders: Vec<_> = (0..10).map(|n| method(&cache, &Op::Add(n))).collect();
    for add in &adders[..5] {
        add.get(&mut me.pin()).unwrap();
    }
    drop(cache.invalidate_if(|key| matches!(key, Op::Add(3..=6))));
    assert_eq!(counts(&cache), (4, 0));
    assert_eq!(cache.statistics().methods_resident, 3);
    drop(cache.invalidate_all());
    assert_eq!(counts(&cache), (14, 0));
    assert_eq!(cache.statistics().methods_resident, 0);
}

#[test]
fn an_eviction_is_no_invalidation() {
    let cache = Cache::builder(Calculator).build().unwrap();
    let me = cache.participant("test");
    let add = method(&cache, &Op::Add(1));
    add.get(&mut me.pin()).unwrap();
    assert!(cache.evict(&Op::Add(1)));
    assert_eq!(counts(&cache), (0, 1));
    drop(cache.invalidate(&Op::Add(1)));
    assert!(!cache.evict(&Op::Add(1)));
    assert_eq!(counts(&cache), (1, 1));
}
