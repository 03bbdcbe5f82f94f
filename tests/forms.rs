//! Functions of rarer forms as methods, called through cells: aliased, naked, by tail calls, with structs by value,
//! with any number of arguments, with labels that outlive a call.

mod support;

use inkpot::{Cache, Error, OptLevel};
use support::Unary;
use support::texts::{Name, Texts, text};

const LEVELS: [OptLevel; 3] = [OptLevel::O0, OptLevel::O1, OptLevel::O3];

/// Calls a method of these texts at all levels, evicts everything, and calls it again.
fn check<const N: usize>(texts: [(&'static str, &str); N], name: &str, calls: &[(i64, i64)]) {
    for level in LEVELS {
        let cache = Cache::builder(Texts::new(texts))
            .import("bytes", bytes as *const ())
            .opt_level(level)
            .build()
            .unwrap();
        let me = cache.participant("test");
        let method = text::<Unary>(&cache, name);
        for _ in 0..2 {
            for (x, expected) in calls {
                let mut guard = me.pin();
                // SAFETY: whoever calls this has texts of that type.
                let result = unsafe { method.get(&mut guard).unwrap().call(*x) };
                assert_eq!(result, *expected, "{name} of {x} at {level:?}");
            }
            cache.evict_all();
        }
        let statistics = cache.statistics();
        assert!(statistics.compiles >= 2, "{statistics:?}");
    }
}

#[repr(C)]
struct Words([u64; 3]);

/// Sums the bytes of a struct that it gets on the stack.
extern "C" fn bytes(s: Words) -> i64 {
    s.0.iter()
        .flat_map(|word| word.to_le_bytes())
        .map(i64::from)
        .sum()
}

/// Of the method, of its parts, and of aliases; of all linkages, with and without an offset.
const ALIASES: &str = "
    @parts = internal constant [3 x i64] [i64 1, i64 20, i64 300]
    @second = alias i64, getelementptr ([3 x i64], ptr @parts, i64 0, i64 1)
    @again = weak alias i64, ptr @second
    @helps = internal alias i64 (i64), ptr @helper
    @itself = alias i64 (i64), ptr @NAME
    @OTHER = alias i64 (i64), ptr @itself
    @llvm.used = appending global [1 x ptr] [ptr @helps], section \"llvm.metadata\"
    define weak i64 @helper(i64 %x) noinline {
      %v = load i64, ptr @again
      %r = add i64 %x, %v
      ret i64 %r
    }
    define i64 @NAME(i64 %x) {
      %end = icmp eq i64 %x, 0
      br i1 %end, label %last, label %more
    last:
      %same = icmp eq ptr @itself, @OTHER
      %one = zext i1 %same to i64
      ret i64 %one
    more:
      %y = call i64 @itself(i64 0)
      %z = call i64 @helps(i64 %x)
      %r = add i64 %y, %z
      ret i64 %r
    }";

#[test]
fn an_alias_is_what_it_stands_for() {
    let itself = ALIASES.replace("NAME", "self").replace("OTHER", "other");
    let by_name = ALIASES.replace("NAME", "other").replace("OTHER", "self");
    check([("aliases", &*itself)], "aliases", &[(100, 121), (0, 1)]);
    check([("aliases", &*by_name)], "aliases", &[(100, 121), (0, 1)]);
    // Methods of one batch have aliases of the same names.
    let cache = Cache::builder(Texts::new([("one", &*itself), ("two", &*by_name)]))
        .workers(0)
        .build()
        .unwrap();
    let names = ["one#1", "two#1", "one#2", "two#2"];
    for name in names {
        text::<Unary>(&cache, name).request().unwrap();
    }
    assert_eq!(cache.compile_some(usize::MAX), 4);
    let me = cache.participant("test");
    for name in names {
        let mut guard = me.pin();
        let method = text::<Unary>(&cache, name);
        // SAFETY: the texts have this type.
        assert_eq!(unsafe { method.get(&mut guard).unwrap().call(100) }, 121);
    }
}

#[test]
fn an_alias_of_no_function_is_no_method() {
    for wrong in [
        "@a = constant i64 1\n@self = alias i64, ptr @a",
        "@self = constant i64 1",
    ] {
        let cache: Cache<Name> = Cache::builder(Texts::new([("no", wrong)])).build().unwrap();
        let me = cache.participant("test");
        let failed = text::<Unary>(&cache, "no").get(&mut me.pin()).map(|_| ());
        assert!(matches!(failed, Err(Error::Frontend { .. })), "{failed:?}");
    }
}

/// A million calls deep, which no stack has room for.
#[test]
fn tail_calls_from_method_to_method_need_no_stack() {
    let step = |other: &str| {
        format!(
            "declare i64 @{other}(i64, i64)
             define i64 @self(i64 %n, i64 %sum) {{
               %end = icmp eq i64 %n, 0
               br i1 %end, label %done, label %on
             done:
               ret i64 %sum
             on:
               %m = sub i64 %n, 1
               %s = add i64 %sum, %n
               %r = musttail call i64 @{other}(i64 %m, i64 %s)
               ret i64 %r
             }}"
        )
    };
    let begin = "declare i64 @even(i64, i64)
        define i64 @self(i64 %n) {\n %r = call i64 @even(i64 %n, i64 0)\n ret i64 %r\n}";
    let texts = [
        ("begin", begin),
        ("even", &*step("odd")),
        ("odd", &*step("even")),
    ];
    check(texts, "begin", &[(1_000_000, 500_000_500_000), (1, 1)]);
}

#[test]
fn naked_functions() {
    let naked = "define i64 @self(i64 %x) naked {
            call void asm sideeffect \"leaq 7(%rdi,%rdi), %rax\\0Aretq\", \"\"()\n unreachable\n}";
    let calls = "declare i64 @naked(i64)
        define i64 @self(i64 %x) {
          %y = call i64 @naked(i64 %x)
          %z = call i64 @naked(i64 %y)
          ret i64 %z
        }";
    check(
        [("naked", naked), ("calls", calls)],
        "calls",
        &[(1, 25), (-7, -7)],
    );
}

/// Struct arguments on the stack and results through memory, where the call does not say so itself.
#[test]
fn structs_by_value_and_results_through_memory() {
    let scale = "%s = type { i64, i64, i64 }
        define void @self(ptr sret(%s) align 8 %to, ptr byval(%s) align 8 %from, i64 %by) {
          %a = load i64, ptr %from
          %q = getelementptr %s, ptr %from, i64 0, i32 2
          %c = load i64, ptr %q
          %b = mul i64 %a, %by
          store i64 %b, ptr %from
          store i64 %b, ptr %to
          %r1 = getelementptr %s, ptr %to, i64 0, i32 1
          store i64 %c, ptr %r1
          %r2 = getelementptr %s, ptr %to, i64 0, i32 2
          store i64 5, ptr %r2
          ret void
        }";
    let begin = "%s = type { i64, i64, i64 }
        declare void @scale(ptr sret(%s) align 8, ptr byval(%s) align 8, i64)
        declare i64 @bytes(ptr byval(%s) align 8)
        define i64 @self(i64 %x) {
          %from = alloca %s
          %to = alloca %s
          store i64 %x, ptr %from
          %p2 = getelementptr %s, ptr %from, i64 0, i32 2
          store i64 40, ptr %p2
          call void @scale(ptr %to, ptr %from, i64 3)
          %sum = call i64 @bytes(ptr %to)
          %kept = load i64, ptr %from
          %m = mul i64 %kept, 1000
          %r = add i64 %sum, %m
          ret i64 %r
        }";
    // The callee writes to its copy, not to the caller's.
    check(
        [("begin", begin), ("scale", scale)],
        "begin",
        &[(2, 2051), (10, 10_075)],
    );
}

#[test]
fn any_number_of_arguments() {
    let sum = "%list = type { i32, i32, ptr, ptr }
        declare void @llvm.va_start.p0(ptr)
        declare void @llvm.va_end.p0(ptr)
        define double @self(i32 %count, ...) {
        entry:
          %args = alloca %list
          call void @llvm.va_start.p0(ptr %args)
          br label %head
        head:
          %i = phi i32 [ 0, %entry ], [ %j, %body ]
          %s = phi double [ 0.0, %entry ], [ %t, %body ]
          %more = icmp slt i32 %i, %count
          br i1 %more, label %body, label %done
        body:
          %j = add i32 %i, 1
          %v = va_arg ptr %args, double
          %t = fadd double %s, %v
          br label %head
        done:
          call void @llvm.va_end.p0(ptr %args)
          ret double %s
        }";
    let begin = "declare double @sum(i32, ...)
        define i64 @self(i64 %x) {
          %d = sitofp i64 %x to double
          %s = call double (i32, ...) @sum(i32 10, double %d, double 1.0, double 2.0, double 3.0, double 4.0,
                 double 5.0, double 6.0, double 7.0, double 8.0, double 9.0)
          %r = fptosi double %s to i64
          ret i64 %r
        }";
    check(
        [("begin", begin), ("sum", sum)],
        "begin",
        &[(100, 145), (0, 45)],
    );
}

/// A coroutine by labels, resumed from another method after both were to be evicted.
#[test]
fn labels_through_cells() {
    let steps = "define i64 @self(ptr %state) {
          %at = load ptr, ptr %state
          %fresh = icmp eq ptr %at, null
          br i1 %fresh, label %start, label %resume
        resume:
          indirectbr ptr %at, [label %one, label %two]
        start:
          store ptr blockaddress(@self, %one), ptr %state
          ret i64 1
        one:
          store ptr blockaddress(@self, %two), ptr %state
          ret i64 20
        two:
          store ptr null, ptr %state
          ret i64 300
        }";
    let begin = "declare i64 @steps(ptr)
        define i64 @self(i64 %x) {
          %state = inttoptr i64 %x to ptr
          %y = call i64 @steps(ptr %state)
          ret i64 %y
        }";
    for level in LEVELS {
        let texts = Texts::new([("begin", begin), ("steps", steps)]);
        let cache = Cache::builder(texts).opt_level(level).build().unwrap();
        let me = cache.participant("test");
        let mut state = std::ptr::null::<()>();
        let begin = text::<Unary>(&cache, "begin");
        for step in 0..9 {
            let mut guard = me.pin();
            // SAFETY: the text has this type, and takes the address of a pointer.
            let result = unsafe { begin.get(&mut guard).unwrap().call((&raw mut state) as i64) };
            assert_eq!(result, [1, 20, 300][step % 3], "{level:?}");
            cache.evict_all();
        }
        assert_eq!(cache.statistics().methods_staying.len(), 1);
        assert_eq!(cache.statistics().compiles, 10);
    }
}
