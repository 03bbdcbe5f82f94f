//! What ends before what: threads while pinned, caches before their handles, the process before
//! its compile workers. The order never matters.

mod support;

use std::any::Any;
use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};

use inkpot::{Cache, Error, Reclaimer};
use support::maps::mapping_of;
use support::synthetic::{Code, Synthetic};
use support::{Calculator, Gate, Hooked, Op, child, leaf, method, wait_until};

fn recycled_after_evicting(cache: &Cache<Op>) {
    let before = cache.statistics().generations_recycled;
    let me = cache.participant("test");
    method(cache, &Op::Add(9)).get(&mut me.pin()).unwrap();
    cache.seal();
    cache.evict_all();
    wait_until("reclamation goes on", || {
        cache.maintain();
        cache.statistics().generations_recycled > before
    });
}

#[test]
fn a_thread_that_ends_while_pinned_holds_nothing_up() {
    for reclaimer in [Reclaimer::Thread, Reclaimer::Manual] {
        let cache = Cache::builder(Calculator)
            .reclaimer(reclaimer)
            .build()
            .unwrap();
        for leak_participant in [false, true] {
            let of_thread = cache.clone();
            std::thread::spawn(move || {
                let me = of_thread.participant("leaks its guard");
                let mut guard = me.pin();
                method(&of_thread, &Op::Add(1)).get(&mut guard).unwrap();
                std::mem::forget(guard);
                if leak_participant {
                    std::mem::forget(me);
                }
            })
            .join()
            .unwrap();
            recycled_after_evicting(&cache);
        }
        wait_until("the dead are forgotten", || {
            cache.statistics().participants == 0
        });
        assert!(cache.statistics().longest_pinned.is_none());
    }
}

#[test]
fn a_leaked_guard_of_a_living_thread_holds_memory_and_is_named() {
    let cache = Cache::builder(Calculator).build().unwrap();
    let (done, end) = mpsc::channel::<()>();
    let of_thread = cache.clone();
    let thread = std::thread::spawn(move || {
        let me = of_thread.participant("sleeper");
        let mut guard = me.pin();
        method(&of_thread, &Op::Add(1)).get(&mut guard).unwrap();
        std::mem::forget(guard);
        end.recv().unwrap();
        // The participant goes here, and takes the leaked pin with it.
    });
    wait_until("it is pinned", || cache.is_resident(&Op::Add(1)));
    wait_until("it is pinned again after it waited", || {
        cache.statistics().longest_pinned.is_some()
    });
    cache.seal();
    cache.evict_all();
    wait_until("its generation waits", || {
        let s = cache.statistics();
        s.generations_fallow == 1 && s.longest_pinned_for > Duration::from_millis(50)
    });
    let held = cache.statistics();
    assert_eq!((held.generations_recycled, held.generations_fallow), (0, 1));
    assert!(held.longest_pinned.unwrap().starts_with("sleeper"));
    match cache
        .invalidate(&Op::Add(1))
        .wait_for(Duration::from_millis(20))
    {
        Err(Error::Stalled { participant, .. }) => assert_eq!(participant, "sleeper"),
        other => panic!("{other:?}"),
    }
    done.send(()).unwrap();
    thread.join().unwrap();
    wait_until("recycled", || cache.statistics().generations_recycled == 1);
}

#[test]
fn who_is_pinned_cannot_wait_for_a_grace_period() {
    let cache = Cache::builder(Calculator).build().unwrap();
    let me = cache.participant("test");
    let guard = me.pin();
    let said = cache.invalidate_all().wait();
    assert!(matches!(said, Err(Error::Pinned)), "{said:?}");
    drop(guard);
    cache.invalidate_all().wait().unwrap();
}

/// Drops a cache, a handle, a keep, a token, a participant and an address in every order. What is
/// left works until the last is gone; then everything is.
#[test]
fn drops_in_every_order() {
    const PARTS: usize = 5;
    for order in permutations(PARTS) {
        let cache = Cache::with_backend(Synthetic::default()).build().unwrap();
        let handle = leaf(&cache, 3);
        let me = cache.participant("test");
        handle.get(&mut me.pin()).unwrap();
        let address = handle.address();
        let (mut cache, mut handle, mut me) = (Some(cache), Some(handle), Some(me));
        let mut keep = handle.as_ref().map(|h| h.keep());
        let mut token = cache.as_ref().map(|c| c.invalidate(&Code::leaf(77)));
        for part in order {
            if let (Some(handle), Some(me)) = (&handle, &me) {
                // SAFETY: the type is right.
                assert_eq!(unsafe { handle.get(&mut me.pin()).unwrap().call(1) }, 4);
            }
            // All but the token keep the cache.
            let kept = cache.is_some() || handle.is_some() || me.is_some() || keep.is_some();
            assert_eq!(mapping_of(address as u64).is_some(), kept);
            match part {
                0 => cache = None,
                1 => handle = None,
                2 => me = None,
                3 => keep = None,
                _ => token = None,
            }
        }
        assert!(cache.is_none() && handle.is_none() && me.is_none());
        assert!(keep.is_none() && token.is_none());
        assert!(
            mapping_of(address as u64).is_none(),
            "the last one out took the code along"
        );
    }
}

fn permutations(n: usize) -> Vec<Vec<usize>> {
    match n {
        0 => vec![Vec::new()],
        n => permutations(n - 1)
            .into_iter()
            .flat_map(|shorter| {
                (0..n).map(move |at| {
                    let mut longer = shorter.clone();
                    longer.insert(at, n - 1);
                    longer
                })
            })
            .collect(),
    }
}

#[test]
fn a_participant_alone_keeps_what_its_thread_is_in() {
    let cache = Cache::builder(Calculator).build().unwrap();
    let me = cache.participant("test");
    let mut guard = me.pin();
    let outer = Op::CallAdd(Box::new(Op::Add(5)), 100);
    // SAFETY: used under `guard`.
    let pointer = unsafe { method(&cache, &outer).get(&mut guard).unwrap().pointer() };
    drop(cache);
    // Its callee was never compiled: the cache that compiles it is there still.
    // SAFETY: loaded under `guard`, which lives; the type is right.
    assert_eq!(unsafe { pointer(1) }, 106);
}

#[test]
fn threads_that_wait_are_told_when_nobody_will_compile() {
    // The last handles are those of the waiting threads themselves, so nobody shuts down before
    // they have what they wait for.
    let gate = Arc::new(Gate::default());
    let of_worker = gate.clone();
    let cache = Cache::builder(Hooked(move |_: &Op| of_worker.wait()))
        .build()
        .unwrap();
    let callers: Vec<_> = (0..4)
        .map(|n| {
            let cache = cache.clone();
            std::thread::spawn(move || {
                let me = cache.participant("caller");
                let add = method(&cache, &Op::Add(n));
                drop(cache);
                // SAFETY: the type is right.
                unsafe { add.get(&mut me.pin()).unwrap().call(1) }
            })
        })
        .collect();
    wait_until("all have asked", || {
        cache.statistics().misses == 4 && gate.came() == 1
    });
    drop(cache);
    gate.open();
    for (n, caller) in callers.into_iter().enumerate() {
        assert_eq!(caller.join().unwrap(), 1 + n as i64);
    }
}

/// A front end that owns its cache is a circle: the cache lives until the front end lets go, and
/// if it does so in the middle of `emit`, a compile worker is the last to hold it.
#[test]
fn the_last_handle_goes_inside_emit() {
    for workers in [1, 3] {
        let own: Arc<Mutex<Option<Cache<Op>>>> = Arc::default();
        let (ended, end) = mpsc::channel();
        let in_front_end = own.clone();
        let noticed = Noticed(ended);
        let cache = Cache::builder(Hooked(move |key: &Op| {
            let _ = &noticed;
            if *key == Op::Add(2) {
                drop(in_front_end.lock().unwrap().take());
            }
        }))
        .workers(workers)
        .build()
        .unwrap();
        *own.lock().unwrap() = Some(cache.clone());
        let me = cache.participant("test");
        let one = method(&cache, &Op::Add(1));
        one.get(&mut me.pin()).unwrap();
        let request = method(&cache, &Op::Add(2));
        drop((cache, me, one));
        request.request().unwrap();
        drop(request);
        end.recv_timeout(Duration::from_secs(20))
            .expect("the front end was dropped, and with it the cache");
    }
}

/// Says so when it is dropped.
struct Noticed(mpsc::Sender<()>);

impl Drop for Noticed {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

#[test]
fn ten_thousand_threads_come_and_go() {
    let cache = Cache::with_backend(Synthetic::default())
        .generation_methods(16)
        .build()
        .unwrap();
    let wrong = AtomicUsize::new(0);
    for round in 0..100 {
        std::thread::scope(|threads| {
            for i in 0..100 {
                let (cache, wrong) = (&cache, &wrong);
                threads.spawn(move || {
                    let me = cache.participant(format!("{round}.{i}"));
                    let n = (round * 7 + i) % 50;
                    let mut guard = me.pin();
                    // SAFETY: the type is right.
                    let y = unsafe { leaf(cache, n).get(&mut guard).unwrap().call(1) };
                    if y != i64::from(n) + 1 {
                        wrong.fetch_add(1, Ordering::Relaxed);
                    }
                    match i % 4 {
                        0 => std::mem::forget(guard),
                        1 => {
                            cache.evict(&Code::leaf(n));
                        }
                        _ => {}
                    }
                });
            }
        });
    }
    assert_eq!(wrong.load(Ordering::Relaxed), 0);
    let s = cache.statistics();
    assert_eq!((s.participants, s.hits + s.misses), (0, 10_000));
    cache.evict_all();
    cache.seal();
    wait_until("nothing is held", || {
        let s = cache.statistics();
        s.mapped_code_bytes == 0 && s.generations_fallow == 0
    });
}

thread_local! {
    /// First touched before the thread's first use of the cache, so it goes after all that the
    /// cache itself has in thread-locals.
    static EARLY: RefCell<Vec<Box<dyn Any>>> = const { RefCell::new(Vec::new()) };
}

#[test]
fn thread_locals_may_own_all_of_it() {
    let cache = Cache::builder(Calculator).build().unwrap();
    for last in [false, true] {
        let of_thread = cache.clone();
        let mine = if last { None } else { Some(cache.clone()) };
        std::thread::spawn(move || {
            EARLY.with_borrow_mut(|early| {
                let cache = match last {
                    true => Cache::builder(Calculator).build().unwrap(),
                    false => of_thread,
                };
                let me = cache.participant("thread-local");
                let one = method(&cache, &Op::Add(1));
                one.get(&mut me.pin()).unwrap();
                let keep = one.keep();
                let unused = method(&cache, &Op::Add(2));
                early.push(Box::new((one, keep, unused)));
                early.push(Box::new(me));
                early.push(Box::new(cache));
            });
        })
        .join()
        .unwrap();
        drop(mine);
    }
    wait_until("the thread has left", || {
        cache.statistics().participants == 0
    });
    cache.evict_all();
    wait_until("nobody knows a method any more", || {
        cache.statistics().methods_known == 0
    });
    let me = cache.participant("test");
    // SAFETY: the type is right.
    let y = unsafe {
        method(&cache, &Op::Add(2))
            .get(&mut me.pin())
            .unwrap()
            .call(1)
    };
    assert_eq!(y, 3);
}

// --- the end of the process ---

/// Requests methods without end, on two workers, and returns while they compile.
fn keep_workers_busy() -> Cache<Op> {
    let cache = Cache::builder(Calculator)
        .workers(2)
        .batch_limit(8)
        .import("host_callback", identity as *const ())
        .build()
        .unwrap();
    request_many(&cache);
    wait_until("they compile", || cache.statistics().compiles > 8);
    cache
}

extern "C" fn identity(x: i64) -> i64 {
    x
}

fn request_many(cache: &Cache<Op>) {
    for n in 0..MANY {
        let inner = Box::new(Op::Add(n));
        method(cache, &Op::SumPure(inner)).request().unwrap();
    }
}

/// To compile so many takes half a minute at least; to begin with it, and to end, a moment.
const MANY: i64 = 60_000;
const SOON: Duration = Duration::from_secs(20);
const PATIENCE: Duration = Duration::from_secs(60);

fn expect_quick(ended: Option<child::Ended>, code: i32) {
    let Some(ended) = ended else { return };
    ended.expect_code(code);
    assert!(ended.took < SOON, "{:?}", ended.took);
}

#[test]
fn main_returns_while_workers_compile() {
    for _ in 0..3 {
        let ended = child::run("main_returns_while_workers_compile", PATIENCE, || {
            std::mem::forget(keep_workers_busy());
        });
        expect_quick(ended, 0);
        if child::is_child() {
            return;
        }
    }
}

#[test]
fn a_thread_exits_while_workers_compile() {
    for _ in 0..3 {
        let ended = child::run("a_thread_exits_while_workers_compile", PATIENCE, || {
            let _cache = keep_workers_busy();
            std::thread::spawn(|| child::exit(7)).join().unwrap();
        });
        expect_quick(ended, 7);
    }
}

#[test]
fn a_front_end_exits_while_workers_compile() {
    for _ in 0..3 {
        let ended = child::run("a_front_end_exits_while_workers_compile", PATIENCE, || {
            let cache = Cache::builder(Calculator)
                .workers(2)
                .batch_limit(8)
                .import("host_callback", identity as *const ())
                .build()
                .unwrap();
            request_many(&cache);
            wait_until("they compile", || cache.statistics().compiles > 8);
            let urgent = Cache::builder(Hooked(|_: &Op| child::exit(9)))
                .build()
                .unwrap();
            method(&urgent, &Op::Refuse).request().unwrap();
            std::thread::sleep(PATIENCE);
        });
        expect_quick(ended, 9);
    }
}

/// Both workers of one cache call `exit` at the same time, and `main` too.
#[test]
fn everybody_exits_at_once() {
    for _ in 0..3 {
        let ended = child::run("everybody_exits_at_once", PATIENCE, || {
            let cache = Cache::builder(Hooked(|_: &Op| child::exit(5)))
                .workers(2)
                .batch_limit(1)
                .build()
                .unwrap();
            for n in 0..4 {
                method(&cache, &Op::Add(n)).request().unwrap();
            }
            child::exit(5);
        });
        expect_quick(ended, 5);
    }
}

/// Threads go on calling methods while the process exits. What is not there any more cannot be
/// compiled, but that is no failure of theirs: the process ends with its own exit code.
#[test]
fn exit_while_threads_call() {
    for _ in 0..3 {
        let ended = child::run("exit_while_threads_call", PATIENCE, || {
            static STOP: AtomicBool = AtomicBool::new(false);
            let cache = Cache::builder(Calculator).workers(2).build().unwrap();
            for thread in 0..2 {
                let cache = cache.clone();
                std::thread::spawn(move || {
                    let me = cache.participant("caller");
                    let outer = method(&cache, &Op::CallAdd(Box::new(Op::Add(thread)), 10));
                    let mut guard = me.pin();
                    while !STOP.load(Ordering::Relaxed) {
                        match outer.get(&mut guard) {
                            // SAFETY: the type is right.
                            Ok(f) => assert_eq!(unsafe { f.call(1) }, 11 + thread),
                            Err(Error::ShuttingDown) => {}
                            Err(other) => panic!("{other}"),
                        }
                        cache.evict(&Op::Add(thread));
                    }
                });
            }
            wait_until("they call", || cache.statistics().compiles > 20);
            child::exit(3);
        });
        expect_quick(ended, 3);
    }
}

/// The last handle goes inside `emit`, so a worker takes the cache apart, while `main` returns.
#[test]
fn exit_while_a_worker_takes_the_cache_apart() {
    static OWN: OnceLock<Mutex<Option<Cache<Op>>>> = OnceLock::new();
    for _ in 0..3 {
        let ended = child::run(
            "exit_while_a_worker_takes_the_cache_apart",
            PATIENCE,
            || {
                let (sender, dropped) = mpsc::channel();
                let sender = Mutex::new(sender);
                let cache = Cache::builder(Hooked(move |key: &Op| {
                    if *key == Op::Refuse {
                        drop(OWN.get().unwrap().lock().unwrap().take());
                        sender.lock().unwrap().send(()).unwrap();
                    }
                }))
                .generation_methods(4)
                .build()
                .unwrap();
                let me = cache.participant("test");
                for n in 0..60 {
                    method(&cache, &Op::Add(n)).get(&mut me.pin()).unwrap();
                }
                method(&cache, &Op::Refuse).request().unwrap();
                drop(me);
                let _ = OWN.set(Mutex::new(Some(cache)));
                let _ = dropped.recv_timeout(Duration::from_secs(5));
                let started = Instant::now();
                while started.elapsed() < Duration::from_micros(500) {}
                child::exit(0);
            },
        );
        expect_quick(ended, 0);
    }
}
