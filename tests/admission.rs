//! What is compiled, and what is not: wishes are counted, long methods declined, and compilations that hang are named.

mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use inkpot::{Cache, Error, Event, OptLevel, Reason, Reclaimer, Tier, TooLong};
use support::synthetic::{Code, Synthetic};
use support::texts::{Texts, text};
use support::{Calculator, Gate, Hooked, Op, Unary, leaf, method, wait_until};

inkpot::fallback! {
    unsafe extern "C" fn minus(_word: usize, x: i64) -> i64 {
        -x
    }
}

const LONG: Duration = Duration::from_secs(3600);

/// Whether a method comes to be compiled soon. (What is queued before it is compiled before it.)
fn is_compiled(cache: &Cache<Op>, op: &Op) -> bool {
    let before = cache.statistics().compiles;
    let me = cache.participant("probe");
    method(cache, &Op::Add(-(before as i64) - 1))
        .get(&mut me.pin())
        .unwrap();
    cache.is_resident(op)
}

#[test]
fn a_method_is_compiled_when_it_was_asked_for_often_enough() {
    let cache = Cache::builder(Calculator)
        .admit_after(3, LONG)
        .batch_limit(1)
        .fallback(minus as *const ())
        .build()
        .unwrap();
    let me = cache.participant("test");
    let mut guard = me.pin();
    let op = Op::Add(1);
    let add = method(&cache, &op);
    for evictions in 0..3 {
        add.request().unwrap();
        // SAFETY: the type is right.
        assert_eq!(unsafe { add.entry_or_fallback(&guard).call(7) }, -7);
        assert!(!is_compiled(&cache, &op));
        assert_eq!(cache.statistics().not_admitted, 2 * (evictions + 1));
        add.request().unwrap();
        wait_until("it is compiled", || cache.is_resident(&op));
        // Then it is counted anew.
        cache.evict_all();
        guard.repin();
    }
    // Calls that go to the fallback count.
    let outer = method(&cache, &Op::CallAdd(Box::new(op.clone()), 0));
    outer.get(&mut guard).unwrap();
    for x in 0..2 {
        // SAFETY: the type is right.
        assert_eq!(unsafe { outer.entry(&guard).unwrap().call(x) }, -x);
        assert!(!is_compiled(&cache, &op));
    }
    // SAFETY: the type is right.
    assert_eq!(unsafe { outer.entry(&guard).unwrap().call(9) }, -9);
    wait_until("it is compiled", || cache.is_resident(&op));
}

#[test]
fn who_waits_is_served_at_once() {
    let cache = Cache::builder(Calculator)
        .admit_after(1000, LONG)
        .build()
        .unwrap();
    let me = cache.participant("test");
    let outer = method(&cache, &Op::CallAdd(Box::new(Op::Add(1)), 1));
    // SAFETY: the type is right.
    assert_eq!(unsafe { outer.get(&mut me.pin()).unwrap().call(1) }, 3);
    assert_eq!(cache.statistics().not_admitted, 0);
}

#[test]
fn asks_that_are_too_far_apart_do_not_add_up() {
    let window = Duration::from_millis(50);
    let cache = Cache::builder(Calculator)
        .admit_after(2, window)
        .build()
        .unwrap();
    let add = method(&cache, &Op::Add(1));
    for asks in 1..5 {
        add.request().unwrap();
        std::thread::sleep(2 * window);
        assert_eq!(cache.statistics().not_admitted, asks);
    }
    assert_eq!(cache.statistics().compiles, 0);
    wait_until("two come close together", || {
        add.request().unwrap();
        add.request().unwrap();
        cache.statistics().compiles == 1
    });
}

// --- long methods ---

/// A text of so many instructions.
fn sums(instructions: usize) -> String {
    let mut text = "define i64 @self(i64 %x) {\n".to_owned();
    let mut last = "%x".to_owned();
    for n in 1..instructions {
        text += &format!("  %v{n} = add i64 {last}, 1\n");
        last = format!("%v{n}");
    }
    text + &format!("  ret i64 {last}\n}}\n")
}

#[test]
fn long_methods_are_declined_until_they_are_invalidated() {
    let (short, long) = (sums(100), sums(101));
    // All functions count that the method brings.
    let two = sums(60).replace(
        "ret i64 %v59",
        "%y = call i64 @other(i64 %v59)\n  ret i64 %y",
    ) + &sums(60)
        .replace("@self", "internal i64 @other")
        .replace("define i64 internal", "define internal");
    let texts = Texts::new([("short", &short), ("long", &long), ("two", &two)]);
    let cache = Cache::builder(texts)
        .longest(100, TooLong::Refuse)
        .build()
        .unwrap();
    let me = cache.participant("test");
    let handle = text::<Unary>(&cache, "short");
    // SAFETY: the type is right.
    assert_eq!(unsafe { handle.get(&mut me.pin()).unwrap().call(1) }, 100);
    for (name, length) in [("long", 101), ("two", 121)] {
        let handle = text::<Unary>(&cache, name);
        for _ in 0..5 {
            match handle.get(&mut me.pin()) {
                Err(Error::Declined {
                    method,
                    reason:
                        Reason::TooLong {
                            instructions,
                            limit,
                        },
                }) => {
                    assert_eq!(
                        (method, instructions, limit),
                        (format!("{name:?}"), length, 100)
                    );
                }
                other => panic!("{name}: {other:?}"),
            }
        }
        assert!(matches!(handle.failure(), Some(Error::Declined { .. })));
    }
    std::thread::sleep(Duration::from_millis(50));
    assert!(text::<Unary>(&cache, "long").get(&mut me.pin()).is_err());
    assert_eq!(cache.statistics().failures, 2, "no back-off ends");
    drop(cache.invalidate(&"long".to_owned()));
    assert!(text::<Unary>(&cache, "long").get(&mut me.pin()).is_err());
    assert_eq!(cache.statistics().failures, 3);
}

#[test]
fn long_methods_stay_in_the_first_tier() {
    let (short, long) = (sums(100), sums(101));
    for tiers in 1..3 {
        let all = [
            Tier::new("first", OptLevel::O0),
            Tier::new("second", OptLevel::O2),
        ];
        let cache = Cache::builder(Texts::new([("short", &short), ("long", &long)]))
            .tiers(all.into_iter().take(tiers))
            .longest(100, TooLong::CheapestTier)
            .build()
            .unwrap();
        let me = cache.participant("test");
        for name in ["short", "long"] {
            let handle = text::<Unary>(&cache, name);
            handle.get(&mut me.pin()).unwrap();
            let promoted = handle.promote().unwrap();
            assert_eq!(promoted, tiers > 1);
            let goes = promoted && name == "short";
            wait_until("what was asked for is done", || {
                let s = cache.statistics();
                s.queued == 0 && (!goes || handle.tier() == Some(1))
            });
            // SAFETY: the type is right.
            let y = unsafe { handle.get(&mut me.pin()).unwrap().call(1) };
            assert_eq!(y, if name == "short" { 100 } else { 101 });
        }
        wait_until("the long one was declined", || {
            cache.statistics().failures == tiers as u64 - 1
        });
        let handle = text::<Unary>(&cache, "long");
        assert_eq!(handle.tier(), Some(0));
        assert!(!handle.promote().unwrap(), "it is not tried again");
        assert!(handle.failure().is_none(), "it has code");
    }
}

// --- compilations that take too long ---

#[test]
fn a_front_end_that_hangs_is_named_while_it_hangs() {
    for reclaimer in [Reclaimer::Thread, Reclaimer::Manual] {
        let gate = Arc::new(Gate::default());
        let of_worker = gate.clone();
        let hook = move |key: &Op| {
            if matches!(key, Op::Add(1)) {
                of_worker.wait();
            }
        };
        let told = Arc::new(Mutex::new(Vec::new()));
        let hears = told.clone();
        let listener = move |event: &Event<'_, Op>| {
            if let Event::Overdue { overdue, .. } = event {
                hears.lock().unwrap().push((*overdue).clone());
            }
        };
        let limit = Duration::from_millis(30);
        let cache = Cache::builder(Hooked(hook))
            .compile_limit(limit)
            .reclaimer(reclaimer)
            .listener(listener)
            .build()
            .unwrap();
        let maintained = || {
            if reclaimer == Reclaimer::Manual {
                cache.maintain();
            }
        };
        let me = cache.participant("test");
        method(&cache, &Op::Add(2)).get(&mut me.pin()).unwrap();
        method(&cache, &Op::Add(1)).request().unwrap();
        wait_until("it hangs", || gate.came() == 1);
        wait_until("it is told", || {
            maintained();
            !told.lock().unwrap().is_empty()
        });
        let s = cache.statistics();
        assert_eq!((s.overdue.len(), s.overdue_compiles), (1, 1));
        assert_eq!(
            (&*s.overdue[0].methods, s.overdue[0].together),
            (&["Add(1)".to_owned()][..], 1)
        );
        assert!(s.overdue[0].running_for >= limit);
        std::thread::sleep(3 * limit);
        maintained();
        assert_eq!(told.lock().unwrap().len(), 1, "it is told once");
        assert!(told.lock().unwrap()[0].running_for >= limit);
        gate.open();
        wait_until("it is compiled", || cache.is_resident(&Op::Add(1)));
        let s = cache.statistics();
        assert_eq!((s.overdue.len(), s.overdue_compiles), (0, 1));
    }
}

#[test]
fn what_is_quick_enough_is_not_told() {
    let cache = Cache::with_backend(Synthetic::default())
        .compile_limit(LONG)
        .build()
        .unwrap();
    let me = cache.participant("test");
    for n in 0..200 {
        leaf(&cache, n).get(&mut me.pin()).unwrap();
        assert_eq!(cache.statistics().overdue, []);
    }
    cache.evict(&Code::leaf(1));
    cache.maintain();
    assert_eq!(cache.statistics().overdue_compiles, 0);
}
