//! A Rust panic passes through frames of compiled code, of one generation or several, and what
//! Rust's frames own on the way is dropped.

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use inkpot::{Cache, Handle, OptLevel};
use support::texts::{Name, Texts, text};
use support::wait_until;

type Throws = unsafe extern "C-unwind" fn(i64) -> i64;

/// Panics for negative numbers.
extern "C-unwind" fn host(x: i64) -> i64 {
    if x < 0 {
        resume_unwind(Box::new(x));
    }
    x
}

/// `throw` calls the host; `via#N` calls what is N deep; `leaf#N` does nothing.
fn texts() -> Texts {
    let via = "
        declare i64 @\"via#$M\"(i64)
        define i64 @self(i64 %x) {
          %buffer = alloca [$N x i64]
          %at = getelementptr i64, ptr %buffer, i64 0
          store volatile i64 %x, ptr %at
          %y = call i64 @\"via#$M\"(i64 %x)
          %z = add i64 %y, $N
          ret i64 %z
        }";
    let end = "
        declare i64 @host(i64)
        define i64 @\"self\"(i64 %x) {
          %y = call i64 @host(i64 %x)
          %z = add i64 %y, 1000
          ret i64 %z
        }";
    let leaf = "define i64 @self(i64 %x) { %y = add i64 %x, $N  ret i64 %y }";
    Texts::new([("via", via), ("via#0", end), ("leaf", leaf)])
}

fn build(level: OptLevel) -> Cache<Name> {
    Cache::builder(texts())
        .opt_level(level)
        .generation_methods(3)
        .import("host", host as *const ())
        .build()
        .unwrap()
}

/// What the chain of this depth returns for `x`.
fn expected(depth: i64, x: i64) -> i64 {
    x + 1000 + (1..=depth).sum::<i64>()
}

fn call(handle: &Handle<Name, Throws>, me: &inkpot::Participant, x: i64) -> Result<i64, i64> {
    let caught = catch_unwind(AssertUnwindSafe(|| {
        let mut guard = me.pin();
        // SAFETY: the type is right.
        unsafe { handle.get(&mut guard).unwrap().call(x) }
    }));
    caught.map_err(|panic| *panic.downcast::<i64>().expect("the host's panic"))
}

const DEPTH: i64 = 12;

#[test]
fn a_panic_passes_through_frames_of_many_generations() {
    for level in [OptLevel::O0, OptLevel::O1, OptLevel::O2] {
        let cache = build(level);
        let me = cache.participant("test");
        let chain = text::<Throws>(&cache, &format!("via#{DEPTH}"));
        // The first call compiles the chain below itself, frame by frame.
        assert_eq!(call(&chain, &me, -1), Err(-1));
        assert!(cache.statistics().generations_sealed >= 3);
        for x in -5..5 {
            let outcome = if x < 0 {
                Err(x)
            } else {
                Ok(expected(DEPTH, x))
            };
            assert_eq!(call(&chain, &me, x), outcome);
        }
        cache.seal();
        assert_eq!(call(&chain, &me, -2), Err(-2));
        // The guards that panics dropped do not pin: everything can go.
        assert!(cache.statistics().longest_pinned.is_none());
        cache.evict_all();
        wait_until("all is recycled", || {
            cache.statistics().mapped_code_bytes == 0
        });
        assert_eq!(call(&chain, &me, -3), Err(-3));
        assert_eq!(call(&chain, &me, 3), Ok(expected(DEPTH, 3)));
    }
}

/// While other threads register and deregister unwind tables without end.
#[test]
fn panics_pass_while_tables_come_and_go() {
    static STOP: AtomicBool = AtomicBool::new(false);
    let cache = build(OptLevel::O1);
    let panics = AtomicUsize::new(0);
    std::thread::scope(|threads| {
        for thread in 0..2 {
            let (cache, panics) = (&cache, &panics);
            threads.spawn(move || {
                let me = cache.participant("throws");
                let chain = text::<Throws>(cache, &format!("via#{}", DEPTH - thread));
                for round in 0..1500 {
                    assert_eq!(call(&chain, &me, -1 - round), Err(-1 - round));
                    panics.fetch_add(1, Ordering::Relaxed);
                    if round % 20 == 0 {
                        cache.evict(&format!("via#{}", round % DEPTH));
                    }
                }
                STOP.store(true, Ordering::Relaxed);
            });
        }
        let cache = &cache;
        threads.spawn(move || {
            let me = cache.participant("churns");
            for n in (0..).take_while(|_| !STOP.load(Ordering::Relaxed)) {
                let leaf = text::<Throws>(cache, &format!("leaf#{n}"));
                assert_eq!(call(&leaf, &me, 1), Ok(1 + n));
                cache.evict(leaf.key());
            }
        });
    });
    assert_eq!(panics.load(Ordering::Relaxed), 3000);
    assert!(cache.statistics().generations_recycled > 10);
}

/// The host makes a backtrace below compiled frames; it goes on to the test above them.
#[test]
fn a_backtrace_goes_through() {
    static SEEN: Mutex<String> = Mutex::new(String::new());
    extern "C-unwind" fn looks(x: i64) -> i64 {
        *SEEN.lock().unwrap() = std::backtrace::Backtrace::force_capture().to_string();
        x
    }
    #[inline(never)]
    fn above_compiled_frames(chain: &Handle<Name, Throws>, me: &inkpot::Participant) -> i64 {
        let y = call(chain, me, 1).unwrap();
        std::hint::black_box(y)
    }
    for level in [OptLevel::O0, OptLevel::O2] {
        let cache = Cache::builder(texts())
            .opt_level(level)
            .generation_methods(3)
            .import("host", looks as *const ())
            .build()
            .unwrap();
        let me = cache.participant("test");
        let chain = text::<Throws>(&cache, "via#5");
        for resident in [false, true] {
            assert_eq!(above_compiled_frames(&chain, &me), expected(5, 1));
            let seen = std::mem::take(&mut *SEEN.lock().unwrap());
            let below = seen.find("looks").expect("the host's own frame");
            let above = seen.find("above_compiled_frames");
            assert!(
                above.is_some_and(|at| at > below),
                "{resident} {level:?}\n{seen}"
            );
            let between = &seen[below..above.unwrap()];
            let unknown = between.matches("<unknown>").count();
            assert!(unknown >= 6, "the compiled frames: {seen}");
        }
    }
}

/// A panic passes through compiled frames, a Rust frame that owns a guard, and compiled frames.
#[test]
fn guards_between_compiled_frames_are_dropped() {
    static CACHE: Mutex<Option<Cache<Name>>> = Mutex::new(None);
    static DROPPED: AtomicUsize = AtomicUsize::new(0);
    struct Counts;
    impl Drop for Counts {
        fn drop(&mut self) {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
    extern "C-unwind" fn nests(x: i64) -> i64 {
        if x == -100 {
            resume_unwind(Box::new(x));
        }
        let cache = CACHE.lock().unwrap().clone().unwrap();
        let me = cache.participant("inner");
        let mut guard = me.pin();
        let _counts = Counts;
        let chain = text::<Throws>(&cache, "via#2");
        // SAFETY: the type is right.
        unsafe { chain.get(&mut guard).unwrap().call(x - 1) }
    }
    let cache = Cache::builder(texts())
        .import("host", nests as *const ())
        .build()
        .unwrap();
    *CACHE.lock().unwrap() = Some(cache.clone());
    let me = cache.participant("outer");
    let chain = text::<Throws>(&cache, "via#2");
    assert_eq!(call(&chain, &me, -90), Err(-100));
    assert_eq!(DROPPED.load(Ordering::Relaxed), 10);
    let s = cache.statistics();
    assert_eq!((s.participants, s.longest_pinned), (1, None));
    cache.seal();
    cache.evict_all();
    wait_until("all is recycled", || {
        cache.statistics().mapped_code_bytes == 0
    });
    *CACHE.lock().unwrap() = None;
}
