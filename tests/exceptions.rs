//! C++ exceptions, thrown and caught by compiled methods of several generations, while methods are
//! evicted, generations sealed and recycled.

mod support;
#[path = "support/throwing.rs"]
mod throwing;

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, Ordering};

use inkpot::{Cache, Handle, OptLevel, Participant};
use support::texts::{Name, Texts, text};
use support::wait_until;

type Method = unsafe extern "C-unwind" fn(i64) -> i64;

thread_local! {
    static NOTED: Cell<i64> = const { Cell::new(0) };
}

extern "C" fn note(n: i64) {
    NOTED.set(NOTED.get() + n);
}

const LEAF: &str = "define i64 @self(i64 %x) { %y = add i64 %x, $N  ret i64 %y }";

/// With so many methods a generation, and `leaf#N`, which does nothing.
fn build(level: OptLevel, methods: usize) -> Option<Cache<Name>> {
    let imports = throwing::imports()?;
    let [a, b, c, d] = &throwing::texts();
    let texts = [a, b, c, d].map(|(name, text)| (*name, text.as_str()));
    let [a, b, c, d] = texts;
    let mut builder = Cache::builder(Texts::new([a, b, c, d, ("leaf", LEAF)]))
        .opt_level(level)
        .generation_methods(methods)
        .import("note", note as *const ());
    for (name, address) in imports {
        builder = builder.import(name, address);
    }
    Some(builder.build().unwrap())
}

fn call(handle: &Handle<Name, Method>, me: &Participant, n: i64) -> (i64, i64) {
    NOTED.set(0);
    let mut guard = me.pin();
    // SAFETY: the type is right, and `catches` lets nothing out.
    let result = unsafe { handle.get(&mut guard).unwrap().call(n) };
    (result, NOTED.get())
}

fn check(handle: &Handle<Name, Method>, me: &Participant) {
    for n in -3..3 {
        assert_eq!(call(handle, me, n), throwing::expected(n));
    }
}

const METHODS: [&str; 4] = ["throws", "cleans", "rethrows", "catches"];

#[test]
fn thrown_and_caught_in_all_generations() {
    for (level, methods) in [(OptLevel::O0, 1), (OptLevel::O1, 2), (OptLevel::O2, 100)] {
        let Some(cache) = build(level, methods) else {
            return;
        };
        let me = cache.participant("test");
        let catches = text::<Method>(&cache, "catches");
        check(&catches, &me);
        cache.seal();
        check(&catches, &me);
        // Each in turn goes and comes back, with others in between.
        for (round, name) in METHODS.into_iter().cycle().take(12).enumerate() {
            assert!(cache.evict(&name.to_owned()));
            let leaf = text::<Method>(&cache, &format!("leaf#{round}"));
            assert_eq!(call(&leaf, &me, 1).0, 1 + round as i64);
            check(&catches, &me);
            if round % 3 == 0 {
                cache.seal();
                check(&catches, &me);
            }
        }
        cache.seal();
        cache.evict_all();
        wait_until("all is recycled", || {
            cache.statistics().mapped_code_bytes == 0
        });
        check(&catches, &me);
    }
}

/// Two threads throw, through code that is evicted and sealed under them; a third makes
/// generations come and go.
#[test]
fn thrown_while_generations_come_and_go() {
    let Some(cache) = build(OptLevel::O1, 2) else {
        return;
    };
    let stop = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let throwing = [0, 1].map(|thread| {
            let cache = &cache;
            threads.spawn(move || {
                let me = cache.participant("throws");
                let catches = text::<Method>(cache, "catches");
                for round in 0..1000 {
                    check(&catches, &me);
                    if round % 10 == 5 * thread {
                        cache.evict(&METHODS[round / 10 % 4].to_owned());
                        cache.seal();
                    }
                }
            })
        });
        let (cache, stop) = (&cache, &stop);
        threads.spawn(move || {
            let me = cache.participant("churns");
            for n in (0..).take_while(|_| !stop.load(Ordering::Relaxed)) {
                let leaf = text::<Method>(cache, &format!("leaf#{n}"));
                assert_eq!(call(&leaf, &me, 1).0, 1 + n);
                cache.evict(leaf.key());
            }
        });
        let outcomes = throwing.map(|thread| thread.join());
        stop.store(true, Ordering::Relaxed);
        assert!(outcomes.iter().all(Result::is_ok));
    });
    assert!(cache.statistics().generations_recycled > 10);
}
