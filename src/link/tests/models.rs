//! Code models and relocation models: the same program from each, linked and run.

use inkwell::OptimizationLevel::{Aggressive, None as O0};
use inkwell::targets::{CodeModel, RelocMode};

use super::real::{address, function, load_into};
use super::{Executable, LinkError, NEAR, compile_for, try_link_at};
use crate::link::Object;

pub(super) const MODES: [RelocMode; 2] = [RelocMode::PIC, RelocMode::Static];
pub(super) const MODELS: [CodeModel; 3] = [CodeModel::Small, CodeModel::Medium, CodeModel::Large];

/// Data of each kind, near and large; calls of each kind; a jump table.
pub(super) const PROGRAM: &str = r#"
$shared = comdat any
@counter = external global i64
@maybe = extern_weak global i64
@own = global i64 5
@zeros = internal global [4 x i64] zeroinitializer
@common = common global [8 x i64] zeroinitializer, align 32
@weak = weak global i64 11
@big = internal global [20000 x i64] zeroinitializer
@big_data = global [9000 x i64] [i64 1, i64 2, i64 3, i64 4, i64 5, i64 6, i64 7, i64 8, ELEMENTS]
@words = private constant [3 x ptr] [ptr @one, ptr @two, ptr @one]
@one = private unnamed_addr constant [4 x i8] c"one\00"
@two = private unnamed_addr constant [4 x i8] c"two\00"
@vector = constant <16 x float> <float 1.0, float 2.0, float 3.0, float 4.0, float 5.0,
  float 6.0, float 7.0, float 8.0, float 9.0, float 1.0, float 2.0, float 3.0, float 4.0,
  float 5.0, float 6.0, float 7.0>, align 64
@wide = constant <8 x float> <float 1.0, float 2.0, float 3.0, float 4.0, float 5.0,
  float 6.0, float 7.0, float 8.5>, align 32
@callback = internal global ptr @local
@alias = alias i64 (i64), ptr @public
declare i64 @host(i64)
declare i64 @eager(i64) nonlazybind
define internal i64 @local(i64 %n) noinline {
  %m = mul i64 %n, 3
  ret i64 %m
}
define i64 @public(i64 %n) noinline {
  %m = call i64 @local(i64 %n)
  %o = add i64 %m, 1
  ret i64 %o
}
define linkonce_odr i64 @shared(i64 %n) noinline comdat {
  %m = xor i64 %n, 255
  ret i64 %m
}
define i64 @calls(i64 %n) {
  %a = call i64 @host(i64 %n)
  %b = call i64 @eager(i64 %a)
  %c = call i64 @public(i64 %b)
  %d = call i64 @shared(i64 %c)
  %f = load volatile ptr, ptr @callback
  %e = call i64 %f(i64 %d)
  %g = call i64 @alias(i64 %e)
  ret i64 %g
}
define i64 @data(i64 %i) {
  %a = load volatile i64, ptr @own
  %b = load volatile i64, ptr @counter
  %p = getelementptr [4 x i64], ptr @zeros, i64 0, i64 %i
  %c = load volatile i64, ptr %p
  %q = getelementptr [8 x i64], ptr @common, i64 0, i64 %i
  %d = load volatile i64, ptr %q
  %r = getelementptr [20000 x i64], ptr @big, i64 0, i64 %i
  %e = load volatile i64, ptr %r
  %s = getelementptr [9000 x i64], ptr @big_data, i64 0, i64 %i
  %f = load volatile i64, ptr %s
  %g = load volatile i64, ptr @weak
  store volatile i64 %a, ptr %p
  store volatile i64 %a, ptr %q
  store volatile i64 %a, ptr %r
  %1 = add i64 %a, %b
  %2 = add i64 %1, %c
  %3 = add i64 %2, %d
  %4 = add i64 %3, %e
  %5 = add i64 %4, %f
  %6 = add i64 %5, %g
  ret i64 %6
}
define i8 @letter(i64 %s, i64 %i) {
  %slot = getelementptr [3 x ptr], ptr @words, i64 0, i64 %s
  %string = load volatile ptr, ptr %slot
  %at = getelementptr i8, ptr %string, i64 %i
  %c = load i8, ptr %at
  ret i8 %c
}
define float @lane(i64 %i) {
  %v = load volatile <16 x float>, ptr @vector
  %a = extractelement <16 x float> %v, i64 %i
  %w = load volatile <8 x float>, ptr @wide
  %b = extractelement <8 x float> %w, i64 7
  %c = fadd float %a, %b
  %d = fmul float %c, 1.5
  ret float %d
}
define i64 @misaligned() {
  %a = ptrtoint ptr @vector to i64
  %b = and i64 %a, 63
  %c = ptrtoint ptr @wide to i64
  %d = and i64 %c, 31
  %e = ptrtoint ptr @common to i64
  %f = and i64 %e, 31
  %g = or i64 %b, %d
  %h = or i64 %f, %g
  ret i64 %h
}
define i1 @there() {
  %t = icmp ne ptr @maybe, null
  ret i1 %t
}
define i64 @pick(i64 %n) {
  switch i64 %n, label %other [ i64 0, label %a  i64 1, label %b  i64 2, label %c
                                i64 3, label %d  i64 4, label %e ]
a: call void asm sideeffect "nop", ""()
  ret i64 10
b: %x = call i64 @host(i64 20)
  ret i64 %x
c: call void asm sideeffect "nop; nop", ""()
  ret i64 30
d: %y = call i64 @public(i64 40)
  ret i64 %y
e: call void asm sideeffect "nop; nop; nop", ""()
  ret i64 50
other:
  ret i64 0
}
"#;

/// The program, with enough data for the large sections.
pub(super) fn program() -> String {
    let rest = vec!["i64 0"; 9000 - 8].join(", ");
    PROGRAM.replace("ELEMENTS", &rest)
}

/// The program, with little data.
pub(super) fn small_program() -> String {
    let program = PROGRAM.replace("20000", "20").replace("9000", "8");
    program.replace(", ELEMENTS", "")
}

/// The program as front ends say that it is for one place: what is public in it
/// is reached without a GOT.
fn local_program() -> String {
    let mut ir = program();
    for kind in [
        "global",
        "constant",
        "external global",
        "common global",
        "weak global",
    ] {
        ir = ir.replace(
            &format!("\n@own = {kind}"),
            &format!("\n@own = dso_local {kind}"),
        );
        for name in ["counter", "common", "weak", "big_data", "vector", "wide"] {
            let (from, to) = (format!("@{name} = {kind}"), format!("@{name} = DSO {kind}"));
            ir = ir.replace(&from, &to);
        }
    }
    ir = ir.replace("DSO external global", "external dso_local global");
    ir = ir.replace("DSO common global", "common dso_local global");
    ir = ir.replace("DSO weak global", "weak dso_local global");
    ir.replace("DSO ", "dso_local ")
        .replace("define i64 @", "define dso_local i64 @")
}

unsafe extern "C" fn host(n: i64) -> i64 {
    n * 2 + 1
}

/// A variable of the host's below 2 GiB, where code that is not PIC looks for it.
fn low_variable(value: i64) -> *mut i64 {
    // SAFETY: a new mapping, which stays for the life of the test.
    let page = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            4096,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT,
            -1,
            0,
        )
    };
    assert_ne!(page, libc::MAP_FAILED);
    let variable = page.cast::<i64>();
    // SAFETY: just mapped, and large enough.
    unsafe { variable.write(value) };
    variable
}

#[test]
fn every_model_links_and_runs() {
    let low = low_variable(100) as u64;
    for mode in MODES {
        let ir = match mode {
            RelocMode::Static => local_program(),
            _ => program(),
        };
        for model in MODELS {
            for level in [O0, Aggressive] {
                let object = compile_for(&ir, level, mode, model);
                let parsed = Object::parse(&object).expect("parses");
                // Small and medium code that is not PIC has 32-bit addresses in it.
                let near = mode == RelocMode::Static && model != CodeModel::Large;
                let memory = match near {
                    true => Executable::low(parsed.needs()),
                    false => Executable::new(parsed.needs()),
                };
                let far = Box::new(100i64);
                let counter = if near { low } else { &raw const *far as u64 };
                let known = [
                    ("host", host as *const () as u64),
                    ("eager", host as *const () as u64),
                    ("counter", counter),
                ];
                let (linked, _memory) = load_into(&parsed, memory, &known);
                assert_eq!(linked.failed, [], "{mode:?} {model:?} {level:?}");
                run(&linked);
            }
        }
    }
}

fn run(linked: &crate::link::Linked) {
    let calls = function!(linked, "calls", fn(i64) -> i64);
    let data = function!(linked, "data", fn(i64) -> i64);
    let letter = function!(linked, "letter", fn(i64, i64) -> u8);
    let lane = function!(linked, "lane", fn(i64) -> f32);
    let misaligned = function!(linked, "misaligned", fn() -> i64);
    let there = function!(linked, "there", fn() -> bool);
    let pick = function!(linked, "pick", fn(i64) -> i64);
    // SAFETY: arguments are within the IR's tables, and what it imports lives.
    unsafe {
        // 2 -> 5 -> 11 -> 34 -> 221 -> 663 -> 1990
        assert_eq!(calls(2), 1990);
        assert_eq!(data(3), 5 + 100 + 4 + 11);
        assert_eq!(data(3), 5 + 100 + 4 + 11 + 3 * 5);
        assert_eq!([letter(0, 0), letter(1, 1), letter(2, 2)], *b"owe");
        assert_eq!(lane(8), (9.0 + 8.5) * 1.5);
        assert_eq!(misaligned(), 0);
        assert!(!there());
        let picked: Vec<i64> = (-1..6).map(|n| pick(n)).collect();
        assert_eq!(picked, [0, 10, 41, 30, 121, 50, 0]);
    }
    assert_eq!(address(linked, "alias"), address(linked, "public"));
}

/// The small model without PIC cannot be far up, and says so by name.
#[test]
fn addresses_of_32_bits_are_refused_where_they_do_not_reach() {
    let ir = "@own = dso_local global i64 5
              define ptr @f() { ret ptr @own }
              define i64 @g(i64 %n) { ret i64 %n }";
    let object = compile_for(ir, Aggressive, RelocMode::Static, CodeModel::Small);
    let (linked, _) = try_link_at(&object, NEAR, &[]).expect("links but for one");
    assert_eq!(linked.functions.len(), 1);
    let [(name, error)] = &linked.failed[..] else {
        panic!("{:?}", linked.failed);
    };
    let expected = LinkError::OutOfRange {
        symbol: "own".to_owned(),
        section: ".text".to_owned(),
        relocation: "R_X86_64_32".to_owned(),
        distance: NEAR.data as i64,
    };
    assert_eq!((name.as_str(), error), ("f", &expected));
}

pub(super) const THREAD_LOCALS: &str = r#"
@general = external thread_local global i64
@own = thread_local global i64 4
@dynamic = internal thread_local(localdynamic) global i64 1
@zero = internal thread_local(localdynamic) global i64 0
@initial = external thread_local(initialexec) global i64
@local = internal thread_local(localexec) global i64 2
define ptr @uses_general() { ret ptr @general }
define ptr @uses_own() { ret ptr @own }
define i64 @uses_dynamic() {
  %a = load i64, ptr @dynamic
  %b = load i64, ptr @zero
  %c = add i64 %a, %b
  ret i64 %c
}
define ptr @uses_initial() { ret ptr @initial }
define ptr @uses_local() { ret ptr @local }
define i64 @uses_none(i64 %n) { ret i64 %n }
"#;

/// Each use of a thread-local costs its function, and is named.
#[test]
fn thread_locals_are_refused_in_every_model() {
    let forms = [
        "TLSGD", "TLSLD", "GOTTPOFF", "TPOFF32", "DTPOFF32", "TPOFF64",
    ];
    for (mode, model) in MODES.into_iter().flat_map(|m| MODELS.map(|n| (m, n))) {
        for level in [O0, Aggressive] {
            let object = compile_for(THREAD_LOCALS, level, mode, model);
            let (linked, _) = try_link_at(&object, NEAR, &[("__tls_get_addr", 1)]).expect("links");
            let names: Vec<&str> = linked.functions.iter().map(|f| f.name.as_str()).collect();
            assert_eq!(names, ["uses_none"]);
            assert_eq!(linked.failed.len(), 5);
            for (function, error) in &linked.failed {
                let LinkError::Unsupported {
                    symbol,
                    section,
                    relocation,
                } = error
                else {
                    panic!("{function}: {error}");
                };
                let form = relocation.strip_prefix("R_X86_64_").expect("its name");
                assert!(forms.contains(&form), "{error}");
                let named = function.strip_prefix("uses_").expect("its name");
                assert!(
                    symbol == named || (named == "dynamic" && symbol == "zero"),
                    "{error}"
                );
                assert!(section.ends_with("text"), "{error}");
            }
        }
    }
}
