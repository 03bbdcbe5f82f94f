//! Objects as LLVM makes them, linked and run.

use inkwell::OptimizationLevel::{self, Aggressive, None as O0};

use super::{Executable, compile, unwinding};
use crate::link::{Linked, Object, link, runtime, unwind};

/// Links an object into executable memory; `resolve` comes before the runtime.
pub(super) fn load(object: &[u8], known: &[(&str, u64)]) -> (Linked, Executable) {
    let object = Object::parse(object).expect("parses");
    let memory = Executable::new(object.needs());
    load_into(&object, memory, known)
}

pub(super) fn load_into(
    object: &Object<'_>,
    mut memory: Executable,
    known: &[(&str, u64)],
) -> (Linked, Executable) {
    let mut resolve = |name: &str| {
        let found = known.iter().find(|(known, _)| *known == name);
        found
            .map(|(_, address)| *address)
            .or_else(|| runtime::lookup(name).map(|address| address as u64))
    };
    let linked = link(object, memory.place(), &mut resolve, true).expect("links");
    memory.seal();
    (linked, memory)
}

pub(super) fn address(linked: &Linked, name: &str) -> u64 {
    let found = linked.functions.iter().find(|f| f.name == name);
    found.expect("a function of that name").address
}

/// The function of a name, with the type that its IR gives it.
macro_rules! function {
    ($linked:expr, $name:literal, $($type:tt)+) => {{
        let address = $crate::link::tests::real::address(&$linked, $name) as *const ();
        // SAFETY: the IR of the test declares the function so.
        unsafe { std::mem::transmute::<*const (), unsafe extern "C" $($type)+>(address) }
    }};
}
pub(super) use function;

const LEVELS: [OptimizationLevel; 2] = [O0, Aggressive];

pub(super) const SWITCH: &str = r#"
define i32 @pick(i32 %n) {
  switch i32 %n, label %other [ i32 0, label %a  i32 1, label %b  i32 2, label %c
                                i32 3, label %d  i32 4, label %e  i32 5, label %f ]
a: call void asm sideeffect "nop", ""()
  ret i32 10
b: call void asm sideeffect "nop; nop", ""()
  ret i32 -21
c: call void asm sideeffect "nop; nop; nop", ""()
  ret i32 372
d: call void asm sideeffect "", ""()
  ret i32 4093
e: call void asm sideeffect "nop; nop; nop; nop", ""()
  ret i32 -54
f: call void asm sideeffect "nop; nop", ""()
  ret i32 65
other:
  ret i32 99
}
define i32 @pick_again(i32 %n) {
  switch i32 %n, label %other [ i32 0, label %a  i32 1, label %b  i32 2, label %c
                                i32 3, label %d  i32 4, label %e ]
a: call void asm sideeffect "nop", ""()
  ret i32 1
b: call void asm sideeffect "nop; nop", ""()
  ret i32 -2
c: call void asm sideeffect "nop; nop; nop", ""()
  ret i32 3
d: call void asm sideeffect "", ""()
  ret i32 -4
e: call void asm sideeffect "nop; nop; nop; nop", ""()
  ret i32 5
other:
  ret i32 0
}
"#;

#[test]
fn jump_tables() {
    for level in LEVELS {
        let (linked, _memory) = load(&compile(SWITCH, level), &[]);
        assert!(linked.used.constants >= 11 * 4, "there are jump tables");
        let pick = function!(linked, "pick", fn(i32) -> i32);
        let again = function!(linked, "pick_again", fn(i32) -> i32);
        // SAFETY: it reads nothing but its argument.
        let picked: Vec<i32> = (-1..7).map(|n| unsafe { pick(n) }).collect();
        // SAFETY: as above.
        let picked_again: Vec<i32> = (-1..6).map(|n| unsafe { again(n) }).collect();
        assert_eq!(picked, [99, 10, -21, 372, 4093, -54, 65, 99]);
        assert_eq!(picked_again, [0, 1, -2, 3, -4, 5, 0]);
    }
}

pub(super) const STRINGS: &str = r#"
@a = private unnamed_addr constant [6 x i8] c"hello\00"
@b = private unnamed_addr constant [6 x i8] c"world\00"
@table = private constant [3 x ptr] [ptr @a, ptr @b, ptr @own]
@numbers = private constant [2 x double] [double 1.5, double -2.5], align 16
declare i64 @strlen(ptr)
define i64 @own(i64 %n) {
  ret i64 %n
}
define i8 @letter(i64 %s, i64 %i) {
  %slot = getelementptr [3 x ptr], ptr @table, i64 0, i64 %s
  %string = load ptr, ptr %slot
  %at = getelementptr i8, ptr %string, i64 %i
  %c = load i8, ptr %at
  ret i8 %c
}
define i64 @through(i64 %n) {
  %slot = getelementptr [3 x ptr], ptr @table, i64 0, i64 2
  %f = load volatile ptr, ptr %slot
  %r = call i64 %f(i64 %n)
  ret i64 %r
}
define i64 @length(i64 %s) {
  %slot = getelementptr [3 x ptr], ptr @table, i64 0, i64 %s
  %string = load ptr, ptr %slot
  %n = call i64 @strlen(ptr %string)
  ret i64 %n
}
define double @sum(double %x) {
  %n = load volatile double, ptr getelementptr (i8, ptr @numbers, i64 8)
  %y = fadd double %x, %n
  %z = fmul double %y, 3.25
  ret double %z
}
"#;

#[test]
fn constants_with_addresses() {
    for level in LEVELS {
        let (linked, _memory) = load(&compile(STRINGS, level), &[]);
        let letter = function!(linked, "letter", fn(i64, i64) -> u8);
        let through = function!(linked, "through", fn(i64) -> i64);
        let length = function!(linked, "length", fn(i64) -> i64);
        let sum = function!(linked, "sum", fn(f64) -> f64);
        // SAFETY: within the tables of the IR.
        unsafe {
            assert_eq!(letter(0, 1), b'e');
            assert_eq!(letter(1, 0), b'w');
            assert_eq!(through(77), 77);
            assert_eq!(length(1), 5);
            assert_eq!(sum(4.5), 6.5);
        }
    }
}

pub(super) const FAR: &str = r#"
@counter = external global i64
@own = global i64 5
@zeros = internal global [4 x i64] zeroinitializer
@maybe = extern_weak global i64
declare i64 @host(i64)
declare i64 @eager(i64) nonlazybind
define i64 @calls(i64 %n) {
  %a = call i64 @host(i64 %n)
  %b = call i64 @host(i64 %a)
  %c = call i64 @eager(i64 %b)
  ret i64 %c
}
define i64 @tail(i64 %n) {
  %a = tail call i64 @host(i64 %n)
  ret i64 %a
}
define ptr @address() {
  ret ptr @host
}
define i64 @count() {
  %n = load i64, ptr @counter
  %o = load i64, ptr @own
  %m = add i64 %n, %o
  store i64 %m, ptr @counter
  store i64 %m, ptr getelementptr (i8, ptr @zeros, i64 24)
  ret i64 %m
}
define i64 @zero() {
  %n = load i64, ptr getelementptr (i8, ptr @zeros, i64 24)
  ret i64 %n
}
define i1 @there() {
  %t = icmp ne ptr @maybe, null
  ret i1 %t
}
"#;

extern "C" fn host(n: i64) -> i64 {
    n * 2 + 1
}

#[test]
fn far_functions_and_data() {
    let mut counter = 100i64;
    for level in LEVELS {
        let known = [
            ("host", host as *const () as u64),
            ("eager", host as *const () as u64),
            ("counter", &raw mut counter as u64),
        ];
        let (linked, _memory) = load(&compile(FAR, level), &known);
        counter = 100;
        let calls = function!(linked, "calls", fn(i64) -> i64);
        let tail = function!(linked, "tail", fn(i64) -> i64);
        let address_of = function!(linked, "address", fn() -> u64);
        let count = function!(linked, "count", fn() -> i64);
        let zero = function!(linked, "zero", fn() -> i64);
        let there = function!(linked, "there", fn() -> bool);
        // SAFETY: `counter` lives; the rest is in the object.
        unsafe {
            assert_eq!(calls(3), 31);
            assert_eq!(tail(3), 7);
            assert_eq!(address_of(), host as *const () as u64);
            assert_eq!(zero(), 0);
            assert_eq!(count(), 105);
            assert_eq!(zero(), 105);
            assert!(!there());
        }
        assert_eq!(counter, 105);
        counter = 100;
    }
}

const RUNTIME: &str = r#"
declare double @llvm.floor.f64(double)
declare double @llvm.pow.f64(double, double)
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
define i128 @divide(i128 %a, i128 %b) {
  %q = udiv i128 %a, %b
  ret i128 %q
}
define double @power(double %a, double %b) {
  %p = call double @llvm.pow.f64(double %a, double %b)
  %f = call double @llvm.floor.f64(double %p)
  ret double %f
}
define float @half(float %a) {
  %h = fptrunc float %a to half
  %f = fpext half %h to float
  ret float %f
}
define void @copy(ptr %to, ptr %from, i64 %n) {
  call void @llvm.memcpy.p0.p0.i64(ptr %to, ptr %from, i64 %n, i1 false)
  ret void
}
"#;

#[test]
fn what_code_generation_calls() {
    for level in LEVELS {
        let (linked, _memory) = load(&compile(RUNTIME, level), &[]);
        let divide = function!(linked, "divide", fn(u128, u128) -> u128);
        let power = function!(linked, "power", fn(f64, f64) -> f64);
        let half = function!(linked, "half", fn(f32) -> f32);
        let copy = function!(linked, "copy", fn(*mut u8, *const u8, usize));
        let mut to = [0u8; 5];
        // SAFETY: arguments as the IR has them; the copy is within both arrays.
        unsafe {
            assert_eq!(divide(u128::MAX, 1 << 70), (1 << 58) - 1);
            assert_eq!(power(2.5, 2.0), 6.0);
            assert_eq!(half(0.333_333_34), 0.333_251_95);
            copy(to.as_mut_ptr(), b"abcde".as_ptr(), 5);
        }
        assert_eq!(&to, b"abcde");
    }
}

/// A function that cleans up when unwound, with an LSDA and a personality that
/// is reached through a reference of its own; beside it, comdats and aliases.
pub(super) const CLEANUP: &str = r#"
declare i32 @__gcc_personality_v0(...)
$shared = comdat any
define linkonce_odr i64 @shared(i64 %n) comdat {
  %m = add i64 %n, 1
  ret i64 %m
}
@other_name = alias i64 (ptr, ptr), ptr @guarded
define i64 @guarded(ptr %f, ptr %cleaned) uwtable personality ptr @__gcc_personality_v0 {
  %n = load i64, ptr %cleaned
  %r = invoke i64 %f(i64 %n) to label %fine unwind label %pad
fine:
  %s = call i64 @shared(i64 %r)
  ret i64 %s
pad:
  %e = landingpad { ptr, i32 } cleanup
  store i64 77, ptr %cleaned
  resume { ptr, i32 } %e
}
"#;

#[test]
fn cleanups_run_when_a_panic_passes() {
    unsafe extern "C-unwind" fn throws(n: i64) -> i64 {
        match n {
            0 => std::panic::resume_unwind(Box::new("thrown")),
            n => n,
        }
    }
    type Guarded =
        unsafe extern "C-unwind" fn(unsafe extern "C-unwind" fn(i64) -> i64, &mut i64) -> i64;
    // SAFETY: a string of C, and looking runs nothing.
    let personality =
        unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"__gcc_personality_v0".as_ptr()) } as u64;
    let _tables = unwinding::tables();
    for level in LEVELS {
        let known = [("__gcc_personality_v0", personality)];
        let (linked, _memory) = load(&compile(CLEANUP, level), &known);
        assert_eq!(linked.used.data, 0, "the reference is a constant");
        assert_eq!(address(&linked, "other_name"), address(&linked, "guarded"));
        let table = linked.unwind.expect("a table");
        let guarded = address(&linked, "guarded") as *const ();
        // SAFETY: the IR declares the function so.
        let guarded = unsafe { std::mem::transmute::<*const (), Guarded>(guarded) };
        let (mut calm, mut thrown) = (5, 0);
        // SAFETY: the table is sound, and removed before its memory goes.
        let result = unsafe {
            let mut table = unwind::register(table);
            assert_eq!(guarded(throws, &mut calm), 6);
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                guarded(throws, &mut thrown)
            }));
            table.deregister();
            result
        };
        let payload = result.expect_err("it passes through");
        assert_eq!(payload.downcast_ref::<&str>(), Some(&"thrown"));
        assert_eq!((calm, thrown), (5, 77), "the cleanup ran");
    }
}

/// The linked bytes are those that the system's own linker would have made: the
/// code above ran. What is left to say is that it is packed.
#[test]
fn functions_are_packed_at_16_bytes() {
    let (linked, _memory) = load(
        &compile(FAR, Aggressive),
        &[("host", 1 << 60), ("eager", 1 << 60), ("counter", 1 << 60)],
    );
    let mut at: Vec<(u64, u64)> = linked
        .functions
        .iter()
        .map(|f| (f.address, f.size))
        .collect();
    at.sort_unstable();
    assert_eq!(at.len(), 6);
    for pair in at.windows(2) {
        let end = (pair[0].0 + pair[0].1).next_multiple_of(16);
        assert_eq!(pair[1].0, end);
    }
}
