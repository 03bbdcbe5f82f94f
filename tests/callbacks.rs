//! Callbacks: addresses that any thread may call. What the caller passes arrives, what the method
//! returns comes back, and no code goes while a thread is inside.

mod support;

use std::cell::Cell;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicPtr, Ordering};

use inkpot::{Cache, MethodType, OptLevel, Stress};
use support::texts::{Name, Texts, text};
use support::{Unary, wait_until};

/// The callback of a text as a function.
fn function<F: MethodType>(cache: &Cache<Name>, name: &str) -> F {
    let address = text::<F>(cache, name).callback().unwrap();
    // SAFETY: `MethodType` says that F is a function pointer.
    unsafe { std::mem::transmute_copy(&address) }
}

/// Runs on a thread that the cache does not know.
fn elsewhere<R: Send>(run: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|threads| threads.spawn(run).join().unwrap())
}

/// The texts at each level, their callbacks called resident and not.
fn check<const N: usize>(
    texts: [(&'static str, &str); N],
    imports: &[(&str, *const ())],
    each: impl Fn(&Cache<Name>) + Sync,
) {
    for level in [OptLevel::O0, OptLevel::O1, OptLevel::O2] {
        let mut builder = Cache::builder(Texts::new(texts)).opt_level(level);
        for (name, address) in imports {
            builder = builder.import(name, *address);
        }
        let cache = builder.build().unwrap();
        for _ in 0..2 {
            elsewhere(|| {
                each(&cache);
                each(&cache);
            });
            cache.seal();
            cache.evict_all();
            wait_until("all is recycled", || {
                cache.statistics().mapped_code_bytes == 0
            });
        }
        assert_eq!(cache.statistics().participants, 0);
    }
}

const COMPARE: &str = "
    define i32 @self(ptr %a, ptr %b) {
      %x = load i64, ptr %a
      %y = load i64, ptr %b
      %less = icmp slt i64 %x, %y
      %more = icmp sgt i64 %x, %y
      %l = sext i1 %less to i32
      %m = zext i1 %more to i32
      %r = add i32 %l, %m
      ret i32 %r
    }";

type Compare = unsafe extern "C" fn(*const libc::c_void, *const libc::c_void) -> libc::c_int;

fn sorts_and_finds(compare: Compare, seed: u64) {
    let mut numbers: Vec<i64> = (0..200)
        .map(|i| (seed.wrapping_add(i).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) as i64)
        .collect();
    let mut sorted = numbers.clone();
    sorted.sort_unstable();
    // SAFETY: 200 numbers of 8 bytes; the comparison is the method's type.
    unsafe { libc::qsort(numbers.as_mut_ptr().cast(), 200, 8, Some(compare)) };
    assert_eq!(numbers, sorted);
    let key = numbers[seed as usize % 200];
    // SAFETY: as above.
    let found = unsafe {
        bsearch(
            (&raw const key).cast(),
            numbers.as_ptr().cast(),
            200,
            8,
            compare,
        )
        .cast::<i64>()
    };
    // SAFETY: the key is among them.
    assert_eq!(unsafe { *found }, key);
}

unsafe extern "C" {
    fn bsearch(
        key: *const libc::c_void,
        base: *const libc::c_void,
        members: usize,
        size: usize,
        compare: Compare,
    ) -> *const libc::c_void;
}

#[test]
fn qsort_and_bsearch_call_a_method() {
    check([("compare", COMPARE)], &[], |cache| {
        sorts_and_finds(function(cache, "compare"), 1);
    });
}

#[test]
fn many_threads_call_back_while_methods_go() {
    let cache = Cache::builder(Texts::new([("compare", COMPARE)]))
        .stress(Stress::a_lot())
        .build()
        .unwrap();
    let compare: Compare = function(&cache, "compare");
    let stop = AtomicBool::new(false);
    std::thread::scope(|threads| {
        let callers: Vec<_> = (0..4)
            .map(|thread| {
                let stop = &stop;
                threads.spawn(move || {
                    for round in 0.. {
                        sorts_and_finds(compare, 1000 * thread + round);
                        if stop.load(Ordering::Relaxed) {
                            return;
                        }
                    }
                })
            })
            .collect();
        wait_until("generations come and go below the callers", || {
            cache.evict_all();
            cache.seal();
            cache.statistics().generations_recycled > 50 || callers.iter().any(|c| c.is_finished())
        });
        stop.store(true, Ordering::Relaxed);
        callers.into_iter().for_each(|c| c.join().unwrap());
    });
    let s = cache.statistics();
    assert_eq!((s.participants, s.callbacks), (0, 1));
}

/// More arguments than there are registers, of both kinds.
#[test]
fn arguments_on_the_stack_arrive() {
    type Many =
        unsafe extern "C" fn(i64, f64, i64, f64, i64, f64, i64, f64, i64, f64, i64, f64) -> f64;
    type Integers =
        unsafe extern "C" fn(i64, i64, i64, i64, i64, i64, i64, i64, i64, i64, i64, i64) -> i64;
    let mut integers = "define i64 @self(".to_owned();
    let list: Vec<_> = (0..12).map(|i| format!("i64 %a{i}")).collect();
    integers += &list.join(", ");
    integers += ") {\n  %s0 = add i64 0, 0\n";
    for i in 0..12 {
        integers += &format!("  %w{i} = mul i64 %a{i}, {}\n", i + 1);
        integers += &format!("  %s{} = add i64 %s{i}, %w{i}\n", i + 1);
    }
    integers += "  ret i64 %s12\n}\n";
    let mut many = "define double @self(".to_owned();
    let list: Vec<_> = (0..6).map(|i| format!("i64 %a{i}, double %f{i}")).collect();
    many += &list.join(", ");
    many += ") {\n  %s0 = fadd double 0.0, 0.0\n";
    for i in 0..6 {
        many += &format!("  %c{i} = sitofp i64 %a{i} to double\n");
        many += &format!("  %p{i} = fmul double %c{i}, %f{i}\n");
        many += &format!("  %s{} = fadd double %s{i}, %p{i}\n", i + 1);
    }
    many += "  ret double %s6\n}\n";
    check([("integers", &integers), ("many", &many)], &[], |cache| {
        let integers: Integers = function(cache, "integers");
        // SAFETY: the type is right.
        let y = unsafe { integers(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12) };
        assert_eq!(y, (1..13).map(|i| i * i).sum::<i64>());
        let many: Many = function(cache, "many");
        // SAFETY: as above.
        let y = unsafe { many(1, 0.5, 2, 1.5, 3, 2.5, 4, 3.5, 5, 4.5, 6, 5.5) };
        assert_eq!(
            y,
            (1..7)
                .map(|i| f64::from(i) * (f64::from(i) - 0.5))
                .sum::<f64>()
        );
    });
}

/// A variadic method: `al` says how many vector registers there are.
#[test]
fn variable_arguments_arrive() {
    let callee = "
        declare void @llvm.va_start.p0(ptr)
        declare void @llvm.va_end.p0(ptr)
        define i64 @self(i64 %n, ...) {
        entry:
          %list = alloca [24 x i8], align 16
          call void @llvm.va_start.p0(ptr %list)
          br label %loop
        loop:
          %i = phi i64 [ 0, %entry ], [ %next, %loop ]
          %sum = phi i64 [ 0, %entry ], [ %more, %loop ]
          %f = va_arg ptr %list, double
          %m = va_arg ptr %list, i64
          %c = fptosi double %f to i64
          %p = mul i64 %c, %m
          %more = add i64 %sum, %p
          %next = add i64 %i, 1
          %again = icmp slt i64 %next, %n
          br i1 %again, label %loop, label %done
        done:
          call void @llvm.va_end.p0(ptr %list)
          ret i64 %more
        }";
    type Variadic = unsafe extern "C" fn(i64, ...) -> i64;
    check([("sum", callee)], &[], |cache| {
        let address = text::<Unary>(cache, "sum").callback().unwrap();
        // SAFETY: the type is right, and of each pair there are as many as it is told.
        unsafe {
            let sum: Variadic = std::mem::transmute(address);
            assert_eq!(sum(1, 3.0f64, 5i64), 15);
            let y = sum(
                10, 1.0f64, 1i64, 2.0f64, 2i64, 3.0f64, 3i64, 4.0f64, 4i64, 5.0f64, 5i64, 6.0f64,
                6i64, 7.0f64, 7i64, 8.0f64, 8i64, 9.0f64, 9i64, 10.0f64, 10i64,
            );
            assert_eq!(y, (1..11).map(|i| i * i).sum::<i64>());
        }
    });
}

#[repr(C)]
#[derive(Clone, Copy, PartialEq, Debug)]
struct Five([i64; 5]);

#[repr(C)]
#[derive(Clone, Copy, PartialEq, Debug)]
struct Pair<A, B>(A, B);

/// Results in memory, in two integer registers, in two vector registers, and in one of each.
#[test]
fn results_of_all_kinds_come_back() {
    let five = "
        %five = type [5 x i64]
        define void @self(ptr sret(%five) %out, ptr byval(%five) %in, i64 %x) {
          %last = getelementptr %five, ptr %in, i64 0, i64 4
          %l = load i64, ptr %last
          %s = add i64 %l, %x
          store i64 %s, ptr %out
          %first = load i64, ptr %in
          %at = getelementptr %five, ptr %out, i64 0, i64 4
          store i64 %first, ptr %at
          store i64 -1, ptr %in
          ret void
        }";
    let integers = "define { i64, i64 } @self(i64 %x) {
          %y = mul i64 %x, 3
          %a = insertvalue { i64, i64 } undef, i64 %x, 0
          %b = insertvalue { i64, i64 } %a, i64 %y, 1
          ret { i64, i64 } %b
        }";
    let doubles = "define { double, double } @self(double %x) {
          %y = fmul double %x, 3.0
          %a = insertvalue { double, double } undef, double %x, 0
          %b = insertvalue { double, double } %a, double %y, 1
          ret { double, double } %b
        }";
    let mixed = "define { double, i64 } @self(i64 %x) {
          %y = sitofp i64 %x to double
          %a = insertvalue { double, i64 } undef, double %y, 0
          %b = insertvalue { double, i64 } %a, i64 %x, 1
          ret { double, i64 } %b
        }";
    let texts = [
        ("five", five),
        ("integers", integers),
        ("doubles", doubles),
        ("mixed", mixed),
    ];
    check(texts, &[], |cache| {
        // SAFETY: the types are right.
        unsafe {
            let f: unsafe extern "C" fn(Five, i64) -> Five = function(cache, "five");
            let given = Five([1, 2, 3, 4, 5]);
            let got = f(given, 10);
            assert_eq!((got.0[0], got.0[4], given.0[0]), (15, 1, 1));
            let f: unsafe extern "C" fn(i64) -> Pair<i64, i64> = function(cache, "integers");
            assert_eq!(f(7), Pair(7, 21));
            let f: unsafe extern "C" fn(f64) -> Pair<f64, f64> = function(cache, "doubles");
            assert_eq!(f(0.5), Pair(0.5, 1.5));
            let f: unsafe extern "C" fn(i64) -> Pair<f64, i64> = function(cache, "mixed");
            assert_eq!(f(4), Pair(4.0, 4));
        }
    });
}

/// Vectors in whole registers, as far as the processor has them, and x87's numbers, one and two of
/// them: passed and returned between methods, by the callee's callback.
#[test]
fn vectors_and_x87_come_and_go() {
    let callee = "
        define <4 x double> @self(<4 x float> %s, <4 x double> %d, <8 x double> %w, x86_fp80 %l) {
          %s3 = extractelement <4 x float> %s, i32 3
          %a0 = fpext float %s3 to double
          %a1 = fptrunc x86_fp80 %l to double
          %low = fadd double %a0, %a1
          %w0 = shufflevector <8 x double> %w, <8 x double> poison, <4 x i32> <i32 4, i32 5, i32 6, i32 7>
          %v = fadd <4 x double> %w0, %d
          %r = insertelement <4 x double> %v, double %low, i32 0
          ret <4 x double> %r
        }";
    let complex = "
        define { x86_fp80, x86_fp80 } @self(x86_fp80 %x) {
          %two = fadd x86_fp80 %x, %x
          %a = insertvalue { x86_fp80, x86_fp80 } undef, x86_fp80 %x, 0
          %b = insertvalue { x86_fp80, x86_fp80 } %a, x86_fp80 %two, 1
          ret { x86_fp80, x86_fp80 } %b
        }";
    let caller = "
        define i64 @self(ptr %callee, ptr %complex, i64 %x) {
          %f = sitofp i64 %x to double
          %s = sitofp i64 %x to float
          %l = sitofp i64 %x to x86_fp80
          %s1 = insertelement <4 x float> zeroinitializer, float %s, i32 3
          %d1 = insertelement <4 x double> zeroinitializer, double %f, i32 3
          %w1 = insertelement <8 x double> zeroinitializer, double %f, i32 7
          %y = call <4 x double> %callee(<4 x float> %s1, <4 x double> %d1, <8 x double> %w1, x86_fp80 %l)
          %c = call { x86_fp80, x86_fp80 } %complex(x86_fp80 %l)
          %a = extractelement <4 x double> %y, i32 0
          %b = extractelement <4 x double> %y, i32 3
          %c0 = extractvalue { x86_fp80, x86_fp80 } %c, 0
          %c1 = extractvalue { x86_fp80, x86_fp80 } %c, 1
          %c2 = fadd x86_fp80 %c0, %c1
          %k = fptrunc x86_fp80 %c2 to double
          %t0 = fmul double %b, 1000.0
          %t1 = fmul double %k, 1000000.0
          %t2 = fadd double %a, %t0
          %t3 = fadd double %t2, %t1
          %r = fptosi double %t3 to i64
          ret i64 %r
        }";
    let texts = [("caller", caller), ("callee", callee), ("complex", complex)];
    type Caller = unsafe extern "C" fn(*const (), *const (), i64) -> i64;
    check(texts, &[], |cache| {
        let caller: Caller = function(cache, "caller");
        let callee = text::<Unary>(cache, "callee").callback().unwrap();
        let complex = text::<Unary>(cache, "complex").callback().unwrap();
        // SAFETY: the types are right.
        let y = unsafe { caller(callee, complex, 3) };
        assert_eq!(y, 2 * 3 + 1000 * 6 + 1_000_000 * 9);
    });
}

/// What the caller holds in registers that calls preserve, rbx among them, and errno, survive.
#[test]
fn what_the_caller_holds_stays() {
    static CALLBACK: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());
    extern "C" fn calls(x: i64) -> i64 {
        // SAFETY: the callback of a method of this type; errno is this thread's own.
        unsafe {
            *libc::__errno_location() = 77 + x as i32;
            let callback: Unary = std::mem::transmute(CALLBACK.load(Ordering::Relaxed));
            let y = callback(x);
            assert_eq!(*libc::__errno_location(), 1000 + x as i32);
            y
        }
    }
    extern "C" fn swaps_errno(n: i64) -> i64 {
        // SAFETY: this thread's own.
        unsafe {
            let errno = *libc::__errno_location();
            *libc::__errno_location() = n as i32;
            i64::from(errno)
        }
    }
    let mut caller = "declare i64 @calls(i64)\ndefine i64 @self(i64 %x) {\n".to_owned();
    for i in 0..12 {
        caller += &format!(
            "  %v{i} = mul i64 %x, {}\n  %o{i} = xor i64 %v{i}, {i}\n",
            i + 3
        );
    }
    caller += "  %s = call i64 @calls(i64 %x)\n";
    let mut sum = "%s".to_owned();
    for i in 0..12 {
        caller += &format!("  %t{i} = add i64 {sum}, %o{i}\n");
        sum = format!("%t{i}");
    }
    caller += &format!("  ret i64 {sum}\n}}\n");
    let callee = "
        declare i64 @swaps_errno(i64)
        define i64 @self(i64 %x) {
          %n = add i64 %x, 1000
          %e = call i64 @swaps_errno(i64 %n)
          %y = mul i64 %e, 100000
          ret i64 %y
        }";
    let imports = [
        ("calls", calls as *const ()),
        ("swaps_errno", swaps_errno as *const ()),
    ];
    check(
        [("caller", &caller), ("callee", callee)],
        &imports,
        |cache| {
            let callee = text::<Unary>(cache, "callee").callback().unwrap();
            CALLBACK.store(callee.cast_mut(), Ordering::Relaxed);
            let caller: Unary = function(cache, "caller");
            for x in 0..6 {
                // SAFETY: the type is right.
                let y = unsafe { caller(x) };
                assert_eq!(
                    y,
                    (x + 77) * 100_000 + (0..12).map(|i| (x * (i + 3)) ^ i).sum::<i64>()
                );
            }
        },
    );
}

const DEEP: &str = "
    declare i64 @host(i64)
    define i64 @self(i64 %x) {
      %zero = icmp eq i64 %x, 0
      br i1 %zero, label %end, label %deeper
    deeper:
      %less = sub i64 %x, 1
      %y = call i64 @host(i64 %less)
      %z = add i64 %y, 2
      ret i64 %z
    end:
      ret i64 7
    }";

/// A callback whose method calls the host, which calls the callback, a thousand deep, while all
/// code below is evicted. On a thread that nobody knows, and on one that is pinned.
#[test]
fn callbacks_nest() {
    static DEEP_CALLBACK: AtomicPtr<()> = AtomicPtr::new(std::ptr::null_mut());
    static CACHE: Mutex<Option<Cache<Name>>> = Mutex::new(None);
    static PARTICIPANTS: AtomicI64 = AtomicI64::new(0);
    extern "C" fn host(x: i64) -> i64 {
        if x % 100 == 0 {
            let cache = CACHE.lock().unwrap().clone().unwrap();
            cache.evict_all();
            cache.seal();
            let participants = cache.statistics().participants as i64;
            PARTICIPANTS.fetch_max(participants, Ordering::Relaxed);
        }
        // SAFETY: the callback of a method of this type.
        unsafe { std::mem::transmute::<*mut (), Unary>(DEEP_CALLBACK.load(Ordering::Relaxed))(x) }
    }
    let cache = Cache::builder(Texts::new([("deep", DEEP)]))
        .import("host", host as *const ())
        .build()
        .unwrap();
    *CACHE.lock().unwrap() = Some(cache.clone());
    let deep: Unary = function(&cache, "deep");
    DEEP_CALLBACK.store(deep as *mut (), Ordering::Relaxed);
    // SAFETY: the type is right.
    assert_eq!(elsewhere(|| unsafe { deep(1000) }), 2007);
    let me = cache.participant("test");
    for pinned in [false, true] {
        let guard = pinned.then(|| me.pin());
        // SAFETY: as above.
        assert_eq!(unsafe { deep(1000) }, 2007);
        assert_eq!(cache.statistics().longest_pinned.is_some(), pinned);
        drop(guard);
        assert!(cache.statistics().longest_pinned.is_none());
    }
    // This thread's participant, and its visitor, from when it was not pinned.
    assert_eq!(PARTICIPANTS.load(Ordering::Relaxed), 2);
    wait_until("no frame is left", || {
        cache.statistics().generations_recycled >= 20
    });
    *CACHE.lock().unwrap() = None;
}

/// Several caches on one thread, each with its own pin.
#[test]
fn caches_do_not_mix() {
    let leaf = "define i64 @self(i64 %x) { %y = add i64 %x, $N  ret i64 %y }";
    let caches: Vec<_> = (0..3)
        .map(|_| {
            Cache::builder(Texts::new([("leaf", leaf)]))
                .build()
                .unwrap()
        })
        .collect();
    elsewhere(|| {
        for round in 0..20 {
            for (n, cache) in (0..).zip(&caches) {
                let leaf: Unary = function(cache, &format!("leaf#{n}"));
                // SAFETY: the type is right.
                assert_eq!(unsafe { leaf(round) }, round + n);
                assert_eq!(cache.statistics().participants, 1);
            }
        }
    });
    for cache in &caches {
        assert_eq!(cache.statistics().participants, 0);
    }
}

/// The participant's own guard goes first, from inside: the visit stays pinned.
#[test]
fn a_guard_may_go_in_the_middle() {
    thread_local! {
        static GUARD: Cell<Option<inkpot::Guard<'static>>> = const { Cell::new(None) };
    }
    static CACHE: Mutex<Option<Cache<Name>>> = Mutex::new(None);
    extern "C" fn host(x: i64) -> i64 {
        drop(GUARD.take());
        let cache = CACHE.lock().unwrap().clone().unwrap();
        cache.evict_all();
        cache.seal();
        std::thread::sleep(std::time::Duration::from_millis(20));
        let s = cache.statistics();
        assert_eq!(
            (s.generations_recycled, s.longest_pinned.is_some()),
            (0, true)
        );
        x
    }
    let text = DEEP.replace("ret i64 7", "ret i64 8");
    let cache = Cache::builder(Texts::new([("deep", &text)]))
        .import("host", host as *const ())
        .build()
        .unwrap();
    *CACHE.lock().unwrap() = Some(cache.clone());
    let deep: Unary = function(&cache, "deep");
    let me = Box::leak(Box::new(cache.participant("test")));
    GUARD.set(Some(me.pin()));
    // SAFETY: the type is right.
    assert_eq!(unsafe { deep(1) }, 2);
    assert!(cache.statistics().longest_pinned.is_none());
    wait_until("no frame is left", || {
        cache.statistics().generations_recycled == 1
    });
    *CACHE.lock().unwrap() = None;
}

/// A safepoint in a function that the method calls: the thread stays inside, and all but the code
/// that it has frames in goes.
#[test]
fn a_safepoint_inside_lets_others_go() {
    static CACHE: Mutex<Option<Cache<Name>>> = Mutex::new(None);
    extern "C" fn host(x: i64) -> i64 {
        let cache = CACHE.lock().unwrap().clone().unwrap();
        cache.evict_all();
        wait_until("what the thread is not inside of is recycled", || {
            // SAFETY: no entry was loaded on this thread.
            unsafe { inkpot::safepoint_of_thread() };
            cache.statistics().generations_recycled == 5
        });
        x
    }
    let leaf = "define i64 @self(i64 %x) { %y = add i64 %x, $N  ret i64 %y }";
    let cache = Cache::builder(Texts::new([("deep", DEEP), ("leaf", leaf)]))
        .import("host", host as *const ())
        .generation_methods(1)
        .build()
        .unwrap();
    *CACHE.lock().unwrap() = Some(cache.clone());
    elsewhere(|| {
        for n in 0..5 {
            let leaf: Unary = function(&cache, &format!("leaf#{n}"));
            // SAFETY: the type is right.
            assert_eq!(unsafe { leaf(1) }, n + 1);
        }
        let deep: Unary = function(&cache, "deep");
        // SAFETY: as above.
        assert_eq!(unsafe { deep(1) }, 2);
        assert_eq!(cache.statistics().generations_recycled, 5);
    });
    wait_until("the method's own goes with the thread", || {
        cache.statistics().generations_recycled == 6
    });
    *CACHE.lock().unwrap() = None;
}
