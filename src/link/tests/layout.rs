//! What goes where, how much of it, and what has no place at all.

use ::object::elf;

use super::{
    ALLOC, Addresses, Area, Assembler, EXEC, FUNC, GLOBAL, LinkError, Memory, NEAR, Object, Part,
    TLS, WRITE, link, link_at, try_link_at,
};

fn nobits(name: &'static str, size: u64, align: u64) -> Part {
    let mut part = Part::new(name, ALLOC | WRITE, &[]).align(align);
    part.kind = elf::SHT_NOBITS.0;
    part.size = size;
    part
}

/// A constant or variable with the address of the function `f`, symbol 1.
fn pointer(name: &'static str, flags: u64) -> Part {
    Part::new(name, flags, &[0; 8])
        .align(8)
        .at(0, elf::R_X86_64_64, 1, 0)
}

#[test]
fn areas() {
    let mut object = Assembler::default();
    object.function("f", 1, 0, 5);
    object.part(Part::text(&[0x90; 5]).align(4));
    object.part(Part::new(".text.unlikely.g", ALLOC | EXEC, &[0xC3]).align(64));
    object.part(Part::new(".rodata", ALLOC, &[1; 3]));
    object.part(Part::new(".rodata.cst16", ALLOC | 0x10, &[2; 16]).align(16));
    object.part(pointer(".data.rel.ro.local", ALLOC | WRITE));
    object.part(pointer(".data.DW.ref.personality", ALLOC | WRITE));
    object.part(pointer(".data.rel", ALLOC | WRITE));
    object.part(Part::new(".data", ALLOC | WRITE, &[3; 3]));
    object.part(nobits(".bss", 10, 32));
    object.part(Part::new(".gcc_except_table", ALLOC, &[4; 2]).align(4));
    object.symbol("common", GLOBAL | 1, 0xFFF2, 16, 8);
    let bytes = object.finish();

    let parsed = Object::parse(&bytes).expect("parses");
    let needs = parsed.needs();
    assert_eq!(
        needs.text,
        Area {
            size: 80,
            align: 64
        }
    );
    assert_eq!(
        needs.constants,
        Area {
            size: 50,
            align: 16
        }
    );
    assert_eq!(
        needs.data,
        Area {
            size: 56,
            align: 32
        }
    );
    assert_eq!(needs.unwind, Area { size: 0, align: 1 });
    assert_eq!(
        parsed.section_bytes(),
        5 + 1 + 3 + 16 + 8 + 8 + 8 + 3 + 10 + 2
    );

    let (linked, memory) = link_at(&bytes, NEAR, &[]);
    let mut text = [0xCC; 80];
    text[..5].fill(0x90);
    text[64] = 0xC3;
    assert_eq!(memory.text(), text);
    let f = NEAR.text.to_le_bytes();
    let constants = [&[1; 3][..], &[0; 13], &[2; 16], &f, &f, &[4; 2]].concat();
    assert_eq!(memory.constants(), constants);
    let data = [&f[..], &[3; 3], &[0; 45]].concat();
    assert_eq!(memory.data(), data);
    assert_eq!(linked.used.text, 80);
    assert_eq!(linked.used.constants, 50);
    assert_eq!(linked.used.data, 56);
    assert_eq!(linked.unwind, None);
}

#[test]
fn common_symbols_have_an_address() {
    let mut object = Assembler::default();
    object.symbol("first", GLOBAL | 1, 0xFFF2, 1, 3);
    object.symbol("second", GLOBAL | 1, 0xFFF2, 8, 8);
    let data = Part::new(".data", ALLOC | WRITE, &[0; 17])
        .at(0, elf::R_X86_64_64, 1, 0)
        .at(8, elf::R_X86_64_64, 2, 1);
    object.part(data);
    let (_, memory) = link_at(&object.finish(), NEAR, &[]);
    assert_eq!(memory.data()[..8], (NEAR.data + 17).to_le_bytes());
    assert_eq!(memory.data()[8..16], (NEAR.data + 24 + 1).to_le_bytes());
    assert_eq!(memory.data().len(), 32);
}

/// A call that does not return may be the last instruction.
#[test]
fn text_ends_with_padding() {
    for size in 1..=33 {
        let mut object = Assembler::default();
        object.part(Part::text(&vec![0x90; size]));
        let (linked, memory) = link_at(&object.finish(), NEAR, &[]);
        let end = linked.used.text as usize;
        assert!(end > size && end <= size + 16);
        assert!(memory.text()[size..].iter().all(|&byte| byte == 0xCC));
    }
}

#[test]
fn an_object_of_nothing_needs_nothing() {
    let bytes = Assembler::default().finish();
    let (linked, memory) = link_at(&bytes, NEAR, &[]);
    assert_eq!(linked.used, crate::link::Used::default());
    assert!(linked.functions.is_empty() && memory.text().is_empty());
}

/// Those of debugging, and of other programs that read objects.
#[test]
fn sections_that_are_left_out() {
    let mut object = Assembler::default();
    object.import("nobody");
    let names = [".comment", ".debug_info", ".llvm_addrsig"];
    for name in names {
        let part = Part::new(name, 0, &[1; 8]).at(0, elf::R_X86_64_64, 1, 0);
        object.part(part);
    }
    let mut note = Part::new(".note.gnu.property", ALLOC, &[1; 8]);
    note.kind = elf::SHT_NOTE.0;
    object.part(note);
    object.part(Part::new(".excluded", ALLOC | elf::SHF_EXCLUDE.0, &[1; 8]));
    let (linked, _) = link_at(&object.finish(), NEAR, &[]);
    assert_eq!(linked.used, crate::link::Used::default());
}

fn refused(part: Part) -> String {
    let name = part.name;
    let mut object = Assembler::default();
    object.part(part);
    match Object::parse(&object.finish()).map(|_| ()) {
        Err(LinkError::UnsupportedSection { section, why }) => {
            assert_eq!(section, name);
            why
        }
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn sections_that_are_refused() {
    let lists = [
        (".init_array", elf::SHT_INIT_ARRAY),
        (".fini_array.5", elf::SHT_FINI_ARRAY),
        (".preinit_array", elf::SHT_PREINIT_ARRAY),
        (".ctors", elf::SHT_PROGBITS),
        (".dtors.65535", elf::SHT_PROGBITS),
        (".init_array.00001", elf::SHT_PROGBITS),
    ];
    for (name, kind) in lists {
        let mut part = Part::new(name, ALLOC | WRITE, &[0; 8]);
        part.kind = kind.0;
        assert_eq!(
            refused(part),
            "constructors and destructors do not run here"
        );
    }
    let part = Part::new(".text.rwx", ALLOC | WRITE | EXEC, &[0; 8]);
    assert_eq!(refused(part), "code that is writable");
    let mut part = nobits(".text.empty", 8, 1);
    part.flags = ALLOC | EXEC;
    assert_eq!(refused(part), "code without contents");
    let part = Part::new(".rodata.z", ALLOC | elf::SHF_COMPRESSED.0, &[0; 8]);
    assert_eq!(refused(part), "compressed");
    let mut part = Part::new(".dynsym", ALLOC, &[0; 8]);
    part.kind = elf::SHT_DYNSYM.0;
    assert_eq!(refused(part), "contents of an unknown type");
    let part = Part::new(".rodata.huge", ALLOC, &[0; 8]).align(4 << 20);
    assert_eq!(
        refused(part),
        "its alignment of 4194304 is more than 2097152"
    );
    let mut part = nobits(".eh_frame", 8, 8);
    part.flags = ALLOC;
    assert_eq!(refused(part), "without contents");
}

#[test]
fn areas_have_a_limit() {
    let mut object = Assembler::default();
    object.part(nobits(".bss", (1 << 30) + 1, 1));
    let result = Object::parse(&object.finish()).map(|_| ());
    assert_eq!(
        result,
        Err(LinkError::malformed("an area of more than 1 GiB"))
    );
}

/// By name, and with them who uses them; nobody else.
#[test]
fn indirect_functions_are_refused() {
    for kind in [
        elf::R_X86_64_PLT32,
        elf::R_X86_64_GOTPCREL,
        elf::R_X86_64_64,
    ] {
        let mut object = Assembler::default();
        let text = object.part(Part::text(&[0xC3; 48]).at(20, kind, 1, -4));
        object.symbol("chosen", GLOBAL | 10, text, 0, 1);
        object.symbol("private", 10, text, 0, 1);
        object.function("resolver", text, 0, 1);
        object.function("caller", text, 16, 16);
        object.function("other", text, 32, 16);
        let (linked, _) = link_at(&object.finish(), NEAR, &[]);
        let names: Vec<&str> = linked.functions.iter().map(|f| f.name.as_str()).collect();
        assert_eq!(names, ["resolver", "other"]);
        let indirect = LinkError::indirect("chosen");
        let failed = ["caller", "chosen"].map(|name| (name.to_owned(), indirect.clone()));
        assert_eq!(linked.failed, failed);
    }
}

/// Thread-local variables are refused where they are used, whatever the form.
#[test]
fn thread_locals_are_refused() {
    for (kind, name) in [
        (elf::R_X86_64_TLSGD, "R_X86_64_TLSGD"),
        (elf::R_X86_64_PC32, "R_X86_64_PC32"),
        (elf::R_X86_64_64, "R_X86_64_64"),
    ] {
        let mut object = Assembler::default();
        let text = object.part(Part::text(&[0x90; 32]).at(4, kind, 3, 0));
        let tls = object.part(Part::new(".tdata", ALLOC | WRITE | TLS, &[0; 8]));
        object.function("uses", text, 0, 16);
        object.function("other", text, 16, 16);
        // Of its type, or only of its section.
        object.symbol("variable", GLOBAL | 6, tls, 0, 8);
        let (linked, _) = link_at(&object.finish(), NEAR, &[]);
        assert_eq!(linked.functions.len(), 1);
        let expected = LinkError::Unsupported {
            symbol: "variable".to_owned(),
            section: ".text".to_owned(),
            relocation: name.to_owned(),
        };
        assert_eq!(linked.failed, [("uses".to_owned(), expected)]);
    }
}

#[test]
fn places_that_do_not_fit() {
    let mut object = Assembler::default();
    object.part(Part::text(&[0x90; 20]));
    object.part(Part::new(".rodata", ALLOC, &[0; 64]).align(64));
    let bytes = object.finish();
    let object = Object::parse(&bytes).expect("parses");
    let mut memory = Memory::new(object.needs(), NEAR);
    let mut place = memory.place();
    place.text.bytes = &mut place.text.bytes[..31];
    let too_small = LinkError::TooSmall {
        area: "text".to_owned(),
        need: 32,
        have: 31,
    };
    assert_eq!(link(&object, place, &mut |_| None, true), Err(too_small));
    for address in [NEAR.constants + 32, 0u64.wrapping_sub(64)] {
        let at = Addresses {
            constants: address,
            ..NEAR
        };
        let misplaced = LinkError::Misplaced {
            area: "constants".to_owned(),
            address,
            align: 64,
        };
        assert_eq!(try_link_at(&bytes, at, &[]).map(|_| ()), Err(misplaced));
    }
    memory.check();
}

/// More room than needed is left alone.
#[test]
fn only_what_is_needed_is_written() {
    let mut object = Assembler::default();
    object.part(Part::text(&[0x90; 4]));
    let bytes = object.finish();
    let object = Object::parse(&bytes).expect("parses");
    let mut needs = *object.needs();
    needs.text.size += 100;
    let mut memory = Memory::new(&needs, NEAR);
    link(&object, memory.place(), &mut |_| None, true).expect("links");
    let rest = &memory.text()[object.needs().text.size as usize..];
    assert!(rest.iter().all(|&byte| byte == super::GUARD_BYTE));
    memory.check();
}

fn malformed(bytes: &[u8]) {
    let result = Object::parse(bytes).map(|_| ());
    assert!(
        matches!(result, Err(LinkError::Malformed { .. })),
        "{result:?}"
    );
}

/// Bytes from a file or a message begin where they happen to.
#[test]
fn objects_may_stand_at_odd_addresses() {
    let mut object = Assembler::default();
    object.import("s");
    object.part(Part::text(&[0x90; 16]).at(8, elf::R_X86_64_64, 1, 0));
    let bytes = object.finish();
    for shift in 0..8 {
        let shifted = [&vec![0; shift][..], &bytes].concat();
        let (_, memory) = link_at(&shifted[shift..], NEAR, &[("s", 5)]);
        assert_eq!(memory.text()[8], 5);
    }
}

#[test]
fn what_is_no_relocatable_object() {
    let good = Assembler::default().finish();
    assert!(Object::parse(&good).is_ok());
    // Class, byte order, type, machine; then nothing at all, and something else.
    for (at, value) in [(4, 1), (5, 2), (16, 3), (18, 0xB7)] {
        let mut bytes = good.clone();
        bytes[at] = value;
        malformed(&bytes);
    }
    malformed(&[]);
    malformed(b"BC\xC0\xDE");
}

#[test]
fn what_contradicts_itself() {
    // A symbol, and a function, that end beyond their section.
    for (value, size) in [(17, 0), (0, 17), (8, u64::MAX)] {
        let mut object = Assembler::default();
        let text = object.part(Part::text(&[0x90; 16]));
        object.symbol("f", GLOBAL | FUNC, text, value, size);
        malformed(&object.finish());
    }
    let mut object = Assembler::default();
    let data = object.part(Part::new(".data", ALLOC | WRITE, &[0; 16]));
    object.symbol("variable", GLOBAL | 1, data, 17, 0);
    malformed(&object.finish());
    // A symbol in a section that is not there.
    let mut object = Assembler::default();
    object.symbol("f", GLOBAL | FUNC, 99, 0, 0);
    malformed(&object.finish());
    // Relocations across the end of their section, of `.bss`, with no symbol.
    for (offset, symbol) in [(13, 0), (u64::MAX, 0), (0, 7)] {
        let mut object = Assembler::default();
        object.part(Part::text(&[0x90; 16]).at(offset, elf::R_X86_64_PC32, symbol, 0));
        malformed(&object.finish());
    }
    let mut object = Assembler::default();
    object.part(nobits(".bss", 8, 8).at(0, elf::R_X86_64_64, 0, 0));
    malformed(&object.finish());
    // An alignment that is no power of two.
    let mut object = Assembler::default();
    object.part(Part::new(".rodata", ALLOC, &[0; 8]).align(24));
    malformed(&object.finish());
}

/// An area of no bytes would have no address, and what refers to it would be out of range.
#[test]
fn what_is_empty_has_an_address_if_something_refers_to_it() {
    let mut object = Assembler::default();
    let empty = object.symbol("empty", 3, 2, 0, 0);
    let nothing = object.symbol("nothing", 1, 3, 0, 0);
    let end = object.symbol("end", 1, 5, 8, 0);
    let code = Part::text(&[0x90; 24])
        .at(0, elf::R_X86_64_PC32, empty, -4)
        .at(4, elf::R_X86_64_PC32, nothing, -4)
        .at(8, elf::R_X86_64_64, empty, 0)
        .at(16, elf::R_X86_64_64, end, 0);
    object.part(code);
    object.part(Part::new(".rodata", ALLOC, &[]).align(64));
    object.part(Part::new(".data", ALLOC | WRITE, &[]));
    object.part(Part::new(".rodata.unused", ALLOC, &[]).align(4096));
    object.part(Part::new(".rodata.cst8", ALLOC, &[1; 8]).align(8));
    let bytes = object.finish();
    let (linked, memory) = link_at(&bytes, NEAR, &[]);
    assert_eq!((linked.used.constants, linked.used.data), (64 + 1, 1));
    let text = memory.text();
    assert_eq!(text[8..16], (NEAR.constants + 64).to_le_bytes());
    assert_eq!(text[16..24], (NEAR.constants + 8).to_le_bytes());
    let distance = |to: u64, from: u64| (to.wrapping_sub(NEAR.text + from) as i32).to_le_bytes();
    assert_eq!(text[..4], distance(NEAR.constants + 64, 4));
    assert_eq!(text[4..8], distance(NEAR.data, 8));
}

#[test]
fn a_function_of_no_bytes_has_an_address() {
    let mut object = Assembler::default();
    object.function("f", 1, 0, 0);
    object.part(Part::text(&[]));
    let (linked, memory) = link_at(&object.finish(), NEAR, &[]);
    assert_eq!(linked.functions[0].address, NEAR.text);
    assert!(memory.text().len() > 1, "a byte, and the padding");
    assert!(memory.text().iter().all(|&byte| byte == 0xCC));
}
