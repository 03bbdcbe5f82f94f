//! A forked child has a cache of its own again: with the parent's settings, and threads that are there.

mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use inkpot::evict::Sieve;
use inkpot::{Cache, Error, Event, Isolation, OptLevel};
use support::child::{alone, fork};
use support::synthetic::{self, Code, How, Synthetic};
use support::texts::{Name, Texts, text};
use support::{Calculator, Gate, Hooked, Op, Unary, fill, helpers, method, wait_until};

fn empty(cache: &Cache<Op>) {
    cache.evict_all();
    cache.seal();
    wait_until("all is recycled", || {
        cache.statistics().mapped_code_bytes == 0
    });
}

#[test]
fn a_child_begins_anew() {
    alone("a_child_begins_anew", || {
        let heard = Arc::new(AtomicU64::new(0));
        let hears = heard.clone();
        let cache = Cache::builder(Calculator)
            .name("parent")
            .policy(Sieve::new())
            .code_budget(1 << 20)
            .opt_level(OptLevel::O1)
            .listener(move |event: &Event<'_, Op>| {
                let finished = matches!(event, Event::Finished { .. });
                hears.fetch_add(u64::from(finished), Ordering::Relaxed);
            })
            .build()
            .unwrap();
        fill(&cache, 0..10);
        let old = method(&cache, &Op::Add(3));
        let me = cache.participant("parent");
        let itself = cache.after_fork().unwrap();
        assert!(itself.is_resident(&Op::Add(3)), "it is the same cache");
        drop(itself);
        for by_exit in [false, true] {
            let forked = cache.quietly(|| {
                fork(by_exit, || {
                    let own = cache.after_fork().unwrap();
                    assert!(!own.is_resident(&Op::Add(3)));
                    assert_eq!(own.statistics().policy, "sieve");
                    assert_eq!(own.statistics().code_budget, 1 << 20);
                    let before = heard.load(Ordering::Relaxed);
                    fill(&own, 0..10);
                    wait_until("it is heard of", || {
                        heard.load(Ordering::Relaxed) == before + 20
                    });
                    // The old one calls what it has, and nothing more.
                    let guard = me.pin();
                    // SAFETY: the type is right.
                    let y = old.entry(&guard).map(|f| unsafe { f.call(1) });
                    assert_eq!(y, Some(4));
                    drop(guard);
                    let refused = cache.invalidate(&Op::Add(3)).wait();
                    assert!(matches!(refused, Err(Error::Forked)), "{refused:?}");
                    empty(&own);
                    // A child of the child's.
                    fill(&own, 20..22);
                    let grandchild = own.quietly(|| {
                        fork(by_exit, || {
                            let own = own.after_fork().unwrap();
                            fill(&own, 0..4);
                            empty(&own);
                            0
                        })
                    });
                    grandchild.unwrap().expect_code(0);
                    fill(&own, 22..24);
                    let first = own.after_fork().unwrap();
                    assert!(first.is_resident(&Op::Add(23)), "a cache of this process");
                    0
                })
            });
            forked.unwrap().expect_code(0);
            fill(&cache, 0..12);
        }
        empty(&cache);
    });
}

/// Everything of both caches can be dropped in the child, in any order.
#[test]
fn a_child_lets_go() {
    alone("a_child_lets_go", || {
        for old_first in [false, true] {
            let cache = Cache::builder(Calculator).workers(2).build().unwrap();
            fill(&cache, 0..5);
            let (mut cache, mut me) = (Some(cache.clone()), Some(cache.participant("parent")));
            let parents = cache.clone().unwrap();
            let forked = parents.quietly(|| {
                fork(true, || {
                    let own = parents.after_fork().unwrap();
                    fill(&own, 0..5);
                    if old_first {
                        drop((cache.take(), me.take()));
                        fill(&own, 5..10);
                        empty(&own);
                    } else {
                        drop(own);
                        drop((cache.take(), me.take()));
                    }
                    0
                })
            });
            forked.unwrap().expect_code(0);
        }
    });
}

/// Threads compile as much as they can, and forks come in between: each child can compile.
#[test]
fn quiet_forks_at_any_moment() {
    alone("quiet_forks_at_any_moment", || {
        let cache = Cache::builder(Calculator)
            .workers(2)
            .opt_level(OptLevel::O0)
            .code_budget(128 << 10)
            .build()
            .unwrap();
        let over = AtomicBool::new(false);
        std::thread::scope(|threads| {
            for first in [0, 100_000] {
                let (over, cache) = (&over, &cache);
                threads.spawn(move || {
                    let mut n = first;
                    while !over.load(Ordering::Relaxed) {
                        fill(cache, n..n + 5);
                        n += 5;
                    }
                });
            }
            for round in 0..12 {
                let forked = cache.quietly(|| {
                    fork(false, || {
                        let own = cache.after_fork().unwrap();
                        fill(&own, 0..3);
                        empty(&own);
                        0
                    })
                });
                forked.unwrap().expect_code(0);
                // By and by in the middle of things.
                std::thread::sleep(Duration::from_millis(round));
            }
            over.store(true, Ordering::Relaxed);
        });
    });
}

/// A thread was inside the front end, and may have held any lock: the child is told, and does not hang.
#[test]
fn forked_while_another_thread_compiles() {
    static GATE: Gate = Gate::new();
    alone("forked_while_another_thread_compiles", || {
        let cache = Cache::builder(Hooked(|op: &Op| {
            if *op == Op::Add(77) {
                GATE.wait();
            }
        }));
        let cache = cache.build().unwrap();
        fill(&cache, 0..3);
        method(&cache, &Op::Add(77)).request().unwrap();
        wait_until("the worker is inside", || GATE.came() == 1);
        let forked = fork(false, || {
            let refused = cache.after_fork().map(drop);
            assert!(matches!(refused, Err(Error::Forked)), "{refused:?}");
            let refused = cache.quietly(|| ());
            assert!(matches!(refused, Err(Error::Forked)), "{refused:?}");
            0
        });
        forked.expect_code(0);
        // One that waits gets its turn, and meanwhile nobody goes in.
        std::thread::scope(|threads| {
            let quiet = threads.spawn(|| {
                cache.quietly(|| {
                    fork(false, || {
                        let own = cache.after_fork().unwrap();
                        fill(&own, 0..3);
                        0
                    })
                })
            });
            std::thread::sleep(Duration::from_millis(50));
            assert!(!quiet.is_finished(), "a thread is inside");
            GATE.open();
            quiet.join().unwrap().unwrap().expect_code(0);
        });
        fill(&cache, 0..6);
    });
}

#[test]
fn a_front_end_cannot_wait_for_itself() {
    static CACHE: OnceLock<Cache<Op>> = OnceLock::new();
    let cache = Cache::builder(Hooked(|_: &Op| {
        let refused = CACHE.get().unwrap().quietly(|| ());
        assert!(matches!(refused, Err(Error::WouldDeadlock)), "{refused:?}");
    }));
    let cache = CACHE.get_or_init(|| cache.build().unwrap());
    fill(cache, 0..3);
    assert_eq!(cache.quietly(|| cache.quietly(|| 7).unwrap()).unwrap(), 7);
}

/// The helpers are the parent's; the child starts its own.
#[test]
fn helpers_of_the_childs_own() {
    alone("helpers_of_the_childs_own", || {
        let cache: Cache<Name> = Cache::builder(Texts::new([("add", helpers::ADD)]))
            .name("forks")
            .isolation(Isolation::binary(env!("CARGO_BIN_EXE_inkpot-helper")))
            .build()
            .unwrap();
        let call = |cache: &Cache<Name>, n: i64| {
            let me = cache.participant("test");
            let add = text::<Unary>(cache, &format!("add#{n}"));
            let mut guard = me.pin();
            // SAFETY: the type is right.
            let y = add.get(&mut guard).map(|f| unsafe { f.call(1) });
            assert_eq!(y.unwrap(), 1 + n);
        };
        call(&cache, 1);
        let before = helpers::helpers_of("forks");
        assert_eq!(before.len(), 1);
        let forked = cache.quietly(|| {
            fork(false, || {
                let own = cache.after_fork().unwrap();
                (0..5).for_each(|n| call(&own, n));
                assert_eq!(helpers::helpers_of("forks").len(), 1, "it has one");
                drop(own);
                assert_eq!(helpers::helpers_of("forks").len(), 0);
                0
            })
        });
        forked.unwrap().expect_code(0);
        (0..5).for_each(|n| call(&cache, n));
        assert_eq!(helpers::helpers_of("forks"), before);
    });
}

/// Without workers the thread that asks compiles; without LLVM there is nothing to be afraid of but the backend.
#[test]
fn by_hand() {
    alone("by_hand", || {
        let cache = Cache::with_backend(Synthetic::default())
            .workers(0)
            .reclaimer(inkpot::Reclaimer::Manual)
            .build()
            .unwrap();
        let call = |cache: &Cache<Code>, n: u32| {
            let me = cache.participant("test");
            let code = Code::new(n, How::Call).framed();
            let handle = synthetic::method(cache, code);
            let mut guard = me.pin();
            // SAFETY: the type is right.
            let y = handle.get(&mut guard).map(|f| unsafe { f.call(5) });
            assert_eq!(y.unwrap(), code.result(5));
        };
        (0..10).for_each(|n| call(&cache, n));
        let forked = fork(false, || {
            let own = cache.after_fork().unwrap();
            (0..10).for_each(|n| call(&own, n));
            own.evict_all();
            own.seal();
            while own.maintain() {}
            assert_eq!(own.statistics().mapped_code_bytes, 0);
            0
        });
        forked.expect_code(0);
        (0..20).for_each(|n| call(&cache, n));
    });
}

/// Workers register handlers of `exit` after their first compilations, which takes a lock of libc's. No child finds it
/// taken, at whatever moment it is forked: not the moment either at which a worker has just left the front end.
#[test]
fn forked_while_handlers_are_registered() {
    static INSIDE: AtomicU64 = AtomicU64::new(0);
    /// In a process that has had no cache before.
    fn first_compilations() {
        let backend = Synthetic::relying(|_| {
            INSIDE.fetch_add(1, Ordering::Relaxed);
            std::thread::sleep(Duration::from_micros(300));
            Vec::new()
        });
        let cache = Cache::with_backend(backend).workers(1).build().unwrap();
        for n in 0..14 {
            synthetic::method(&cache, Code::leaf(n)).request().unwrap();
            while INSIDE.load(Ordering::Relaxed) <= u64::from(n) {
                std::hint::spin_loop();
            }
            // The child wants that lock to exit.
            let forked = cache.quietly(|| fork(true, || 0));
            forked.unwrap().expect_code(0);
        }
    }
    alone("forked_while_handlers_are_registered", || {
        for _ in 0..30 {
            let process = fork(false, || {
                first_compilations();
                0
            });
            process.expect_code(0);
        }
    });
}
