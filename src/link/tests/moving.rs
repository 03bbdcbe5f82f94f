//! Functions moved by their recipes, and run where they are then: the old code is gone.

use inkwell::OptimizationLevel::{self, Aggressive, Less, None as O0};
use inkwell::targets::{CodeModel, RelocMode};

use super::real::{self, function, load};
use super::{Executable, compile, compile_module, unwinding};
use crate::link::{Linked, LinkedFunction, Recipe, Relinked, needs_of, relink, unwind};

const LEVELS: [OptimizationLevel; 3] = [O0, Less, Aggressive];

/// What is moved here.
pub(super) const PROGRAMS: [&str; 8] = [
    real::SWITCH,
    real::STRINGS,
    real::FAR,
    real::CLEANUP,
    CONSTANTS,
    CALLS,
    PRIVATE,
    LABELS,
];

/// What LLVM makes of IR as inkpot has it made of methods that may move: a section for each function, and for
/// what is its own.
pub(super) fn separable(ir: &str, level: OptimizationLevel) -> Vec<u8> {
    let apart = crate::compile::llvm::separate::apart;
    compile_module(
        ir.as_bytes(),
        level,
        RelocMode::PIC,
        CodeModel::Small,
        apart,
    )
}

/// Links functions again that are somewhere in this process.
fn relink_into(mut new: Executable, recipes: &[&Recipe]) -> (Relinked, Executable) {
    // SAFETY: the memory of linked functions, which is there still.
    let read = |address: u64, len: u64| unsafe {
        Some(std::slice::from_raw_parts(
            address as *const u8,
            len as usize,
        ))
    };
    let moved = relink(recipes, &read, new.place()).expect("links");
    new.seal();
    (moved, new)
}

fn recipe<'l>(linked: &'l Linked, name: &str) -> Option<&'l Recipe> {
    let found = linked.functions.iter().find(|f| f.name == name);
    found.expect("a function of that name").recipe.as_ref()
}

/// Moves the functions of these names, and unmaps where they were.
pub(super) fn moved(linked: &Linked, memory: Executable, names: &[&str]) -> (Linked, Executable) {
    let recipes = names.iter().map(|name| recipe(linked, name));
    let recipes: Vec<&Recipe> = recipes.map(|r| r.expect("it has a recipe")).collect();
    let new = Executable::new(&needs_of(&recipes).expect("laid out"));
    let (relinked, new) = relink_into(new, &recipes);
    drop(memory);
    let named = relinked.functions.into_iter().zip(names);
    let functions = named.map(|(function, name)| LinkedFunction {
        name: (*name).to_owned(),
        ..function.expect("within reach")
    });
    let linked = Linked {
        functions: functions.collect(),
        failed: Vec::new(),
        unwind: relinked.unwind,
        used: relinked.used,
    };
    (linked, new)
}

#[test]
fn jump_tables_go_along() {
    for level in LEVELS {
        let (linked, memory) = load(&separable(real::SWITCH, level), &[]);
        let (linked, memory) = moved(&linked, memory, &["pick_again", "pick"]);
        let (linked, _memory) = moved(&linked, memory, &["pick"]);
        let pick = function!(linked, "pick", fn(i32) -> i32);
        // SAFETY: it reads nothing but its argument.
        let picked: Vec<i32> = (-1..7).map(|n| unsafe { pick(n) }).collect();
        assert_eq!(picked, [99, 10, -21, 372, 4093, -54, 65, 99]);
    }
}

#[test]
fn jump_tables_that_share_a_section_keep_their_functions() {
    // In one section of text one may call the other; in two, the tables' section leads from one to the other.
    let (linked, _memory) = load(&compile(real::SWITCH, Aggressive), &[]);
    assert!(linked.functions.iter().all(|f| f.recipe.is_none()));
}

const CONSTANTS: &str = r#"
@hello = private unnamed_addr constant [6 x i8] c"hello\00"
@world = private unnamed_addr constant [6 x i8] c"world\00"
@names = private constant [2 x ptr] [ptr @hello, ptr @world]
@numbers = private constant [3 x double] [double 1.5, double -2.5, double 8.0], align 16
@wide = private unnamed_addr constant <4 x i32> <i32 1, i32 2, i32 3, i32 4>
define i8 @letter(i64 %s, i64 %i) {
  %slot = getelementptr [2 x ptr], ptr @names, i64 0, i64 %s
  %string = load ptr, ptr %slot
  %at = getelementptr i8, ptr %string, i64 %i
  %c = load i8, ptr %at
  ret i8 %c
}
define i8 @other_letter(i64 %i) {
  %at = getelementptr i8, ptr @world, i64 %i
  %c = load volatile i8, ptr %at
  ret i8 %c
}
define double @sum(double %x) {
  %n = load volatile double, ptr getelementptr (i8, ptr @numbers, i64 8)
  %y = fadd double %x, %n
  %z = fmul double %y, 3.25
  ret double %z
}
define double @product(double %x) {
  %n = load volatile double, ptr getelementptr (i8, ptr @numbers, i64 16)
  %y = fmul double %x, %n
  %z = fmul double %y, 3.25
  ret double %z
}
define i32 @vector(i32 %x) {
  %w = load volatile <4 x i32>, ptr @wide
  %v = add <4 x i32> %w, <i32 10, i32 20, i32 30, i32 40>
  %i = extractelement <4 x i32> %v, i32 %x
  ret i32 %i
}
"#;

#[test]
fn constants_are_copied_shared_or_not() {
    for level in LEVELS {
        let (linked, memory) = load(&separable(CONSTANTS, level), &[]);
        let all = ["vector", "other_letter", "sum", "letter", "product"];
        let (linked, memory) = moved(&linked, memory, &all);
        let (linked, _memory) = moved(&linked, memory, &all);
        let letter = function!(linked, "letter", fn(i64, i64) -> u8);
        let other = function!(linked, "other_letter", fn(i64) -> u8);
        let sum = function!(linked, "sum", fn(f64) -> f64);
        let product = function!(linked, "product", fn(f64) -> f64);
        let vector = function!(linked, "vector", fn(i32) -> i32);
        // SAFETY: within the tables of the IR.
        unsafe {
            assert_eq!((letter(0, 1), letter(1, 0)), (b'e', b'w'));
            assert_eq!(other(3), b'l');
            assert_eq!((sum(4.5), product(2.0)), (6.5, 52.0));
            assert_eq!([0, 1, 2, 3].map(|i| vector(i)), [11, 22, 33, 44]);
        }
    }
}

const CALLS: &str = r#"
@cell = external global ptr
@maybe = extern_weak global i64
declare i64 @host(i64)
declare i64 @eager(i64) nonlazybind
define i64 @calls(i64 %n) {
  %a = call i64 @host(i64 %n)
  %b = call i64 @eager(i64 %a)
  %f = load atomic ptr, ptr @cell monotonic, align 8
  %c = call i64 %f(i64 %b)
  ret i64 %c
}
define i64 @tail(i64 %n) {
  %a = tail call i64 @host(i64 %n)
  ret i64 %a
}
define ptr @address() {
  ret ptr @host
}
define i1 @there() {
  %t = icmp ne ptr @maybe, null
  ret i1 %t
}
define i64 @fib(i64 %n) {
  %small = icmp ult i64 %n, 2
  br i1 %small, label %done, label %more
more:
  %a = sub i64 %n, 1
  %b = sub i64 %n, 2
  %x = call i64 @fib(i64 %a)
  %y = call i64 @fib(i64 %b)
  %z = add i64 %x, %y
  ret i64 %z
done:
  ret i64 %n
}
"#;

extern "C" fn host(n: i64) -> i64 {
    n * 2 + 1
}

/// Host functions near and far: the recipe has what the object had, whichever form the linker chose.
#[test]
fn calls_reach_what_they_reached() {
    let all = ["there", "tail", "calls", "fib", "address"];
    for level in LEVELS {
        let object = separable(CALLS, level);
        let cell = host as *const () as u64;
        let (host, cell) = (host as *const () as u64, &raw const cell as u64);
        let known = [("host", host), ("eager", host), ("cell", cell)];
        let (linked, memory) = load(&object, &known);
        for name in ["calls", "tail", "address"] {
            let outside: Vec<u64> = recipe(&linked, name).expect("one").outside().collect();
            assert!(outside.contains(&host), "{name}: {outside:x?}");
            assert_eq!(outside.contains(&cell), name == "calls", "{name}");
        }
        let (linked, memory) = moved(&linked, memory, &all);
        let (linked, _memory) = moved(&linked, memory, &all);
        let calls = function!(linked, "calls", fn(i64) -> i64);
        let tail = function!(linked, "tail", fn(i64) -> i64);
        let address_of = function!(linked, "address", fn() -> u64);
        let there = function!(linked, "there", fn() -> bool);
        let fib = function!(linked, "fib", fn(i64) -> i64);
        // SAFETY: the cell lives; the rest is in the object.
        unsafe {
            assert_eq!((calls(3), tail(3)), (31, 7));
            assert_eq!(address_of(), host);
            assert!(!there());
            assert_eq!(fib(15), 610);
        }
    }
}

const PRIVATE: &str = r#"
define internal i64 @own(i64 %n) noinline {
  %m = mul i64 %n, 3
  ret i64 %m
}
define internal i64 @deep(i64 %n) noinline {
  %m = call i64 @deeper(i64 %n)
  %o = add i64 %m, 1
  ret i64 %o
}
define internal i64 @deeper(i64 %n) noinline {
  %end = icmp eq i64 %n, 0
  br i1 %end, label %done, label %more
more:
  %m = sub i64 %n, 1
  %o = call i64 @deep(i64 %m)
  ret i64 %o
done:
  ret i64 100
}
define internal i64 @shared(i64 %n) noinline {
  %m = mul i64 %n, 7
  ret i64 %m
}
define i64 @alone(i64 %n) {
  %a = call i64 @own(i64 %n)
  %b = call i64 @deep(i64 %n)
  %c = add i64 %a, %b
  ret i64 %c
}
define i64 @first(i64 %n) {
  %m = call i64 @shared(i64 %n)
  ret i64 %m
}
define i64 @second(i64 %n) {
  %m = call i64 @shared(i64 %n)
  ret i64 %m
}
define i64 @uses_public(i64 %n) {
  %m = call i64 @first(i64 %n)
  ret i64 %m
}
"#;

#[test]
fn private_functions_go_along_if_nobody_else_has_them() {
    for level in LEVELS {
        let (linked, memory) = load(&separable(PRIVATE, level), &[]);
        for name in ["first", "second", "uses_public"] {
            assert_eq!(recipe(&linked, name), None, "{name}");
        }
        let (linked, _memory) = moved(&linked, memory, &["alone"]);
        let alone = function!(linked, "alone", fn(i64) -> i64);
        // SAFETY: it reads nothing but its argument.
        assert_eq!(unsafe { alone(5) }, 15 + 106);
    }
}

const LABELS: &str = r#"
@labels = private constant [3 x ptr] [ptr blockaddress(@jump, %a), ptr blockaddress(@jump, %b), ptr blockaddress(@jump, %c)]
define i64 @jump(i64 %n) {
  %slot = getelementptr [3 x ptr], ptr @labels, i64 0, i64 %n
  %label = load ptr, ptr %slot
  indirectbr ptr %label, [label %a, label %b, label %c]
a: call void asm sideeffect "nop", ""()
  ret i64 11
b: call void asm sideeffect "nop; nop", ""()
  ret i64 22
c: call void asm sideeffect "nop; nop; nop", ""()
  ret i64 33
}
@same = alias i64 (i64), ptr @jump
"#;

#[test]
fn labels_and_aliases() {
    for level in LEVELS {
        let (linked, memory) = load(&separable(LABELS, level), &[]);
        let (linked, _memory) = moved(&linked, memory, &["same"]);
        let jump = function!(linked, "same", fn(i64) -> i64);
        // SAFETY: within the table.
        assert_eq!([0, 1, 2].map(|n| unsafe { jump(n) }), [11, 22, 33]);
    }
}

#[test]
fn what_can_be_written_stays() {
    const IR: &str = r#"
        @state = internal global i64 5
        define i64 @next() {
          %n = load i64, ptr @state
          %m = add i64 %n, 1
          store i64 %m, ptr @state
          ret i64 %m
        }
        define i64 @other() { ret i64 7 }
    "#;
    for level in LEVELS {
        let (linked, _memory) = load(&separable(IR, level), &[]);
        assert_eq!(recipe(&linked, "next"), None);
        assert!(recipe(&linked, "other").is_some());
    }
}

/// Unwinding finds the records of moved functions, their exception tables and their cleanups.
#[test]
fn panics_pass_through_moved_frames() {
    unsafe extern "C-unwind" fn throws(n: i64) -> i64 {
        match n {
            0 => std::panic::resume_unwind(Box::new("thrown")),
            n => n,
        }
    }
    type Guarded =
        unsafe extern "C-unwind" fn(unsafe extern "C-unwind" fn(i64) -> i64, &mut i64) -> i64;
    const IR: &str = r#"
        declare i32 @__gcc_personality_v0(...)
        define i64 @plain(ptr %f, ptr %cleaned) uwtable {
          %n = load i64, ptr %cleaned
          %r = call i64 %f(i64 %n)
          %s = add i64 %r, 1
          ret i64 %s
        }
        define i64 @guarded(ptr %f, ptr %cleaned) uwtable personality ptr @__gcc_personality_v0 {
          %n = load i64, ptr %cleaned
          %r = invoke i64 %f(i64 %n) to label %fine unwind label %pad
        fine:
          %s = add i64 %r, 1
          ret i64 %s
        pad:
          %e = landingpad { ptr, i32 } cleanup
          store i64 77, ptr %cleaned
          resume { ptr, i32 } %e
        }
        define i64 @again(ptr %f, ptr %cleaned) uwtable personality ptr @__gcc_personality_v0 {
          %n = load i64, ptr %cleaned
          %r = invoke i64 %f(i64 %n) to label %fine unwind label %pad
        fine:
          %s = add i64 %r, 1
          ret i64 %s
        pad:
          %e = landingpad { ptr, i32 } cleanup
          store i64 78, ptr %cleaned
          resume { ptr, i32 } %e
        }
    "#;
    // SAFETY: a string of C, and looking runs nothing.
    let personality =
        unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"__gcc_personality_v0".as_ptr()) } as u64;
    let _tables = unwinding::tables();
    for level in LEVELS {
        let known = [("__gcc_personality_v0", personality)];
        let (linked, memory) = load(&separable(IR, level), &known);
        let all = ["again", "plain", "guarded"];
        let (linked, memory) = moved(&linked, memory, &all);
        let (linked, _memory) = moved(&linked, memory, &all);
        let table = linked.unwind.expect("a table");
        for (name, cleaned) in [("plain", 0), ("guarded", 77), ("again", 78)] {
            let function = real::address(&linked, name) as *const ();
            // SAFETY: the IR declares the function so.
            let function = unsafe { std::mem::transmute::<*const (), Guarded>(function) };
            let (mut calm, mut thrown) = (5, 0);
            // SAFETY: the table is sound, and removed before its memory goes.
            let result = unsafe {
                let mut table = unwind::register(table);
                assert_eq!(function(throws, &mut calm), 6);
                let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                    function(throws, &mut thrown)
                }));
                table.deregister();
                result
            };
            let payload = result.expect_err("it passes through");
            assert_eq!(payload.downcast_ref::<&str>(), Some(&"thrown"));
            assert_eq!((calm, thrown), (5, cleaned), "{name}");
        }
    }
}
