//! Two comdat groups of one name: the second goes, and with it what describes it.

use ::object::elf;

use super::{
    ALLOC, Assembler, EXEC, FUNC, LinkError, NEAR, Part, SECTION, WEAK, link_at, try_link_at,
};
use crate::link::frames::Frames;

/// Sections: 1 and 2 the function `f` twice, 3 a caller of it.
fn twice() -> Assembler {
    let mut object = Assembler::default();
    object.part(Part::new(".text.f", ALLOC | EXEC, &[0x90; 16]));
    object.part(Part::new(".text.f", ALLOC | EXEC, &[0xC3; 32]));
    object.symbol("f", WEAK | FUNC, 1, 0, 16);
    object.symbol("f", WEAK | FUNC, 2, 0, 32);
    object
}

#[test]
fn the_first_of_two_groups_is_kept() {
    let mut object = twice();
    let text = Part::text(&[0xE8; 32])
        .at(1, elf::R_X86_64_PLT32, 1, -4)
        .at(9, elf::R_X86_64_PLT32, 2, -4);
    let text = object.part(text);
    object.function("caller", text, 0, 32);
    object.part(Part::comdat(1, &[1]));
    object.part(Part::comdat(2, &[2]));
    let (linked, memory) = link_at(&object.finish(), NEAR, &[]);
    let functions: Vec<_> = linked
        .functions
        .iter()
        .map(|f| (f.name.as_str(), f.address, f.size))
        .collect();
    let expected = [("f", NEAR.text, 16), ("caller", NEAR.text + 16, 32)];
    assert_eq!(functions, expected);
    // Both calls are of the one that is there.
    assert_eq!(memory.text()[17..21], (-21i32).to_le_bytes());
    assert_eq!(memory.text()[25..29], (-29i32).to_le_bytes());
    assert!(!memory.text().contains(&0xC3));
}

/// Groups of another name, and groups that are none of `COMDAT`, stand side by side.
#[test]
fn other_groups_stay() {
    let mut object = twice();
    object.symbol("g", WEAK | FUNC, 2, 0, 32);
    object.part(Part::comdat(1, &[1]));
    object.part(Part::comdat(3, &[2]));
    let (linked, _) = link_at(&object.finish(), NEAR, &[]);
    assert_eq!(linked.functions.len(), 3);
    let mut object = twice();
    for member in [1, 2] {
        let mut group = Part::comdat(1, &[member]);
        group.bytes[0] = 0;
        object.part(group);
    }
    let (linked, _) = link_at(&object.finish(), NEAR, &[]);
    assert_eq!(linked.functions.len(), 2);
}

/// What only the discarded group defines is looked for elsewhere, if it is
/// public; a private name leads nowhere.
#[test]
fn what_only_the_discarded_group_has() {
    let reference = |info, known: &[(&str, u64)]| {
        let mut object = twice();
        object.symbol("more", info, 2, 16, 16);
        let text = object.part(Part::text(&[0x90; 32]).at(8, elf::R_X86_64_64, 3, 0));
        object.function("user", text, 0, 32);
        object.part(Part::comdat(1, &[1]));
        object.part(Part::comdat(2, &[2]));
        let (linked, memory) = link_at(&object.finish(), NEAR, known);
        let error = linked.failed.into_iter().next().map(|(_, error)| error);
        (error, memory.text()[24..32].to_vec())
    };
    let unresolved = LinkError::Unresolved {
        symbol: "more".to_owned(),
        section: ".text".to_owned(),
    };
    let public = super::GLOBAL | FUNC;
    assert_eq!(reference(public, &[]).0, Some(unresolved));
    let (error, bytes) = reference(public, &[("more", 77)]);
    assert_eq!((error, bytes), (None, 77u64.to_le_bytes().to_vec()));
    assert_eq!(reference(WEAK | FUNC, &[]), (None, vec![0; 8]));
    let (error, _) = reference(FUNC, &[]);
    assert!(matches!(error, Some(LinkError::Malformed { .. })));
}

/// The function twice, in groups, and each with a record; the second refers to it
/// by its section or its name.
pub(super) fn described_twice(by_section: bool) -> Assembler {
    let mut frames = vec![
        16, 0, 0, 0, 0, 0, 0, 0, 1, b'z', b'R', 0, 1, 0x78, 16, 1, 0x1B, 0, 0, 0,
    ];
    for back in [24, 44] {
        let fde = [
            16, 0, 0, 0, back, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0,
        ];
        frames.extend(fde);
    }
    let mut object = twice();
    object.symbol("", SECTION, 2, 0, 0);
    let second = if by_section { 3 } else { 2 };
    let part = Part::new(".eh_frame", ALLOC, &frames)
        .align(8)
        .at(28, elf::R_X86_64_PC32, 1, 0)
        .at(48, elf::R_X86_64_PC32, second, 0);
    object.part(part);
    object.part(Part::comdat(1, &[1]));
    object.part(Part::comdat(2, &[2]));
    object
}

/// Records of discarded code are silent, also where they refer to its symbols.
#[test]
fn records_of_discarded_code_are_silent() {
    for by_section in [false, true] {
        let (linked, memory) = link_at(&described_twice(by_section).finish(), NEAR, &[]);
        let frames = Frames::parse(memory.unwind()).expect("sound");
        let start = |fde: &crate::link::frames::Fde| fde.start(memory.unwind(), NEAR.unwind);
        let starts: Vec<_> = frames.fdes.iter().map(start).collect();
        assert_eq!(starts, [Some(NEAR.text), None]);
        assert_eq!((linked.failed, linked.unwind), (vec![], Some(NEAR.unwind)));
    }
}

#[test]
fn groups_that_are_damaged() {
    for (signature, member) in [(1, 99), (99, 2)] {
        let mut object = twice();
        object.part(Part::comdat(1, &[1]));
        object.part(Part::comdat(signature, &[member]));
        let result = try_link_at(&object.finish(), NEAR, &[]).map(|_| ());
        assert!(
            matches!(result, Err(LinkError::Malformed { .. })),
            "{result:?}"
        );
    }
}
