//! Polls: a thread that stays in code which makes no calls holds no memory back but its own.
//!
//! The thread goes round until a word says that it may leave. Meanwhile others come and go, under
//! quarantine: if anything went that the thread still uses, it would crash.

mod support;
#[allow(dead_code, reason = "one that throws is enough")]
#[path = "support/throwing.rs"]
mod throwing;

use std::sync::atomic::{AtomicI64, Ordering};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::Duration;

use inkpot::{Cache, Error, Handle, Key, OptLevel, Stress};
use support::synthetic::{self, Code, How, Synthetic};
use support::texts::{Name, Texts, text};
use support::wait_until;

type Method = unsafe extern "C-unwind" fn(i64) -> i64;

const LEVELS: [OptLevel; 4] = [OptLevel::O0, OptLevel::O1, OptLevel::O2, OptLevel::O3];

/// What a method that goes round, and the test, have in common.
#[derive(Default)]
#[repr(C)]
struct Shared {
    may_leave: AtomicI64,
    is_inside: AtomicI64,
    /// What the method leaves behind.
    results: [AtomicI64; 26],
}

impl Shared {
    fn address(&self) -> i64 {
        std::ptr::from_ref(self) as i64
    }
}

const LEAF: &str = "define i64 @self(i64 %x) { %y = add i64 %x, $N  ret i64 %y }";

/// Where the word is.
const ENTER: &str = "
  %word = inttoptr i64 %x to ptr";

/// `%c` is whether it must stay.
const STAY: &str = "
  %w = load atomic i64, ptr %word monotonic, align 8
  %c = icmp eq i64 %w, 0";

fn body(text: &str) -> String {
    text.replace("ENTER", ENTER).replace("STAY", STAY)
}

/// One block.
const LOOP: &str = "
define i64 @self(i64 %x) {
entry: ENTER
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %j, %loop ]
  %j = add i64 %i, 1
  STAY
  br i1 %c, label %loop, label %done
done:
  ret i64 %j
}";

/// Two blocks, entered by either.
const TWO_HEADS: &str = "
define i64 @self(i64 %x) {
entry: ENTER
  %odd = trunc i64 %x to i1
  br i1 %odd, label %left, label %right
left:
  %i = phi i64 [ 0, %entry ], [ %k, %right ]
  %j = add i64 %i, 3
  br label %right
right:
  %h = phi i64 [ 1, %entry ], [ %j, %left ]
  %k = mul i64 %h, 5
  STAY
  br i1 %c, label %left, label %done
done:
  ret i64 %k
}";

/// Back by a jump table, and by a computed address.
const JUMPS: &str = "
@places = private constant [2 x ptr] [ptr blockaddress(@self, %again), ptr blockaddress(@self, %on)]
define i64 @self(i64 %x) {
entry: ENTER
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %j, %on ]
  %j = add i64 %i, 1
  STAY
  br i1 %c, label %stay, label %done
stay:
  %k = and i64 %j, 3
  switch i64 %k, label %on [ i64 0, label %go i64 1, label %go i64 2, label %on ]
go:
  %at = getelementptr [2 x ptr], ptr @places, i64 0, i64 %k
  %to = load ptr, ptr %at
  indirectbr ptr %to, [label %again, label %on]
again:
  br label %on
on:
  br label %loop
done:
  ret i64 %j
}";

/// No loop, but calls of itself without end.
const RECURSION: &str = "
define i64 @self(i64 %x) {
  ENTER
  %r = call i64 @deep(i64 %x, i64 60)
  ret i64 %r
}
define internal i64 @deep(i64 %x, i64 %d) noinline {
  %word = inttoptr i64 %x to ptr
  STAY
  %more = icmp ne i64 %d, 0
  %both = and i1 %c, %more
  br i1 %both, label %on, label %out
on:
  %e = sub i64 %d, 1
  %a = notail call i64 @deep(i64 %x, i64 %e)
  %b = notail call i64 @deep(i64 %x, i64 %e)
  %s = xor i64 %a, %b
  ret i64 %s
out:
  ret i64 1
}";

/// Two methods that call each other, each in place of its frame.
const PING: &str = "
declare i64 @pong(i64)
define i64 @self(i64 %x) {
  ENTER
  %r = musttail call i64 @pong(i64 %x)
  ret i64 %r
}";
const PONG: &str = "
declare i64 @ping(i64)
define i64 @self(i64 %x) {
  %word = inttoptr i64 %x to ptr
  STAY
  br i1 %c, label %on, label %out
on:
  %r = musttail call i64 @ping(i64 %x)
  ret i64 %r
out:
  ret i64 7
}";

/// Each turn begins with an exception.
const THROWN_BACK: &str = "
declare i64 @throws(i64)
declare ptr @__cxa_begin_catch(ptr)
declare void @__cxa_end_catch()
declare i32 @__gxx_personality_v0(...)
define i64 @self(i64 %x) personality ptr @__gxx_personality_v0 {
entry: ENTER
  br label %loop
loop:
  %r = invoke i64 @throws(i64 -1) to label %never unwind label %pad
pad:
  %e = landingpad { ptr, i32 } catch ptr null
  %o = extractvalue { ptr, i32 } %e, 0
  %b = call ptr @__cxa_begin_catch(ptr %o)
  call void @__cxa_end_catch()
  STAY
  br i1 %c, label %loop, label %done
never:
  ret i64 -1
done:
  ret i64 1
}";

const DOUBLES: i64 = 10;
const VECTORS: i64 = 4;

/// As much in registers as there are: doubles and vectors that grow by the turn.
fn keeps_registers() -> String {
    let mut phis = String::new();
    let mut sums = String::new();
    let mut stores = String::new();
    for k in 0..DOUBLES {
        phis += &format!("  %f{k} = phi double [ 0.0, %entry ], [ %g{k}, %loop ]\n");
        sums += &format!("  %g{k} = fadd double %f{k}, {}.0\n", k + 1);
        stores += &format!(
            "  %pf{k} = getelementptr i64, ptr %word, i64 {}\n  store double %g{k}, ptr %pf{k}\n",
            2 + k
        );
    }
    for k in 0..VECTORS {
        let each = (1..5).map(|lane| format!("i64 {}", 10 * k + lane));
        let each = each.collect::<Vec<_>>().join(", ");
        phis += &format!("  %v{k} = phi <4 x i64> [ zeroinitializer, %entry ], [ %u{k}, %loop ]\n");
        sums += &format!("  %u{k} = add <4 x i64> %v{k}, <{each}>\n");
        stores += &format!(
            "  %pv{k} = getelementptr i64, ptr %word, i64 {}\n  store <4 x i64> %u{k}, ptr %pv{k}, align 8\n",
            2 + DOUBLES + 4 * k
        );
    }
    format!(
        "define i64 @self(i64 %x) {{\nentry: ENTER\n  br label %loop\nloop:\n\
         %i = phi i64 [ 0, %entry ], [ %j, %loop ]\n{phis}  %j = add i64 %i, 1\n{sums} STAY\n  \
         br i1 %c, label %loop, label %done\ndone:\n{stores}  ret i64 %j\n}}"
    )
}

fn check_registers(turns: i64, shared: &Shared) {
    for k in 0..DOUBLES {
        let bits = shared.results[k as usize].load(Ordering::Relaxed);
        let expected = (turns * (k + 1)) as f64;
        assert_eq!(f64::from_bits(bits as u64), expected, "double {k}");
    }
    for k in 0..VECTORS {
        for lane in 0..4 {
            let at = DOUBLES + 4 * k + lane;
            let sum = shared.results[at as usize].load(Ordering::Relaxed);
            assert_eq!(
                sum,
                turns * (10 * k + lane + 1),
                "lane {lane} of vector {k}"
            );
        }
    }
}

fn quarantine() -> Stress {
    let mut stress = Stress::default();
    stress.quarantine = true;
    stress
}

/// A cache of the texts above. Exceptions only where there is a libstdc++.
fn cache(level: OptLevel, polls: bool) -> Cache<Name> {
    let texts = [
        ("loop", LOOP.to_owned()),
        ("two heads", TWO_HEADS.to_owned()),
        ("jumps", JUMPS.to_owned()),
        ("recursion", RECURSION.to_owned()),
        ("ping", PING.to_owned()),
        ("pong", PONG.to_owned()),
        ("thrown back", THROWN_BACK.to_owned()),
        ("keeps registers", keeps_registers()),
        ("throws", throwing::texts()[0].1.clone()),
        ("leaf", LEAF.to_owned()),
    ]
    .map(|(name, text)| (name, body(&text)));
    let texts = texts.each_ref().map(|(name, text)| (*name, text.as_str()));
    let mut builder = Cache::builder(Texts::new(texts))
        .opt_level(level)
        .polls(polls)
        .stress(quarantine());
    for (name, address) in throwing::imports().into_iter().flatten() {
        builder = builder.import(name, address);
    }
    builder.build().unwrap()
}

/// Lets the thread leave, also if the test fails.
struct LetGo<'s>(&'s Shared);

impl Drop for LetGo<'_> {
    fn drop(&mut self) {
        self.0.may_leave.store(1, Ordering::Relaxed);
    }
}

/// A thread that is inside of the method, or about to be.
fn enter<'scope, K: Key>(
    threads: &'scope Scope<'scope, '_>,
    cache: &'scope Cache<K>,
    method: Handle<K, Method>,
    shared: &'scope Shared,
) -> ScopedJoinHandle<'scope, i64> {
    threads.spawn(move || {
        let me = cache.participant("goes round");
        let mut guard = me.pin();
        let entry = method.get(&mut guard).unwrap();
        shared.is_inside.store(1, Ordering::Relaxed);
        // SAFETY: the type is right, and the word outlives the thread.
        unsafe { entry.call(shared.address()) }
    })
}

/// Makes generations come and go until so many of them are recycled.
fn churn(cache: &Cache<Name>, generations: u64) {
    let me = cache.participant("churns");
    let wanted = cache.statistics().generations_recycled + generations;
    let mut n = 0;
    wait_until("others are recycled", || {
        let leaf = text::<Method>(cache, &format!("leaf#{n}"));
        let mut guard = me.pin();
        // SAFETY: the type is right.
        assert_eq!(unsafe { leaf.get(&mut guard).unwrap().call(1) }, 1 + n);
        drop(guard);
        cache.evict(leaf.key());
        cache.seal();
        n += 1;
        cache.statistics().generations_recycled >= wanted
    });
}

/// One thread goes round in the method, at every level, while generations come and go. With
/// `evicted` its own is dead meanwhile, and stays.
fn goes_on(name: &str, evicted: bool, check: fn(i64, &Shared)) {
    for level in LEVELS {
        let cache = cache(level, true);
        let shared = Shared::default();
        std::thread::scope(|threads| {
            let method = text::<Method>(&cache, name);
            let let_go = LetGo(&shared);
            let inside = enter(threads, &cache, method, &shared);
            wait_until("it is inside", || {
                shared.is_inside.load(Ordering::Relaxed) != 0
            });
            if evicted {
                assert!(cache.evict(&name.to_owned()));
                cache.seal();
            }
            churn(&cache, 5);
            if evicted {
                wait_until("its own is held", || {
                    cache.statistics().generations_held == 1
                });
                churn(&cache, 5);
                assert_eq!(cache.statistics().generations_held, 1, "it stays");
            }
            drop(let_go);
            check(inside.join().unwrap(), &shared);
        });
        cache.evict_all();
        cache.seal();
        wait_until("all is recycled", || {
            cache.statistics().mapped_code_bytes == 0
        });
    }
}

#[test]
fn in_a_loop() {
    goes_on("loop", true, |turns, _| assert!(turns > 0));
}

#[test]
fn in_a_loop_with_two_heads() {
    goes_on("two heads", true, |_, _| {});
}

#[test]
fn in_a_loop_of_jumps() {
    goes_on("jumps", true, |turns, _| assert!(turns > 0));
}

#[test]
fn in_calls_of_itself() {
    goes_on("recursion", true, |_, _| {});
}

#[test]
fn in_calls_in_place_of_frames() {
    goes_on("ping", false, |result, _| assert_eq!(result, 7));
}

#[test]
fn thrown_back_for_ever() {
    if throwing::imports().is_some() {
        goes_on("thrown back", false, |result, _| assert_eq!(result, 1));
    }
}

#[test]
fn with_all_registers_in_use() {
    goes_on("keeps registers", true, check_registers);
}

/// Waits for all threads to come out of the method, or to a safepoint, while one goes round in it.
fn wait_for_safepoint<K: Key>(
    cache: &Cache<K>,
    method: Handle<K, Method>,
    patience: Duration,
) -> Result<(), Error> {
    let shared = Shared::default();
    std::thread::scope(|threads| {
        let key = method.key().clone();
        let let_go = LetGo(&shared);
        let inside = enter(threads, cache, method, &shared);
        wait_until("it is inside", || {
            shared.is_inside.load(Ordering::Relaxed) != 0
        });
        let outcome = cache.invalidate(&key).wait_for(patience);
        drop(let_go);
        inside.join().unwrap();
        outcome
    })
}

const LONG: Duration = Duration::from_secs(20);
const SHORT: Duration = Duration::from_millis(200);

#[test]
fn without_polls_it_stays_pinned() {
    let cache = cache(OptLevel::O1, false);
    let outcome = wait_for_safepoint(&cache, text(&cache, "loop"), SHORT);
    let Err(Error::Stalled { participant, .. }) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(participant, "goes round");
}

/// Code that does not come from LLVM.
#[test]
fn by_another_code_generator() {
    for polls in [true, false] {
        let cache = Cache::with_backend(Synthetic::default())
            .polls(polls)
            .stress(quarantine())
            .build()
            .unwrap();
        let spin = || synthetic::method(&cache, Code::new(0, How::Spin));
        if polls {
            wait_for_safepoint(&cache, spin(), LONG).unwrap();
        } else {
            let outcome = wait_for_safepoint(&cache, spin(), SHORT);
            assert!(matches!(outcome, Err(Error::Stalled { .. })), "{outcome:?}");
        }
    }
}

/// The symbols are the cache's: a front end that knows them has no use for them.
#[test]
fn a_front_end_cannot_name_them() {
    let texts = [
        (
            "flag",
            "@inkpot.poll.flag = external global i32 define i64 @self(i64 %x) {
            %f = load i32, ptr @inkpot.poll.flag  ret i64 %x }",
        ),
        (
            "safepoint",
            "declare void @inkpot.poll.safepoint() define i64 @self(i64 %x) {
            call void @inkpot.poll.safepoint()  ret i64 %x }",
        ),
    ];
    for polls in [true, false] {
        let cache = Cache::builder(Texts::new(texts))
            .polls(polls)
            .build()
            .unwrap();
        let me = cache.participant("test");
        for (name, _) in texts {
            let outcome = text::<Method>(&cache, name).get(&mut me.pin()).map(|_| ());
            assert!(matches!(outcome, Err(Error::Refused { .. })), "{outcome:?}");
        }
    }
}

/// What was asked to end the loop, and how often it was called.
static ASKED: AtomicI64 = AtomicI64::new(0);
static WORD: AtomicI64 = AtomicI64::new(0);

unsafe extern "C" fn end_the_loop() {
    ASKED.fetch_add(1, Ordering::SeqCst);
    WORD.store(1, Ordering::SeqCst);
}

/// The only thing that can end the loop is what its own polls call.
#[test]
fn the_embedder_asks_and_is_called() {
    let cache = Cache::with_backend(Synthetic::default())
        .polls(true)
        .on_poll(end_the_loop)
        .build()
        .unwrap();
    let spin = synthetic::method(&cache, Code::new(5, How::Spin));
    let me = cache.participant("spins");
    let mut guard = me.pin();
    let entry = spin.get(&mut guard).unwrap();
    assert_eq!(ASKED.load(Ordering::SeqCst), 0, "nobody has asked");
    cache.ask_for_polls(true);
    let word = WORD.as_ptr() as i64;
    // SAFETY: the method takes the address of a word.
    assert_eq!(unsafe { entry.call(word) }, word + 5);
    assert!(ASKED.load(Ordering::SeqCst) > 0);
    cache.ask_for_polls(false);
    let before = ASKED.load(Ordering::SeqCst);
    // SAFETY: as above.
    assert_eq!(unsafe { entry.call(word) }, word + 5);
    assert_eq!(ASKED.load(Ordering::SeqCst), before, "nobody asks any more");
}
