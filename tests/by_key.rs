//! `Cache::entry`: code that is found by its key, without a handle.

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};

use inkpot::evict::{Lru, Policy, Sieve};
use inkpot::{Cache, Entry, Error, Guard, Participant, Reclaimer, Stress};
use support::synthetic::{Code, Random, Synthetic, Unary, method, quarantined};
use support::wait_until;

const X: i64 = 1000;

fn entry<'g>(cache: &Cache<Code>, code: Code, guard: &'g Guard<'_>) -> Option<Entry<'g, Unary>> {
    // SAFETY: all synthetic methods have this type, and to compare their keys calls nothing.
    unsafe { cache.entry(&code, guard) }
}

/// Calls the key's code, if there is some: it must be the key's.
#[track_caller]
fn call(cache: &Cache<Code>, code: Code, guard: &Guard<'_>) -> bool {
    let found = entry(cache, code, guard);
    // SAFETY: the type is right.
    let y = found.as_ref().map(|entry| unsafe { entry.call(X) });
    assert!(y.is_none_or(|y| y == code.result(X)), "{code:?}: {y:?}");
    found.is_some()
}

/// Has it compiled, and keeps nothing of it.
fn compile(cache: &Cache<Code>, code: Code, me: &Participant) -> Result<(), Error> {
    method(cache, code).get(&mut me.pin()).map(drop)
}

fn panic_of(run: impl FnOnce()) -> String {
    let said = catch_unwind(AssertUnwindSafe(run)).expect_err("it panics");
    let text = said.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| said.downcast_ref::<String>().cloned())
        .expect("it says why")
}

/// Hits and misses so far.
fn counted(cache: &Cache<Code>) -> (u64, u64) {
    let now = cache.statistics();
    (now.hits, now.misses)
}

#[test]
fn it_is_there_while_its_code_is() {
    let cache = quarantined().build().unwrap();
    let me = cache.participant("test");
    let code = Code::leaf(1);
    assert!(!call(&cache, code, &me.pin()), "nobody has asked for it");
    assert_eq!(
        cache.statistics().methods_known,
        0,
        "a look-up makes no record"
    );
    let handle = method(&cache, code);
    assert!(!call(&cache, code, &me.pin()), "it has no code");
    compile(&cache, code, &me).unwrap();
    let guard = me.pin();
    let pointer = |entry: Option<Entry<'_, Unary>>| {
        // SAFETY: it is compared, and not called.
        entry.map(|entry| unsafe { entry.pointer() } as usize)
    };
    let by_key = pointer(entry(&cache, code, &guard));
    assert!(by_key.is_some());
    assert_eq!(by_key, pointer(handle.entry(&guard)));
    assert!(!call(&cache, Code::leaf(2), &guard), "another's");
    drop(guard);
    // What takes its code away, and what brings it back.
    let takes: [fn(&Cache<Code>, Code); 3] = [
        |cache, code| assert!(cache.evict(&code)),
        |cache, code| cache.invalidate(&code).wait().unwrap(),
        |cache, _| cache.evict_all(),
    ];
    for take in takes {
        take(&cache, code);
        assert!(!call(&cache, code, &me.pin()));
        compile(&cache, code, &me).unwrap();
        assert!(call(&cache, code, &me.pin()));
    }
    // And without a handle: its record goes with its code.
    drop(handle);
    assert!(call(&cache, code, &me.pin()), "its code keeps it");
    cache.evict_all();
    assert!(!call(&cache, code, &me.pin()));
    wait_until("it is forgotten", || cache.statistics().methods_known == 0);
    compile(&cache, code, &me).unwrap();
    assert!(call(&cache, code, &me.pin()));
}

/// As a look-up by a handle is.
#[test]
fn each_is_counted_once() {
    let cache = quarantined().build().unwrap();
    let me = cache.participant("test");
    let code = Code::leaf(1);
    assert!(!call(&cache, code, &me.pin()));
    assert_eq!(counted(&cache), (0, 1), "unknown");
    let handle = method(&cache, code);
    assert!(!call(&cache, code, &me.pin()));
    assert_eq!(counted(&cache), (0, 2), "known, and without code");
    handle.get(&mut me.pin()).map(drop).unwrap();
    let (hits, misses) = counted(&cache);
    for n in 1..=5 {
        assert!(call(&cache, code, &me.pin()));
        assert_eq!(counted(&cache), (hits + n, misses));
    }
}

fn policies() -> [Box<dyn Policy>; 2] {
    [Box::new(Lru::new()), Box::new(Sieve::new())]
}

/// Four of these fill a slot: the budget below holds about 250.
fn page(n: u32) -> Code {
    Code::leaf(n).padded(4_000)
}

/// Methods that are called by their keys alone, while hundreds pass by that are called once: they stay, and are never
/// found to be gone, nor on probation. Those that are not called go.
#[test]
fn who_is_called_by_key_is_in_use() {
    for policy in policies() {
        let name = policy.name();
        let builder = Cache::with_backend(Synthetic::default()).policy(policy);
        let cache = builder
            .reclaimer(Reclaimer::Manual)
            .code_budget(1 << 20)
            .build()
            .unwrap();
        let me = cache.participant("test");
        let (hot, cold): (Vec<_>, Vec<_>) = (0..32).map(page).partition(|code| code.n % 2 == 0);
        for &code in hot.iter().chain(&cold) {
            compile(&cache, code, &me).unwrap();
        }
        cache.seal();
        for n in 1000..1800 {
            compile(&cache, page(n), &me).unwrap();
            cache.maintain();
            let guard = me.pin();
            for &code in &hot {
                assert!(call(&cache, code, &guard), "{name} evicted {code:?} at {n}");
            }
        }
        assert!(!cold.iter().any(|code| cache.is_resident(code)), "{name}");
        let end = cache.statistics();
        assert_eq!(end.compiles, 32 + 800, "{name}: some were compiled again");
        assert!(end.evictions > 400, "{name}: {end:#?}");
    }
}

/// What is on probation is not linked: it is no hit, and asked for it is there again without a compilation.
#[test]
fn on_probation() {
    let cache = Cache::with_backend(Synthetic::default())
        .reclaimer(Reclaimer::Manual)
        .code_budget(1 << 20)
        .build()
        .unwrap();
    let me = cache.participant("test");
    let mut made = 0;
    while cache.statistics().methods_on_probation < 3 {
        compile(&cache, page(made), &me).unwrap();
        made += 1;
    }
    let resident = (0..made).map(page).filter(|code| cache.is_resident(code));
    let resident: Vec<_> = resident.collect();
    let guard = me.pin();
    let warned = resident.iter().filter(|&&code| !call(&cache, code, &guard));
    let warned: Vec<_> = warned.copied().collect();
    drop(guard);
    let before = cache.statistics();
    assert_eq!(warned.len() as u64, before.methods_on_probation);
    compile(&cache, warned[0], &me).unwrap();
    assert!(call(&cache, warned[0], &me.pin()));
    let after = cache.statistics();
    assert_eq!(after.compiles, before.compiles);
    assert_eq!(after.methods_on_probation, before.methods_on_probation - 1);
}

#[test]
fn a_guard_of_another_cache() {
    let [cache, other] = [(); 2].map(|()| quarantined().build().unwrap());
    let (me, stranger) = (cache.participant("test"), other.participant("stranger"));
    compile(&cache, Code::leaf(1), &me).unwrap();
    let guard = stranger.pin();
    let said = panic_of(|| _ = entry(&cache, Code::leaf(1), &guard));
    assert!(said.contains("another cache"), "{said}");
    assert!(call(&cache, Code::leaf(1), &me.pin()));
}

#[test]
fn a_guard_of_outside_of_a_blocking() {
    let cache = quarantined().build().unwrap();
    let me = cache.participant("test");
    compile(&cache, Code::leaf(1), &me).unwrap();
    let guard = me.pin();
    // SAFETY: nothing that was loaded before is used. What is done with a guard of outside is what is tested: it panics.
    unsafe {
        me.blocking(|| {
            let said = panic_of(|| _ = entry(&cache, Code::leaf(1), &guard));
            assert!(said.contains("pin again"), "{said}");
            assert!(call(&cache, Code::leaf(1), &me.pin()));
        });
    }
    assert!(call(&cache, Code::leaf(1), &guard));
}

/// Threads that look methods up by their keys, while others evict, forget, and make them all again, as fast as they can:
/// so numbers of cells change hands all the time, and the table grows and shrinks. Who finds code finds that of his key.
#[test]
fn nobody_finds_anothers_code() {
    const KEYS: u32 = 400;
    let looks = if std::env::var_os("INKPOT_SOAK").is_some() {
        100_000_000
    } else {
        1_000_000
    };
    let cache = quarantined().workers(2).build().unwrap();
    let (readers, hits) = (AtomicU64::new(2), AtomicU64::new(0));
    /// A reader less, however it ends.
    struct Ends<'a>(&'a AtomicU64);
    impl Drop for Ends<'_> {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
    std::thread::scope(|scope| {
        for seed in 0..2 {
            let (cache, readers, hits) = (&cache, &readers, &hits);
            scope.spawn(move || {
                let _ends = Ends(readers);
                let me = cache.participant("reads");
                let mut random = Random::new(seed);
                let mut guard = me.pin();
                for _ in 0..looks {
                    let found = call(cache, Code::leaf(random.below(KEYS)), &guard);
                    hits.fetch_add(found.into(), Ordering::Relaxed);
                    guard.repin();
                }
            });
        }
        scope.spawn(|| {
            let mut random = Random::new(7);
            let me = cache.participant("changes");
            while readers.load(Ordering::Relaxed) > 0 {
                let mut some: Vec<_> = (0..KEYS)
                    .filter(|_| random.below(4) == 0)
                    .map(|n| method(&cache, Code::leaf(n)))
                    .collect();
                some.iter().for_each(|method| {
                    method.request().unwrap();
                });
                // Most that have no code give their numbers back, to the next round's.
                some.truncate(random.below(4) as usize);
                for method in &some {
                    method.get(&mut me.pin()).unwrap();
                }
                match random.below(4) {
                    0 => cache.evict_all(),
                    _ => (0..KEYS / 2).for_each(|_| {
                        cache.evict(&Code::leaf(random.below(KEYS)));
                    }),
                }
            }
        });
    });
    let end = cache.statistics();
    let hits = hits.load(Ordering::Relaxed);
    assert!(hits > looks / 100, "{hits} hits, {end:#?}");
    assert!(end.evictions > u64::from(KEYS), "{end:#?}");
}

/// Each look-up may evict what it finds: that stays as long as the guard.
#[test]
fn under_stress() {
    let builder = Cache::with_backend(Synthetic::default()).generation_methods(4);
    let cache = builder
        .stress(Stress::a_lot_with_invalidation())
        .build()
        .unwrap();
    let me = cache.participant("test");
    let mut random = Random::new(3);
    let mut hits = 0;
    for _ in 0..3_000 {
        let code = Code::leaf(random.below(24));
        if call(&cache, code, &me.pin()) {
            hits += 1;
        } else {
            compile(&cache, code, &me).unwrap();
        }
    }
    let end = cache.statistics();
    assert!(hits > 300 && end.evictions > 300, "{hits} hits, {end:#?}");
}
