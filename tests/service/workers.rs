//! Without workers: who compiles, and who does what they would have done besides.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use inkpot::{Cache, Error, Reclaimer};

use crate::Plugged;
use crate::support::child::{self, fork};
use crate::support::synthetic::{self, Code, How, Synthetic};
use crate::support::{Gate, Hooked, Op, leaf, method, wait_until};

const PATIENCE: Duration = Duration::from_secs(60);

fn alone() -> (Arc<Plugged>, Cache<Code>) {
    let (plugged, builder) = Plugged::builder();
    (plugged, builder.workers(0).name("alone").build().unwrap())
}

#[test]
fn what_is_requested_waits_for_the_embedder() {
    let (plugged, cache) = alone();
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    assert!(
        names
            .into_iter()
            .all(|name| !name.starts_with("alone-compile"))
    );
    assert_eq!(cache.compile_some(usize::MAX), 0);
    for n in 0..100 {
        leaf(&cache, n).request().unwrap();
    }
    let mut future = leaf(&cache, 99).compiled();
    let mut poll = || {
        let mut context = Context::from_waker(Waker::noop());
        std::pin::Pin::new(&mut future).poll(&mut context)
    };
    assert!(poll().is_pending());
    assert_eq!(cache.compile_some(0), 0);
    assert_eq!(cache.statistics().queued, 100);
    // What is waited for first.
    assert_eq!(cache.compile_some(1), 1);
    assert_eq!(plugged.emitted(), [99]);
    assert!(matches!(poll(), Poll::Ready(Ok(_))));
    assert_eq!(cache.compile_some(30), 30);
    assert_eq!(cache.compile_some(usize::MAX), 64);
    assert_eq!(cache.compile_some(usize::MAX), 5);
    assert_eq!(cache.compile_some(usize::MAX), 0);
    assert_eq!(cache.statistics().compiles, 100);
}

#[test]
fn who_waits_compiles() {
    let (plugged, cache) = alone();
    let me = cache.participant("test");
    let mut guard = me.pin();
    let entry = leaf(&cache, 1).get(&mut guard).unwrap();
    // SAFETY: the type is right.
    assert_eq!(unsafe { entry.call(1) }, 2);
    let patience = Duration::from_secs(60);
    let entry = leaf(&cache, 2).get_timeout(&mut guard, patience).unwrap();
    // SAFETY: as above.
    assert_eq!(unsafe { entry.call(1) }, 3);
    let late = leaf(&cache, 3).get_timeout(&mut guard, Duration::ZERO);
    assert!(matches!(late.map(|_| ()), Err(Error::TimedOut { .. })));
    assert_eq!(plugged.emitted(), [1, 2]);
    // Calls from compiled code as well, with frames of it below.
    let deep = Code::new(1000, How::Call).depth(8);
    let handle = synthetic::method(&cache, deep);
    let entry = handle.get(&mut guard).unwrap();
    // SAFETY: as above.
    assert_eq!(unsafe { entry.call(1) }, deep.result(1));
    // And what fails, fails.
    let bad = synthetic::method(&cache, crate::bad(7));
    assert!(matches!(
        bad.get(&mut guard).map(|_| ()),
        Err(Error::Codegen { .. })
    ));
}

/// Many more than can compile at a time.
#[test]
fn threads_that_wait_compile_each_key_once() {
    const THREADS: u32 = 40;
    const KEYS: u32 = 60;
    let (plugged, cache) = alone();
    let barrier = Barrier::new(THREADS as usize);
    std::thread::scope(|threads| {
        for thread in 0..THREADS {
            let (cache, barrier) = (&cache, &barrier);
            threads.spawn(move || {
                let me = cache.participant("asks");
                barrier.wait();
                for i in 0..KEYS {
                    let n = (thread + i * 7) % KEYS;
                    // SAFETY: the type is right.
                    let y = unsafe { leaf(cache, n).get(&mut me.pin()).unwrap().call(1) };
                    assert_eq!(y, 1 + i64::from(n));
                }
            });
        }
    });
    assert_eq!(plugged.emitted().len(), KEYS as usize);
    assert_eq!(cache.statistics().compiles, u64::from(KEYS));
}

/// While one is held up in its compilation, others go on; who wants the same waits for it.
#[test]
fn somebody_else_may_be_at_it() {
    let (plugged, cache) = alone();
    let gets = |n: u32| {
        let me = cache.participant("asks");
        // SAFETY: the type is right.
        let y = unsafe { leaf(&cache, n).get(&mut me.pin()).unwrap().call(1) };
        assert_eq!(y, 1 + i64::from(n));
    };
    plugged.second_is.store(5, Ordering::SeqCst);
    std::thread::scope(|threads| {
        threads.spawn(|| gets(5));
        wait_until("it is held up", || plugged.second.came() == 1);
        for n in 10..30 {
            threads.spawn(move || gets(n));
        }
        wait_until("others go on", || cache.statistics().compiles == 20);
        threads.spawn(|| gets(5));
        std::thread::sleep(Duration::from_millis(20));
        plugged.second.open();
    });
    assert_eq!(plugged.emitted().len(), 21);
}

/// Threads in front ends, as many as may compile at a time, and then one more who wants something.
#[test]
fn who_finds_no_seat_waits_for_one() {
    const SEATS: i64 = 8;
    let gate = Arc::new(Gate::default());
    let of_threads = gate.clone();
    let cache = Cache::builder(Hooked(move |key: &Op| {
        if matches!(key, Op::Add(..SEATS)) {
            of_threads.wait();
        }
    }))
    .workers(0)
    .batch_limit(1)
    .build()
    .unwrap();
    let gets = |n: i64| {
        let me = cache.participant("asks");
        // SAFETY: the type is right.
        let y = unsafe {
            method(&cache, &Op::Add(n))
                .get(&mut me.pin())
                .unwrap()
                .call(1)
        };
        assert_eq!(y, 1 + n);
    };
    std::thread::scope(|threads| {
        for n in 0..SEATS {
            threads.spawn(move || gets(n));
        }
        wait_until("all compile", || gate.came() == SEATS as usize);
        let me = cache.participant("late");
        let late = method(&cache, &Op::Add(100));
        let mut guard = me.pin();
        let error = late.get_timeout(&mut guard, Duration::from_millis(20));
        assert!(matches!(error.map(|_| ()), Err(Error::TimedOut { .. })));
        threads.spawn(|| gets(100));
        std::thread::sleep(Duration::from_millis(20));
        gate.open();
    });
}

#[test]
fn re_entrance() {
    static CACHE: OnceLock<Mutex<Option<Cache<Op>>>> = OnceLock::new();
    let panics = Arc::<AtomicUsize>::default();
    let of_hook = panics.clone();
    let cache = Cache::builder(Hooked(move |key: &Op| {
        let Op::Add(n) = *key else { return };
        let cache = CACHE.get().unwrap().lock().unwrap().clone();
        let Some(cache) = cache.filter(|_| n == 1) else {
            return;
        };
        assert_eq!(cache.compile_some(usize::MAX), 0);
        assert!(method(&cache, &Op::Add(2)).request().is_ok());
        let me = cache.participant("in emit");
        let error = method(&cache, &Op::Add(3)).get(&mut me.pin()).map(|_| ());
        assert!(matches!(error, Err(Error::WouldDeadlock)), "{error:?}");
        let _ = (cache.maintain(), cache.statistics());
        cache.seal();
        if of_hook.fetch_add(1, Ordering::SeqCst) == 0 {
            panic!("on purpose");
        }
    }))
    .retry_after(Duration::ZERO, Duration::ZERO)
    .workers(0)
    .build()
    .unwrap();
    let _ = CACHE.set(Mutex::new(Some(cache.clone())));
    let me = cache.participant("test");
    let mut guard = me.pin();
    let one = method(&cache, &Op::Add(1));
    assert!(matches!(
        one.get(&mut guard).map(|_| ()),
        Err(Error::FrontendPanicked { .. })
    ));
    // The thread is no worker any more.
    // SAFETY: the type is right.
    assert_eq!(unsafe { one.get(&mut guard).unwrap().call(1) }, 2);
    assert_eq!(panics.load(Ordering::SeqCst), 2);
    while cache.compile_some(usize::MAX) > 0 {}
    assert!(cache.is_resident(&Op::Add(2)));
    *CACHE.get().unwrap().lock().unwrap() = None;
}

/// Sealing by age, coming down to the budget, reclaiming: by `compile_some` and `maintain` alone.
#[test]
fn what_workers_do_besides_is_done() {
    let builder = Cache::with_backend(Synthetic::default())
        .workers(0)
        .code_budget(1 << 20)
        .generation_age(Duration::from_millis(20));
    let cache = builder.reclaimer(Reclaimer::Manual).build().unwrap();
    let me = cache.participant("test");
    for n in 0..3000 {
        let handle = synthetic::method(&cache, Code::leaf(n).padded(2000));
        handle.get(&mut me.pin()).map(|_| ()).unwrap();
        if n % 16 == 0 {
            cache.maintain();
        }
    }
    let s = cache.statistics();
    assert!(s.evictions > 1000, "{s:?}");
    assert!(s.mapped_code_bytes < 3 << 20, "{s:?}");
    let rests = |by: &dyn Fn()| {
        leaf(&cache, 7).get(&mut me.pin()).map(|_| ()).unwrap();
        assert!(cache.statistics().generations_open > 0);
        wait_until("what is old is sealed", || {
            by();
            cache.statistics().generations_open == 0
        });
        assert!(cache.evict(&Code::leaf(7)));
    };
    rests(&|| assert_eq!(cache.compile_some(usize::MAX), 0));
    rests(&|| {
        cache.maintain();
    });
    cache.evict_all();
    while cache.maintain() {}
    assert_eq!(cache.statistics().mapped_code_bytes, 0);
}

#[test]
fn it_helps_workers() {
    let (plugged, builder) = Plugged::builder();
    let cache = builder.build().unwrap();
    plugged.plug(&cache);
    (0..10).for_each(|n| leaf(&cache, n).request().unwrap());
    assert_eq!(cache.compile_some(usize::MAX), 10);
    assert_eq!(plugged.emitted().len(), 10);
    plugged.gate.open();
    let me = cache.participant("test");
    leaf(&cache, 20).get(&mut me.pin()).map(|_| ()).unwrap();
}

#[test]
fn forks() {
    let body = || {
        let gate = Arc::new(OnceLock::new());
        let of_emit = gate.clone();
        let cache = Cache::builder(Hooked(move |key: &Op| {
            // In the middle of a compilation.
            if *key == Op::Add(2) && of_emit.get().is_none() {
                let child = fork(true, || 0);
                let _ = of_emit.set(());
                child.expect_code(0);
            }
        }))
        .workers(0)
        .build()
        .unwrap();
        let me = cache.participant("test");
        let mut guard = me.pin();
        for n in 0..3 {
            // SAFETY: the type is right.
            let y = unsafe { method(&cache, &Op::Add(n)).get(&mut guard).unwrap().call(1) };
            assert_eq!(y, 1 + n);
        }
        let queued = method(&cache, &Op::Add(5));
        queued.request().unwrap();
        let child = fork(false, || {
            assert_eq!(cache.compile_some(usize::MAX), 0);
            assert!(matches!(queued.request(), Err(Error::Forked)));
            0
        });
        child.expect_code(0);
        assert_eq!(cache.compile_some(usize::MAX), 1);
    };
    if let Some(ended) = child::run("workers::forks", PATIENCE, body) {
        ended.expect_code(0);
    }
}

/// The process exits while threads of it compile.
#[test]
fn exits() {
    let body = || {
        static CACHE: OnceLock<Cache<Op>> = OnceLock::new();
        let begun = Arc::<AtomicUsize>::default();
        let counted = begun.clone();
        let hooked = Hooked(move |_: &Op| {
            counted.fetch_add(1, Ordering::SeqCst);
        });
        let cache = CACHE.get_or_init(|| Cache::builder(hooked).workers(0).build().unwrap());
        for thread in 0..4 {
            std::thread::spawn(move || {
                let me = cache.participant("asks");
                for n in 0.. {
                    let key = Op::Add(1_000_000 * thread + n);
                    if method(cache, &key).get(&mut me.pin()).is_err() {
                        return;
                    }
                }
            });
        }
        wait_until("all is running", || begun.load(Ordering::SeqCst) > 50);
        child::exit(7);
    };
    if let Some(ended) = child::run("workers::exits", PATIENCE, body) {
        ended.expect_code(7);
        assert!(ended.took < Duration::from_secs(9), "{:?}", ended.took);
    }
}
