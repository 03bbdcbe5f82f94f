//! A queue with a limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use inkpot::{Backlog, Cache, Error};

use crate::support::synthetic::{Code, Random};
use crate::support::{Hooked, Op, leaf, method, wait_until};
use crate::{PLUG, Plugged, at_rest};

#[test]
fn refuses() {
    let (plugged, builder) = Plugged::builder();
    let cache = builder.backlog(10, Backlog::Refuse).build().unwrap();
    plugged.plug(&cache);
    let request = |n| leaf(&cache, n).request();
    (0..10).for_each(|n| request(n).unwrap());
    let refused = request(10);
    assert!(
        matches!(refused, Err(Error::Backlog { limit: 10 })),
        "{refused:?}"
    );
    // What is here may be asked for again; and who waits is let in.
    request(3).unwrap();
    let future = leaf(&cache, 11).compiled();
    let me = cache.participant("test");
    let mut guard = me.pin();
    let late = leaf(&cache, 12).get_timeout(&mut guard, Duration::from_millis(5));
    assert!(matches!(late.map(|_| ()), Err(Error::TimedOut { .. })));
    let s = cache.statistics();
    assert_eq!((s.queued, s.refused, s.dropped), (11, 1, 1));
    plugged.gate.open();
    at_rest(&cache, 12);
    request(10).unwrap();
    wait_until("it is compiled", || cache.is_resident(&Code::leaf(10)));
    assert!(cache.is_resident(&Code::leaf(11)));
    drop(future);
}

#[test]
fn drops_the_coldest() {
    let (plugged, builder) = Plugged::builder();
    let cache = builder.backlog(5, Backlog::DropColdest).build().unwrap();
    plugged.plug(&cache);
    let request = |n| leaf(&cache, n).request().unwrap();
    (0..5).for_each(request);
    request(0);
    // The oldest of those that were asked for once, and that nobody waits for, is 2.
    let mut waits = leaf(&cache, 1).compiled();
    request(5);
    assert_eq!(cache.statistics().queued, 5);
    // It may come back; then it is 3 that goes.
    request(2);
    let poll = std::pin::Pin::new(&mut waits).poll(&mut Context::from_waker(Waker::noop()));
    assert!(poll.is_pending());
    // All are hot, but for what comes.
    (0..6).for_each(|n| {
        (0..3).for_each(|_| {
            if n != 3 {
                request(n)
            }
        })
    });
    (100..200).for_each(request);
    let s = cache.statistics();
    assert_eq!((s.queued, s.dropped, s.refused), (5, 102, 0));
    plugged.gate.open();
    at_rest(&cache, 6);
    let mut emitted = plugged.emitted();
    emitted.sort_unstable();
    assert_eq!(emitted, [0, 1, 2, 4, 5]);
}

#[test]
fn waits_for_room() {
    let (plugged, builder) = Plugged::builder();
    let builder = builder.backlog(4, Backlog::Wait).batch_limit(2);
    let cache = builder.build().unwrap();
    plugged.plug(&cache);
    let asked = AtomicUsize::new(0);
    std::thread::scope(|threads| {
        for thread in 0..2 {
            let (cache, asked) = (&cache, &asked);
            threads.spawn(move || {
                for n in 0..50 {
                    leaf(cache, thread * 1000 + n).request().unwrap();
                    asked.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        wait_until("it is full", || asked.load(Ordering::SeqCst) == 4);
        std::thread::sleep(Duration::from_millis(20));
        assert_eq!(asked.load(Ordering::SeqCst), 4);
        // What goes makes room.
        drop(cache.invalidate_if(|code| code.n != PLUG));
        let dropped = cache.statistics().dropped as usize;
        assert!(dropped >= 4, "{dropped}");
        wait_until("as many more", || {
            asked.load(Ordering::SeqCst) == 4 + dropped
        });
        plugged.gate.open();
    });
    let dropped = cache.statistics().dropped;
    at_rest(&cache, 1 + 100 - dropped);
}

#[test]
fn makes_room_where_there_are_no_workers() {
    let (plugged, builder) = Plugged::builder();
    let builder = builder.backlog(4, Backlog::Wait).workers(0);
    let cache = builder.build().unwrap();
    for n in 0..30 {
        leaf(&cache, n).request().unwrap();
        assert!(cache.statistics().queued <= 4);
    }
    while cache.compile_some(usize::MAX) > 0 {}
    assert_eq!(plugged.emitted().len(), 30);
}

/// A front end that asks for more than there is room for does not wait for itself.
#[test]
fn on_a_worker() {
    for workers in [0, 1] {
        let refused = Arc::<AtomicUsize>::default();
        let counted = refused.clone();
        let this = Arc::<std::sync::OnceLock<Cache<Op>>>::default();
        let of_emit = Arc::downgrade(&this);
        let hook = move |key: &Op| {
            let this = of_emit.upgrade();
            if let (Op::Add(0), Some(cache)) = (key, this.as_ref().and_then(|this| this.get())) {
                for n in 1..10 {
                    match method(cache, &Op::Add(n)).request() {
                        Ok(()) => {}
                        Err(Error::Backlog { limit: 3 }) => {
                            counted.fetch_add(1, Ordering::SeqCst);
                        }
                        other => panic!("{other:?}"),
                    }
                }
            }
        };
        let builder = Cache::builder(Hooked(hook)).workers(workers);
        let cache = builder.backlog(3, Backlog::Wait).build().unwrap();
        this.set(cache.clone()).unwrap();
        let me = cache.participant("test");
        method(&cache, &Op::Add(0))
            .get(&mut me.pin())
            .map(|_| ())
            .unwrap();
        assert_eq!(refused.load(Ordering::SeqCst), 6);
        assert_eq!(cache.statistics().refused, 6);
        drop(this);
    }
}

/// Whatever is dropped, refused and invalidated around them: who waits gets an answer.
#[test]
fn who_waits_is_answered() {
    for (workers, full) in [
        (1, Backlog::DropColdest),
        (2, Backlog::Wait),
        (0, Backlog::Refuse),
        (0, Backlog::DropColdest),
    ] {
        let (_, builder) = Plugged::builder();
        let builder = builder.backlog(3, full).workers(workers).batch_limit(2);
        let cache = builder.build().unwrap();
        let over = AtomicBool::new(false);
        std::thread::scope(|threads| {
            for thread in 0..3 {
                let (cache, over) = (&cache, &over);
                threads.spawn(move || {
                    let mut random = Random::new(thread);
                    let me = cache.participant("asks");
                    while !over.load(Ordering::Relaxed) {
                        let n = random.below(12);
                        let handle = leaf(cache, n);
                        match random.below(8) {
                            0 | 1 => drop(handle.request()),
                            2 => drop(cache.invalidate(&Code::leaf(n))),
                            3 => drop(handle.compiled()),
                            4 => {
                                let patience = Duration::from_micros(u64::from(random.below(300)));
                                let _ = handle.get_timeout(&mut me.pin(), patience).map(|_| ());
                            }
                            5 => drop(cache.evict(&Code::leaf(n))),
                            _ => {
                                // SAFETY: the type is right.
                                let y = unsafe { handle.get(&mut me.pin()).unwrap().call(1) };
                                assert_eq!(y, 1 + i64::from(n));
                            }
                        }
                    }
                });
            }
            let until = Instant::now() + Duration::from_millis(300);
            while Instant::now() < until {
                std::thread::sleep(Duration::from_millis(5));
            }
            over.store(true, Ordering::Relaxed);
        });
        while cache.compile_some(usize::MAX) > 0 {}
        wait_until("nothing is left", || cache.statistics().queued == 0);
    }
}
