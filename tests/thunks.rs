//! Calls that find no code: what the caller passed arrives, what the callee returns comes back,
//! and who cannot be called is told so at the failure entry.

mod support;

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use inkpot::{BoxError, Cache, Error, Frontend, OptLevel, Unit, last_failure};
use support::texts::{Name, Texts, text};
use support::{Calculator, Gate, Hooked, Op, Unary, child, method, wait_until};

/// Calls `caller` until it has been called with its callees evicted, resident, and evicted again,
/// at each level, and compares.
fn check<const N: usize>(
    texts: [(&'static str, &str); N],
    imports: &[(&str, *const ())],
    expected: impl Fn(i64) -> i64,
) {
    for level in [OptLevel::O0, OptLevel::O1, OptLevel::O2] {
        let mut builder = Cache::builder(Texts::new(texts)).opt_level(level);
        for (name, address) in imports {
            builder = builder.import(name, *address);
        }
        let cache = builder.build().unwrap();
        let me = cache.participant("test");
        let caller = text::<Unary>(&cache, "caller");
        let _keep = caller.keep();
        for x in 0..6 {
            let mut guard = me.pin();
            // SAFETY: the type is right.
            let y = unsafe { caller.get(&mut guard).unwrap().call(x) };
            assert_eq!(y, expected(x), "{x} at {level:?}");
            if x % 2 == 1 {
                cache.evict_all();
            }
        }
        assert!(
            cache.statistics().compiles >= 4,
            "callees were compiled behind calls"
        );
    }
}

#[test]
fn every_argument_arrives() {
    let types: Vec<&str> = (0..20)
        .map(|i| if i % 20 < 9 { "i64" } else { "double" })
        .collect();
    let parameters: Vec<_> = (0..20).map(|i| format!("{} %a{i}", types[i])).collect();
    let mut callee = format!("define i64 @self({}) {{\n", parameters.join(", "));
    let mut caller = format!(
        "declare i64 @callee({})\ndefine i64 @self(i64 %x) {{\n  %f = sitofp i64 %x to double\n",
        types.join(", ")
    );
    let mut sum = "0".to_owned();
    for (i, &ty) in types.iter().enumerate() {
        let (op, convert) = match ty {
            "i64" => ("add i64 %x", format!("%c{i} = add i64 %a{i}, 0")),
            _ => (
                "fadd double %f",
                format!("%c{i} = fptosi double %a{i} to i64"),
            ),
        };
        let number = if ty == "i64" {
            format!("{i}")
        } else {
            format!("{i}.0")
        };
        caller += &format!("  %a{i} = {op}, {number}\n");
        let weight = i + 3;
        callee += &format!("  {convert}\n  %w{i} = mul i64 %c{i}, {weight}\n");
        callee += &format!("  %s{i} = add i64 {sum}, %w{i}\n");
        sum = format!("%s{i}");
    }
    callee += &format!("  ret i64 {sum}\n}}\n");
    let arguments: Vec<_> = (0..20).map(|i| format!("{} %a{i}", types[i])).collect();
    caller += &format!(
        "  %y = call i64 @callee({})\n  ret i64 %y\n}}\n",
        arguments.join(", ")
    );
    check([("caller", &caller), ("callee", &callee)], &[], |x| {
        (0..20).map(|i| (x + i) * (i + 3)).sum()
    });
}

/// The number of vector registers in `al` tells a variadic function what to save.
#[test]
fn variable_arguments_arrive() {
    let caller = "
        declare i64 @callee(i64, ...)
        define i64 @self(i64 %x) {
          %f = sitofp i64 %x to double
          %g = fadd double %f, 1.0
          %y = call i64 (i64, ...) @callee(i64 %x, double %f, i64 3, double %g, i64 %x, double 8.0,
                  i64 5, double 16.0, i64 6, double 32.0, i64 7, double 64.0, i64 8, double 128.0,
                  i64 9, double 256.0, i64 10, double 512.0, i64 11)
          ret i64 %y
        }";
    let callee = "
        declare void @llvm.va_start.p0(ptr)
        declare void @llvm.va_end.p0(ptr)
        define i64 @self(i64 %x, ...) {
        entry:
          %list = alloca [24 x i8], align 16
          call void @llvm.va_start.p0(ptr %list)
          br label %loop
        loop:
          %i = phi i64 [ 0, %entry ], [ %next, %loop ]
          %sum = phi i64 [ %x, %entry ], [ %more, %loop ]
          %f = va_arg ptr %list, double
          %n = va_arg ptr %list, i64
          %c = fptosi double %f to i64
          %p = mul i64 %c, %n
          %more = add i64 %sum, %p
          %next = add i64 %i, 1
          %again = icmp slt i64 %next, 9
          br i1 %again, label %loop, label %done
        done:
          call void @llvm.va_end.p0(ptr %list)
          ret i64 %more
        }";
    check([("caller", caller), ("callee", callee)], &[], |x| {
        let rest: i64 = (3..10).map(|i| (1 << i) * (i + 2)).sum();
        x + 3 * x + (x + 1) * x + rest
    });
}

/// A result through memory, a structure by value, and a static chain in r10.
#[test]
fn structures_and_chains_arrive() {
    let caller = "
        %five = type { i64, i64, i64, i64, i64 }
        declare void @makes(ptr sret(%five), i64)
        declare i64 @takes(i64, ptr byval(%five), ptr nest, i64)
        define i64 @self(i64 %x) {
          %made = alloca %five
          %chain = alloca i64
          store i64 %x, ptr %chain
          call void @makes(ptr sret(%five) %made, i64 %x)
          %y = call i64 @takes(i64 1, ptr byval(%five) %made, ptr nest %chain, i64 %x)
          %at = getelementptr %five, ptr %made, i64 0, i32 4
          %last = load i64, ptr %at
          %z = mul i64 %last, 1000
          %sum = add i64 %y, %z
          ret i64 %sum
        }";
    let makes = "
        %five = type { i64, i64, i64, i64, i64 }
        define void @self(ptr sret(%five) %out, i64 %x) {
          store i64 %x, ptr %out
          %at = getelementptr %five, ptr %out, i64 0, i32 4
          %y = add i64 %x, 7
          store i64 %y, ptr %at
          ret void
        }";
    // Changes its copy: the caller's stays.
    let takes = "
        %five = type { i64, i64, i64, i64, i64 }
        define i64 @self(i64 %one, ptr byval(%five) %s, ptr nest %chain, i64 %x) {
          %first = load i64, ptr %s
          %at = getelementptr %five, ptr %s, i64 0, i32 4
          %last = load i64, ptr %at
          store i64 -1, ptr %at
          %outer = load i64, ptr %chain
          %a = add i64 %first, %last
          %b = add i64 %a, %outer
          %c = add i64 %b, %one
          ret i64 %c
        }";
    let texts = [("caller", caller), ("makes", makes), ("takes", takes)];
    check(texts, &[], |x| x + (x + 7) + x + 1 + 1000 * (x + 7));
}

/// Vectors in whole registers, of every width that the processor has, and x87's numbers.
#[test]
fn vectors_arrive() {
    let caller = "
        declare <4 x double> @callee(<4 x float>, <4 x double>, <8 x double>, <8 x i32>, x86_fp80)
        define i64 @self(i64 %x) {
          %f = sitofp i64 %x to double
          %s = sitofp i64 %x to float
          %l = sitofp i64 %x to x86_fp80
          %i = trunc i64 %x to i32
          %s1 = insertelement <4 x float> <float 1.0, float 2.0, float 3.0, float 4.0>, float %s, i32 3
          %d1 = insertelement <4 x double> <double 1.0, double 2.0, double 3.0, double 4.0>, double %f, i32 3
          %w0 = insertelement <8 x double> zeroinitializer, double %f, i32 0
          %w1 = insertelement <8 x double> %w0, double %f, i32 7
          %i1 = insertelement <8 x i32> zeroinitializer, i32 %i, i32 7
          %y = call <4 x double> @callee(<4 x float> %s1, <4 x double> %d1, <8 x double> %w1, <8 x i32> %i1, x86_fp80 %l)
          %a = extractelement <4 x double> %y, i32 0
          %b = extractelement <4 x double> %y, i32 3
          %c = fmul double %b, 1000.0
          %z = fadd double %a, %c
          %r = fptosi double %z to i64
          ret i64 %r
        }";
    let callee = "
        define <4 x double> @self(<4 x float> %s, <4 x double> %d, <8 x double> %w, <8 x i32> %i, x86_fp80 %l) {
          %s3 = extractelement <4 x float> %s, i32 3
          %s2 = extractelement <4 x float> %s, i32 2
          %i7 = extractelement <8 x i32> %i, i32 7
          %a0 = fpext float %s3 to double
          %a1 = fpext float %s2 to double
          %a2 = sitofp i32 %i7 to double
          %a3 = fptrunc x86_fp80 %l to double
          %b0 = fadd double %a0, %a1
          %b1 = fadd double %a2, %a3
          %low = fadd double %b0, %b1
          %w0 = shufflevector <8 x double> %w, <8 x double> poison, <4 x i32> <i32 0, i32 1, i32 2, i32 3>
          %w1 = shufflevector <8 x double> %w, <8 x double> poison, <4 x i32> <i32 4, i32 5, i32 6, i32 7>
          %v0 = fadd <4 x double> %w0, %w1
          %v1 = fadd <4 x double> %v0, %d
          %r = insertelement <4 x double> %v1, double %low, i32 0
          ret <4 x double> %r
        }";
    // The last element: x of the wide one, and x.
    check([("caller", caller), ("callee", callee)], &[], |x| {
        3 * x + 3 + 1000 * (2 * x)
    });
}

/// What the caller holds in callee-saved registers, and errno, survive.
#[test]
fn what_the_caller_holds_stays() {
    extern "C" fn set_errno(n: i64) {
        // SAFETY: this thread's own.
        unsafe { *libc::__errno_location() = n as i32 };
    }
    extern "C" fn get_errno() -> i64 {
        // SAFETY: this thread's own.
        i64::from(unsafe { *libc::__errno_location() })
    }
    let mut caller = "
        declare void @set_errno(i64)
        declare i64 @callee(i64)
        define i64 @self(i64 %x) {
        "
    .to_owned();
    for i in 0..12 {
        caller += &format!(
            "  %v{i} = mul i64 %x, {}\n  %o{i} = xor i64 %v{i}, {i}\n",
            i + 3
        );
    }
    caller += "  %e = add i64 %x, 77\n  call void @set_errno(i64 %e)\n";
    caller += "  %s = call i64 @callee(i64 %x)\n";
    let mut sum = "%s".to_owned();
    for i in 0..12 {
        caller += &format!("  %t{i} = add i64 {sum}, %o{i}\n");
        sum = format!("%t{i}");
    }
    caller += &format!("  ret i64 {sum}\n}}\n");
    let callee = "
        declare i64 @get_errno()
        define i64 @self(i64 %x) {
          %e = call i64 @get_errno()
          %y = mul i64 %e, 100000
          ret i64 %y
        }";
    let imports = [
        ("set_errno", set_errno as *const ()),
        ("get_errno", get_errno as *const ()),
    ];
    check([("caller", &caller), ("callee", callee)], &imports, |x| {
        (x + 77) * 100_000 + (0..12).map(|i| (x * (i + 3)) ^ i).sum::<i64>()
    });
}

// --- who cannot be compiled ---

#[test]
fn the_failure_entry_is_reached_and_knows_why() {
    unsafe extern "C" fn failed() {
        let code = match last_failure() {
            Some(Error::Frontend { method, source }) => {
                assert_eq!(method, "Refuse");
                assert_eq!(source.to_string(), "refused by the front end");
                42
            }
            _ => 43,
        };
        child::exit(code);
    }
    let name = "the_failure_entry_is_reached_and_knows_why";
    let ended = child::run(name, Duration::from_secs(20), || {
        assert!(last_failure().is_none());
        let cache = Cache::builder(Calculator)
            .failure_entry(failed)
            .build()
            .unwrap();
        let outer = Op::CallAdd(Box::new(Op::CallAdd(Box::new(Op::Refuse), 1)), 1);
        let me = cache.participant("test");
        let mut guard = me.pin();
        // SAFETY: the type is right.
        unsafe { method(&cache, &outer).get(&mut guard).unwrap().call(1) };
    });
    if let Some(ended) = ended {
        ended.expect_code(42);
    }
}

#[test]
fn without_a_failure_entry_it_says_why_and_aborts() {
    let name = "without_a_failure_entry_it_says_why_and_aborts";
    let ended = child::run(name, Duration::from_secs(20), || {
        let cache = Cache::builder(Calculator).build().unwrap();
        let outer = Op::CallAdd(Box::new(Op::Unresolved), 1);
        let me = cache.participant("test");
        let mut guard = me.pin();
        // SAFETY: the type is right.
        unsafe { method(&cache, &outer).get(&mut guard).unwrap().call(1) };
    });
    if let Some(ended) = ended {
        ended.expect_signal(libc::SIGABRT);
        assert!(
            ended.output.contains("Unresolved could not be linked"),
            "{}",
            ended.output
        );
        assert!(
            ended.output.contains("nobody_knows_this"),
            "{}",
            ended.output
        );
    }
}

// --- invalidation and eviction as compiled code sees them ---

/// `Add(n)` adds `n` and the version of the day.
struct Versioned;

static VERSION: AtomicI64 = AtomicI64::new(0);

impl Frontend for Versioned {
    type Key = Op;

    fn emit<'ctx>(&self, key: &Op, unit: &mut Unit<'_, 'ctx, Op>) -> Result<(), BoxError> {
        match key {
            Op::Add(n) => Calculator.emit(&Op::Add(n + VERSION.load(Ordering::SeqCst)), unit),
            other => Calculator.emit(other, unit),
        }
    }
}

/// The callee is declared to touch no memory, so LLVM may call it once before the loop; the load
/// of its cell it may not move.
#[test]
fn a_loop_over_a_pure_method_sees_its_invalidation() {
    static CACHE: Mutex<Option<Cache<Op>>> = Mutex::new(None);
    extern "C" fn every_turn(i: i64) -> i64 {
        if i % 10 == 9 {
            VERSION.fetch_add(100, Ordering::SeqCst);
            let cache = CACHE.lock().unwrap().clone().unwrap();
            let _ = cache.invalidate(&Op::Add(5));
        }
        i
    }
    for level in [OptLevel::O0, OptLevel::O1, OptLevel::O2, OptLevel::O3] {
        VERSION.store(0, Ordering::SeqCst);
        let cache = Cache::builder(Versioned)
            .opt_level(level)
            .import("host_callback", every_turn as *const ())
            .build()
            .unwrap();
        *CACHE.lock().unwrap() = Some(cache.clone());
        let me = cache.participant("test");
        let sum = method(&cache, &Op::SumPure(Box::new(Op::Add(5))));
        let mut guard = me.pin();
        // SAFETY: the type is right.
        let y = unsafe { sum.get(&mut guard).unwrap().call(50) };
        assert_eq!(
            y,
            (0..50).map(|i| 1 + 5 + 100 * (i / 10)).sum::<i64>(),
            "{level:?}"
        );
        assert_eq!(cache.statistics().compiles, 6);
        *CACHE.lock().unwrap() = None;
    }
}

#[test]
fn addresses_stay_equal_and_callable() {
    const CALLS: &str = "
        define i64 @self(ptr %f, i64 %x) { %y = call i64 %f(i64 %x)  ret i64 %y }";
    const TAKES: &str = "
        declare i64 @\"leaf#7\"(i64)
        @table = private constant [2 x ptr] [ptr @\"leaf#7\", ptr @self]
        define i64 @self(i64 %i) {
          %at = getelementptr ptr, ptr @table, i64 %i
          %f = load ptr, ptr %at
          %y = ptrtoint ptr %f to i64
          ret i64 %y
        }";
    const LEAF: &str = "define i64 @self(i64 %x) { %y = add i64 %x, $N  ret i64 %y }";
    for level in [OptLevel::O0, OptLevel::O2] {
        let texts = Texts::new([("calls", CALLS), ("takes", TAKES), ("leaf", LEAF)]);
        let cache = Cache::builder(texts).opt_level(level).build().unwrap();
        let me = cache.participant("test");
        let leaf = text::<Unary>(&cache, "leaf#7");
        let takes = text::<Unary>(&cache, "takes");
        let calls = text::<unsafe extern "C" fn(*const (), i64) -> i64>(&cache, "calls");
        let address = leaf.address();
        for round in 1..6 {
            let mut guard = me.pin();
            // SAFETY: the types are right; the thread is pinned.
            unsafe {
                assert_eq!(takes.get(&mut guard).unwrap().call(0), address as i64);
                assert_eq!(
                    takes.get(&mut guard).unwrap().call(1),
                    takes.address() as i64
                );
                assert_eq!(calls.get(&mut guard).unwrap().call(address, 30), 37);
                let pointer: Unary = std::mem::transmute(address);
                assert_eq!(pointer(1), 8);
            }
            drop(guard);
            assert_eq!(leaf.address(), address);
            cache.seal();
            cache.evict_all();
            wait_until("recycled", || {
                cache.statistics().generations_recycled == round
            });
        }
        assert_eq!(cache.statistics().addresses_taken, 2);
        // Nobody but the address remembers it.
        drop((leaf, takes, calls));
        let _guard = me.pin();
        // SAFETY: the type is right; the thread is pinned.
        let y = unsafe { std::mem::transmute::<*const (), Unary>(address)(2) };
        assert_eq!(y, 9);
    }
}

/// Two methods call each other, ten thousand frames deep, while all code is evicted under them
/// again and again: new frames run in new code, old frames return into old code.
#[test]
fn recursion_through_cells_with_evictions_below() {
    static CACHE: Mutex<Option<Cache<Name>>> = Mutex::new(None);
    extern "C" fn evicts(n: i64) -> i64 {
        if n % 500 == 0 {
            let cache = CACHE.lock().unwrap().clone().unwrap();
            cache.evict_all();
            cache.seal();
        }
        n
    }
    const EVEN: &str = "
        declare i64 @odd(i64)
        declare i64 @evicts(i64)
        define i64 @self(i64 %n) {
          %same = call i64 @evicts(i64 %n)
          %zero = icmp eq i64 %same, 0
          br i1 %zero, label %yes, label %deeper
        yes:
          ret i64 1
        deeper:
          %less = sub i64 %n, 1
          %y = call i64 @odd(i64 %less)
          %z = add i64 %y, 2
          ret i64 %z
        }";
    let odd = EVEN
        .replace("@odd", "@even")
        .replace("ret i64 1", "ret i64 0");
    let cache = Cache::builder(Texts::new([("even", EVEN), ("odd", &odd)]))
        .import("evicts", evicts as *const ())
        .build()
        .unwrap();
    *CACHE.lock().unwrap() = Some(cache.clone());
    let me = cache.participant("test");
    let mut guard = me.pin();
    // SAFETY: the type is right.
    let y = unsafe {
        text::<Unary>(&cache, "even")
            .get(&mut guard)
            .unwrap()
            .call(10_000)
    };
    assert_eq!(y, 1 + 2 * 10_000);
    let s = cache.statistics();
    assert!(s.compiles > 20, "{}", s.compiles);
    assert_eq!(s.generations_recycled, 0, "frames are in all of them");
    drop(guard);
    wait_until("the frames are gone", || {
        cache.statistics().generations_recycled >= 10
    });
    *CACHE.lock().unwrap() = None;
}

#[test]
fn a_caller_is_evicted_while_it_waits_for_its_callee() {
    let gate = Arc::new(Gate::default());
    let of_worker = gate.clone();
    let cache = Cache::builder(Hooked(move |key: &Op| {
        if *key == Op::Add(5) {
            of_worker.wait();
        }
    }))
    .build()
    .unwrap();
    let outer = Op::CallAdd(Box::new(Op::Add(5)), 100);
    std::thread::scope(|threads| {
        let caller = threads.spawn(|| {
            let me = cache.participant("waits");
            let mut guard = me.pin();
            // SAFETY: the type is right.

            unsafe { method(&cache, &outer).get(&mut guard).unwrap().call(1) }
        });
        wait_until("the callee is being compiled", || gate.came() == 1);
        // The worker compiles, so sealing would wait for it: evict, and seal when it is done.
        assert!(cache.evict(&outer));
        gate.open();
        assert_eq!(caller.join().unwrap(), 106);
    });
    assert!(!cache.is_resident(&outer) && cache.is_resident(&Op::Add(5)));
}

/// As above, and the caller's generation is dead before the callee is there.
#[test]
fn a_callers_generation_dies_while_it_waits() {
    let gate = Arc::new(Gate::default());
    let of_worker = gate.clone();
    let cache = Cache::builder(Hooked(move |key: &Op| {
        if *key == Op::Add(5) {
            of_worker.wait();
        }
    }))
    .generation_methods(1)
    .build()
    .unwrap();
    let outer = Op::CallAdd(Box::new(Op::Add(5)), 100);
    std::thread::scope(|threads| {
        let caller = threads.spawn(|| {
            let me = cache.participant("waits");
            let mut guard = me.pin();
            // SAFETY: the type is right.

            unsafe { method(&cache, &outer).get(&mut guard).unwrap().call(1) }
        });
        wait_until("the callee is being compiled", || gate.came() == 1);
        assert!(cache.evict(&outer));
        wait_until("it is retired", || {
            cache.statistics().generations_fallow == 1
        });
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(
            cache.statistics().generations_recycled,
            0,
            "a frame is in it"
        );
        gate.open();
        assert_eq!(caller.join().unwrap(), 106);
    });
    wait_until("the frame is gone", || {
        cache.statistics().generations_recycled == 1
    });
}

#[test]
fn many_threads_come_to_one_empty_cell() {
    let cache = Cache::builder(Hooked(|key: &Op| {
        if *key == Op::Add(5) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }))
    .workers(2)
    .build()
    .unwrap();
    let outers: Vec<_> = (0..50)
        .map(|n| Op::CallAdd(Box::new(Op::Add(5)), n))
        .collect();
    let me = cache.participant("test");
    for outer in &outers {
        method(&cache, outer).get(&mut me.pin()).unwrap();
    }
    std::thread::scope(|threads| {
        for (n, outer) in (0..).zip(&outers) {
            let cache = &cache;
            threads.spawn(move || {
                let me = cache.participant("caller");
                let guard = me.pin();
                // SAFETY: the type is right.
                let y = unsafe { method(cache, outer).entry(&guard).unwrap().call(1) };
                assert_eq!(y, 6 + n);
            });
        }
    });
    assert_eq!(cache.statistics().compiles, 51);
}
