//! Promise 5: a failure costs its own method only, and is told by its own name.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use inkpot::inkwell::context::Context;
use inkpot::inkwell::module::Module;
use inkpot::{BoxError, Cache, Error, Frontend, LinkError, Unit};
use support::synthetic::{self, Code, How, Synthetic};
use support::texts::{Name, Texts, text};
use support::{Calculator, Gate, Hooked, Op, Unary, method, wait_until};

/// What came of each method in one batch with all the others, each waited for by a thread.
fn compile_together(cache: &Cache<Op>, gate: &Gate, ops: &[Op]) -> Vec<Result<i64, Error>> {
    method(cache, &Op::Add(PLUG)).request().unwrap();
    wait_until("the worker is held up", || gate.came() == 1);
    std::thread::scope(|threads| {
        let ask = |op| {
            let me = cache.participant("caller");
            let mut guard = me.pin();
            // SAFETY: the type is right.
            method(cache, op)
                .get(&mut guard)
                .map(|f| unsafe { f.call(100) })
        };
        let callers: Vec<_> = ops
            .iter()
            .map(|op| threads.spawn(move || ask(op)))
            .collect();
        wait_until("all are in the queue", || {
            cache.statistics().queued == ops.len() as u64
        });
        gate.open();
        callers.into_iter().map(|c| c.join().unwrap()).collect()
    })
}

const PLUG: i64 = -1;

fn gated() -> (Arc<Gate>, impl Fn(&Op) + Send + Sync + 'static) {
    let gate = Arc::new(Gate::default());
    let of_worker = gate.clone();
    (gate, move |key: &Op| {
        if *key == Op::Add(PLUG) {
            of_worker.wait();
        }
    })
}

#[test]
fn only_the_guilty_of_a_batch_fail() {
    let (gate, hook) = gated();
    let cache = Cache::builder(Hooked(hook)).build().unwrap();
    let bad = [
        Op::Refuse,
        Op::Panic,
        Op::Invalid,
        Op::BadAssembly,
        Op::Unresolved,
        Op::Mutable,
        Op::ThreadLocal,
    ];
    let mut ops = Vec::new();
    for (n, op) in bad.iter().enumerate() {
        ops.push(Op::Add(n as i64));
        ops.push(op.clone());
        // To call what cannot be compiled is no failure until it is called.
        ops.push(Op::CallAdd(Box::new(Op::Add(n as i64)), 1000));
    }
    let outcomes = compile_together(&cache, &gate, &ops);
    for (op, outcome) in ops.iter().zip(&outcomes) {
        let name = format!("{op:?}");
        match (op, outcome) {
            (Op::Add(n), Ok(y)) => assert_eq!(*y, 100 + n),
            (Op::CallAdd(inner, 1000), Ok(y)) => match **inner {
                Op::Add(n) => assert_eq!(*y, 1100 + n),
                _ => unreachable!(),
            },
            (Op::Refuse, Err(Error::Frontend { method, source })) => {
                assert_eq!(*method, name);
                assert_eq!(source.to_string(), "refused by the front end");
            }
            (Op::Panic, Err(Error::FrontendPanicked { method, message })) => {
                assert_eq!(*method, name);
                assert_eq!(message, "the front end panics");
            }
            (Op::Invalid, Err(Error::Verification { method, message })) => {
                assert_eq!(*method, name);
                assert!(message.contains("ret"), "{message}");
            }
            (Op::BadAssembly, Err(Error::Codegen { method, message })) => {
                assert_eq!(*method, name);
                assert!(message.contains("bogus_mnemonic"), "{message}");
            }
            (Op::Unresolved, Err(Error::Link { method, source })) => {
                assert_eq!(*method, name);
                let LinkError::Unresolved { symbol, .. } = source else {
                    panic!("{source}");
                };
                assert_eq!(symbol, "nobody_knows_this");
            }
            (Op::Mutable | Op::ThreadLocal, Err(Error::Refused { method, .. })) => {
                assert_eq!(*method, name);
            }
            (op, outcome) => panic!("{op:?}: {outcome:?}"),
        }
    }
    let after = cache.statistics();
    assert_eq!(after.failures, bad.len() as u64);
    assert_eq!(after.compiles, 1 + 2 * bad.len() as u64);
    assert_eq!(after.methods_resident, after.compiles);
    goes_to_nothing(&cache);
}

/// Nothing was leaked: without methods there is no code, no generation, no context but spares.
fn goes_to_nothing<K: inkpot::Key>(cache: &Cache<K>) {
    cache.evict_all();
    cache.seal();
    wait_until("all is recycled", || {
        let s = cache.statistics();
        let generations = s.generations_open + s.generations_sealed;
        generations + s.generations_dead + s.generations_fallow == 0
    });
    // The spare that the last generation took is replaced a moment later.
    wait_until("only the spare context is left", || {
        cache.statistics().contexts == 1
    });
    let s = cache.statistics();
    let b = &s.bytes;
    let all = [b.text, b.constants, b.data, b.unwind, b.contexts, b.retired];
    assert_eq!((s.mapped_code_bytes, all), (0, [0; 6]), "{s:#?}");
}

#[test]
fn a_failure_can_be_tried_again_at_once_if_it_is_not_remembered() {
    let refuses = Arc::new(AtomicUsize::new(3));
    let left = refuses.clone();
    let cache = Cache::builder(Hooked(move |_: &Op| {
        if left.load(Ordering::Relaxed) > 0 {
            left.fetch_sub(1, Ordering::Relaxed);
            panic!("not yet");
        }
    }))
    .retry_after(Duration::ZERO, Duration::ZERO)
    .build()
    .unwrap();
    let me = cache.participant("test");
    let mut guard = me.pin();
    let add = method(&cache, &Op::Add(1));
    for _ in 0..3 {
        let failed = add.get(&mut guard).map(|_| ());
        assert!(matches!(failed, Err(Error::FrontendPanicked { .. })));
        assert!(add.entry(&guard).is_none());
    }
    // SAFETY: the type is right.
    assert_eq!(unsafe { add.get(&mut guard).unwrap().call(1) }, 2);
    assert_eq!(cache.statistics().failures, 3);
}

#[test]
fn failures_leave_nothing_behind() {
    let cache = Cache::builder(Calculator)
        .retry_after(Duration::ZERO, Duration::ZERO)
        .build()
        .unwrap();
    let me = cache.participant("test");
    let bad = [
        Op::Refuse,
        Op::Panic,
        Op::Invalid,
        Op::BadAssembly,
        Op::Unresolved,
        Op::Mutable,
    ];
    for op in bad.iter().cycle().take(60) {
        assert!(method(&cache, op).get(&mut me.pin()).is_err());
    }
    let after = cache.statistics();
    assert_eq!(
        (after.failures, after.compiles, after.methods_resident),
        (60, 0, 0)
    );
    wait_until("no handle, no code, no record", || {
        cache.statistics().methods_known == 0
    });
    goes_to_nothing(&cache);
}

/// The texts of constructs that methods cannot have, and what the error calls them.
const REFUSED: [(&str, &str, &str); 8] = [
    (
        "mutable",
        "a mutable global",
        "@g = global i64 0
         define i64 @self(i64 %x) { store i64 %x, ptr @g  ret i64 %x }",
    ),
    (
        "thread_local",
        "a thread-local",
        "@t = internal thread_local global i64 0
         define i64 @self(i64 %x) { store i64 %x, ptr @t  ret i64 %x }",
    ),
    (
        "host_thread_local",
        "a thread-local",
        "@errno_of_the_host = external thread_local global i64
         define i64 @self(i64 %x) { store i64 %x, ptr @errno_of_the_host  ret i64 %x }",
    ),
    (
        "module_asm",
        "module-level assembly",
        "module asm \".globl sneaky\"
         define i64 @self(i64 %x) { ret i64 %x }",
    ),
    (
        "constructors",
        "a list of constructors",
        "@llvm.global_ctors = appending global [1 x { i32, ptr, ptr }] [{ i32, ptr, ptr } { i32 1, ptr @init, ptr null }]
         define internal void @init() { ret void }
         define i64 @self(i64 %x) { ret i64 %x }",
    ),
    (
        "ifunc",
        "an ifunc",
        "@other = internal ifunc i64 (i64), ptr @choose
         define internal ptr @choose() { ret ptr @self }
         define i64 @self(i64 %x) { %y = call i64 @other(i64 %x)  ret i64 %y }",
    ),
    (
        "fast_method",
        "a calling convention other than C",
        "define fastcc i64 @self(i64 %x) { ret i64 %x }",
    ),
    (
        "fast_call",
        "convention other than C",
        "declare fastcc i64 @good(i64)
         define i64 @self(i64 %x) { %y = call fastcc i64 @good(i64 %x)  ret i64 %y }",
    ),
];

const GOOD: &str = "define i64 @self(i64 %x) { %y = add i64 %x, 7  ret i64 %y }";

#[test]
fn refused_constructs_are_named() {
    let mut all = [("good", GOOD); REFUSED.len() + 1];
    for (i, (name, _, text)) in REFUSED.iter().enumerate() {
        all[i] = (name, text);
    }
    let cache = Cache::builder(Texts::new(all)).workers(0).build().unwrap();
    let me = cache.participant("test");
    let mut guard = me.pin();
    let good = text::<Unary>(&cache, "good");
    let bad = REFUSED.map(|(name, construct, _)| (text::<Unary>(&cache, name), construct));
    for (handle, _) in &bad {
        handle.request().unwrap();
    }
    // SAFETY: the type is right.
    assert_eq!(unsafe { good.get(&mut guard).unwrap().call(1) }, 8);
    for (handle, expected) in &bad {
        match handle.get(&mut guard) {
            Err(Error::Refused {
                method, construct, ..
            }) => {
                assert_eq!(method, format!("{:?}", handle.key()));
                assert!(construct.contains(expected), "{method}: {construct}");
            }
            other => panic!("{}: {other:?}", handle.key()),
        }
    }
    drop(guard);
    goes_to_nothing(&cache);
}

#[test]
fn data_that_is_meant_lives_as_long_as_its_method_is_kept() {
    let cache = Cache::builder(Texts::new([(
        "count",
        "; allow data
         @n = internal global i64 40
         define i64 @self(i64 %x) {
           %old = load i64, ptr @n
           %new = add i64 %old, %x
           store i64 %new, ptr @n
           ret i64 %new
         }",
    )]))
    .build()
    .unwrap();
    let me = cache.participant("test");
    let count = text::<Unary>(&cache, "count");
    let keep = count.keep();
    for n in 1..4 {
        // SAFETY: the type is right.
        assert_eq!(unsafe { count.get(&mut me.pin()).unwrap().call(1) }, 40 + n);
        cache.evict_all();
    }
    assert!(cache.statistics().bytes.data > 0);
    drop(keep);
    cache.evict_all();
    // SAFETY: the type is right.
    assert_eq!(unsafe { count.get(&mut me.pin()).unwrap().call(1) }, 41);
    goes_to_nothing(&cache);
}

/// Code that takes the address of a method keeps that method's record for good: if it is linked.
#[test]
fn a_method_that_fails_takes_no_address() {
    let cache = Cache::builder(Texts::new([
        ("good", GOOD),
        (
            "assembly",
            "declare i64 @good(i64)
             define i64 @self(i64 %x) {
               call void asm sideeffect \"bogus_mnemonic\", \"\"()
               ret i64 ptrtoint (ptr @good to i64)
             }",
        ),
        (
            "unresolved",
            "declare i64 @good(i64)
             declare i64 @nobody_knows_this(i64)
             define i64 @self(i64 %x) {
               %y = call i64 @nobody_knows_this(i64 %x)
               ret i64 ptrtoint (ptr @good to i64)
             }",
        ),
        (
            "takes",
            "declare i64 @good(i64)
             define i64 @self(i64 %x) { ret i64 ptrtoint (ptr @good to i64) }",
        ),
    ]))
    .build()
    .unwrap();
    let me = cache.participant("test");
    for name in ["assembly", "unresolved"] {
        assert!(text::<Unary>(&cache, name).get(&mut me.pin()).is_err());
        assert_eq!(cache.statistics().addresses_taken, 0, "{name}");
    }
    drop(cache.invalidate_all()); // forgets the failures
    goes_to_nothing(&cache);
    wait_until("no record is left", || {
        cache.statistics().methods_known == 0
    });
    let takes = text::<Unary>(&cache, "takes");
    // SAFETY: the type is right.
    let address = unsafe { takes.get(&mut me.pin()).unwrap().call(1) };
    assert_eq!(cache.statistics().addresses_taken, 1);
    goes_to_nothing(&cache);
    assert_eq!(
        text::<Unary>(&cache, "good").address() as i64,
        address,
        "the record of good is still there"
    );
}

/// The prelude fails while the switch is on.
struct NoPrelude(Arc<AtomicUsize>);

impl Frontend for NoPrelude {
    type Key = Op;

    fn prelude<'ctx>(&self, _: &'ctx Context, _: &Module<'ctx>) -> Result<(), BoxError> {
        match self.0.load(Ordering::Relaxed) {
            0 => Ok(()),
            1 => Err("no prelude today".into()),
            _ => panic!("the prelude panics"),
        }
    }

    fn emit<'ctx>(&self, key: &Op, unit: &mut Unit<'_, 'ctx, Op>) -> Result<(), BoxError> {
        Calculator.emit(key, unit)
    }
}

#[test]
fn a_failing_prelude_is_told_at_once_and_later() {
    for (mode, says) in [(1, "no prelude today"), (2, "the prelude panics")] {
        let mode = Arc::new(AtomicUsize::new(mode));
        match Cache::builder(NoPrelude(mode)).build() {
            Err(Error::Prelude { message }) => assert_eq!(message, says),
            other => panic!("{other:?}"),
        }
    }
    let mode = Arc::new(AtomicUsize::new(0));
    let cache = Cache::builder(NoPrelude(mode.clone()))
        .generation_methods(1)
        .build()
        .unwrap();
    let me = cache.participant("test");
    let mut failed = 0;
    for n in 0..30 {
        mode.store(usize::from((10..20).contains(&n)), Ordering::Relaxed);
        match method(&cache, &Op::Add(n)).get(&mut me.pin()) {
            // SAFETY: the type is right.
            Ok(f) => assert_eq!(unsafe { f.call(1) }, n + 1),
            Err(Error::Prelude { .. }) if (10..20).contains(&n) => failed += 1,
            Err(other) => panic!("{other}"),
        }
    }
    // One context may have been ready; after that there is none.
    assert!(failed >= 8, "{failed}");
}

#[test]
fn a_guard_of_another_cache_is_refused() {
    let (one, other) = (
        Cache::builder(Calculator).build().unwrap(),
        Cache::builder(Calculator).build().unwrap(),
    );
    let add = method(&one, &Op::Add(1));
    let (mine, others) = (one.participant("test"), other.participant("test"));
    assert!(add.get(&mut mine.pin()).is_ok());
    let refused = add.get(&mut others.pin()).map(|_| ());
    assert!(matches!(refused, Err(Error::WrongCache)), "{refused:?}");
    let panics = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        add.entry(&others.pin()).is_some()
    }));
    assert!(panics.is_err());
}

/// Everything that a front end can ask of its own cache, from `emit`. None of it may hang.
#[test]
fn a_front_end_may_use_its_cache_and_cannot_wait_for_it() {
    static CACHE: OnceLock<Cache<Op>> = OnceLock::new();
    static SAID: OnceLock<Result<(), Error>> = OnceLock::new();
    static WAITED: OnceLock<Result<(), Error>> = OnceLock::new();
    let cache = Cache::builder(Hooked(|key: &Op| {
        if *key != Op::Add(2) {
            return;
        }
        let cache = CACHE.get().unwrap();
        let me = cache.participant("front end");
        let mut guard = me.pin();
        // What is resident is there for a front end too.
        // SAFETY: the type is right.
        let three = unsafe { method(cache, &Op::Add(1)).get(&mut guard).unwrap().call(2) };
        assert_eq!(three, 3);
        let said = method(cache, &Op::Add(3)).get(&mut guard).map(|_| ());
        let _ = SAID.set(said);
        method(cache, &Op::Add(4)).request().unwrap();
        drop(guard);
        let _ = WAITED.set(cache.invalidate(&Op::Add(1)).wait());
        cache.evict(&Op::Add(1));
        let _ = cache.invalidate_if(|key| *key == Op::Add(1));
        cache.set_budget(64 << 20);
        cache.maintain();
        cache.seal();
        cache.evict_all();
        let _ = cache.statistics();
    }))
    .build()
    .unwrap();
    assert!(CACHE.set(cache.clone()).is_ok());
    let me = cache.participant("test");
    let mut guard = me.pin();
    for n in [1, 2] {
        // SAFETY: the type is right.
        let y = unsafe { method(&cache, &Op::Add(n)).get(&mut guard).unwrap().call(1) };
        assert_eq!(y, n + 1);
    }
    assert!(matches!(SAID.get(), Some(Err(Error::WouldDeadlock))));
    assert!(matches!(WAITED.get(), Some(Err(Error::WouldDeadlock))));
    wait_until("what it asked for is compiled", || {
        cache.is_resident(&Op::Add(4))
    });
}

#[test]
fn a_panic_in_the_backend_wakes_all_who_wait() {
    let cache = Cache::with_backend(Synthetic::default()).build().unwrap();
    std::thread::scope(|threads| {
        for i in 0..200 {
            let cache = &cache;
            threads.spawn(move || {
                let me = cache.participant("caller");
                let how = if i % 2 == 0 { How::Panic } else { How::Leaf };
                let code = Code::new(if i % 2 == 0 { 0 } else { i }, how);
                match synthetic::method(cache, code).get(&mut me.pin()) {
                    // SAFETY: the type is right.
                    Ok(f) => assert_eq!(unsafe { f.call(1) }, 1 + i64::from(i)),
                    Err(Error::CompilePanicked { method, message }) => {
                        assert_eq!((how, method.as_str()), (How::Panic, "Panic 0"));
                        assert_eq!(message, "a panic on purpose");
                    }
                    Err(other) => panic!("{other}"),
                }
            });
        }
    });
    assert_eq!(cache.statistics().compiles, 100);
    goes_to_nothing(&cache);
}

#[test]
fn a_late_error_wakes_the_caller_in_a_text() {
    // The text itself is at fault: it does not parse.
    let cache: Cache<Name> = Cache::builder(Texts::new([("broken", "define i64 @self(")]))
        .build()
        .unwrap();
    let me = cache.participant("test");
    let refused = text::<Unary>(&cache, "broken")
        .get(&mut me.pin())
        .map(|_| ());
    assert!(
        matches!(refused, Err(Error::Frontend { .. })),
        "{refused:?}"
    );
}
