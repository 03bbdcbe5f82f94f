//! Every relocation form, with the bytes that it makes.

use ::object::elf::{self, RelocationType};

use super::{ALLOC, Addresses, Assembler, EXEC, LinkError, NEAR, Part, link_at, try_link_at};

/// Where the relocation is in [`one`].
const AT: u64 = 8;
const P: u64 = NEAR.text + AT;

/// A text of no-ops with one relocation, against an import.
fn one(kind: RelocationType, addend: i64) -> Vec<u8> {
    let mut object = Assembler::default();
    let text = Part::text(&[0x90; 32]).align(16).at(AT, kind, 2, addend);
    let text = object.part(text);
    object.function("f", text, 0, 32);
    object.import("s");
    object.finish()
}

/// The field of `width` bytes after linking, as an unsigned number; all around
/// it must be as it was.
fn field(kind: RelocationType, addend: i64, symbol: u64, width: usize) -> Result<u64, LinkError> {
    let (linked, memory) = try_link_at(&one(kind, addend), NEAR, &[("s", symbol)])?;
    if let Some((_, error)) = linked.failed.into_iter().next() {
        return Err(error);
    }
    let (before, rest) = memory.text().split_at(AT as usize);
    let (field, after) = rest.split_at(width);
    assert!(before.iter().all(|&byte| byte == 0x90));
    assert!(after[..24 - width].iter().all(|&byte| byte == 0x90));
    let mut bytes = [0; 8];
    bytes[..width].copy_from_slice(field);
    Ok(u64::from_le_bytes(bytes))
}

fn out_of_range(kind: &str, distance: i64) -> LinkError {
    LinkError::OutOfRange {
        symbol: "s".to_owned(),
        section: ".text".to_owned(),
        relocation: kind.to_owned(),
        distance,
    }
}

const FAR: u64 = 0x1234_5678_9ABC_DEF0;

#[test]
fn nothing() {
    assert_eq!(field(elf::R_X86_64_NONE, 5, FAR, 0), Ok(0));
}

#[test]
fn absolute() {
    let low = 0x7FFF_FFF0;
    assert_eq!(field(elf::R_X86_64_64, 3, FAR, 8), Ok(FAR + 3));
    assert_eq!(field(elf::R_X86_64_64, -1, 0, 8), Ok(u64::MAX));
    assert_eq!(field(elf::R_X86_64_32, 3, low, 4), Ok(low + 3));
    assert_eq!(field(elf::R_X86_64_32, 0, 0xFFFF_FFFF, 4), Ok(0xFFFF_FFFF));
    assert_eq!(field(elf::R_X86_64_32S, 0, low, 4), Ok(low));
    let minus_two = 0xFFFF_FFFE;
    assert_eq!(field(elf::R_X86_64_32S, -3, 1, 4), Ok(minus_two));
    assert_eq!(field(elf::R_X86_64_16, 1, 0xFFFE, 2), Ok(0xFFFF));
    assert_eq!(field(elf::R_X86_64_16, -3, 1, 2), Ok(0xFFFE));
    assert_eq!(field(elf::R_X86_64_8, 1, 0x7F, 1), Ok(0x80));
}

#[test]
fn absolute_out_of_range() {
    let cases = [
        (elf::R_X86_64_32, 1 << 32, 0, "R_X86_64_32", 1 << 32),
        (elf::R_X86_64_32, 0, -1, "R_X86_64_32", -1),
        (elf::R_X86_64_32S, 1 << 31, 0, "R_X86_64_32S", 1 << 31),
        (elf::R_X86_64_16, 1 << 16, 0, "R_X86_64_16", 1 << 16),
        (elf::R_X86_64_8, 0x100, 0, "R_X86_64_8", 0x100),
        (elf::R_X86_64_8, 0, -0x81, "R_X86_64_8", -0x81),
        (elf::R_X86_64_32, u64::MAX, 1, "R_X86_64_32", i64::MAX),
    ];
    for (kind, symbol, addend, name, value) in cases {
        assert_eq!(
            field(kind, addend, symbol, 4),
            Err(out_of_range(name, value))
        );
    }
}

#[test]
fn relative() {
    assert_eq!(field(elf::R_X86_64_PC32, 4, P + 0x1000, 4), Ok(0x1004));
    assert_eq!(field(elf::R_X86_64_PC32, -4, P, 4), Ok(0xFFFF_FFFC));
    let edge = 0x7FFF_FFFF;
    assert_eq!(field(elf::R_X86_64_PC32, 0, P + edge, 4), Ok(edge));
    assert_eq!(field(elf::R_X86_64_PC32, 0, P - edge - 1, 4), Ok(edge + 1));
    assert_eq!(
        field(elf::R_X86_64_PC64, 2, FAR, 8),
        Ok(FAR.wrapping_sub(P) + 2)
    );
    assert_eq!(field(elf::R_X86_64_PC16, 0, P + 0x7FFF, 2), Ok(0x7FFF));
    assert_eq!(field(elf::R_X86_64_PC8, 0, P - 0x80, 1), Ok(0x80));
}

/// A data reference has no stub to go through.
#[test]
fn relative_out_of_range() {
    let cases = [
        (elf::R_X86_64_PC32, 1 << 31, "R_X86_64_PC32"),
        (elf::R_X86_64_PC32, -(1 << 31) - 1, "R_X86_64_PC32"),
        (elf::R_X86_64_PC16, 1 << 15, "R_X86_64_PC16"),
        (elf::R_X86_64_PC8, 1 << 7, "R_X86_64_PC8"),
    ];
    for (kind, distance, name) in cases {
        let symbol = P.wrapping_add_signed(distance);
        assert_eq!(field(kind, 0, symbol, 4), Err(out_of_range(name, distance)));
    }
}

#[test]
fn relative_to_the_got() {
    let got = NEAR.constants;
    let to_got = got - P;
    assert_eq!(field(elf::R_X86_64_GOTPC32, 5, 0, 4), Ok(to_got + 5));
    assert_eq!(field(elf::R_X86_64_GOTPC64, 5, 0, 8), Ok(to_got + 5));
    assert_eq!(
        field(elf::R_X86_64_GOTOFF64, 1, FAR, 8),
        Ok(FAR.wrapping_sub(got) + 1)
    );
    assert_eq!(
        field(elf::R_X86_64_PLTOFF64, 1, FAR, 8),
        Ok(FAR.wrapping_sub(got) + 1)
    );
    let mut object = Assembler::default();
    let text = Part::text(&[0x90; 32]).at(AT, elf::R_X86_64_PC32, 2, -4);
    let text = object.part(text);
    object.function("f", text, 0, 32);
    object.import("_GLOBAL_OFFSET_TABLE_");
    let (_, memory) = link_at(&object.finish(), NEAR, &[]);
    let distance = (to_got - 4) as u32;
    assert_eq!(memory.text()[8..12], distance.to_le_bytes());
}

/// Two symbols, so that the second slot is not at the GOT's beginning.
#[test]
fn slots() {
    let kinds = [
        (elf::R_X86_64_GOT32, 4, 8 + 3),
        (elf::R_X86_64_GOT64, 8, 8 + 3),
        (elf::R_X86_64_GOTPLT64, 8, 8 + 3),
        (elf::R_X86_64_GOTPCREL, 4, NEAR.constants + 8 - P - 16 + 3),
        (elf::R_X86_64_GOTPCREL64, 8, NEAR.constants + 8 - P - 16 + 3),
        (elf::R_X86_64_GOTPCRELX, 4, NEAR.constants + 8 - P - 16 + 3),
        (
            elf::R_X86_64_REX_GOTPCRELX,
            4,
            NEAR.constants + 8 - P - 16 + 3,
        ),
        (
            elf::R_X86_64_CODE_4_GOTPCRELX,
            4,
            NEAR.constants + 8 - P - 16 + 3,
        ),
        (
            elf::R_X86_64_CODE_5_GOTPCRELX,
            4,
            NEAR.constants + 8 - P - 16 + 3,
        ),
        (
            elf::R_X86_64_CODE_6_GOTPCRELX,
            4,
            NEAR.constants + 8 - P - 16 + 3,
        ),
    ];
    for (kind, width, expected) in kinds {
        let mut object = Assembler::default();
        let text = Part::text(&[0x90; 48])
            .at(AT, kind, 2, 0)
            .at(AT + 16, kind, 3, 3)
            .at(AT + 32, kind, 2, 0);
        let text = object.part(text);
        object.function("f", text, 0, 48);
        object.import("first");
        object.import("second");
        let known = [("first", FAR), ("second", FAR + 1)];
        let (linked, memory) = link_at(&object.finish(), NEAR, &known);
        let mut bytes = [0; 8];
        bytes[..width].copy_from_slice(&memory.text()[24..24 + width]);
        assert_eq!(u64::from_le_bytes(bytes), expected, "{kind:?}");
        let slots: Vec<u8> = [FAR, FAR + 1]
            .into_iter()
            .flat_map(u64::to_le_bytes)
            .collect();
        assert_eq!(memory.constants(), slots);
        assert_eq!(linked.used.constants, 16, "a slot for each symbol, once");
    }
}

#[test]
fn sizes() {
    for (kind, width) in [(elf::R_X86_64_SIZE32, 4), (elf::R_X86_64_SIZE64, 8)] {
        let mut object = Assembler::default();
        let text = Part::text(&[0x90; 32]).at(AT, kind, 2, -1);
        let text = object.part(text);
        object.function("f", text, 0, 32);
        object.function("g", text, 16, 13);
        let (_, memory) = link_at(&object.finish(), NEAR, &[]);
        let mut expected = [0; 8];
        expected[0] = 12;
        assert_eq!(memory.text()[8..8 + width], expected[..width]);
        let unknown = LinkError::Unresolved {
            symbol: "s".to_owned(),
            section: ".text".to_owned(),
        };
        assert_eq!(field(kind, 0, FAR, width), Err(unknown));
    }
}

/// What belongs to thread-local storage, and to linked images.
#[test]
fn kinds_that_are_refused() {
    let kinds = [
        (elf::R_X86_64_COPY, "COPY"),
        (elf::R_X86_64_GLOB_DAT, "GLOB_DAT"),
        (elf::R_X86_64_JUMP_SLOT, "JUMP_SLOT"),
        (elf::R_X86_64_RELATIVE, "RELATIVE"),
        (elf::R_X86_64_DTPMOD64, "DTPMOD64"),
        (elf::R_X86_64_DTPOFF64, "DTPOFF64"),
        (elf::R_X86_64_TPOFF64, "TPOFF64"),
        (elf::R_X86_64_TLSGD, "TLSGD"),
        (elf::R_X86_64_TLSLD, "TLSLD"),
        (elf::R_X86_64_DTPOFF32, "DTPOFF32"),
        (elf::R_X86_64_GOTTPOFF, "GOTTPOFF"),
        (elf::R_X86_64_TPOFF32, "TPOFF32"),
        (elf::R_X86_64_GOTPC32_TLSDESC, "GOTPC32_TLSDESC"),
        (elf::R_X86_64_TLSDESC_CALL, "TLSDESC_CALL"),
        (elf::R_X86_64_TLSDESC, "TLSDESC"),
        (elf::R_X86_64_IRELATIVE, "IRELATIVE"),
        (elf::R_X86_64_CODE_4_GOTTPOFF, "CODE_4_GOTTPOFF"),
        (elf::R_X86_64_CODE_5_GOTTPOFF, "CODE_5_GOTTPOFF"),
        (elf::R_X86_64_CODE_6_GOTTPOFF, "CODE_6_GOTTPOFF"),
        (
            elf::R_X86_64_CODE_4_GOTPC32_TLSDESC,
            "CODE_4_GOTPC32_TLSDESC",
        ),
        (RelocationType(39), "39"),
        (RelocationType(200), "200"),
    ];
    for (kind, name) in kinds {
        let expected = LinkError::Unsupported {
            symbol: "s".to_owned(),
            section: ".text".to_owned(),
            relocation: format!("R_X86_64_{name}"),
        };
        assert_eq!(field(kind, 0, FAR, 0), Err(expected));
    }
}

/// Branches: direct where that reaches, through a stub where it does not.
const BRANCHES: [(&[u8], RelocationType); 6] = [
    (&[0xE8], elf::R_X86_64_PLT32),
    (&[0xE9], elf::R_X86_64_PLT32),
    (&[0x0F, 0x84], elf::R_X86_64_PLT32),
    (&[0xE8], elf::R_X86_64_PC32),
    (&[0xE9], elf::R_X86_64_PC32),
    (&[0x0F, 0x8F], elf::R_X86_64_PC32),
];

fn branches(op: &[u8], kind: RelocationType) -> Vec<u8> {
    let mut object = Assembler::default();
    let mut code = vec![0x90; 64];
    let mut text = Part::text(&[]);
    for (at, symbol) in [(8, 2), (24, 3), (40, 2)] {
        code[at - op.len()..at].copy_from_slice(op);
        text = text.at(at as u64, kind, symbol, -4);
    }
    text.bytes = code;
    let text = object.part(text);
    object.function("f", text, 0, 64);
    object.import("s");
    object.import("t");
    object.finish()
}

fn word(bytes: &[u8], at: usize) -> i32 {
    i32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"))
}

#[test]
fn near_branches_are_direct() {
    for (op, kind) in BRANCHES {
        let known = [
            ("s", NEAR.text + 0x4000_0000),
            ("t", NEAR.text - 0x7000_0000),
        ];
        let (linked, memory) = link_at(&branches(op, kind), NEAR, &known);
        let text = memory.text();
        assert_eq!(word(text, 8), 0x4000_0000 - 12);
        assert_eq!(word(text, 24), -0x7000_0000 - 28);
        assert_eq!(word(text, 40), 0x4000_0000 - 44);
        // The code, a byte of padding at least, and the next 16.
        assert_eq!(linked.used.text, 80);
        assert_eq!(linked.used.constants, 0);
        assert!(text[64..].iter().all(|&byte| byte == 0xCC));
    }
}

#[test]
fn far_branches_go_through_stubs() {
    for (op, kind) in BRANCHES {
        let known = [("s", FAR), ("t", FAR + 8)];
        let (linked, memory) = link_at(&branches(op, kind), NEAR, &known);
        let text = memory.text();
        assert_eq!(word(text, 8), 80 - 12, "the first stub");
        assert_eq!(word(text, 24), 96 - 28, "the second");
        assert_eq!(word(text, 40), 80 - 44, "the first again");
        for (stub, slot) in [(80, 0), (96, 8)] {
            assert_eq!(text[stub..stub + 2], [0xFF, 0x25]);
            let at = NEAR.text + stub as u64 + 6;
            let target = at.wrapping_add_signed(word(text, stub + 2).into());
            assert_eq!(target, NEAR.constants + slot);
            assert!(text[stub + 6..stub + 16].iter().all(|&byte| byte == 0xCC));
        }
        assert_eq!(memory.constants()[..8], FAR.to_le_bytes());
        assert_eq!(memory.constants()[8..16], (FAR + 8).to_le_bytes());
        assert_eq!(linked.used.text, 112);
        assert_eq!(linked.used.constants, 16);
    }
}

/// A stub and a load through the GOT share the slot.
#[test]
fn one_slot_serves_stubs_and_loads() {
    let mut object = Assembler::default();
    let mut code = [0x90; 32];
    code[7] = 0xE8;
    let text =
        Part::text(&code)
            .at(8, elf::R_X86_64_PLT32, 2, -4)
            .at(16, elf::R_X86_64_GOTPCREL, 2, -4);
    let text = object.part(text);
    object.function("f", text, 0, 32);
    object.import("s");
    let (linked, memory) = link_at(&object.finish(), NEAR, &[("s", FAR)]);
    assert_eq!(linked.used.constants, 8);
    assert_eq!(memory.constants(), FAR.to_le_bytes());
}

/// A stub jumps; who wants data there must not get one. Nor does a branch into
/// the middle of a function.
#[test]
fn only_branches_get_stubs() {
    let mut code = [0x90; 32];
    code[7] = 0xE8;
    for (code, addend) in [([0x90; 32], -4), (code, 12)] {
        let mut object = Assembler::default();
        let text = object.part(Part::text(&code).at(8, elf::R_X86_64_PC32, 2, addend));
        object.function("f", text, 0, 32);
        object.import("s");
        let (linked, _) = link_at(&object.finish(), NEAR, &[("s", P + (1 << 40))]);
        let expected = out_of_range("R_X86_64_PC32", (1 << 40) + addend);
        assert_eq!(linked.failed, [("f".to_owned(), expected)]);
    }
}

/// A table of relative function addresses is data, but its entries are functions.
#[test]
fn function_references_from_constants_may_use_stubs() {
    let mut object = Assembler::default();
    let text = object.part(Part::text(&[0xC3; 16]));
    let table = Part::new(".rodata", ALLOC, &[0; 16]).at(8, elf::R_X86_64_PLT32, 2, 8);
    object.part(table);
    object.function("f", text, 0, 16);
    object.import("s");
    let (_, memory) = link_at(&object.finish(), NEAR, &[("s", FAR)]);
    // Relative to the table's beginning: the stub after 16 bytes of code and padding.
    let base = NEAR.constants;
    let entry = base.wrapping_add_signed(word(memory.constants(), 8).into());
    assert_eq!(entry, NEAR.text + 32);
}

#[test]
fn constants_too_far_away_are_an_error() {
    let far = Addresses {
        constants: NEAR.text + (1 << 33),
        ..NEAR
    };
    let object = one(elf::R_X86_64_GOTPCREL, -4);
    let (linked, _) = link_at(&object, far, &[("s", FAR)]);
    let distance = (1 << 33) - AT as i64 - 4;
    let expected = out_of_range("R_X86_64_GOTPCREL", distance);
    assert_eq!(linked.failed, [("f".to_owned(), expected)]);
}

/// References within the object: to sections with an offset in the addend, to
/// local symbols, across areas.
#[test]
fn symbols_of_the_object() {
    let mut object = Assembler::default();
    let text = Part::new(".text", ALLOC | EXEC, &[0x90; 32])
        .at(0, elf::R_X86_64_PC32, 1, 3)
        .at(8, elf::R_X86_64_64, 2, 1)
        .at(16, elf::R_X86_64_64, 3, 0);
    object.part(text);
    let strings = object.part(Part::new(".rodata.str1.1", ALLOC, b"\0one\0two\0"));
    let text2 = object.part(Part::new(".text.two", ALLOC | EXEC, &[0xC3; 3]));
    object.symbol("", super::SECTION, strings, 0, 0);
    object.symbol("local", 1, strings, 5, 0);
    object.symbol("global", super::GLOBAL | super::FUNC, text2, 1, 2);
    let (linked, memory) = link_at(&object.finish(), NEAR, &[]);
    let text = memory.text();
    assert_eq!(word(text, 0) as u64, NEAR.constants + 3 - NEAR.text);
    assert_eq!(text[8..16], (NEAR.constants + 6).to_le_bytes());
    assert_eq!(text[16..24], (NEAR.text + 33).to_le_bytes());
    assert_eq!(linked.functions[0].address, NEAR.text + 33);
    assert_eq!(linked.functions[0].size, 2);
}

#[test]
fn weak_symbols_that_nobody_knows_are_zero() {
    let mut object = Assembler::default();
    let text =
        Part::text(&[0x90; 32])
            .at(0, elf::R_X86_64_64, 2, 0)
            .at(8, elf::R_X86_64_GOTPCREL, 2, -4);
    let text = object.part(text);
    object.function("f", text, 0, 32);
    object.symbol("s", super::WEAK, 0, 0, 0);
    let bytes = object.finish();
    let (linked, memory) = link_at(&bytes, NEAR, &[]);
    assert!(linked.failed.is_empty());
    assert_eq!(memory.text()[..8], [0; 8]);
    assert_eq!(memory.constants(), [0; 8]);
    let (_, memory) = link_at(&bytes, NEAR, &[("s", FAR)]);
    assert_eq!(memory.text()[..8], FAR.to_le_bytes());
}

#[test]
fn names_are_asked_for_once_and_only_if_used() {
    let mut object = Assembler::default();
    let text = Part::text(&[0x90; 32])
        .at(0, elf::R_X86_64_64, 2, 0)
        .at(8, elf::R_X86_64_64, 2, 0);
    let text = object.part(text);
    object.function("f", text, 0, 32);
    object.import("s");
    object.import("unused");
    let bytes = object.finish();
    let object = super::Object::parse(&bytes).expect("parses");
    let mut memory = super::Memory::new(object.needs(), NEAR);
    let mut asked = Vec::new();
    let mut resolve = |name: &str| {
        asked.push(name.to_owned());
        Some(1)
    };
    super::link(&object, memory.place(), &mut resolve, true).expect("links");
    assert_eq!(asked, ["s"]);
}
