//! What is gone leaves nothing behind.

use std::sync::Arc;

use inkpot::{Assumption, Cache, Reclaimer};

use crate::support::synthetic::{Code, Synthetic};
use crate::{compile, many, relying, relying_on_one};

#[test]
fn evicted_and_invalidated_methods_leave_no_bonds() {
    let (cache, a) = relying_on_one();
    let bytes = || cache.statistics().bytes.bookkeeping;
    compile(&cache, 0..100);
    cache.evict_all();
    cache.seal();
    while cache.maintain() {}
    let empty = bytes();
    compile(&cache, 0..100);
    assert_eq!(cache.statistics().bonds, 100);
    assert!(bytes() > empty, "bonds are charged");
    assert!(cache.evict(&Code::leaf(3)));
    drop(cache.invalidate(&Code::leaf(4)));
    assert_eq!(cache.statistics().bonds, 98);
    cache.evict_all();
    assert_eq!(cache.statistics().bonds, 0);
    drop(a.invalidate());
    assert_eq!(
        cache.statistics().unlinked_by_assumptions,
        0,
        "they were gone before"
    );
}

#[test]
fn an_assumption_lives_as_long_as_code_that_has_its_address() {
    let group = Assumption::new();
    let member = group.member();
    let given = Arc::new(std::sync::Mutex::new(Some(member)));
    let cache = relying(move |_| given.lock().unwrap().take().into_iter().collect())
        .build()
        .unwrap();
    compile(&cache, [1]);
    // Nobody but the code has the member now; it falls with its group.
    drop(group.invalidate());
    let s = cache.statistics();
    assert_eq!(
        (s.unlinked_by_assumptions, s.assumptions_invalidated),
        (1, 1)
    );
    // The address is in the code until the generation is recycled.
    drop(group.invalidate());
    assert_eq!(cache.statistics().assumptions_invalidated, 2);
    cache.seal();
    while cache.statistics().generations_recycled == 0 {
        cache.maintain();
    }
    drop(group.invalidate());
    assert_eq!(cache.statistics().assumptions_invalidated, 2, "it is gone");
}

#[test]
fn a_cache_that_ends_leaves_its_assumptions_usable() {
    let all = many(50);
    for _ in 0..20 {
        let of = all.clone();
        let cache = relying(move |_| of.to_vec()).build().unwrap();
        compile(&cache, 0..4);
        drop(cache);
        drop(all[0].invalidate());
    }
    assert_eq!(all[0].version(), 20);
}

#[test]
fn to_invalidate_and_compile_for_ever_takes_no_more_memory() {
    let top = Assumption::new();
    let class = top.member();
    let of = class.clone();
    // Each method relies on an assumption of its own too, which nobody keeps.
    let backend = Synthetic::relying(move |_| vec![of.clone(), of.member()]);
    let cache = Cache::with_backend(backend)
        .generation_methods(16)
        .reclaimer(Reclaimer::Manual)
        .build()
        .unwrap();
    let mut bytes = Vec::new();
    for round in 0..60 {
        compile(&cache, 0..64);
        assert_eq!(cache.statistics().bonds, 128);
        drop([&top, &class][round % 2].invalidate());
        assert_eq!(cache.statistics().bonds, 0);
        cache.seal();
        while cache.maintain() {}
        bytes.push(cache.statistics().bytes.bookkeeping);
    }
    // At any moment the worker may still have some of the records.
    let least = |bytes: &[u64]| bytes.iter().min().copied();
    assert!(least(&bytes[40..]) <= least(&bytes[..20]), "{bytes:?}");
    let s = cache.statistics();
    assert_eq!(s.unlinked_by_assumptions, 60 * 64);
    // Members of what was recycled are out of their group's list: only the class falls.
    let before = s.assumptions_invalidated;
    drop(class.invalidate());
    assert_eq!(cache.statistics().assumptions_invalidated, before + 1);
}

#[test]
fn methods_that_move_take_their_assumptions_along() {
    let group = Assumption::new();
    let of = group.clone();
    // Each relies on a member that nobody else has.
    let backend = Synthetic::relying(move |_| vec![of.member()]);
    let cache = Cache::with_backend(backend)
        .reclaimer(Reclaimer::Manual)
        .build()
        .unwrap();
    compile(&cache, 0..10);
    cache.seal();
    assert!(cache.compact() > 0);
    while cache.maintain() {}
    let s = cache.statistics();
    assert_eq!(
        (s.generations_recycled, s.bonds),
        (1, 10),
        "the old place is gone"
    );
    cache.evict(&Code::leaf(0));
    drop(group.invalidate());
    let s = cache.statistics();
    assert_eq!((s.unlinked_by_assumptions, s.methods_resident), (9, 0));
    assert_eq!(
        s.assumptions_invalidated, 10,
        "the code in the new place has its address"
    );
}
