//! `.eh_frame` records: what is sound, and what libgcc must never see.

use ::object::elf;

use super::{ALLOC, Assembler, NEAR, Part, link_at, try_link_at};
use crate::link::LinkError;
use crate::link::frames::Frames;
use crate::link::unwind::END;

/// A CIE: "zR", relative words of 32 bits.
const CIE: [u8; 20] = [
    16, 0, 0, 0, 0, 0, 0, 0, 1, b'z', b'R', 0, 1, 0x78, 16, 1, 0x1B, 0, 0, 0,
];

/// An FDE of the CIE right before it, with room for seven bytes of program.
const FDE: [u8; 24] = [
    20, 0, 0, 0, 24, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

/// Where the FDE's program is.
const PROGRAM: usize = CIE.len() + 17;

fn both() -> Vec<u8> {
    [&CIE[..], &FDE].concat()
}

fn parse(bytes: &[u8]) -> Result<Frames, String> {
    Frames::parse(bytes).map_err(|error| match error {
        LinkError::Malformed { what } => what,
        other => panic!("{other:?}"),
    })
}

fn broken(bytes: &[u8], why: &str) {
    assert_eq!(parse(bytes).map(|_| ()), Err(format!(".eh_frame: {why}")));
}

/// Replaces bytes, and says why that is refused.
fn edited(at: usize, edit: &[u8], why: &str) {
    let mut bytes = both();
    bytes[at..at + edit.len()].copy_from_slice(edit);
    broken(&bytes, why);
}

#[test]
fn records() {
    let frames = parse(&both()).expect("sound");
    assert_eq!(frames.len, 44);
    let [fde] = frames.fdes[..] else {
        panic!("one record");
    };
    assert_eq!(
        (fde.offset, fde.cie, fde.start_at, fde.range),
        (20, 0, 28, 5)
    );
    let mut bytes = both();
    assert_eq!(fde.start(&bytes, 0x1000), None);
    bytes[28..32].copy_from_slice(&(-16i32).to_le_bytes());
    assert_eq!(fde.start(&bytes, 0x1000), Some(0x1000 + 28 - 16));
    fde.silence(&mut bytes);
    assert_eq!(bytes, both());
    assert!(frames.field_at(28).is_some_and(|field| field.width == 4));
    assert!((0..44).all(|at| at == 28 || frames.field_at(at).is_none()));
}

#[test]
fn terminators_are_cut_off() {
    for zeros in [4, 8, 12] {
        let bytes = [both(), vec![0; zeros]].concat();
        assert_eq!(parse(&bytes).expect("sound").len, 44);
    }
    let bytes = [&both()[..], &[0; 4], &CIE].concat();
    broken(&bytes, "records after the terminator");
    broken(
        &[both(), vec![0; 3]].concat(),
        "a record that ends too early",
    );
    assert!(parse(&[]).expect("empty").describe_nothing());
    assert!(parse(&CIE).expect("sound").describe_nothing());
}

#[test]
fn lengths() {
    edited(20, &24u32.to_le_bytes(), "a record's length");
    edited(20, &18u32.to_le_bytes(), "a record's length");
    edited(20, &u32::MAX.to_le_bytes(), "a record's length");
    broken(&both()[..42], "a record's length");
}

#[test]
fn pointers_to_common_records() {
    // Not at a record's beginning; before the section; to itself.
    edited(24, &[20], "a pointer to no CIE");
    edited(24, &[28], "a pointer to no CIE");
    edited(24, &[4], "a pointer to no CIE");
    broken(&FDE, "a pointer to no CIE");
}

#[test]
fn common_records() {
    edited(8, &[2], "unknown version 0x2");
    edited(9, b"y", "an unknown augmentation");
    edited(10, b"Q", "unknown augmentation 0x51");
    edited(10, b"S", "unknown augmentation 0x53");
    edited(14, &[17], "a return address in no register");
    edited(15, &[5], "a block beyond its record");
    edited(15, &[0], "an augmentation beyond its length");
    edited(16, &[0x05], "unknown pointer format 0x5");
    edited(16, &[0x2B], "unknown pointer base 0x2b");
    edited(16, &[0x9B], "unknown pointer base 0x9b");
    edited(16, &[0xFF], "unknown pointer format 0xff");
}

#[test]
fn programs() {
    let sound: [&[u8]; 9] = [
        // What LLVM makes: advance, def_cfa_offset, offset, def_cfa_register.
        &[0x41, 0x0E, 16, 0x86, 2, 0x43, 0x0D],
        &[0x02, 1, 0x03, 1, 1, 0, 0],
        &[0x04, 1, 2, 3, 4, 0, 0],
        &[0x0A, 0x0A, 0x0B, 0x0B, 0, 0, 0],
        &[0x0C, 7, 0x88, 1, 0x0D, 6, 0],
        &[0x0F, 3, 1, 2, 3, 0, 0],
        &[0x10, 3, 2, 0xFF, 0xFF, 0, 0],
        &[0x2E, 0xFF, 0x7F, 0, 0, 0, 0],
        // Vector registers are skipped.
        &[0x05, 20, 2, 0x9F, 2, 0x07, 25],
    ];
    for program in sound {
        let mut bytes = both();
        bytes[PROGRAM..PROGRAM + 7].copy_from_slice(program);
        // The first one has an operand of its own after the record's end.
        if program[6] == 0x0D {
            broken(&bytes, "a record that ends too early");
        } else {
            assert!(parse(&bytes).is_ok(), "{program:x?}");
        }
    }
    edited(PROGRAM, &[0x0B], "a state that was never remembered");
    edited(
        PROGRAM,
        &[0x0D, 17],
        "a frame relative to an unknown register",
    );
    edited(
        PROGRAM,
        &[0x0C, 33],
        "a frame relative to an unknown register",
    );
    edited(PROGRAM, &[0x0F, 6], "a block beyond its record");
    edited(PROGRAM, &[0x17], "unknown call frame instruction 0x17");
    edited(PROGRAM, &[0x01], "unknown call frame instruction 0x1");
    edited(PROGRAM, &[0x3F], "unknown call frame instruction 0x3f");
    edited(
        PROGRAM,
        &[0x0E, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80],
        "a record that ends too early",
    );
    edited(PROGRAM - 1, &[8], "a block beyond its record");
}

/// An object whose `.eh_frame` is made of the given bytes, [`both`] several
/// times over; each FDE describes five bytes of the text.
fn object(sections: &[&[u8]], offset: i64) -> Vec<u8> {
    let mut object = Assembler::default();
    let text = object.part(Part::text(&[0xC3; 64]));
    object.symbol("", super::SECTION, text, 0, 0);
    for (index, bytes) in sections.iter().enumerate() {
        let at = offset + 16 * index as i64;
        let part = Part::new(".eh_frame", ALLOC, bytes).align(4);
        object.part(part.at(28, elf::R_X86_64_PC32, 1, at));
    }
    object.function("f", text, 0, 64);
    object.finish()
}

/// There is no gap in the table and an end after it, whatever the sections' own lengths are, and
/// whether they bring an end of their own.
#[test]
fn tables_have_no_gaps() {
    let ended = [both(), vec![0; 4]].concat();
    let both = both();
    let cases: [(&[&[u8]], usize, u64); 4] = [
        (&[&both], 44, 1),
        (&[&ended], 44, 1),
        (&[&both, &both], 88, 2),
        (&[&ended, &both, &ended], 132, 3),
    ];
    for (sections, len, count) in cases {
        let (linked, memory) = link_at(&object(sections, 0), NEAR, &[]);
        let padded = len.next_multiple_of(8);
        assert_eq!(linked.unwind, Some(NEAR.unwind));
        assert_eq!(linked.used.unwind, (padded + END) as u64);
        assert!(memory.unwind()[len..].iter().all(|&byte| byte == 0));
        let frames = parse(memory.unwind()).expect("sound");
        assert_eq!(frames.len, len);
        let starts = frames
            .fdes
            .iter()
            .map(|fde| fde.start(memory.unwind(), NEAR.unwind));
        let expected = (0..count).map(|index| Some(NEAR.text + 16 * index));
        assert!(starts.eq(expected));
    }
}

/// libgcc would take the record at its word, and find it for code of others.
#[test]
fn records_of_code_that_is_not_the_objects() {
    let foreign = LinkError::malformed(".eh_frame: a record of code that is not the object's");
    for offset in [60, -1, 1 << 20] {
        let result = try_link_at(&object(&[&both()], offset), NEAR, &[]);
        assert_eq!(result.map(|_| ()), Err(foreign.clone()));
    }
    assert!(try_link_at(&object(&[&both()], 59), NEAR, &[]).is_ok());
    // A length that wraps around.
    let mut bytes = both();
    bytes[32..36].copy_from_slice(&(-1i32).to_le_bytes());
    let result = try_link_at(&object(&[&bytes], 0), NEAR, &[]);
    assert_eq!(result.map(|_| ()), Err(foreign));
}

/// Addresses in records may be relocated, their structure may not.
#[test]
fn relocations_of_structure_are_refused() {
    let fields = [
        (0, elf::R_X86_64_32),
        (24, elf::R_X86_64_32),
        (29, elf::R_X86_64_8),
        (32, elf::R_X86_64_PC32),
        // Wider than the field: it would reach into the next.
        (28, elf::R_X86_64_64),
    ];
    for (offset, kind) in fields {
        let mut object = Assembler::default();
        object.part(Part::text(&[0xC3; 64]));
        object.part(Part::new(".eh_frame", ALLOC, &both()).at(offset, kind, 0, 0));
        let result = try_link_at(&object.finish(), NEAR, &[]).map(|_| ());
        let structure = LinkError::malformed("a relocation of an unwind record's structure");
        assert_eq!(result, Err(structure));
    }
}
