//! Which functions have a recipe: objects byte by byte, of which LLVM makes none.

use ::object::elf::{self, RelocationType};

use super::{ALLOC, Assembler, EXEC, FUNC, GLOBAL, NEAR, Part, SECTION, WRITE, link_at};
use crate::link::Recipe;

const CONSTANT: u64 = ALLOC;
const MERGED: u64 = ALLOC | elf::SHF_MERGE.0;
const STRINGS: u64 = MERGED | elf::SHF_STRINGS.0;

/// The recipe of `f`, if it has one.
fn recipe(object: &Assembler) -> Option<Recipe> {
    let known = [("near", NEAR.text - 0x1000), ("far", 1 << 60)];
    let (linked, _) = link_at(&object.finish(), NEAR, &known);
    let f = linked.functions.into_iter().find(|f| f.name == "f");
    f.expect("it is linked").recipe
}

/// `f` in a section of its own, with relocations, and what a symbol 1 and others are.
fn with(symbols: impl FnOnce(&mut Assembler) -> Vec<(u64, RelocationType, u32, i64)>) -> Assembler {
    let mut object = Assembler::default();
    let relocations = symbols(&mut object);
    let mut text = Part::text(&[0x90; 32]);
    text.relocations = relocations;
    let text = object.part(text);
    object.function("f", text, 0, 32);
    object
}

/// A relocation of a kind against something near, or far.
fn against(name: &'static str, kind: RelocationType, addend: i64) -> Option<Recipe> {
    recipe(&with(|object| vec![(8, kind, object.import(name), addend)]))
}

#[test]
fn by_the_kind_of_relocation() {
    for kind in [
        elf::R_X86_64_64,
        elf::R_X86_64_PC64,
        elf::R_X86_64_GOTPCREL,
        elf::R_X86_64_GOTPCREL64,
        elf::R_X86_64_GOTPCRELX,
        elf::R_X86_64_REX_GOTPCRELX,
        elf::R_X86_64_CODE_4_GOTPCRELX,
        elf::R_X86_64_PLT32,
    ] {
        let recipe = against("far", kind, -4).unwrap_or_else(|| panic!("{kind:?}"));
        assert!(recipe.outside().eq([1 << 60]));
    }
    let near = against("near", elf::R_X86_64_PC32, -4).expect("one");
    assert!(near.outside().eq([NEAR.text - 0x1000]));
    // They depend on where the GOT is, or on how large something is.
    for kind in [
        elf::R_X86_64_GOT32,
        elf::R_X86_64_GOT64,
        elf::R_X86_64_GOTPLT64,
        elf::R_X86_64_GOTOFF64,
        elf::R_X86_64_PLTOFF64,
        elf::R_X86_64_GOTPC32,
        elf::R_X86_64_GOTPC64,
    ] {
        assert_eq!(against("far", kind, 0), None, "{kind:?}");
    }
    let got = against("_GLOBAL_OFFSET_TABLE_", elf::R_X86_64_PC32, -4);
    assert_eq!(got, None);
    for kind in [elf::R_X86_64_SIZE32, elf::R_X86_64_SIZE64] {
        let size = with(|object| vec![(8, kind, object.symbol("s", GLOBAL, 1, 0, 7), 0)]);
        assert_eq!(recipe(&size), None);
    }
    for kind in [elf::R_X86_64_PC8, elf::R_X86_64_PC16] {
        let own = with(|object| vec![(8, kind, object.symbol("s", 0, 1, 16, 0), -1)]);
        assert_eq!(recipe(&own), None);
    }
    let own = with(|object| vec![(8, elf::R_X86_64_PC32, object.symbol("s", 0, 1, 16, 0), -4)]);
    assert!(recipe(&own).expect("one").outside().eq([]));
}

#[test]
fn by_the_order_of_relocations() {
    let two = |first: u64, second: u64| {
        recipe(&with(|object| {
            let near = object.import("near");
            let kind = elf::R_X86_64_PC32;
            vec![(first, kind, near, -4), (second, kind, near, -4)]
        }))
    };
    assert!(two(8, 12).is_some());
    assert_eq!(two(12, 8), None, "out of order");
    assert_eq!(two(8, 11), None, "one over the other");
    // What is relaxed begins before its field.
    let relaxed = |first: u64| {
        recipe(&with(|object| {
            let near = object.import("near");
            let first = (first, elf::R_X86_64_PC32, near, -4);
            vec![first, (16, elf::R_X86_64_REX_GOTPCRELX, near, -4)]
        }))
    };
    assert!(relaxed(9).is_some());
    assert_eq!(relaxed(10), None);
}

#[test]
fn by_who_else_is_in_the_section() {
    let section = |more: &dyn Fn(&mut Assembler)| {
        let mut object = Assembler::default();
        let text = object.part(Part::text(&[0x90; 64]));
        object.function("f", text, 0, 32);
        more(&mut object);
        recipe(&object)
    };
    assert!(section(&|_| {}).is_some());
    let private = |object: &mut Assembler| {
        object.symbol("g", FUNC, 1, 32, 32);
    };
    assert!(section(&private).is_some(), "it goes along");
    let alias = |object: &mut Assembler| {
        object.function("g", 1, 0, 32);
    };
    assert!(section(&alias).is_some());
    let public = |object: &mut Assembler| {
        object.function("g", 1, 32, 32);
    };
    assert_eq!(section(&public), None);
    let inside = |object: &mut Assembler| {
        object.function("g", 1, 16, 16);
    };
    assert_eq!(section(&inside), None);
}

#[test]
fn by_the_area_of_what_it_refers_to() {
    let refers = |part: Part| {
        recipe(&with(|object| {
            let it = object.symbol("it", GLOBAL, 2, 0, 8);
            object.part(Part::new(".empty", 0, &[]));
            object.part(part);
            vec![(8, elf::R_X86_64_PC32, it, -4)]
        }))
    };
    // Sections are numbered as they come: these stand before the code.
    assert!(refers(Part::new(".rodata", CONSTANT, &[1; 8])).is_some());
    assert!(refers(Part::new(".data.rel.ro", ALLOC | WRITE, &[1; 8])).is_some());
    assert!(refers(Part::new(".text.part", ALLOC | EXEC, &[1; 8])).is_some());
    assert_eq!(refers(Part::new(".data", ALLOC | WRITE, &[1; 8])), None);
}

/// A constant of this size, that two functions refer to.
fn shared(size: usize, flags: u64, name: &'static str) -> Option<Recipe> {
    let mut object = Assembler::default();
    let kind = elf::R_X86_64_PC32;
    let text = Part::text(&[0x90; 32]).at(8, kind, 1, -4);
    let text = object.part(text);
    let again = Part::new(".text.again", ALLOC | EXEC, &[0x90; 32]).at(8, kind, 1, -4);
    let again = object.part(again);
    let constant = object.part(Part::new(name, flags, &vec![0xC3; size]));
    object.symbol("it", 0, constant, 0, size as u64);
    object.function("f", text, 0, 32);
    object.function("g", again, 0, 32);
    recipe(&object)
}

#[test]
fn by_who_else_refers_to_it() {
    assert!(shared(1024, CONSTANT, ".rodata").is_some());
    assert_eq!(shared(1025, CONSTANT, ".rodata"), None, "too large to copy");
    assert_eq!(shared(16, ALLOC | EXEC, ".text.shared"), None);
}

/// The parts among constants: where each begins in its section, and its size.
fn entries(
    flags: u64,
    entry: u64,
    info: u8,
    value: u64,
    relocation: (RelocationType, i64),
) -> Vec<(u64, u64)> {
    let (kind, addend) = relocation;
    let mut object = Assembler::default();
    let text = object.part(Part::text(&[0x90; 32]).at(8, kind, 1, addend));
    let mut constants = Part::new(".rodata.merged", flags, b"one\0two\0three\0\0\0");
    constants.entry = entry;
    let constants = object.part(constants);
    object.symbol("it", info, constants, value, 0);
    object.function("f", text, 0, 32);
    let parts = recipe(&object).expect("one").parts();
    let constants = parts
        .iter()
        .filter(|part| part.0 == crate::link::sections::Home::Constants);
    constants
        .map(|(_, at, size)| (at - NEAR.constants, *size))
        .collect()
}

#[test]
fn entries_are_taken_by_themselves() {
    let by_symbol = (elf::R_X86_64_PC32, -4);
    assert_eq!(entries(MERGED, 8, 0, 8, by_symbol), [(8, 8)]);
    assert_eq!(entries(MERGED, 4, 0, 4, by_symbol), [(4, 4)]);
    assert_eq!(entries(STRINGS, 1, 0, 0, by_symbol), [(0, 4)]);
    assert_eq!(entries(STRINGS, 1, 0, 4, by_symbol), [(4, 4)]);
    assert_eq!(
        entries(STRINGS, 1, 0, 10, by_symbol),
        [(8, 6)],
        "from the middle"
    );
    // A field of a distance says only with the bytes behind it where it leads to.
    assert_eq!(entries(STRINGS, 1, SECTION, 0, by_symbol), [(0, 16)]);
    let by_addend = |addend| (elf::R_X86_64_64, addend);
    assert_eq!(entries(STRINGS, 1, SECTION, 0, by_addend(4)), [(4, 4)]);
    assert_eq!(entries(STRINGS, 1, SECTION, 0, by_addend(-4)), [(0, 16)]);
    assert_eq!(entries(STRINGS, 1, SECTION, 0, by_addend(16)), [(0, 16)]);
    // Not divided: without entries, of wide characters, beyond the last.
    assert_eq!(entries(CONSTANT, 0, 0, 4, by_symbol), [(0, 16)]);
    assert_eq!(entries(MERGED, 0, 0, 4, by_symbol), [(0, 16)]);
    assert_eq!(entries(STRINGS, 2, 0, 4, by_symbol), [(0, 16)]);
    assert_eq!(entries(MERGED, 8, 0, 16, by_symbol), [(0, 16)]);
    assert_eq!(entries(MERGED, 12, 0, 12, by_symbol), [(0, 16)]);
}
