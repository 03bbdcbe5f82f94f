//! What fails does not fail a thousand times: the failure is kept, handed out, and forgotten when it should be.

mod support;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use inkpot::{BoxError, Builder, Cache, Error, Frontend, Unit};
use support::{Calculator, Gate, Op, Unary, method, wait_until};

/// When each method was emitted.
type Tries = Arc<Mutex<HashMap<Op, Vec<Instant>>>>;

/// The calculator, which refuses everything while the switch is on.
struct Refuses {
    refuse: Arc<AtomicBool>,
    tries: Tries,
}

impl Frontend for Refuses {
    type Key = Op;

    fn emit<'ctx>(&self, key: &Op, unit: &mut Unit<'_, 'ctx, Op>) -> Result<(), BoxError> {
        let mut tries = self.tries.lock().unwrap();
        tries.entry(key.clone()).or_default().push(Instant::now());
        drop(tries);
        if self.refuse.load(Ordering::SeqCst) {
            return Err(format!("{key:?} is refused for now").into());
        }
        Calculator.emit(key, unit)
    }
}

fn refusing() -> (Arc<AtomicBool>, Tries, Builder<Op>) {
    let refuse = Arc::new(AtomicBool::new(true));
    let tries = Tries::default();
    let builder = Cache::builder(Refuses {
        refuse: refuse.clone(),
        tries: tries.clone(),
    });
    (refuse, tries, builder)
}

const LONG: Duration = Duration::from_secs(3600);

fn count(tries: &Tries, op: &Op) -> usize {
    tries.lock().unwrap().get(op).map_or(0, Vec::len)
}

inkpot::fallback! {
    unsafe extern "C" fn minus(_word: usize, x: i64) -> i64 {
        -x
    }
}

#[test]
fn a_method_that_failed_is_not_tried_again_for_a_while() {
    let (refuse, tries, builder) = refusing();
    let cache = builder
        .retry_after(LONG, LONG)
        .fallback(minus as *const ())
        .build()
        .unwrap();
    let me = cache.participant("test");
    let mut guard = me.pin();
    let add = method(&cache, &Op::Add(1));
    assert!(add.failure().is_none());
    let first = add.get(&mut guard).map(|_| ()).unwrap_err();
    refuse.store(false, Ordering::SeqCst);
    // Whatever calls them, and however.
    let outer = method(&cache, &Op::CallAdd(Box::new(Op::Add(1)), 0));
    for x in 0..1000 {
        let again = add.get(&mut guard).map(|_| ()).unwrap_err();
        let (Error::Frontend { source, .. }, Error::Frontend { source: other, .. }) =
            (&first, &again)
        else {
            panic!("{first}, {again}");
        };
        assert!(Arc::ptr_eq(source, other), "it is the very error");
        assert!(matches!(add.request(), Err(Error::Frontend { .. })));
        assert!(matches!(add.failure(), Some(Error::Frontend { .. })));
        // SAFETY: the type is right.
        let fallen = unsafe { add.entry_or_fallback(&guard).call(x) };
        // SAFETY: as above.
        let called = unsafe { outer.get(&mut guard).unwrap().call(x) };
        assert_eq!((fallen, called), (-x, -x));
    }
    assert_eq!(
        (count(&tries, &Op::Add(1)), cache.statistics().failures),
        (1, 1)
    );
    // Forgotten by invalidation: it is tried at once.
    drop(cache.invalidate(&Op::Add(1)));
    assert!(add.failure().is_none());
    // SAFETY: the type is right.
    assert_eq!(unsafe { add.get(&mut guard).unwrap().call(4) }, 5);
    assert!(add.failure().is_none());
    assert_eq!(count(&tries, &Op::Add(1)), 2);
}

#[test]
fn the_time_doubles_with_each_failure_and_begins_anew_after_a_success() {
    let (refuse, tries, builder) = refusing();
    let first = Duration::from_millis(20);
    let cache = builder.retry_after(first, 4 * first).build().unwrap();
    let me = cache.participant("test");
    let mut guard = me.pin();
    let add = method(&cache, &Op::Add(1));
    let fail = |guard: &mut inkpot::Guard<'_>, times: usize| {
        tries.lock().unwrap().clear();
        wait_until("it has failed so often", || {
            assert!(add.get(guard).is_err());
            count(&tries, &Op::Add(1)) == times
        });
        let tries = tries.lock().unwrap();
        let times = &tries[&Op::Add(1)];
        times.windows(2).map(|w| w[1] - w[0]).collect::<Vec<_>>()
    };
    let gaps = fail(&mut guard, 5);
    for (gap, times) in gaps.iter().zip([1, 2, 4, 4]) {
        assert!(*gap >= times * first, "{gaps:?}");
    }
    refuse.store(false, Ordering::SeqCst);
    let until = Instant::now() + Duration::from_secs(20);
    while add.get(&mut guard).is_err() {
        assert!(Instant::now() < until);
    }
    refuse.store(true, Ordering::SeqCst);
    cache.evict_all();
    let gaps = fail(&mut guard, 3);
    assert!(gaps[0] >= first && gaps[1] >= 2 * first, "{gaps:?}");
}

/// A key that nobody has a handle to is remembered too, as long as it is one of the last.
#[test]
fn it_is_remembered_without_handles_and_within_bounds() {
    let (refuse, tries, builder) = refusing();
    let cache = builder.retry_after(LONG, LONG).build().unwrap();
    let me = cache.participant("test");
    for _ in 0..50 {
        assert!(method(&cache, &Op::Add(0)).get(&mut me.pin()).is_err());
    }
    assert_eq!(count(&tries, &Op::Add(0)), 1);
    for n in 1..600 {
        assert!(method(&cache, &Op::Add(n)).get(&mut me.pin()).is_err());
    }
    wait_until("some records are gone", || {
        cache.statistics().methods_known <= 256
    });
    let kept = method(&cache, &Op::Add(599));
    refuse.store(false, Ordering::SeqCst);
    assert!(
        method(&cache, &Op::Add(0)).get(&mut me.pin()).is_ok(),
        "forgotten"
    );
    assert!(method(&cache, &Op::Add(598)).get(&mut me.pin()).is_err());
    drop(cache.invalidate_if(|key| *key == Op::Add(598)));
    assert!(method(&cache, &Op::Add(598)).get(&mut me.pin()).is_ok());
    drop(cache.invalidate_all());
    assert!(kept.get(&mut me.pin()).is_ok());
    drop(kept);
    drop(cache.invalidate_all());
    wait_until("no record is left", || {
        cache.statistics().methods_known == 0
    });
}

/// What has code is not asked for: a method's failure counts when it has none.
#[test]
fn a_callee_that_failed_is_told_to_compiled_code_at_once() {
    static CAUGHT: AtomicUsize = AtomicUsize::new(0);
    unsafe extern "C" fn failed() {
        assert!(matches!(
            inkpot::last_failure(),
            Some(Error::Frontend { .. })
        ));
        CAUGHT.fetch_add(1, Ordering::SeqCst);
        support::child::exit(17);
    }
    let ended = support::child::run(
        "a_callee_that_failed_is_told_to_compiled_code_at_once",
        Duration::from_secs(20),
        || {
            let (refuse, _, builder) = refusing();
            let cache = builder
                .retry_after(LONG, LONG)
                .failure_entry(failed)
                .build()
                .unwrap();
            let me = cache.participant("test");
            let mut guard = me.pin();
            let inner = method(&cache, &Op::Add(1));
            assert!(inner.get(&mut guard).is_err());
            refuse.store(false, Ordering::SeqCst);
            let outer = method(&cache, &Op::CallAdd(Box::new(Op::Add(1)), 0));
            // SAFETY: the type is right.
            unsafe { outer.get(&mut guard).unwrap().call(1) };
        },
    );
    if let Some(ended) = ended {
        ended.expect_code(17);
    }
}

#[test]
fn want_of_memory_is_not_the_methods_fault() {
    let cache = Cache::builder(Calculator)
        .retry_after(LONG, LONG)
        .generation_methods(1)
        .build()
        .unwrap();
    let me = cache.participant("test");
    let mut guard = me.pin();
    let add = method(&cache, &Op::Add(1));
    cache.refuse_memory(true);
    let refused = add.get(&mut guard).map(|_| ());
    assert!(matches!(refused, Err(Error::Memory { .. })), "{refused:?}");
    assert!(add.failure().is_none());
    cache.refuse_memory(false);
    assert!(add.get(&mut guard).is_ok());
}

/// Errors are the embedder's values: to drop one may call the cache, whatever it is dropped for.
#[test]
fn errors_are_dropped_while_no_lock_is_held() {
    static CACHE: OnceLock<Mutex<Option<Cache<Op>>>> = OnceLock::new();
    static DROPS: AtomicUsize = AtomicUsize::new(0);
    static TRIES: AtomicUsize = AtomicUsize::new(0);
    #[derive(Debug)]
    struct Meddler;
    impl std::fmt::Display for Meddler {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("meddles")
        }
    }
    impl std::error::Error for Meddler {}
    impl Drop for Meddler {
        fn drop(&mut self) {
            DROPS.fetch_add(1, Ordering::SeqCst);
            let cache = CACHE.get().unwrap().lock().unwrap().clone();
            if let Some(cache) = cache {
                drop(cache.invalidate(&Op::Add(-1)));
                let _ = (cache.statistics(), method(&cache, &Op::Add(-1)).failure());
            }
        }
    }
    struct Meddles;
    impl Frontend for Meddles {
        type Key = Op;

        fn emit<'ctx>(&self, key: &Op, _: &mut Unit<'_, 'ctx, Op>) -> Result<(), BoxError> {
            match key {
                Op::Add(-1) => Err("not this one".into()),
                _ => {
                    TRIES.fetch_add(1, Ordering::SeqCst);
                    Err(Box::new(Meddler))
                }
            }
        }
    }
    let cache = Cache::builder(Meddles)
        .retry_after(Duration::from_millis(1), Duration::from_millis(1))
        .build()
        .unwrap();
    let _ = CACHE.set(Mutex::new(Some(cache.clone())));
    let me = cache.participant("test");
    let again = method(&cache, &Op::Add(0));
    let drops = || DROPS.load(Ordering::SeqCst);
    // Replaced by the next, forgotten by invalidation, dropped with its record, and with the oldest records.
    wait_until("it has failed some times", || {
        assert!(again.get(&mut me.pin()).is_err());
        drops() >= 3
    });
    // Who has heard of a failure may go on before the one that it replaces is dropped.
    wait_until("all but the last are dropped", || {
        drops() + 1 == TRIES.load(Ordering::SeqCst)
    });
    let before = drops();
    drop(cache.invalidate(&Op::Add(0)));
    assert_eq!(drops(), before + 1);
    for n in 1..400 {
        assert!(method(&cache, &Op::Add(n)).get(&mut me.pin()).is_err());
    }
    wait_until("the first are gone", || drops() >= before + 1 + 399 - 257);
    *CACHE.get().unwrap().lock().unwrap() = None;
    drop((again, me, cache));
    wait_until("all are gone", || drops() == before + 1 + 399);
}

/// Threads that ask for what fails, waiting and not, through a storm of them: each failure is few tries.
#[test]
fn a_storm_of_requests_for_what_fails_is_few_compilations() {
    let (refuse, tries, builder) = refusing();
    let cache = builder
        .retry_after(Duration::from_millis(50), LONG)
        .build()
        .unwrap();
    std::thread::scope(|threads| {
        for _ in 0..4 {
            let cache = &cache;
            threads.spawn(move || {
                let me = cache.participant("asks");
                let until = Instant::now() + Duration::from_millis(400);
                while Instant::now() < until {
                    for n in 0..10 {
                        // SAFETY: the type is right.
                        let add = unsafe { cache.method::<Unary>(&Op::Add(n)) }.unwrap();
                        assert!(add.get(&mut me.pin()).is_err());
                        let _ = add.request();
                    }
                }
            });
        }
    });
    let asked = cache.statistics().misses;
    for n in 0..10 {
        // At 0, 50, 150 and 350 ms, if the machine is quick.
        assert!((1..=5).contains(&count(&tries, &Op::Add(n))), "{tries:?}");
    }
    assert!(asked > 500, "{asked}");
    refuse.store(false, Ordering::SeqCst);
}

/// Every key is in group 0; the thread that is told to waits when it is asked for that.
struct Waits {
    refuses: Refuses,
    gate: Arc<Gate>,
}

thread_local! {
    static WAITS: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

impl Frontend for Waits {
    type Key = Op;

    fn emit<'ctx>(&self, key: &Op, unit: &mut Unit<'_, 'ctx, Op>) -> Result<(), BoxError> {
        self.refuses.emit(key, unit)
    }

    fn group(&self, _key: &Op) -> u64 {
        if WAITS.get() {
            self.gate.wait();
        }
        0
    }
}

/// It fails between a look of who asks and his request.
#[test]
fn who_comes_too_late_does_not_have_it_tried_again() {
    let (refuse, tries) = (Arc::new(AtomicBool::new(true)), Tries::default());
    let gate = Arc::new(Gate::default());
    let refuses = Refuses {
        refuse,
        tries: tries.clone(),
    };
    let frontend = Waits {
        refuses,
        gate: gate.clone(),
    };
    let cache = Cache::builder(frontend)
        .retry_after(LONG, LONG)
        .build()
        .unwrap();
    let add = method(&cache, &Op::Add(1));
    std::thread::scope(|threads| {
        let late = [true, false].map(|waits_for_it| {
            let (cache, add) = (&cache, &add);
            threads.spawn(move || {
                WAITS.set(true);
                if waits_for_it {
                    let me = cache.participant("late");
                    add.get(&mut me.pin()).map(drop)
                } else {
                    add.request()
                }
            })
        });
        wait_until("both have looked", || gate.came() == 2);
        let me = cache.participant("test");
        assert!(add.get(&mut me.pin()).is_err());
        gate.open();
        for late in late {
            let late = late.join().unwrap();
            assert!(matches!(late, Err(Error::Frontend { .. })), "{late:?}");
        }
    });
    assert_eq!(count(&tries, &Op::Add(1)), 1);
}
