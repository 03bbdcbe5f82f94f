//! What nobody wants is not compiled, and what somebody wants is.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use inkpot::{Cache, Error};

use crate::support::synthetic::Code;
use crate::support::{Gate, Hooked, Op, leaf, method, wait_until};
use crate::{Plugged, at_rest};

#[test]
fn a_storm_of_which_half_is_invalidated_while_queued() {
    const STORM: u32 = 10_000;
    let (plugged, builder) = Plugged::builder();
    let cache = builder.build().unwrap();
    plugged.plug(&cache);
    let handles: Vec<_> = (0..STORM).map(|n| leaf(&cache, n)).collect();
    handles.iter().for_each(|handle| handle.request().unwrap());
    drop(cache.invalidate_if(|code| code.n.is_multiple_of(2)));
    let s = cache.statistics();
    assert_eq!((s.queued, s.dropped), (5_000, 5_000));
    plugged.gate.open();
    at_rest(&cache, 5_001);
    let emitted = plugged.emitted();
    assert!(emitted.iter().all(|n| n % 2 == 1), "{emitted:?}");
    assert_eq!(emitted.len(), 5_000);
    let s = cache.statistics();
    assert_eq!((s.compiles, s.stale_compiles, s.failures), (5_001, 0, 0));
}

#[test]
fn through_llvm_as_well() {
    const STORM: i64 = 400;
    let gate = Arc::new(Gate::default());
    let emissions = Arc::<AtomicUsize>::default();
    let (of_worker, counted) = (gate.clone(), emissions.clone());
    let cache = Cache::builder(Hooked(move |key: &Op| match key {
        Op::Add(-1) => of_worker.wait(),
        _ => {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    }))
    .build()
    .unwrap();
    method(&cache, &Op::Add(-1)).request().unwrap();
    wait_until("the worker is held up", || gate.came() == 1);
    for n in 0..STORM {
        method(&cache, &Op::Add(n)).request().unwrap();
    }
    drop(cache.invalidate_if(|key| matches!(key, Op::Add(n) if n % 2 == 0)));
    gate.open();
    let odd = STORM as u64 / 2;
    wait_until("compiled", || cache.statistics().compiles == 1 + odd);
    assert_eq!(emissions.load(Ordering::SeqCst) as u64, odd);
    assert_eq!(cache.statistics().dropped, odd);
}

/// In a batch that a worker has taken, and of which the first method is being emitted.
#[test]
fn in_an_unemitted_batch() {
    let (plugged, builder) = Plugged::builder();
    let cache = builder.build().unwrap();
    plugged.plug(&cache);
    plugged.second_is.store(1, Ordering::SeqCst);
    let handles: Vec<_> = (1..=4).map(|n| leaf(&cache, n)).collect();
    handles.iter().for_each(|handle| handle.request().unwrap());
    plugged.gate.open();
    wait_until("the first is emitted", || plugged.second.came() == 1);
    drop(cache.invalidate(&Code::leaf(2)));
    drop(cache.invalidate(&Code::leaf(3)));
    // Wished for again: it is of now.
    handles[2].request().unwrap();
    plugged.second.open();
    wait_until("compiled", || {
        [1, 3, 4].iter().all(|n| cache.is_resident(&Code::leaf(*n)))
    });
    let s = cache.statistics();
    assert_eq!((s.dropped, s.failures), (1, 0));
    assert!(!cache.is_resident(&Code::leaf(2)));
    assert!(!plugged.emitted().contains(&2));
}

#[test]
fn in_an_unemitted_batch_of_llvm() {
    let gate = Arc::new(Gate::default());
    let emissions = Arc::<AtomicUsize>::default();
    let (of_worker, counted) = (gate.clone(), emissions.clone());
    let cache = Cache::builder(Hooked(move |key: &Op| match key {
        Op::Add(-1) => of_worker.wait(),
        _ => {
            counted.fetch_add(1, Ordering::SeqCst);
        }
    }))
    .workers(0)
    .build()
    .unwrap();
    for n in [-1, 1, 2, 3] {
        method(&cache, &Op::Add(n)).request().unwrap();
    }
    std::thread::scope(|threads| {
        let compiles = threads.spawn(|| cache.compile_some(usize::MAX));
        wait_until("the first is emitted", || gate.came() == 1);
        let waits = threads.spawn(|| {
            let me = cache.participant("waits");
            // SAFETY: the type is right.
            unsafe {
                method(&cache, &Op::Add(3))
                    .get(&mut me.pin())
                    .unwrap()
                    .call(1)
            }
        });
        wait_until("it is waited for", || cache.statistics().misses == 1);
        std::thread::sleep(Duration::from_millis(50));
        drop(cache.invalidate_if(|key| matches!(key, Op::Add(2 | 3))));
        gate.open();
        assert_eq!(waits.join().unwrap(), 4);
        assert_eq!(compiles.join().unwrap(), 4);
    });
    // The one that is waited for was emitted after it was invalidated, and so once.
    assert_eq!(emissions.load(Ordering::SeqCst), 2);
    let s = cache.statistics();
    assert_eq!((s.compiles, s.dropped, s.stale_compiles), (3, 1, 0));
}

#[test]
fn what_is_waited_for_stays_queued() {
    let (plugged, builder) = Plugged::builder();
    let cache = builder.build().unwrap();
    plugged.plug(&cache);
    std::thread::scope(|threads| {
        let waits = threads.spawn(|| {
            let me = cache.participant("waits");
            // SAFETY: the type is right.
            unsafe { leaf(&cache, 5).get(&mut me.pin()).unwrap().call(1) }
        });
        wait_until("it is queued", || cache.statistics().queued == 1);
        drop(cache.invalidate_all());
        assert_eq!(cache.statistics().queued, 1);
        plugged.gate.open();
        assert_eq!(waits.join().unwrap(), 6);
    });
    assert_eq!(plugged.emitted(), [5]);
}

#[test]
fn what_was_dropped_can_be_asked_for_again() {
    let (plugged, builder) = Plugged::builder();
    let cache = builder.build().unwrap();
    plugged.plug(&cache);
    for _ in 0..3 {
        leaf(&cache, 5).request().unwrap();
        assert_eq!(cache.statistics().queued, 1);
        drop(cache.invalidate(&Code::leaf(5)));
        assert_eq!(cache.statistics().queued, 0);
    }
    leaf(&cache, 5).request().unwrap();
    plugged.gate.open();
    wait_until("it is compiled", || cache.is_resident(&Code::leaf(5)));
    assert_eq!(plugged.emitted(), [5]);
    assert_eq!(cache.statistics().dropped, 3);
}

/// A request that comes while the method is compiled in vain is not lost.
#[test]
fn asked_for_while_it_is_compiled_in_vain() {
    let (plugged, builder) = Plugged::builder();
    let cache = builder.build().unwrap();
    plugged.second_is.store(5, Ordering::SeqCst);
    let five = leaf(&cache, 5);
    five.request().unwrap();
    wait_until("it is being compiled", || plugged.second.came() == 1);
    drop(cache.invalidate(&Code::leaf(5)));
    five.request().unwrap();
    plugged.second.open();
    wait_until("it is compiled", || cache.is_resident(&Code::leaf(5)));
    assert_eq!(plugged.emitted(), [5, 5]);
    assert_eq!(cache.statistics().stale_compiles, 1);
}

#[test]
fn who_has_given_up_is_not_compiled_for() {
    let (plugged, builder) = Plugged::builder();
    let cache = builder.build().unwrap();
    plugged.plug(&cache);
    let me = cache.participant("test");
    let mut guard = me.pin();
    let patience = Duration::from_millis(5);
    for n in 0..20 {
        let given_up = leaf(&cache, n).get_timeout(&mut guard, patience);
        match given_up.map(|_| ()) {
            Err(Error::TimedOut { method, .. }) => assert_eq!(method, format!("Leaf {n}")),
            other => panic!("{other:?}"),
        }
        // As if nobody had waited.
        if n % 2 == 0 {
            leaf(&cache, n).request().unwrap();
        }
    }
    // Wished for first, and by others too.
    leaf(&cache, 100).request().unwrap();
    assert!(leaf(&cache, 100).get_timeout(&mut guard, patience).is_err());
    let s = cache.statistics();
    assert_eq!((s.queued, s.dropped), (11, 20));
    plugged.gate.open();
    at_rest(&cache, 12);
    let mut emitted = plugged.emitted();
    emitted.sort_unstable();
    assert_eq!(emitted, [0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 100]);
}

#[test]
fn a_thousand_requests_for_a_hundred_keys() {
    const THREADS: u32 = 50;
    const EACH: u32 = 20;
    const KEYS: u32 = 100;
    let (plugged, builder) = Plugged::builder();
    let cache = builder.workers(2).build().unwrap();
    let barrier = Barrier::new(THREADS as usize);
    std::thread::scope(|threads| {
        for thread in 0..THREADS {
            let (cache, barrier) = (&cache, &barrier);
            threads.spawn(move || {
                let me = cache.participant("asks");
                barrier.wait();
                for i in 0..EACH {
                    let n = (thread * EACH + i * 7) % KEYS;
                    // SAFETY: the type is right.
                    let y = unsafe { leaf(cache, n).get(&mut me.pin()).unwrap().call(1) };
                    assert_eq!(y, 1 + i64::from(n));
                }
            });
        }
    });
    let s = cache.statistics();
    assert_eq!((s.compiles, s.failures, s.dropped), (100, 0, 0));
    assert_eq!(plugged.emitted().len(), 100);
}
