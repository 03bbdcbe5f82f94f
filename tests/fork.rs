//! A forked child can call what was resident at the fork, whatever its parent does meanwhile. It
//! gets a typed error for everything else, and never hangs; and the parent goes on.

mod support;

use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use inkpot::{Cache, ContextRelease, Error, Stress, last_failure};
use support::child::{self, Forked, alone, fork, fork_here};
use support::synthetic::{Code, Synthetic};
use support::{Calculator, Hooked, Op, fill, leaf, method, wait_until};

/// Whatever can be asked of a cache, asked in a child.
fn check_child(cache: &Cache<Op>) {
    let forked = |outcome: Result<(), Error>| {
        assert!(matches!(outcome, Err(Error::Forked)), "{outcome:?}");
    };
    // SAFETY: not called.
    forked(unsafe { cache.method::<support::Unary>(&Op::Add(123_456)) }.map(|_| ()));
    forked(cache.invalidate(&Op::Add(1)).wait());
    forked(cache.invalidate_all().wait());
    assert!(!cache.evict(&Op::Add(1)));
    cache.evict_all();
    cache.seal();
    assert!(!cache.maintain());
    cache.set_budget(1);
    cache.set_code_budget(1);
    let s = cache.statistics();
    assert!(s.generations_open + s.generations_sealed > 0, "{s:?}");
    assert_eq!(s.policy, "lru");
}

#[test]
fn a_child_calls_what_is_resident() {
    alone("a_child_calls_what_is_resident", || {
        let cache = Cache::builder(Calculator).build().unwrap();
        fill(&cache, 0..20);
        cache.evict(&Op::Add(19));
        let handles: Vec<_> = (0..20)
            .map(|n| method(&cache, &Op::CallAdd(Box::new(Op::Add(n)), 1000)))
            .collect();
        let gone = method(&cache, &Op::Add(19));
        let pointed: Vec<_> = handles.iter().map(|h| h.address() as usize).collect();
        let me = cache.participant("parent");
        for by_exit in [false, true] {
            let forked = fork(by_exit, || {
                let mut guard = me.pin();
                for (n, handle) in handles.iter().enumerate().take(19) {
                    let n = n as i64;
                    // SAFETY: the types are right, and the thread is pinned.
                    unsafe {
                        assert_eq!(handle.entry(&guard).unwrap().call(1), 1001 + n);
                        assert_eq!(handle.get(&mut guard).unwrap().call(1), 1001 + n);
                        let pointer: support::Unary = std::mem::transmute(pointed[n as usize]);
                        assert_eq!(pointer(1), 1001 + n);
                    }
                }
                let refused = gone.get(&mut guard).map(|_| ());
                assert!(matches!(refused, Err(Error::Forked)), "{refused:?}");
                assert!(matches!(gone.request(), Err(Error::Forked)));
                guard.repin();
                drop(guard);
                check_child(&cache);
                drop(gone.keep());
                // A second participant, and a second generation of children.
                let other = cache.participant("child");
                let again = fork(by_exit, || {
                    // SAFETY: the type is right.
                    let y = handles[3].entry(&other.pin()).map(|f| unsafe { f.call(1) });
                    i32::from(y != Some(1004))
                });
                again.expect_code(0);
                0
            });
            forked.expect_code(0);
        }
        fill(&cache, 0..40);
    });
}

/// Everything is dropped in the child, the last handle too.
#[test]
fn a_child_drops_it_all() {
    alone("a_child_drops_it_all", || {
        for by_exit in [false, true] {
            let cache = Cache::builder(Calculator).workers(2).build().unwrap();
            fill(&cache, 0..5);
            let one = method(&cache, &Op::Add(1));
            let me = cache.participant("parent");
            let keep = one.keep();
            let (mut cache, mut one, mut me, mut keep) =
                (Some(cache), Some(one), Some(me), Some(keep));
            let forked = fork(by_exit, || {
                drop((cache.take(), one.take(), keep.take(), me.take()));
                0
            });
            forked.expect_code(0);
            assert!(cache.is_some() && one.is_some() && me.is_some() && keep.is_some());
        }
    });
}

/// A cache that a child makes for itself is like any other.
#[test]
fn a_child_makes_a_cache_of_its_own() {
    alone("a_child_makes_a_cache_of_its_own", || {
        let cache = Cache::builder(Calculator).build().unwrap();
        fill(&cache, 0..5);
        for by_exit in [false, true] {
            let forked = fork(by_exit, || {
                let own = Cache::builder(Calculator).build().unwrap();
                fill(&own, 0..5);
                own.evict_all();
                own.seal();
                wait_until("recycled", || own.statistics().generations_recycled == 1);
                0
            });
            forked.expect_code(0);
        }
    });
}

/// Pages of code are shared with the child. The parent evicts all of them, and compiles other
/// methods into the same addresses, as fast as it can, while the child calls.
#[test]
fn a_child_calls_while_the_parent_recycles() {
    alone("a_child_calls_while_the_parent_recycles", || {
        let cache = Cache::builder(Calculator)
            .generation_methods(16)
            .build()
            .unwrap();
        fill(&cache, 0..60);
        let handles: Vec<_> = (0..60)
            .map(|n| method(&cache, &Op::CallAdd(Box::new(Op::Add(n)), 1000)))
            .collect();
        let me = cache.participant("both");
        let forked = fork(false, || {
            let started = Instant::now();
            let mut guard = me.pin();
            while started.elapsed() < Duration::from_millis(1500) {
                for (n, handle) in handles.iter().enumerate() {
                    // SAFETY: the type is right.
                    let y = handle.entry(&guard).map(|f| unsafe { f.call(1) });
                    assert_eq!(y, Some(1001 + n as i64));
                }
                guard.repin();
            }
            0
        });
        let started = Instant::now();
        let mut n = 1000;
        let recycled = || cache.statistics().generations_recycled;
        while started.elapsed() < Duration::from_millis(1500) || recycled() <= 5 {
            cache.evict_all();
            cache.seal();
            fill(&cache, n..n + 20);
            n += 20;
        }
        forked.expect_code(0);
    });
}

/// The one open generation began before the fork. It must not grow, after it, into addresses that
/// the child's code has.
#[test]
fn an_open_generation_does_not_grow_into_the_childs_code() {
    let name = "an_open_generation_does_not_grow_into_the_childs_code";
    alone(name, || {
        let cache = Cache::with_backend(Synthetic::default())
            .generation_methods(100_000)
            .generation_code(16 << 20)
            .build()
            .unwrap();
        let me = cache.participant("both");
        let fill = |keys: std::ops::Range<u32>| {
            for n in keys {
                leaf(&cache, n).get(&mut me.pin()).unwrap();
            }
        };
        let recycled = |count| {
            wait_until("recycled", || {
                cache.statistics().generations_recycled == count
            });
        };
        // The first slot, the second slot, and the first one again.
        fill(0..10);
        cache.seal();
        fill(100..110);
        cache.seal();
        (0..10).for_each(|n| assert!(cache.evict(&Code::leaf(n))));
        recycled(1);
        fill(200..210);
        let handles: Vec<_> = (100..110).map(|n| leaf(&cache, n)).collect();
        let (mut done, mut tell) = std::io::pipe().unwrap();
        let forked = fork(false, || {
            done.read_exact(&mut [0]).unwrap();
            let guard = me.pin();
            for (n, handle) in (100..110).zip(&handles) {
                // SAFETY: the type is right.
                let y = handle.entry(&guard).map(|f| unsafe { f.call(1) });
                assert_eq!(y, Some(i64::from(n) + 1));
            }
            0
        });
        (100..110).for_each(|n| assert!(cache.evict(&Code::leaf(n))));
        recycled(2);
        for n in 1000..5000 {
            leaf(&cache, n).request().unwrap();
        }
        wait_until("the second slot is taken again", || {
            cache.statistics().methods_resident == 4010
        });
        tell.write_all(&[1]).unwrap();
        forked.expect_code(0);
    });
}

/// A call that finds no code has nowhere to go in a child: it ends at the failure entry.
#[test]
fn a_child_that_calls_an_empty_cell_fails_cleanly() {
    unsafe extern "C" fn failed() {
        let code = match last_failure() {
            Some(Error::Forked) => 42,
            _ => 43,
        };
        child::exit(code);
    }
    alone("a_child_that_calls_an_empty_cell_fails_cleanly", || {
        let (with, without) = (
            Cache::builder(Calculator)
                .failure_entry(failed)
                .build()
                .unwrap(),
            Cache::builder(Calculator).build().unwrap(),
        );
        for (cache, has_entry) in [(with, true), (without, false)] {
            fill(&cache, 0..1);
            cache.evict(&Op::Add(0));
            let outer = method(&cache, &Op::CallAdd(Box::new(Op::Add(0)), 1000));
            let me = cache.participant("both");
            let forked = fork(false, || {
                // SAFETY: the type is right.
                unsafe { outer.entry(&me.pin()).unwrap().call(1) };
                0
            });
            let status = forked.wait();
            let signal = std::os::unix::process::ExitStatusExt::signal(&status);
            match has_entry {
                true => assert_eq!(status.code(), Some(42), "{status}"),
                false => assert_eq!(signal, Some(libc::SIGABRT), "{status}"),
            }
        }
    });
}

/// Forks while two threads call under stress and the worker compiles, links and recycles.
#[test]
fn forks_at_any_moment() {
    alone("forks_at_any_moment", || {
        static STOP: AtomicBool = AtomicBool::new(false);
        let mut stress = Stress::a_lot();
        stress.evict_every = 11;
        let cache = Cache::builder(Calculator)
            .workers(2)
            .generation_methods(8)
            .stress(stress)
            .build()
            .unwrap();
        let resident: Vec<_> = (0..10).map(|n| method(&cache, &Op::Add(n))).collect();
        let keeps: Vec<_> = resident.iter().map(|handle| handle.keep()).collect();
        let me = cache.participant("forks");
        for handle in &resident {
            handle.get(&mut me.pin()).unwrap();
        }
        let calls = AtomicU64::new(0);
        std::thread::scope(|threads| {
            for thread in 0..2 {
                let (cache, calls) = (&cache, &calls);
                threads.spawn(move || {
                    let me = cache.participant("calls");
                    let mut n = 100 * thread;
                    while !STOP.load(Ordering::Relaxed) {
                        fill(cache, n..n + 1);
                        let add = method(cache, &Op::Add(n + 10_000));
                        // SAFETY: the type is right.
                        let y = unsafe { add.get(&mut me.pin()).unwrap().call(1) };
                        assert_eq!(y, n + 10_001);
                        n = 100 * thread + (n + 1) % 50;
                        calls.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            for round in 0..60 {
                let before = calls.load(Ordering::Relaxed);
                let by_exit = round % 2 == 0;
                let forked = fork(by_exit, || {
                    let mut guard = me.pin();
                    for (n, handle) in (0..).zip(&resident) {
                        // SAFETY: the type is right.
                        let y = unsafe { handle.get(&mut guard).unwrap().call(1) };
                        assert_eq!(y, n + 1);
                    }
                    drop(guard);
                    check_child(&cache);
                    0
                });
                forked.expect_code(0);
                wait_until("the parent goes on", || {
                    calls.load(Ordering::Relaxed) > before
                });
            }
            STOP.store(true, Ordering::Relaxed);
        });
        drop(keeps);
    });
}

/// A child looks at its copy of the cache, whatever the parent's other threads were at when it was
/// made: maintenance above all, which has locks that the fork does not wait for.
#[test]
fn a_child_reads_statistics_at_any_moment() {
    alone("a_child_reads_statistics_at_any_moment", || {
        static STOP: AtomicBool = AtomicBool::new(false);
        let cache = Cache::with_backend(Synthetic::default())
            .release_context(ContextRelease::AtSealing)
            .build()
            .unwrap();
        let handles: Vec<_> = (0..20).map(|n| leaf(&cache, n)).collect();
        let me = cache.participant("forks");
        for handle in &handles {
            handle.get(&mut me.pin()).unwrap();
        }
        std::thread::scope(|threads| {
            for _ in 0..2 {
                threads.spawn(|| {
                    while !STOP.load(Ordering::Relaxed) {
                        cache.maintain();
                    }
                });
            }
            for _ in 0..200 {
                let forked = fork(false, || {
                    let s = cache.statistics();
                    // The open generation's context, and not the spare one.
                    i32::from((s.methods_resident, s.contexts) != (20, 1))
                });
                forked.expect_code(0);
            }
            STOP.store(true, Ordering::Relaxed);
        });
    });
}

/// Forks inside a host function that jitted code calls: parent and child both return through it.
#[test]
fn forks_below_frames_of_compiled_code() {
    static FORKED: Mutex<Option<Forked>> = Mutex::new(None);
    extern "C" fn forks(x: i64) -> i64 {
        let forked = fork_here();
        let added = if forked.is_some() { 0 } else { 5000 };
        *FORKED.lock().unwrap() = forked;
        x + added
    }
    alone("forks_below_frames_of_compiled_code", || {
        let cache = Cache::builder(Calculator)
            .import("host_callback", forks as *const ())
            .build()
            .unwrap();
        let me = cache.participant("both");
        let outer = Op::CallAdd(Box::new(Op::CallAdd(Box::new(Op::CallHost), 10)), 100);
        for _ in 0..5 {
            let mut guard = me.pin();
            // SAFETY: the type is right.
            let y = unsafe { method(&cache, &outer).get(&mut guard).unwrap().call(1) };
            let Some(forked) = FORKED.lock().unwrap().take() else {
                // SAFETY: ends the child.
                unsafe { libc::_exit(i32::from(y != 5111)) };
            };
            assert_eq!(y, 111);
            forked.expect_code(0);
            drop(guard);
            cache.evict_all();
            cache.seal();
        }
    });
}

/// A front end forks while it emits, and while it resolves a name, to run some other program.
#[test]
fn front_ends_fork() {
    alone("front_ends_fork", || {
        static FORKS: AtomicU64 = AtomicU64::new(0);
        let runs = || {
            let forked = fork(false, || 0);
            forked.expect_code(0);
            FORKS.fetch_add(1, Ordering::Relaxed);
        };
        let cache = Cache::builder(Hooked(move |_: &Op| runs()))
            .build()
            .unwrap();
        fill(&cache, 0..5);
        let resolving = Cache::builder(Resolving).build().unwrap();
        let me = resolving.participant("test");
        let call = method(&resolving, &Op::CallHost);
        // SAFETY: the type is right.
        assert_eq!(unsafe { call.get(&mut me.pin()).unwrap().call(4) }, 8);
        assert_eq!(FORKS.load(Ordering::Relaxed), 10);
    });
}

/// Forks to find `host_callback`, and asks its cache for something too.
struct Resolving;

impl inkpot::Frontend for Resolving {
    type Key = Op;

    fn emit<'ctx>(
        &self,
        key: &Op,
        unit: &mut inkpot::Unit<'_, 'ctx, Op>,
    ) -> Result<(), inkpot::BoxError> {
        inkpot::Frontend::emit(&Calculator, key, unit)
    }

    fn resolve(&self, symbol: &str) -> Option<*const ()> {
        extern "C" fn double(x: i64) -> i64 {
            2 * x
        }
        fork(false, || 0).expect_code(0);
        (symbol == "host_callback").then_some(double as *const ())
    }
}

/// Other programs are started while the cache is busy.
#[test]
fn starts_other_programs() {
    alone("starts_other_programs", || {
        static CACHE: OnceLock<Cache<Op>> = OnceLock::new();
        let cache = CACHE.get_or_init(|| Cache::builder(Calculator).build().unwrap());
        for n in 0..20 {
            for m in 0..20 {
                method(cache, &Op::Add(100 * n + m)).request().unwrap();
            }
            let mut command = std::process::Command::new("/bin/true");
            // SAFETY: it does nothing. With it the program is started by fork and exec.
            let command =
                unsafe { std::os::unix::process::CommandExt::pre_exec(&mut command, || Ok(())) };
            assert!(command.status().unwrap().success());
        }
        fill(cache, 0..20);
    });
}
