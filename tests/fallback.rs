//! Fallbacks: calls of methods without code go to the embedder's function, with everything that the caller
//! passed and the method's word, and nobody waits.

mod support;

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use inkpot::{BoxError, Cache, Error, Fallback, Frontend, Handle, MethodType, OptLevel, Unit};
use support::texts::{Name, Texts, text};
use support::{Calculator, Gate, Op, Unary, child, method, wait_until};

/// Texts with a fallback for each name.
struct Falls<F>(Texts, F);

impl<F: Fn(&str) -> Fallback + Send + Sync + 'static> Frontend for Falls<F> {
    type Key = Name;

    fn emit<'ctx>(&self, key: &Name, unit: &mut Unit<'_, 'ctx, Name>) -> Result<(), BoxError> {
        self.0.emit(key, unit)
    }

    fn fallback(&self, key: &Name) -> Fallback {
        (self.1)(key)
    }
}

/// A text that never gets code.
const NEVER: &str = "this is no IR";

inkpot::fallback! {
    /// What the method would do, and a thousand times the word.
    unsafe extern "C" fn unary(word: usize, x: i64) -> i64 {
        1000 * word as i64 + x
    }
}

/// The number in a name, or 0.
fn number(name: &str) -> usize {
    name.split_once('#').map_or(0, |(_, n)| n.parse().unwrap())
}

// --- in Rust, by all prototypes that the macro takes ---

inkpot::fallback! { unsafe extern "C" fn none(word: usize) -> usize { word + 1 } }
inkpot::fallback! { unsafe extern "C" fn two(word: usize, a: i64, b: u8) -> i64 { word as i64 + a * i64::from(b) } }
inkpot::fallback! {
    unsafe extern "C" fn three(word: usize, a: *const i64, b: bool, c: i16) -> i64 {
        // SAFETY: the test gives a valid pointer.
        unsafe { *a + i64::from(b) + i64::from(c) + word as i64 }
    }
}
inkpot::fallback! {
    unsafe extern "C" fn four(word: usize, a: i64, x: f64, b: i32, c: u32, d: usize,) -> f64 {
        a as f64 + x + f64::from(b) + f64::from(c) + d as f64 + word as f64
    }
}
inkpot::fallback! {
    unsafe extern "C" fn five(word: usize, a: i64, b: i64, c: i64, d: i64, e: i64) -> i64 {
        word as i64 + a + 10 * b + 100 * c + 1000 * d + 10_000 * e
    }
}
inkpot::fallback! { unsafe extern "C" fn floats(word: usize, a: f64, b: f32) -> f32 { a as f32 + b + word as f32 } }
inkpot::fallback! {
    /// More floating-point arguments than registers for them.
    unsafe extern "C" fn many(
        word: usize, a: i64, f0: f64, f1: f64, f2: f64, f3: f64, f4: f64, f5: f64, f6: f64, f7: f64, f8: f64, f9: f64
    ) -> f64 {
        let sum: f64 = [f0, f1, f2, f3, f4, f5, f6, f7, f8, f9].iter().enumerate().map(|(i, f)| (i + 1) as f64 * f).sum();
        sum + a as f64 + word as f64
    }
}
static TOLD: AtomicUsize = AtomicUsize::new(0);
inkpot::fallback! {
    unsafe extern "C" fn nothing(word: usize, p: *mut u64) {
        TOLD.store(word + p as usize, Ordering::SeqCst);
    }
}

/// A handle to a method that never gets code, with this fallback and the word 77.
fn never<F: MethodType>(entry: F) -> (Cache<Name>, Handle<Name, F>) {
    assert_eq!(size_of::<F>(), size_of::<usize>());
    // SAFETY: `MethodType` says that F is a function pointer.
    let entry: usize = unsafe { std::mem::transmute_copy(&entry) };
    let fallback = Fallback::to(entry as *const (), 77);
    let cache = Cache::builder(Falls(Texts::new([("never", NEVER)]), move |_: &str| {
        fallback
    }))
    .build()
    .unwrap();
    let handle = text::<F>(&cache, "never");
    (cache, handle)
}

macro_rules! falls {
    ($entry:expr, $ty:ty, ($($argument:expr),*), $expected:expr) => {{
        let (cache, handle) = never::<$ty>($entry);
        let me = cache.participant("test");
        let guard = me.pin();
        // SAFETY: the type is right, and the arguments too.
        let result = unsafe { handle.entry_or_fallback(&guard).call($($argument),*) };
        assert_eq!(result, $expected);
        let canonical = handle.address();
        // SAFETY: `F` is what the method is; the thread is pinned.
        let result = unsafe { std::mem::transmute::<*const (), $ty>(canonical)($($argument),*) };
        assert_eq!(result, $expected);
        drop(guard);
        let callback = handle.callback().unwrap();
        // SAFETY: as above; any thread may call it.
        let result = unsafe { std::mem::transmute::<*const (), $ty>(callback)($($argument),*) };
        assert_eq!(result, $expected);
    }};
}

#[test]
fn rust_gets_the_word_and_every_argument() {
    falls!(none, unsafe extern "C" fn() -> usize, (), 78);
    falls!(
        two,
        unsafe extern "C" fn(i64, u8) -> i64,
        (-5, 200),
        77 - 1000
    );
    let five_hundred = 500_i64;
    falls!(
        three,
        unsafe extern "C" fn(*const i64, bool, i16) -> i64,
        (&raw const five_hundred, true, -3),
        575
    );
    falls!(
        four,
        unsafe extern "C" fn(i64, f64, i32, u32, usize) -> f64,
        (1, 0.5, -2, 7, 1000),
        1083.5
    );
    falls!(
        five,
        unsafe extern "C" fn(i64, i64, i64, i64, i64) -> i64,
        (1, 2, 3, 4, 5),
        54_398
    );
    falls!(
        floats,
        unsafe extern "C" fn(f64, f32) -> f32,
        (0.25, 0.5),
        77.75
    );
    falls!(
        many,
        unsafe extern "C" fn(i64, f64, f64, f64, f64, f64, f64, f64, f64, f64, f64) -> f64,
        (1000, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0),
        1077.0 + 385.0
    );
    falls!(
        nothing,
        unsafe extern "C" fn(*mut u64),
        (std::ptr::without_provenance_mut(23)),
        ()
    );
    assert_eq!(TOLD.load(Ordering::SeqCst), 100);
}

inkpot::fallback! {
    unsafe extern "C-unwind" fn unwinds(word: usize, x: i64) -> i64 {
        std::panic::resume_unwind(Box::new(word as i64 + x))
    }
}

#[test]
fn a_fallback_may_unwind_through_its_thunk() {
    let (cache, handle) = never::<unsafe extern "C-unwind" fn(i64) -> i64>(unwinds);
    let me = cache.participant("test");
    let guard = me.pin();
    let call = || {
        // SAFETY: the type is right.
        unsafe { handle.entry_or_fallback(&guard).call(3) }
    };
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(call)).unwrap_err();
    assert_eq!(panic.downcast_ref(), Some(&80_i64));
}

// --- when it is reached ---

/// The calculator, held up by a gate before it emits; methods know themselves by a word.
struct Slow(Arc<Gate>);

impl Frontend for Slow {
    type Key = Op;

    fn emit<'ctx>(&self, key: &Op, unit: &mut Unit<'_, 'ctx, Op>) -> Result<(), BoxError> {
        self.0.wait();
        Calculator.emit(key, unit)
    }

    fn fallback(&self, key: &Op) -> Fallback {
        match key {
            Op::Add(n) => Fallback::with_word(*n as usize),
            Op::CallAdd(..) => Fallback::none(),
            _ => Fallback::default(),
        }
    }
}

#[test]
fn nobody_waits_and_the_code_comes_by_itself() {
    let gate = Arc::new(Gate::default());
    let cache = Cache::builder(Slow(gate.clone()))
        .fallback(unary as *const ())
        .build()
        .unwrap();
    let me = cache.participant("test");
    let mut guard = me.pin();
    let add = method(&cache, &Op::Add(7));
    let call = |guard: &inkpot::Guard<'_>| {
        // SAFETY: the type is right.
        unsafe { add.entry_or_fallback(guard).call(5) }
    };
    for _ in 0..100 {
        assert_eq!(call(&guard), 7005);
    }
    wait_until("it is being compiled", || gate.came() == 1);
    gate.open();
    wait_until("it has code", || cache.is_resident(&Op::Add(7)));
    guard.repin();
    assert_eq!(call(&guard), 12);
    cache.evict_all();
    gate.close();
    assert_eq!(call(&guard), 7005);
    gate.open();
    // Who waits gets code, as ever.
    // SAFETY: the type is right.
    assert_eq!(unsafe { add.get(&mut guard).unwrap().call(5) }, 12);
    let s = cache.statistics();
    assert_eq!(s.compiles, 2);
    assert!(s.bytes.bookkeeping > 128 << 10, "{s:#?}");
}

#[test]
fn compiled_code_and_callbacks_do_not_wait_for_their_callees() {
    let gate = Arc::new(Gate::default());
    gate.open();
    let cache = Cache::builder(Slow(gate.clone()))
        .fallback(unary as *const ())
        .build()
        .unwrap();
    let me = cache.participant("test");
    let mut guard = me.pin();
    let outer = method(&cache, &Op::CallAdd(Box::new(Op::Add(9)), 100));
    outer.get(&mut guard).unwrap();
    gate.close();
    let before = gate.came();
    // SAFETY: the type is right.
    assert_eq!(unsafe { outer.entry(&guard).unwrap().call(1) }, 9101);
    let inner = method(&cache, &Op::Add(9));
    let by_address = || {
        // SAFETY: the method's own type; the thread is pinned.
        unsafe { std::mem::transmute::<*const (), Unary>(inner.address())(1) }
    };
    let by_callback = || {
        // SAFETY: as above, and any thread may.
        unsafe { std::mem::transmute::<*const (), Unary>(inner.callback().unwrap())(2) }
    };
    let elsewhere = || std::thread::scope(|threads| threads.spawn(by_callback).join().unwrap());
    assert_eq!((by_address(), elsewhere()), (9001, 9002));
    wait_until("it was asked for", || gate.came() == before + 1);
    gate.open();
    wait_until("it has code", || cache.is_resident(&Op::Add(9)));
    guard.repin();
    // SAFETY: the type is right.
    assert_eq!(unsafe { outer.entry(&guard).unwrap().call(1) }, 110);
    assert_eq!((by_address(), elsewhere()), (10, 11));
}

#[test]
fn without_one_calls_wait_as_ever() {
    let gate = Arc::new(Gate::default());
    gate.open();
    let cache = Cache::builder(Slow(gate)).build().unwrap();
    let me = cache.participant("test");
    let mut guard = me.pin();
    let outer = method(&cache, &Op::CallAdd(Box::new(Op::Add(9)), 100));
    // SAFETY: the type is right.
    assert_eq!(unsafe { outer.get(&mut guard).unwrap().call(1) }, 110);
    cache.evict_all();
    let panics = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = outer.entry_or_fallback(&guard);
    }));
    let message = *panics.unwrap_err().downcast::<String>().unwrap();
    assert!(
        message.contains("CallAdd(Add(9), 100) has no fallback"),
        "{message}"
    );
}

/// What is on probation has code still.
#[test]
fn code_on_probation_is_used() {
    // A page of constants each, so that they fill more than a slot.
    let page = "
        @page = private constant [4000 x i8] c\"$BYTES\"
        define i64 @self(i64 %x) {
          %at = getelementptr i8, ptr @page, i64 %x
          %byte = load i8, ptr %at
          %y = zext i8 %byte to i64
          ret i64 %y
        }"
    .replace("$BYTES", &"\\07".repeat(4000));
    let cache = Cache::builder(Texts::new([("page", &page)]))
        .fallback(unary as *const ())
        .opt_level(OptLevel::O0)
        .build()
        .unwrap();
    let me = cache.participant("test");
    let mut guard = me.pin();
    let name = |n| format!("page#{n}");
    let all: Vec<_> = (0..64).map(|n| text::<Unary>(&cache, &name(n))).collect();
    for page in &all {
        page.get(&mut guard).unwrap();
    }
    // The low mark is passed, the high one is not.
    let used = cache.statistics().mapped_code_bytes;
    cache.set_code_budget(used + used / 50);
    let before = cache.statistics();
    assert!(before.methods_on_probation > 0, "{before:#?}");
    for page in &all {
        // SAFETY: the type is right.
        assert_eq!(unsafe { page.entry_or_fallback(&guard).call(1) }, 7);
    }
    let after = cache.statistics();
    assert_eq!((after.methods_on_probation, after.compiles), (0, 64));
}

#[test]
fn a_method_that_fails_runs_by_its_fallback() {
    let cache = Cache::builder(Calculator)
        .fallback(unary as *const ())
        .build()
        .unwrap();
    let me = cache.participant("test");
    let mut guard = me.pin();
    for bad in [Op::Refuse, Op::Panic, Op::Invalid, Op::Unresolved] {
        let outer = method(&cache, &Op::CallAdd(Box::new(bad.clone()), 1));
        for x in 0..20 {
            // SAFETY: the type is right.
            assert_eq!(unsafe { outer.get(&mut guard).unwrap().call(x) }, x + 1);
            let falls = method(&cache, &bad);
            // SAFETY: as above.
            assert_eq!(unsafe { falls.entry_or_fallback(&guard).call(x) }, x);
        }
        assert!(method(&cache, &bad).get(&mut guard).is_err());
    }
}

/// The front end is asked once, for as long as anything refers to the key.
#[test]
fn each_key_has_its_own() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let texts = Texts::new([("never", NEVER), ("panics", NEVER)]);
    let falls = Falls(texts, |name: &str| {
        assert_ne!(name, "panics");
        ASKED.fetch_add(1, Ordering::SeqCst);
        match number(name) {
            0 => Fallback::default(),
            1 => Fallback::none(),
            n => Fallback::with_word(n),
        }
    });
    let cache = Cache::builder(falls)
        .fallback(unary as *const ())
        .build()
        .unwrap();
    let me = cache.participant("test");
    let guard = me.pin();
    let falls = |name: &str| {
        let handle = text::<Unary>(&cache, name);
        // SAFETY: the type is right.
        unsafe { handle.entry_or_fallback(&guard).call(3) }
    };
    let kept = text::<Unary>(&cache, "never#8");
    for n in 2..40 {
        assert_eq!(falls(&format!("never#{n}")), 1000 * n + 3);
    }
    assert_eq!(falls("never"), 3);
    assert_eq!(ASKED.load(Ordering::SeqCst), 39);
    assert_eq!(falls("never#8"), 8003);
    assert_eq!(ASKED.load(Ordering::SeqCst), 39, "its record was kept");
    drop(kept);
    for name in ["never#1", "panics"] {
        let handle = text::<Unary>(&cache, name);
        let fails = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _ = handle.entry_or_fallback(&guard);
        }));
        assert!(fails.is_err(), "{name}");
    }
}

/// Records come and go, and their thunks with them; more than one chunk of these.
#[test]
fn thunks_are_used_again_for_other_methods() {
    let falls = Falls(Texts::new([("never", NEVER)]), |name: &str| {
        Fallback::with_word(number(name))
    });
    let cache = Cache::builder(falls)
        .fallback(unary as *const ())
        .build()
        .unwrap();
    let me = cache.participant("test");
    let guard = me.pin();
    let handles = |from: usize| {
        let name = |n| format!("never#{n}");
        let all = (from..from + 10_000).map(|n| (n, text::<Unary>(&cache, &name(n))));
        all.collect::<Vec<_>>()
    };
    for round in 0..4 {
        let all = handles(10_000 * round);
        for (n, handle) in all.iter().step_by(97) {
            // SAFETY: the type is right.
            let y = unsafe { handle.entry_or_fallback(&guard).call(7) };
            assert_eq!(y, 1000 * *n as i64 + 7);
        }
    }
    assert!(cache.statistics().methods_known <= 20_000);
}

// --- what must not go wrong ---

static INSIDE: Mutex<Option<Cache<Op>>> = Mutex::new(None);
static SUM: AtomicI64 = AtomicI64::new(0);

inkpot::fallback! {
    /// Comes to a safepoint, and calls a method.
    unsafe extern "C" fn busy(word: usize, x: i64) -> i64 {
        let cache = INSIDE.lock().unwrap().clone().unwrap();
        // SAFETY: what the test kept off the stack is no code.
        unsafe { inkpot::safepoint_of_thread() };
        let me = cache.participant("interpreter");
        // SAFETY: the type is right.
        let y = unsafe { method(&cache, &Op::CallHost).get(&mut me.pin()).unwrap().call(x) };
        SUM.fetch_add(y, Ordering::SeqCst);
        word as i64 + y
    }
}

extern "C" fn twice(x: i64) -> i64 {
    2 * x
}

/// An entry that leads to a fallback needs no code, so that no safepoint ends it.
#[test]
fn an_interpreter_may_come_to_safepoints_and_call_methods() {
    let cache = Cache::builder(Calculator)
        .fallback(busy as *const ())
        .import("host_callback", twice as *const ())
        .build()
        .unwrap();
    *INSIDE.lock().unwrap() = Some(cache.clone());
    let me = cache.participant("test");
    let guard = me.pin();
    let refuse = method(&cache, &Op::Refuse);
    let entries = Box::new([refuse.entry_or_fallback(&guard); 3]);
    for (n, entry) in entries.iter().enumerate() {
        // SAFETY: the type is right.
        assert_eq!(unsafe { entry.call(n as i64) }, 2 * n as i64);
    }
    assert_eq!(SUM.load(Ordering::SeqCst), 6);
    *INSIDE.lock().unwrap() = None;
}

/// Thunks that cannot be had are an error where the method is first mentioned, so that nothing fails later.
#[test]
fn memory_for_thunks_is_asked_for_by_who_mentions_the_method() {
    let cache = Cache::builder(Calculator)
        .fallback(unary as *const ())
        .build()
        .unwrap();
    cache.refuse_memory(true);
    // SAFETY: not called.
    let refused = unsafe { cache.method::<Unary>(&Op::Refuse) };
    assert!(matches!(refused, Err(Error::Memory { .. })), "{refused:?}");
    cache.refuse_memory(false);
    let refuse = method(&cache, &Op::Refuse);
    cache.refuse_memory(true);
    let me = cache.participant("test");
    // SAFETY: the type is right.
    assert_eq!(unsafe { refuse.entry_or_fallback(&me.pin()).call(4) }, 4);
}

#[test]
fn a_forked_child_interprets_what_was_not_resident() {
    let name = "a_forked_child_interprets_what_was_not_resident";
    let ended = child::run(name, Duration::from_secs(60), || {
        let gate = Arc::new(Gate::default());
        gate.open();
        let cache = Cache::builder(Slow(gate))
            .fallback(unary as *const ())
            .build()
            .unwrap();
        let me = cache.participant("test");
        let mut guard = me.pin();
        let outer = method(&cache, &Op::CallAdd(Box::new(Op::Add(9)), 100));
        outer.get(&mut guard).unwrap();
        let other = method(&cache, &Op::Add(3));
        let forked = child::fork(false, || {
            // SAFETY: the type is right.
            let called = unsafe { outer.entry(&guard).unwrap().call(1) };
            // SAFETY: as above.
            let fallen = unsafe { other.entry_or_fallback(&guard).call(1) };
            i32::from((called, fallen) != (9101, 3001))
        });
        forked.expect_code(0);
    });
    if let Some(ended) = ended {
        ended.expect_code(0);
    }
}

/// Threads that call by all ways, while methods come and go: every result is the method's or the fallback's.
#[test]
fn threads_fall_back_while_methods_come_and_go() {
    let gate = Arc::new(Gate::default());
    gate.open();
    let cache = Cache::builder(Slow(gate))
        .fallback(unary as *const ())
        .generation_methods(3)
        .opt_level(OptLevel::O0)
        .build()
        .unwrap();
    let until = Instant::now() + Duration::from_secs(2);
    let seen = [const { AtomicUsize::new(0) }; 2];
    std::thread::scope(|threads| {
        for thread in 0..3_i64 {
            let (cache, seen) = (&cache, &seen);
            threads.spawn(move || {
                let me = cache.participant("calls");
                let mut round = 0;
                while Instant::now() < until {
                    round += 1;
                    let n = 1 + (round * 7 + thread) % 12;
                    let guard = me.pin();
                    let add = method(cache, &Op::Add(n));
                    // SAFETY: the type is right.
                    let y = unsafe { add.entry_or_fallback(&guard).call(round) };
                    assert!(y == round + n || y == round + 1000 * n, "{n}: {y}");
                    seen[usize::from(y == round + n)].fetch_add(1, Ordering::Relaxed);
                    if round % 50 == 0 {
                        cache.evict(&Op::Add(n));
                    }
                    if round % 512 == 0 {
                        cache.seal();
                    }
                }
            });
        }
    });
    let seen = seen.map(AtomicUsize::into_inner);
    assert!(seen.iter().all(|n| *n > 10), "{seen:?}");
}
