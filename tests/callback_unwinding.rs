//! How calls by callbacks end that do not return: by panics, exceptions and jumps; and in which
//! order they end on fibres.

mod support;
#[path = "support/throwing.rs"]
mod throwing;

use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::time::Duration;

use inkpot::Cache;
use support::synthetic::{Code, How, Synthetic, Unary as Throws};
use support::texts::{Name, Texts, text};
use support::{Unary, child, synthetic, wait_until};

/// The callback of a synthetic method as a function.
fn function(cache: &Cache<Code>, code: Code) -> Throws {
    let address = synthetic::method(cache, code).callback().unwrap();
    // SAFETY: all synthetic methods have this type.
    unsafe { std::mem::transmute(address) }
}

fn recycles_everything(cache: &Cache<Code>) {
    assert!(cache.statistics().longest_pinned.is_none());
    cache.seal();
    cache.evict_all();
    wait_until("all is recycled", || {
        cache.statistics().mapped_code_bytes == 0
    });
}

/// A Rust panic passes through a host's frame, a method's, and out of the callback; and again
/// through three of each.
#[test]
fn panics_pass_through_and_unpin() {
    let cache = Cache::with_backend(Synthetic::default()).build().unwrap();
    let host = function(&cache, Code::new(5, How::Host).framed());
    let me = cache.participant("test");
    for pinned in [false, true] {
        for x in -20..20 {
            let guard = pinned.then(|| me.pin());
            // SAFETY: the type is right.
            let outcome = catch_unwind(AssertUnwindSafe(|| unsafe { host(x) }));
            let outcome = outcome.map_err(|panic| *panic.downcast::<i64>().unwrap());
            assert_eq!(outcome, if x < 0 { Err(x) } else { Ok(3 * x + 5) });
            assert_eq!(cache.statistics().longest_pinned.is_some(), pinned);
            drop(guard);
            assert!(cache.statistics().longest_pinned.is_none());
        }
        recycles_everything(&cache);
    }
}

const VIA: &str = "
    declare i64 @host(i64)
    define i64 @self(i64 %x) {
      %y = call i64 @host(i64 %x)
      %z = add i64 %y, 100
      ret i64 %z
    }";

static CALLBACK: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());
static IN_USE: Mutex<()> = Mutex::new(());

/// Calls `CALLBACK` until x is 0; then it panics. Frames with something to drop are in between.
extern "C-unwind" fn nests(x: i64) -> i64 {
    struct Counts;
    impl Drop for Counts {
        fn drop(&mut self) {
            DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
    let _counts = Counts;
    if x == 0 {
        resume_unwind(Box::new(4711i64));
    }
    // SAFETY: the callback of a method of this type.
    unsafe { std::mem::transmute::<*mut (), Throws>(CALLBACK.load(Ordering::Relaxed))(x - 1) }
}

static DROPPED: AtomicUsize = AtomicUsize::new(0);

#[test]
fn a_panic_passes_through_many() {
    let _alone = IN_USE.lock().unwrap_or_else(|e| e.into_inner());
    let cache = Cache::builder(Texts::new([("via", VIA)]))
        .import("host", nests as *const ())
        .build()
        .unwrap();
    let via = text::<Throws>(&cache, "via").callback().unwrap();
    CALLBACK.store(via.cast_mut(), Ordering::Relaxed);
    for round in 1..4 {
        // SAFETY: the type is right.
        let outcome = catch_unwind(|| unsafe { std::mem::transmute::<*const (), Throws>(via)(20) });
        assert_eq!(*outcome.unwrap_err().downcast::<i64>().unwrap(), 4711);
        assert_eq!(DROPPED.load(Ordering::Relaxed), 21 * round);
        assert!(cache.statistics().longest_pinned.is_none());
    }
}

/// A C++ exception thrown in a method, through a callback, is caught by a method above it.
#[test]
fn exceptions_of_cpp_pass_through() {
    let Some(imports) = throwing::imports() else {
        return;
    };
    extern "C" fn note(_: i64) {}
    let texts = throwing::texts();
    // `rethrows` calls `cleans` by its callback: everything thrown below passes through it.
    let by_callback = texts[2].1.replace(
        "invoke i64 @cleans(i64 %n)",
        "invoke i64 @call_back(i64 %n)",
    );
    let by_callback =
        by_callback.replace("declare i64 @cleans(i64)", "declare i64 @call_back(i64)");
    let [a, b, _, d] = &texts;
    let texts = [
        (a.0, &*a.1),
        (b.0, &*b.1),
        ("rethrows", &*by_callback),
        (d.0, &*d.1),
    ];
    let mut builder = Cache::builder(Texts::new(texts)).import("note", note as *const ());
    extern "C-unwind" fn call_back(n: i64) -> i64 {
        let cleans = CLEANS.load(Ordering::Relaxed);
        // SAFETY: the callback of a method of this type.
        unsafe { std::mem::transmute::<*mut (), Throws>(cleans)(n) }
    }
    static CLEANS: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());
    for (name, address) in imports {
        builder = builder.import(name, address);
    }
    let cache = builder
        .import("call_back", call_back as *const ())
        .build()
        .unwrap();
    let cleans = text::<Throws>(&cache, "cleans").callback().unwrap();
    CLEANS.store(cleans.cast_mut(), Ordering::Relaxed);
    let catches = text::<Throws>(&cache, "catches").callback().unwrap();
    for _ in 0..3 {
        for n in -3..3 {
            // SAFETY: the type is right, and it lets nothing out.
            let y = unsafe { std::mem::transmute::<*const (), Throws>(catches)(n) };
            assert_eq!(y, throwing::expected(n).0);
            assert!(cache.statistics().longest_pinned.is_none());
        }
        cache.seal();
        cache.evict_all();
    }
}

/// The backtrace of a host function goes on through the method and the callback, to the test.
#[test]
fn a_backtrace_goes_through() {
    static SEEN: Mutex<String> = Mutex::new(String::new());
    extern "C-unwind" fn looks(x: i64) -> i64 {
        *SEEN.lock().unwrap() = std::backtrace::Backtrace::force_capture().to_string();
        x
    }
    #[inline(never)]
    fn above_the_callback(via: Throws) -> i64 {
        // SAFETY: the type is right.
        std::hint::black_box(unsafe { via(1) })
    }
    let cache = Cache::builder(Texts::new([("via", VIA)]))
        .import("host", looks as *const ())
        .build()
        .unwrap();
    let via = text::<Throws>(&cache, "via").callback().unwrap();
    // SAFETY: the type is right.
    let via = unsafe { std::mem::transmute::<*const (), Throws>(via) };
    for _ in 0..2 {
        assert_eq!(above_the_callback(via), 101);
        let seen = std::mem::take(&mut *SEEN.lock().unwrap());
        let below = seen.find("looks").expect("the host's own frame");
        let callback = seen
            .find("inkpot_callback_entry")
            .expect("the callback's frame");
        let above = seen.find("above_the_callback").expect("the test's frame");
        assert!(below < callback && callback < above, "{seen}");
    }
}

/// A jump from below a callback to above it, again and again: the pins do not add up, and go.
#[test]
fn jumps_leave_no_pin_behind() {
    let _alone = IN_USE.lock().unwrap_or_else(|e| e.into_inner());
    let jumper = "
        declare i32 @_setjmp(ptr) returns_twice
        declare i64 @host(i64)
        define i64 @self(i64 %x) {
          %buffer = alloca [256 x i8], align 16
          store ptr %buffer, ptr inttoptr (i64 $BUFFER to ptr)
          %r = call i32 @_setjmp(ptr %buffer) returns_twice
          %first = icmp eq i32 %r, 0
          br i1 %first, label %down, label %back
        down:
          %y = call i64 @host(i64 %x)
          ret i64 %y
        back:
          %z = sext i32 %r to i64
          ret i64 %z
        }";
    static BUFFER: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
    unsafe extern "C" {
        fn _setjmp(buffer: *mut c_void) -> i32;
        fn longjmp(buffer: *mut c_void, value: i32) -> !;
    }
    extern "C" fn host(x: i64) -> i64 {
        if x == 0 {
            // SAFETY: the buffer of a method whose frame is above this one.
            unsafe { longjmp(BUFFER.load(Ordering::Relaxed), 33) }
        }
        // SAFETY: the callback of a method of this type.
        unsafe { std::mem::transmute::<*mut (), Unary>(CALLBACK.load(Ordering::Relaxed))(x - 1) }
    }
    let jumper = jumper.replace("$BUFFER", &format!("{}", BUFFER.as_ptr() as u64));
    let cache = Cache::builder(Texts::new([("jumper", &jumper), ("via", VIA)]))
        .import("host", host as *const ())
        .import("_setjmp", _setjmp as *const ())
        .build()
        .unwrap();
    let via = text::<Unary>(&cache, "via").callback().unwrap();
    CALLBACK.store(via.cast_mut(), Ordering::Relaxed);
    let jumper = text::<Unary>(&cache, "jumper").callback().unwrap();
    // SAFETY: the type is right.
    let jumper = unsafe { std::mem::transmute::<*const (), Unary>(jumper) };
    std::thread::scope(|threads| {
        let thread = threads.spawn(|| {
            for depth in 0..200 {
                // SAFETY: the type is right.
                let y = unsafe { jumper(depth % 5) };
                assert_eq!(y, 33);
                // The visit that returned took those along that were jumped out of.
                assert!(cache.statistics().longest_pinned.is_none());
            }
        });
        thread.join().unwrap();
    });
    assert_eq!(cache.statistics().participants, 0);
}

/// As above, with nothing above the jump that returns: the thread's next call ends the pins.
#[test]
fn a_jump_is_noticed_at_the_next_call() {
    let _alone = IN_USE.lock().unwrap_or_else(|e| e.into_inner());
    extern "C-unwind" fn host(_: i64) -> i64 {
        // Whoever unwinds without personalities leaves frames as a jump does.
        // SAFETY: the context was made by `jumps_over`, whose frame is there.
        unsafe { libc::setcontext(CONTEXT.load(Ordering::Relaxed).cast()) };
        unreachable!("it does not return");
    }
    static CONTEXT: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
    /// Calls, and is jumped back to. Nothing in this frame needs dropping.
    #[inline(never)]
    fn jumps_over(via: Unary) {
        let jumped = AtomicUsize::new(0);
        // SAFETY: plain old data, filled by getcontext.
        unsafe {
            let mut context: libc::ucontext_t = std::mem::zeroed();
            CONTEXT.store((&raw mut context).cast(), Ordering::Relaxed);
            libc::getcontext(&raw mut context);
            if jumped.fetch_add(1, Ordering::SeqCst) == 0 {
                via(1);
            }
        }
    }
    let leaf = "define i64 @self(i64 %x) { %y = add i64 %x, 3  ret i64 %y }";
    let cache = Cache::builder(Texts::new([("via", VIA), ("leaf", leaf)]))
        .import("host", host as *const ())
        .build()
        .unwrap();
    let [via, leaf] = ["via", "leaf"].map(|name| {
        let address = text::<Unary>(&cache, name).callback().unwrap();
        // SAFETY: the type is right.
        unsafe { std::mem::transmute::<*const (), Unary>(address) }
    });
    for _ in 0..50 {
        jumps_over(via);
        assert!(cache.statistics().longest_pinned.is_some());
        // SAFETY: the type is right.
        assert_eq!(unsafe { leaf(4) }, 7);
        assert!(cache.statistics().longest_pinned.is_none());
    }
    assert_eq!(cache.statistics().participants, 1);
}

// --- stacks of the host's own ---

/// A stack that is switched to and from, with the calls of a callback on it.
struct Fibre {
    stack: Vec<u8>,
    inside: libc::ucontext_t,
    outside: libc::ucontext_t,
    runs: Throws,
    result: i64,
}

thread_local! {
    static RUNNING: std::cell::Cell<*mut Fibre> = const { std::cell::Cell::new(std::ptr::null_mut()) };
}

impl Fibre {
    /// Runs nothing yet.
    fn new(runs: Throws) -> Box<Self> {
        // SAFETY: plain old data, made up below.
        let [inside, outside] = unsafe { std::mem::zeroed::<[libc::ucontext_t; 2]>() };
        let mut fibre = Box::new(Self {
            stack: vec![0; 256 << 10],
            inside,
            outside,
            runs,
            result: 0,
        });
        // SAFETY: the stack lives as long as the context, and neither moves.
        unsafe {
            libc::getcontext(&mut fibre.inside);
            fibre.inside.uc_stack.ss_sp = fibre.stack.as_mut_ptr().cast();
            fibre.inside.uc_stack.ss_size = fibre.stack.len();
            fibre.inside.uc_link = &raw mut fibre.outside;
            libc::makecontext(&mut fibre.inside, fibre_starts, 0);
        }
        fibre
    }

    /// Goes on with it until it switches out again, or ends.
    fn resume(&mut self) {
        let before = RUNNING.replace(self);
        // SAFETY: both contexts are this fibre's.
        unsafe { libc::swapcontext(&mut self.outside, &self.inside) };
        RUNNING.set(before);
    }
}

extern "C" fn fibre_starts() {
    // SAFETY: set by `resume`, which has the fibre borrowed.
    unsafe {
        let fibre = RUNNING.get();
        (*fibre).result = ((*fibre).runs)(1);
    }
}

/// A host function that leaves the fibre, in the middle of a method.
extern "C-unwind" fn switches_out(x: i64) -> i64 {
    // SAFETY: it runs on a fibre.
    unsafe {
        let fibre = RUNNING.get();
        libc::swapcontext(&mut (*fibre).inside, &(*fibre).outside);
    }
    x
}

fn via_on_fibres(cache: &Cache<Name>) -> Throws {
    let address = text::<Throws>(cache, "via").callback().unwrap();
    // SAFETY: the type is right.
    unsafe { std::mem::transmute::<*const (), Throws>(address) }
}

/// Calls that do not end in the order in which they began, on stacks above and below each other.
#[test]
fn calls_on_fibres_end_in_any_order() {
    let cache = Cache::builder(Texts::new([
        ("via", VIA),
        ("leaf", "define i64 @self(i64 %x) { ret i64 %x }"),
    ]))
    .import("host", switches_out as *const ())
    .build()
    .unwrap();
    let via = via_on_fibres(&cache);
    let leaf = text::<Unary>(&cache, "leaf").callback().unwrap();
    // SAFETY: the type is right.
    let leaf = unsafe { std::mem::transmute::<*const (), Unary>(leaf) };
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]] {
        let mut fibres: Vec<_> = (0..4).map(|_| Fibre::new(via)).collect();
        for fibre in &mut fibres {
            fibre.resume();
            // On the thread's own stack, in between.
            // SAFETY: the type is right.
            assert_eq!(unsafe { leaf(4) }, 4);
        }
        cache.evict_all();
        cache.seal();
        for n in order {
            assert!(cache.statistics().longest_pinned.is_some());
            fibres[n].resume();
            assert_eq!(fibres[n].result, 101);
        }
        assert!(cache.statistics().longest_pinned.is_none());
    }
    wait_until("no frame is left", || {
        cache.statistics().generations_recycled == 3
    });
}

#[test]
fn a_call_that_moves_to_another_thread_aborts() {
    struct Moves(*mut Fibre);
    // SAFETY: it is not sound, and the process ends for it.
    unsafe impl Send for Moves {}
    let name = "a_call_that_moves_to_another_thread_aborts";
    let ended = child::run(name, Duration::from_secs(20), || {
        let cache = Cache::builder(Texts::new([("via", VIA)]))
            .import("host", switches_out as *const ())
            .build()
            .unwrap();
        let mut fibre = Fibre::new(via_on_fibres(&cache));
        fibre.resume();
        let moves = Moves(&mut *fibre);
        let resume = move || {
            let moves = moves;
            // SAFETY: the fibre is alive.
            unsafe { (*moves.0).resume() };
        };
        std::thread::spawn(resume).join().unwrap();
    });
    if let Some(ended) = ended {
        ended.expect_signal(libc::SIGABRT);
        let told = "returned on another thread than it was called on";
        assert!(ended.output.contains(told), "{}", ended.output);
    }
}
