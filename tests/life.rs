//! The life of a method: asked for, compiled, called, evicted, invalidated, recycled.

mod support;

use std::time::{Duration, Instant};

use inkpot::Cache;
use support::{Calculator, Op, method};

fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(20), "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn compiled_called_evicted_and_compiled_again() {
    let cache = Cache::builder(Calculator).build().unwrap();
    let me = cache.participant("test");
    let mut guard = me.pin();
    let add = method(&cache, &Op::Add(5));
    assert!(add.entry(&guard).is_none());
    let entry = add.get(&mut guard).unwrap();
    // SAFETY: the type is right.
    assert_eq!(unsafe { entry.call(37) }, 42);
    // SAFETY: the type is right.
    assert_eq!(add.entry(&guard).map(|f| unsafe { f.call(1) }), Some(6));
    assert!(cache.evict(&Op::Add(5)));
    assert!(add.entry(&guard).is_none());
    // SAFETY: the type is right.
    assert_eq!(unsafe { add.get(&mut guard).unwrap().call(2) }, 7);
    assert_eq!(cache.statistics().compiles, 2);
}

#[test]
fn methods_call_each_other_through_cells() {
    let cache = Cache::builder(Calculator).build().unwrap();
    let me = cache.participant("test");
    let mut guard = me.pin();
    let inner = Op::Add(5);
    let outer = Op::CallAdd(Box::new(inner.clone()), 100);
    let outer = method(&cache, &outer);
    for _ in 0..3 {
        // SAFETY: the type is right.
        assert_eq!(unsafe { outer.get(&mut guard).unwrap().call(1) }, 106);
        assert!(cache.is_resident(&inner));
        assert!(cache.evict(&inner));
    }
    assert_eq!(cache.statistics().compiles, 4);
}

#[test]
fn an_empty_generation_is_recycled() {
    let cache = Cache::builder(Calculator).build().unwrap();
    let me = cache.participant("test");
    for n in 0..20 {
        let add = method(&cache, &Op::Add(n));
        // SAFETY: the type is right.
        assert_eq!(unsafe { add.get(&mut me.pin()).unwrap().call(1) }, 1 + n);
    }
    assert_eq!(cache.statistics().generations_open, 1);
    cache.seal();
    cache.evict_all();
    wait_until("the generation is recycled", || {
        cache.statistics().generations_recycled == 1
    });
    let after = cache.statistics();
    assert_eq!(after.methods_resident, 0);
    assert_eq!(after.mapped_code_bytes, 0);
    assert_eq!(after.bytes.retired, 0);
}
