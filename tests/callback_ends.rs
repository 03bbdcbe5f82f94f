//! How callbacks end: with the thread that is inside, with the cache, and by being given back.

mod support;

use std::cell::RefCell;
use std::ffi::c_void;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use inkpot::Cache;
use support::synthetic::{Code, How, Synthetic, Unary as Throws};
use support::texts::{Name, Texts, text};
use support::{Gate, Unary, child, leaf, synthetic, wait_until};

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

const VIA: &str = "
    declare i64 @host(i64)
    define i64 @self(i64 %x) {
      %y = call i64 @host(i64 %x)
      %z = add i64 %y, 100
      ret i64 %z
    }";

/// Destructors of a thread call back: before ours has run, and after.
#[test]
fn destructors_of_a_thread_call_back() {
    static CALLED: AtomicUsize = AtomicUsize::new(0);
    struct Calls(Throws);
    impl Drop for Calls {
        fn drop(&mut self) {
            // SAFETY: the type is right.
            assert_eq!(unsafe { (self.0)(10) }, 17);
            CALLED.fetch_add(1, Ordering::Relaxed);
        }
    }
    thread_local! {
        static FIRST: RefCell<Option<Calls>> = const { RefCell::new(None) };
        static SECOND: RefCell<Option<Calls>> = const { RefCell::new(None) };
    }
    /// Called for a key of pthread, after all of the above.
    unsafe extern "C" fn last(callback: *mut c_void) {
        // SAFETY: the callback of a method of this type.
        drop(Calls(unsafe {
            std::mem::transmute::<*mut c_void, Throws>(callback)
        }));
    }
    let cache = Cache::with_backend(Synthetic::default()).build().unwrap();
    let add = function(&cache, Code::leaf(7));
    let mut key = 0;
    // SAFETY: `key` is written by the call.
    assert_eq!(unsafe { libc::pthread_key_create(&mut key, Some(last)) }, 0);
    for round in 1..4 {
        std::thread::spawn(move || {
            // SAFETY: a key of ours.
            unsafe { libc::pthread_setspecific(key, add as *const c_void) };
            FIRST.set(Some(Calls(add)));
            // SAFETY: the type is right.
            assert_eq!(unsafe { add(1) }, 8);
            SECOND.set(Some(Calls(add)));
        })
        .join()
        .unwrap();
        assert_eq!(CALLED.load(Ordering::Relaxed), 3 * round);
        assert_eq!(cache.statistics().participants, 0);
    }
    recycles_everything(&cache);
}

/// A thread ends inside of a callback. Its frames are unwound, ours too.
#[test]
fn a_thread_ends_inside() {
    unsafe extern "C-unwind" {
        fn pthread_exit(value: *mut c_void) -> !;
        fn pthread_create(
            thread: *mut libc::pthread_t,
            attributes: *const c_void,
            start: unsafe extern "C-unwind" fn(*mut c_void) -> *mut c_void,
            argument: *mut c_void,
        ) -> i32;
    }
    extern "C-unwind" fn ends(_: i64) -> i64 {
        // SAFETY: all frames above can be unwound, and have nothing to drop.
        unsafe { pthread_exit(4711 as *mut c_void) }
    }
    unsafe extern "C-unwind" fn start(callback: *mut c_void) -> *mut c_void {
        // SAFETY: the callback of a method of this type.
        unsafe { std::mem::transmute::<*mut c_void, Throws>(callback)(1) };
        std::ptr::null_mut()
    }
    // Without unwind information the frames are simply left, and the thread is found to be gone.
    for (text_of_method, unwinds) in [
        (VIA.to_owned(), true),
        (VIA.replace("(i64 %x) {", "(i64 %x) nounwind {"), false),
    ] {
        let cache = Cache::builder(Texts::new([("via", &*text_of_method)]))
            .import("host", ends as *const ())
            .build()
            .unwrap();
        let via = text::<Throws>(&cache, "via").callback().unwrap();
        for _ in 0..5 {
            let mut thread = 0;
            let mut result = std::ptr::null_mut();
            // SAFETY: as pthread_create and pthread_join want it.
            unsafe {
                assert_eq!(
                    pthread_create(&mut thread, std::ptr::null(), start, via as *mut c_void),
                    0
                );
                assert_eq!(libc::pthread_join(thread, &mut result), 0);
            }
            assert_eq!(result as usize, 4711);
            if unwinds {
                assert_eq!(cache.statistics().participants, 0);
            } else {
                wait_until("the thread is gone", || {
                    cache.statistics().participants == 0
                });
            }
        }
        cache.seal();
        cache.evict_all();
        wait_until("all is recycled", || {
            cache.statistics().mapped_code_bytes == 0
        });
    }
}

/// The last handle goes while a thread is inside: the cache, its workers included, stays until the
/// thread leaves. Threads that are outside do not keep it.
#[test]
fn a_cache_ends_when_the_last_is_outside() {
    static GATE: Gate = Gate::new();
    extern "C" fn host(x: i64) -> i64 {
        GATE.wait();
        x
    }
    let text_of_method = "
        declare i64 @host(i64)
        declare i64 @other(i64)
        define i64 @self(i64 %x) {
          %y = call i64 @host(i64 %x)
          %z = call i64 @other(i64 %y)
          ret i64 %z
        }";
    let other = "define i64 @self(i64 %x) { %y = add i64 %x, 100  ret i64 %y }";
    struct Told(&'static AtomicUsize);
    impl Drop for Told {
        fn drop(&mut self) {
            self.0.store(1, Ordering::SeqCst);
        }
    }
    static OVER: AtomicUsize = AtomicUsize::new(0);
    struct Frontend(
        Texts,
        #[allow(dead_code, reason = "its drop is looked at")] Told,
    );
    impl inkpot::Frontend for Frontend {
        type Key = Name;
        fn emit<'ctx>(
            &self,
            key: &Name,
            unit: &mut inkpot::Unit<'_, 'ctx, Name>,
        ) -> Result<(), inkpot::BoxError> {
            self.0.emit(key, unit)
        }
    }
    let texts = Texts::new([("inside", text_of_method), ("other", other)]);
    let cache = Cache::builder(Frontend(texts, Told(&OVER)))
        .import("host", host as *const ())
        .build()
        .unwrap();
    let [inside, outside] = ["inside", "other"].map(|name| {
        let address = text::<Unary>(&cache, name).callback().unwrap();
        // SAFETY: the type is right.
        unsafe { std::mem::transmute::<*const (), Unary>(address) }
    });
    // This thread has a visitor, and lives on.
    // SAFETY: the type is right.
    assert_eq!(unsafe { outside(1) }, 101);
    cache.evict_all();
    // SAFETY: as above.
    let thread = std::thread::spawn(move || unsafe { inside(5) });
    wait_until("it is inside", || GATE.came() == 1);
    drop(cache);
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(OVER.load(Ordering::SeqCst), 0);
    GATE.open();
    // `other` had no code: it was compiled by the worker of a cache that nobody had.
    assert_eq!(thread.join().unwrap(), 105);
    wait_until("the cache is gone", || OVER.load(Ordering::SeqCst) == 1);
    // Another cache, at the same place perhaps.
    let cache = Cache::with_backend(Synthetic::default()).build().unwrap();
    // SAFETY: the type is right.
    assert_eq!(unsafe { function(&cache, Code::leaf(4))(1) }, 5);
    let s = cache.statistics();
    assert_eq!((s.participants, s.longest_pinned), (1, None));
}

// --- giving back ---

#[test]
fn addresses_and_callbacks_are_given_back() {
    let cache = Cache::with_backend(Synthetic::default()).build().unwrap();
    let handles: Vec<_> = (0..100).map(|n| leaf(&cache, n)).collect();
    let addresses: Vec<_> = handles.iter().map(|h| h.address()).collect();
    let callbacks: Vec<_> = handles.iter().map(|h| h.callback().unwrap()).collect();
    for (n, handle) in handles.iter().enumerate() {
        assert_eq!(handle.address(), addresses[n]);
        assert_eq!(handle.callback().unwrap(), callbacks[n]);
    }
    let counts = || {
        let s = cache.statistics();
        (s.methods_known, s.addresses_taken, s.callbacks)
    };
    assert_eq!(counts(), (100, 100, 100));
    let with_callbacks = cache.statistics().bytes.bookkeeping;
    drop(handles);
    assert_eq!(counts(), (100, 100, 100));
    for n in 0..100 {
        let handle = leaf(&cache, n);
        // SAFETY: nobody uses them any more.
        unsafe {
            handle.release_address();
            handle.release_address();
            assert_eq!(counts().1, 99 - u64::from(n));
            handle.release_callback();
            handle.release_callback();
        }
    }
    assert_eq!(counts(), (0, 0, 0));
    wait_until("callbacks are not charged", || {
        cache.statistics().bytes.bookkeeping < with_callbacks
    });
    // Taken anew, they work.
    let handle = leaf(&cache, 1000);
    // SAFETY: the type is right.
    unsafe {
        assert_eq!(
            std::mem::transmute::<*const (), Throws>(handle.callback().unwrap())(1),
            1001
        );
        let me = cache.participant("test");
        let _guard = me.pin();
        assert_eq!(
            std::mem::transmute::<*const (), Throws>(handle.address())(1),
            1001
        );
    }
    assert_eq!(counts(), (1, 1, 1));
}

/// Code that takes a method's address keeps it, whoever gives it back.
#[test]
fn code_keeps_what_it_takes_the_address_of() {
    let cache = Cache::with_backend(Synthetic::default()).build().unwrap();
    let me = cache.participant("test");
    let code = Code::new(8, How::CallAddress);
    let caller = synthetic::method(&cache, code);
    let callee = synthetic::method(&cache, code.callee().unwrap());
    // SAFETY: the type is right.
    unsafe {
        assert_eq!(caller.get(&mut me.pin()).unwrap().call(1), code.result(1));
        assert_eq!(cache.statistics().addresses_taken, 1);
        callee.release_address();
        assert_eq!(cache.statistics().addresses_taken, 0);
        drop(callee);
        assert_eq!(cache.statistics().methods_known, 2);
        assert_eq!(caller.get(&mut me.pin()).unwrap().call(2), code.result(2));
    }
    cache.seal();
    cache.evict_all();
    wait_until("the callee is forgotten with the caller's code", || {
        cache.statistics().methods_known == 1
    });
}

#[test]
fn more_callbacks_than_a_chunk() {
    let cache = Cache::with_backend(Synthetic::default()).build().unwrap();
    let mut seen = std::collections::HashSet::new();
    for n in 0..3000 {
        let add = function(&cache, Code::leaf(n));
        assert!(seen.insert(add as usize));
        if n % 100 == 0 {
            // SAFETY: the type is right.
            assert_eq!(unsafe { add(1) }, i64::from(n) + 1);
        }
    }
    assert_eq!(cache.statistics().callbacks, 3000);
}

#[test]
fn late_calls_are_told_so() {
    let name = "late_calls_are_told_so";
    let ended = child::run(name, Duration::from_secs(20), || {
        let cache = Cache::with_backend(Synthetic::default()).build().unwrap();
        let add = function(&cache, Code::leaf(4));
        // SAFETY: it is called on purpose: this ends the process.
        unsafe {
            assert_eq!(add(1), 5);
            leaf(&cache, 4).release_callback();
            add(1);
        }
    });
    if let Some(ended) = ended {
        ended.expect_signal(libc::SIGABRT);
        let told = "inkpot: a callback that was given back was called";
        assert!(ended.output.contains(told), "{}", ended.output);
    }
}

/// A participant that is dropped under a callback which counts on its pin, with its guard leaked,
/// ends the process rather than the pin.
#[test]
fn a_participant_dropped_inside_aborts() {
    thread_local! {
        static ME: RefCell<Option<inkpot::Participant>> = const { RefCell::new(None) };
    }
    extern "C" fn host(x: i64) -> i64 {
        ME.take();
        x
    }
    let name = "a_participant_dropped_inside_aborts";
    let ended = child::run(name, Duration::from_secs(20), || {
        let cache = Cache::builder(Texts::new([("via", VIA)]))
            .import("host", host as *const ())
            .build()
            .unwrap();
        let via = text::<Unary>(&cache, "via").callback().unwrap();
        ME.set(Some(cache.participant("test")));
        ME.with_borrow(|me| std::mem::forget(me.as_ref().map(|me| me.pin())));
        // SAFETY: the type is right; this ends the process.
        unsafe { std::mem::transmute::<*const (), Unary>(via)(1) };
    });
    if let Some(ended) = ended {
        ended.expect_signal(libc::SIGABRT);
        assert!(
            ended
                .output
                .contains("dropped inside of a callback that counts"),
            "{}",
            ended.output
        );
    }
}

/// A forked child calls back into resident code, on its one thread, known before or not.
#[test]
fn a_forked_child_calls_back() {
    for known in [false, true] {
        let cache = Cache::with_backend(Synthetic::default()).build().unwrap();
        let handle = leaf(&cache, 4);
        let add = function(&cache, Code::leaf(4));
        let call = move |x| {
            // SAFETY: the type is right.
            unsafe { add(x) }
        };
        std::thread::spawn(move || assert_eq!(call(1), 5))
            .join()
            .unwrap();
        let forks = move || {
            if known {
                assert_eq!(call(1), 5);
            }
            child::fork(false, move || {
                assert_eq!(call(2), 6);
                i32::from(handle.callback().is_ok())
            })
        };
        std::thread::spawn(forks).join().unwrap().expect_code(0);
    }
}
