//! A failure costs its own function only, and those who cannot do without it.

use ::object::elf;

use super::{
    ALLOC, Addresses, Assembler, EXEC, FUNC, LinkError, Linked, NEAR, Part, compile, link_at,
    try_link_at,
};

const CALL: elf::RelocationType = elf::R_X86_64_PLT32;

fn unresolved(symbol: &str, section: &str) -> LinkError {
    LinkError::Unresolved {
        symbol: symbol.to_owned(),
        section: section.to_owned(),
    }
}

fn names(linked: &Linked) -> (Vec<&str>, Vec<&str>) {
    let functions = linked.functions.iter().map(|f| f.name.as_str());
    let failed = linked.failed.iter().map(|(name, _)| name.as_str());
    let (mut functions, mut failed): (Vec<_>, Vec<_>) = (functions.collect(), failed.collect());
    functions.sort_unstable();
    failed.sort_unstable();
    (functions, failed)
}

#[test]
fn a_fault_costs_its_function() {
    let mut object = Assembler::default();
    let text = Part::text(&[0xE8; 64])
        .at(17, CALL, 4, -4)
        .at(25, CALL, 5, -4);
    let text = object.part(text);
    object.function("before", text, 0, 16);
    object.function("at_fault", text, 16, 16);
    object.function("after", text, 32, 32);
    object.import("nobody");
    object.import("nobody_else");
    let (linked, memory) = link_at(&object.finish(), NEAR, &[]);
    assert_eq!(names(&linked), (vec!["after", "before"], vec!["at_fault"]));
    assert_eq!(
        linked.failed[0].1,
        unresolved("nobody", ".text"),
        "the first"
    );
    assert_eq!(memory.text()[17..21], [0; 4]);
}

#[test]
fn a_fault_of_no_function_is_the_objects() {
    let mut object = Assembler::default();
    object.import("nobody");
    let text = Part::text(&[0xE8; 64]).at(40, CALL, 1, -4);
    let text = object.part(text);
    object.function("f", text, 0, 16);
    let result = try_link_at(&object.finish(), NEAR, &[]).map(|_| ());
    assert_eq!(result, Err(unresolved("nobody", ".text")));

    let mut object = Assembler::default();
    object.import("nobody");
    object.part(Part::new(".rodata", ALLOC, &[0; 8]).at(0, elf::R_X86_64_64, 1, 0));
    let result = try_link_at(&object.finish(), NEAR, &[]).map(|_| ());
    assert_eq!(result, Err(unresolved("nobody", ".rodata")));
}

#[test]
fn aliases_fail_together() {
    let mut object = Assembler::default();
    object.import("nobody");
    let text = object.part(Part::text(&[0xE8; 64]).at(1, CALL, 1, -4));
    object.function("f", text, 0, 16);
    object.function("alias", text, 0, 16);
    object.function("g", text, 16, 16);
    let (linked, _) = link_at(&object.finish(), NEAR, &[]);
    assert_eq!(names(&linked), (vec!["g"], vec!["alias", "f"]));
}

/// As assembly may have it: one function in another. The fault is in the last
/// byte of the outer one, behind the inner.
#[test]
fn faults_behind_nested_functions_are_found() {
    let mut object = Assembler::default();
    object.import("nobody");
    let text = object.part(Part::text(&[0; 64]).at(31, elf::R_X86_64_8, 1, 0));
    object.function("outer", text, 0, 32);
    object.function("inner", text, 4, 8);
    object.function("after", text, 32, 32);
    let (linked, _) = link_at(&object.finish(), NEAR, &[]);
    assert_eq!(names(&linked), (vec!["after", "inner"], vec!["outer"]));
}

/// Sections: 1 `.text` with three public functions, 2 and 3 a private one each.
/// `low` calls nobody's function, `high` calls `low`, `caller` calls `high`.
pub(super) fn chain() -> Assembler {
    let mut object = Assembler::default();
    object.import("nobody");
    // `caller` refers to `high` by its section, as LLVM does for local symbols.
    let text = Part::text(&[0xE8; 64])
        .at(1, CALL, 2, -4)
        .at(33, CALL, 1, -4);
    object.part(text);
    object.symbol("", super::SECTION, 2, 0, 0);
    object.part(Part::new(".text.high", ALLOC | EXEC, &[0xE8; 16]).at(1, CALL, 3, -4));
    object.symbol("low", FUNC, 3, 0, 16);
    object.part(Part::new(".text.low", ALLOC | EXEC, &[0xE8; 16]).at(1, CALL, 1, -4));
    object.symbol("high", FUNC, 2, 0, 16);
    object.function("caller", 1, 0, 16);
    object.function("innocent", 1, 16, 16);
    object
}

#[test]
fn callers_of_private_functions_fail_with_them() {
    let mut object = chain();
    object.function("direct", 1, 32, 32);
    let (linked, _) = link_at(&object.finish(), NEAR, &[]);
    assert_eq!(names(&linked), (vec!["innocent"], vec!["caller", "direct"]));
    let error = |name| {
        linked
            .failed
            .iter()
            .find(|(failed, _)| failed == name)
            .map(|f| &f.1)
    };
    assert_eq!(error("caller"), Some(&unresolved("nobody", ".text.low")));
    assert_eq!(error("direct"), Some(&unresolved("nobody", ".text")));
}

/// A private function beside others may be called without a relocation.
#[test]
fn a_fault_beside_others_in_private_is_the_objects() {
    let mut object = chain();
    object.symbol("private", FUNC, 1, 32, 32);
    let result = try_link_at(&object.finish(), NEAR, &[]).map(|_| ());
    assert_eq!(result, Err(unresolved("nobody", ".text")));
}

#[test]
fn a_pointer_to_what_failed_is_the_objects_fault() {
    for (addend, whole) in [(0, true), (4, false)] {
        let mut object = chain();
        object.function("direct", 1, 32, 32);
        // To the beginning of `high`, and into it, as jump tables point.
        let table = Part::new(".rodata", ALLOC, &[0; 8]).at(0, elf::R_X86_64_64, 2, addend);
        object.part(table);
        let result = try_link_at(&object.finish(), NEAR, &[]).map(|_| ());
        assert_eq!(result.is_err(), whole);
    }
}

pub(super) const TWO: &str = r#"
@variable = thread_local global i64 0
@pointer = external global i64
declare i64 @missing(i64)
define internal i64 @helper(i64 %n) noinline {
  %m = mul i64 %n, %n
  ret i64 %m
}
define i64 @good(i64 %n) {
  %m = call i64 @helper(i64 %n)
  ret i64 %m
}
define i64 @also_good(i64 %n) uwtable {
  ret i64 %n
}
define i64 @calls_missing(i64 %n) uwtable {
  %m = call i64 @missing(i64 %n)
  %s = add i64 %m, 1
  ret i64 %s
}
define i64 @uses_thread_local() uwtable {
  %n = load i64, ptr @variable
  ret i64 %n
}
"#;

#[test]
fn faults_in_objects_of_llvm() {
    let bytes = compile(TWO, inkwell::OptimizationLevel::Aggressive);
    let (linked, _) = link_at(&bytes, NEAR, &[("pointer", 8)]);
    let (functions, failed) = names(&linked);
    assert_eq!(functions, ["also_good", "good"]);
    assert_eq!(failed, ["calls_missing", "uses_thread_local"]);
    let LinkError::Unsupported {
        symbol, relocation, ..
    } = &linked
        .failed
        .iter()
        .find(|f| f.0 == failed[1])
        .expect("it")
        .1
    else {
        panic!("{:?}", linked.failed);
    };
    assert_eq!(symbol, "variable");
    assert_eq!(relocation, "R_X86_64_TLSGD");
}

/// Unwind records out of reach of the code they describe.
#[test]
fn records_out_of_reach_cost_their_functions() {
    let far = Addresses {
        unwind: NEAR.text + (1 << 40),
        ..NEAR
    };
    let ir = "define i64 @f(i64 %n) uwtable { ret i64 %n }
              define i64 @g(i64 %n) nounwind { ret i64 %n }";
    let bytes = compile(ir, inkwell::OptimizationLevel::None);
    let (linked, memory) = link_at(&bytes, far, &[]);
    assert_eq!(names(&linked), (vec!["g"], vec!["f"]));
    assert!(matches!(linked.failed[0].1, LinkError::OutOfRange { .. }));
    assert_eq!(linked.unwind, None, "nothing is described any more");
    let frames = crate::link::frames::Frames::parse(memory.unwind()).expect("sound");
    assert_eq!(frames.fdes[0].start(memory.unwind(), far.unwind), None);
}

/// A personality that nobody knows, referred to directly by the common record:
/// all functions with that record fail, others do not.
#[test]
fn an_unknown_personality_costs_all_who_have_it() {
    let mut frames = vec![
        // CIE "zPR" with a personality, absolute; "zR" without.
        28, 0, 0, 0, 0, 0, 0, 0, 1, b'z', b'P', b'R', 0, 1, 0x78, 16, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0x1B, 0, 0, 0, 0, 0,
    ];
    frames.extend([
        16, 0, 0, 0, 0, 0, 0, 0, 1, b'z', b'R', 0, 1, 0x78, 16, 1, 0x1B, 0, 0, 0,
    ]);
    let fde = |cie: u8| {
        let mut fde = vec![
            16, 0, 0, 0, cie, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0,
        ];
        fde.truncate(20);
        fde
    };
    // At 52, 72, 92: pointers count back from the word after the length.
    frames.extend([fde(56), fde(76), fde(64)].concat());
    let mut object = Assembler::default();
    object.import("nobody");
    let text = object.part(Part::text(&[0xC3; 48]));
    object.symbol("", super::SECTION, text, 0, 0);
    let part = Part::new(".eh_frame", ALLOC, &frames)
        .align(8)
        .at(18, elf::R_X86_64_64, 1, 0)
        .at(60, elf::R_X86_64_PC32, 2, 0)
        .at(80, elf::R_X86_64_PC32, 2, 16)
        .at(100, elf::R_X86_64_PC32, 2, 32);
    object.part(part);
    object.function("first", text, 0, 16);
    object.function("second", text, 16, 16);
    object.function("third", text, 32, 16);
    let bytes = object.finish();
    let (linked, memory) = link_at(&bytes, NEAR, &[]);
    assert_eq!(names(&linked), (vec!["third"], vec!["first", "second"]));
    assert_eq!(linked.failed[0].1, unresolved("nobody", ".eh_frame"));
    let start = linked.unwind.expect("the third is described");
    assert_eq!(start, NEAR.unwind);
    let frames = crate::link::frames::Frames::parse(memory.unwind()).expect("sound");
    assert!((105..=112).contains(&frames.len));
    let starts: Vec<_> = frames
        .fdes
        .iter()
        .map(|fde| fde.start(memory.unwind(), start))
        .collect();
    assert_eq!(starts, [None, None, Some(NEAR.text + 32)]);

    let (linked, _) = link_at(&bytes, NEAR, &[("nobody", 0x1234)]);
    assert_eq!(linked.functions.len(), 3);
}
