//! Labels as values: a method whose labels outlive an activation stays, is named, and costs the others nothing.

mod support;

use std::ptr;

use inkpot::{BoxError, Cache, Frontend, Guard, Key, Unit};
use support::texts::{Name, Texts, text};
use support::{Unary, wait_until};

/// Takes a place for a label, and an argument.
type Resumed = unsafe extern "C" fn(*mut *const (), i64) -> i64;

/// A protothread: it goes on behind where it stopped, by a label that it left with its caller.
const PROTOTHREAD: &str = "
    define i64 @self(ptr %state, i64 %x) {
      %at = load ptr, ptr %state
      %fresh = icmp eq ptr %at, null
      br i1 %fresh, label %start, label %resume
    resume:
      indirectbr ptr %at, [label %one, label %two]
    start:
      store ptr blockaddress(@self, %one), ptr %state
      ret i64 $N
    one:
      store ptr blockaddress(@self, %two), ptr %state
      %r = add i64 %x, $N
      ret i64 %r
    two:
      store ptr null, ptr %state
      %s = mul i64 %x, $N
      ret i64 %s
    }";

/// Direct threading: with x below 0 it says where its instructions are, else it runs a program made of them.
const THREADED: &str = "
    @labels = private constant [3 x ptr] [ptr blockaddress(@self, %inc), ptr blockaddress(@self, %double),
                                          ptr blockaddress(@self, %halt)]
    define i64 @self(ptr %program, i64 %x) {
      %asks = icmp slt i64 %x, 0
      br i1 %asks, label %fill, label %run
    fill:
      call void @llvm.memcpy.p0.p0.i64(ptr %program, ptr @labels, i64 24, i1 false)
      ret i64 3
    run:
      br label %next
    inc:
      %a = add i64 %acc, 1
      br label %next
    double:
      %b = mul i64 %acc, 2
      br label %next
    halt:
      ret i64 %acc
    next:
      %acc = phi i64 [ %x, %run ], [ %a, %inc ], [ %b, %double ], [ %acc, %jump ]
      %pc = phi ptr [ %program, %run ], [ %on, %inc ], [ %on, %double ], [ %on, %jump ]
      %l = load ptr, ptr %pc
      %on = getelementptr ptr, ptr %pc, i64 1
      br label %jump
    jump:
      indirectbr ptr %l, [label %inc, label %double, label %halt, label %next]
    }
    declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)";

/// Threaded code by a switch of labels: nothing leaves the activation.
const COMPUTED_GOTO: &str = "
    @labels = private constant [2 x ptr] [ptr blockaddress(@self, %even), ptr blockaddress(@self, %odd)]
    define i64 @self(i64 %x) {
      %bit = and i64 %x, 1
      %p = getelementptr ptr, ptr @labels, i64 %bit
      %v = alloca ptr
      %l = load ptr, ptr %p
      store ptr %l, ptr %v
      %again = load ptr, ptr %v
      indirectbr ptr %again, [label %even, label %odd]
    even:
      ret i64 100
    odd:
      ret i64 101
    }";

const ADD: &str = "define i64 @self(i64 %x) {\n %r = add i64 %x, $N\n ret i64 %r\n}";

fn cache() -> Cache<Name> {
    let texts = [
        ("prototype", PROTOTHREAD),
        ("threaded", THREADED),
        ("goto", COMPUTED_GOTO),
        ("add", ADD),
    ];
    Cache::builder(Texts::new(texts))
        .code_budget(64 << 10)
        .generation_methods(8)
        .build()
        .unwrap()
}

fn resume(
    cache: &Cache<Name>,
    guard: &mut Guard<'_>,
    name: &str,
    state: &mut [*const ()],
    x: i64,
) -> i64 {
    let entry = text::<Resumed>(cache, name);
    // SAFETY: the text has this type, and the state is as large as it needs.
    unsafe { entry.get(guard).unwrap().call(state.as_mut_ptr(), x) }
}

/// Calls many others, and has everything evicted that can be.
fn churn(cache: &Cache<Name>, guard: &mut Guard<'_>, round: i64) {
    for n in round * 40..(round + 1) * 40 {
        let add = text::<Unary>(cache, &format!("add#{n}"));
        // SAFETY: the text has this type.
        assert_eq!(unsafe { add.get(guard).unwrap().call(1) }, n + 1);
    }
    cache.evict_all();
    guard.repin();
}

fn names<K: Key>(cache: &Cache<K>) -> Vec<String> {
    let staying = cache.statistics().methods_staying;
    assert!(staying.iter().all(|method| method.bytes > 0), "{staying:?}");
    staying.into_iter().map(|staying| staying.method).collect()
}

#[test]
fn what_a_protothread_left_is_found_again() {
    let cache = cache();
    let me = cache.participant("test");
    let mut guard = me.pin();
    let mut states = [[ptr::null()]; 12];
    for step in 0..9 {
        for (n, state) in states.iter_mut().enumerate() {
            let name = format!("prototype#{n}");
            let n = n as i64;
            let expected = [n, 1000 + n, 1000 * n][step % 3];
            assert_eq!(resume(&cache, &mut guard, &name, state, 1000), expected);
        }
        churn(&cache, &mut guard, step as i64);
    }
    let mut expected: Vec<_> = (0..12)
        .map(|n| format!("{:?}", format!("prototype#{n}")))
        .collect();
    let mut names = names(&cache);
    names.sort();
    expected.sort();
    assert_eq!(names, expected);
    let statistics = cache.statistics();
    assert_eq!(statistics.compiles, 12 + 9 * 40, "each was compiled once");
    assert!(statistics.bytes.staying >= 32 << 10, "{statistics:?}");
    assert!(statistics.bytes.kept >= statistics.bytes.staying);
    assert_eq!(statistics.methods_resident, 12);
    assert!(statistics.evictions > 300);
}

#[test]
fn threaded_code_runs_after_all_else_was_evicted() {
    let cache = cache();
    let me = cache.participant("test");
    let mut guard = me.pin();
    let mut labels = [ptr::null(); 3];
    assert_eq!(resume(&cache, &mut guard, "threaded", &mut labels, -1), 3);
    let [inc, double, halt] = labels;
    let mut program = [inc, double, double, inc, double, halt];
    for round in 0..4 {
        churn(&cache, &mut guard, round);
        let result = resume(&cache, &mut guard, "threaded", &mut program, 20);
        assert_eq!(result, ((20 + 1) * 4 + 1) * 2);
    }
    assert_eq!(names(&cache), ["\"threaded\""]);
}

#[test]
fn labels_of_one_activation_keep_nothing() {
    let cache = cache();
    let me = cache.participant("test");
    let mut guard = me.pin();
    let goto = text::<Unary>(&cache, "goto");
    for round in 0..3 {
        // SAFETY: the text has this type.
        let result = unsafe { goto.get(&mut guard).unwrap().call(round) };
        assert_eq!(result, 100 + round % 2);
        cache.evict_all();
        assert!(goto.entry(&guard).is_none());
    }
    assert!(names(&cache).is_empty());
    assert_eq!(cache.statistics().bytes.staying, 0);
}

/// Labels that are about lead to the code that they are of, though the method has other code by now.
#[test]
fn old_labels_outlive_an_invalidation() {
    let cache = cache();
    let me = cache.participant("test");
    let mut guard = me.pin();
    let mut state = [ptr::null()];
    assert_eq!(resume(&cache, &mut guard, "prototype#5", &mut state, 7), 5);
    drop(guard);
    let (name, mut guard) = ("prototype#5".to_owned(), me.pin());
    let _ = cache.invalidate(&name);
    churn(&cache, &mut guard, 0);
    assert_eq!(resume(&cache, &mut guard, &name, &mut state, 7), 12);
    let _ = cache.invalidate(&name);
    churn(&cache, &mut guard, 1);
    assert_eq!(resume(&cache, &mut guard, &name, &mut state, 7), 35);
    assert_eq!(names(&cache), vec![format!("{name:?}"); 3]);
    assert_eq!(cache.statistics().methods_resident, 1);
    assert!(!cache.evict(&name), "it is no victim");
    drop(guard);
    drop(cache);
}

/// Those that stay are compiled apart: their neighbours' memory comes back.
#[test]
fn neighbours_of_one_batch_do_not_stay() {
    let texts = [
        ("prototype", PROTOTHREAD),
        ("add", ADD),
        (
            "bad",
            "define i64 @self(i64 %x) {\n %y = call i64 @nobody(i64 %x)\n ret i64 %y\n}\ndeclare i64 @nobody(i64)",
        ),
    ];
    let cache = Cache::builder(Texts::new(texts))
        .workers(0)
        .build()
        .unwrap();
    let me = cache.participant("test");
    let requests = [
        "add#1",
        "prototype#1",
        "bad",
        "add#2",
        "prototype#2",
        "add#3",
    ];
    for name in requests {
        text::<Unary>(&cache, name).request().unwrap();
    }
    assert_eq!(cache.compile_some(usize::MAX), requests.len());
    let mut guard = me.pin();
    for n in 1..4 {
        let add = text::<Unary>(&cache, &format!("add#{n}"));
        // SAFETY: the text has this type.
        assert_eq!(unsafe { add.get(&mut guard).unwrap().call(1) }, n + 1);
    }
    for n in 1..3 {
        let mut state = [ptr::null()];
        let name = format!("prototype#{n}");
        assert_eq!(resume(&cache, &mut guard, &name, &mut state, 0), n);
    }
    assert!(text::<Unary>(&cache, "bad").get(&mut guard).is_err());
    assert_eq!(names(&cache), ["\"prototype#1\"", "\"prototype#2\""]);
    drop(guard);
    cache.evict_all();
    cache.seal();
    wait_until("all but what stays is freed", || {
        let statistics = cache.statistics();
        let bytes = statistics.bytes;
        statistics.methods_resident == 2
            && bytes.retired == 0
            && bytes.text + bytes.constants + bytes.unwind + bytes.data + bytes.contexts
                == bytes.staying
    });
    // Nothing of them is left in LLVM.
    assert_eq!(cache.statistics().bytes.contexts, 0);
}

/// Ways of a label, and whether it gets out: each text's method is called with a pointer and a number.
const WAYS: &[(&str, bool, &str)] = &[
    (
        "returned",
        true,
        "%n = ptrtoint ptr blockaddress(@self, %a) to i64\n ret i64 %n",
    ),
    (
        "returned as a constant",
        true,
        "ret i64 ptrtoint (ptr blockaddress(@self, %a) to i64)",
    ),
    (
        "passed on",
        true,
        "call void @helper(ptr blockaddress(@self, %a))\n br label %a",
    ),
    (
        "in a variable that is passed on",
        true,
        "%v = alloca ptr\n store ptr blockaddress(@self, %a), ptr %v\n call void @helper(ptr %v)\n br label %a",
    ),
    (
        "its table is passed on",
        true,
        "call void @helper(ptr @table)\n br label %a",
    ),
    (
        "its table is stored",
        true,
        "store ptr @table, ptr %p\n br label %a",
    ),
    (
        "exchanged",
        true,
        "%old = atomicrmw xchg ptr %p, ptr blockaddress(@self, %a) seq_cst\n br label %a",
    ),
    (
        "in assembly",
        true,
        "call void asm sideeffect \"\", \"r\"(ptr blockaddress(@self, %a))\n br label %a",
    ),
    (
        "copied out",
        true,
        "call void @llvm.memcpy.p0.p0.i64(ptr %p, ptr @table, i64 16, i1 false)\n br label %a",
    ),
    (
        "stored as a part",
        true,
        "%pair = insertvalue { ptr, i64 } { ptr blockaddress(@self, %a), i64 0 }, i64 %x, 1\n store { ptr, i64 } %pair, ptr %p\n br label %a",
    ),
    (
        "stored as a distance",
        true,
        "%d = load i32, ptr @distances\n store i32 %d, ptr %p\n br label %a",
    ),
    (
        "of a helper's, stored",
        true,
        "call void @stores(ptr %p)\n br label %a",
    ),
    (
        "compared",
        false,
        "%c = icmp eq ptr blockaddress(@self, %a), blockaddress(@self, %b)\n br i1 %c, label %a, label %b",
    ),
    (
        "by a table of a table",
        false,
        "%v = alloca ptr\n store ptr @table, ptr %v\n %t = load ptr, ptr %v\n %l = load ptr, ptr %t\n indirectbr ptr %l, [label %a, label %b]",
    ),
    (
        "copied to a local table",
        false,
        "%v = alloca [2 x ptr]\n call void @llvm.memcpy.p0.p0.i64(ptr %v, ptr @table, i64 16, i1 false)\n %l = load ptr, ptr %v\n indirectbr ptr %l, [label %a, label %b]",
    ),
    (
        "by a distance",
        false,
        "%d = load i32, ptr @distances\n %w = sext i32 %d to i64\n %l = getelementptr i8, ptr blockaddress(@self, %a), i64 %w\n indirectbr ptr %l, [label %a, label %b]",
    ),
    (
        "chosen",
        false,
        "%n = icmp eq i64 %x, 0\n %l = select i1 %n, ptr blockaddress(@self, %a), ptr blockaddress(@self, %b)\n indirectbr ptr %l, [label %a, label %b]",
    ),
];

#[test]
fn every_way_out_is_seen_and_no_other() {
    for (what, escapes, body) in WAYS {
        let ir = format!(
            "@table = private constant [2 x ptr] [ptr blockaddress(@self, %a), ptr blockaddress(@self, %b)]
             @distances = private constant [1 x i32] [i32 trunc (i64 sub (i64 ptrtoint (ptr blockaddress(@self, %b) to i64),
                              i64 ptrtoint (ptr blockaddress(@self, %a) to i64)) to i32)]
             declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
             define internal void @helper(ptr %q) noinline {{\n ret void\n}}
             define internal void @stores(ptr %q) noinline {{\n store ptr blockaddress(@stores, %on), ptr %q\n br label %on\non:\n ret void\n}}
             define i64 @self(ptr %p, i64 %x) {{\n {body}\na:\n ret i64 1\nb:\n ret i64 2\n}}"
        );
        let ir = match *what {
            "of a helper's, stored" => ir,
            _ => ir.replace("store ptr blockaddress(@stores, %on), ptr %q", ""),
        };
        let cache = Cache::builder(Texts::new([("way", &*ir)])).build().unwrap();
        let me = cache.participant("test");
        let mut state = [ptr::null(); 4];
        resume(&cache, &mut me.pin(), "way", &mut state, 0);
        assert_eq!(names(&cache).len(), usize::from(*escapes), "{what}");
    }
}

/// The method's own address and labels of its in one table.
#[test]
fn its_own_address_next_to_its_labels() {
    let cache = Cache::builder(Texts::new([(
        "both",
        "%pair = type { i64, <{ i32, ptr }> }
         @both = private constant { ptr, [2 x ptr], %pair, i64 } { ptr @self, [2 x ptr] [ptr blockaddress(@self, %a), ptr blockaddress(@self, %b)],
                   %pair { i64 3, <{ i32, ptr }> <{ i32 4, ptr getelementptr (i8, ptr @self, i64 8) }> }, i64 ptrtoint (ptr @self to i64) }
         define i64 @self(i64 %x) {
           %more = icmp sge i64 %x, 10
           br i1 %more, label %again, label %jumps
         again:
           %less = sub i64 %x, 10
           %r = call i64 @self(i64 %less)
           ret i64 %r
         jumps:
           %at = getelementptr { ptr, [2 x ptr], %pair, i64 }, ptr @both, i64 0, i32 1, i64 %x
           %l = load ptr, ptr %at
           indirectbr ptr %l, [label %a, label %b]
         a:
           %own = load ptr, ptr @both
           %same = icmp eq ptr %own, @self
           %r1 = zext i1 %same to i64
           ret i64 %r1
         b:
           %far = getelementptr i8, ptr @both, i64 36
           %f = load i64, ptr %far, align 4
           %last = getelementptr i8, ptr @both, i64 48
           %i = load i64, ptr %last
           %d = sub i64 %f, %i
           %eight = icmp eq i64 %d, 8
           %r2 = select i1 %eight, i64 2, i64 0
           ret i64 %r2
         }",
    )]))
    .build()
    .unwrap();
    let me = cache.participant("test");
    let both = text::<Unary>(&cache, "both");
    let call = |x| {
        let mut guard = me.pin();
        // SAFETY: the text has this type.
        unsafe { both.get(&mut guard).unwrap().call(x) }
    };
    for _ in 0..2 {
        assert_eq!([0, 1, 30, 11].map(call), [1, 2, 1, 2]);
        assert!(cache.evict(both.key()));
    }
    assert!(names(&cache).is_empty());
}

/// A front end that says itself that a method's constants get about.
struct Tells;

impl Frontend for Tells {
    type Key = u32;

    fn emit<'ctx>(&self, n: &u32, unit: &mut Unit<'_, 'ctx, u32>) -> Result<(), BoxError> {
        let context = unit.context();
        let long = context.i64_type();
        let pointer = context.ptr_type(Default::default());
        let constant = unit.module().add_global(long, None, "constant");
        constant.set_initializer(&long.const_int(u64::from(*n), false));
        constant.set_constant(true);
        let own = unit.define(pointer.fn_type(&[], false));
        unit.stay();
        let build = context.create_builder();
        build.position_at_end(context.append_basic_block(own, "entry"));
        build.build_return(Some(&constant.as_pointer_value()))?;
        Ok(())
    }
}

#[test]
fn a_front_end_can_say_so() {
    let cache = Cache::builder(Tells).build().unwrap();
    let me = cache.participant("test");
    let addresses: Vec<*const i64> = (0..5)
        .map(|n| {
            let mut guard = me.pin();
            // SAFETY: `Tells` gives all methods this type.
            let method = unsafe { cache.method::<unsafe extern "C" fn() -> *const i64>(&n) };
            // SAFETY: as above.
            unsafe { method.unwrap().get(&mut guard).unwrap().call() }
        })
        .collect();
    let _ = cache.invalidate_all();
    cache.evict_all();
    cache.maintain();
    for (n, address) in addresses.into_iter().enumerate() {
        // SAFETY: it stays as long as the cache.
        assert_eq!(unsafe { *address }, n as i64);
    }
    assert_eq!(names(&cache), ["0", "1", "2", "3", "4"]);
}
