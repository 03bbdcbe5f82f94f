//! Damaged objects: whatever their bytes are, linking ends with code inside of
//! its memory, or with an error.

use inkwell::OptimizationLevel::{Aggressive, None as O0};

use super::{Addresses, LinkError, Memory, NEAR, compile, faults, real, unwinding};
use crate::link::frames::Frames;
use crate::link::{Object, link};

/// Objects with everything that LLVM makes: jump tables, constants with
/// addresses, stubs, unwind records with and without LSDA, thread-locals.
pub(super) fn objects() -> Vec<Vec<u8>> {
    let calls = unwinding::caller("first") + &unwinding::caller("second");
    vec![
        compile(real::SWITCH, Aggressive),
        compile(real::STRINGS, O0),
        compile(real::FAR, Aggressive),
        compile(real::CLEANUP, O0),
        compile(faults::TWO, Aggressive),
        compile(&calls, O0),
        faults::chain().finish(),
    ]
}

/// How it ended.
#[derive(Default, Debug)]
struct Ends {
    refused: u32,
    failed: u32,
    linked: u32,
}

/// Parses and links, and checks that what came out is inside of what was given.
fn attempt(bytes: &[u8], ends: &mut Ends) {
    let Ok(object) = Object::parse(bytes) else {
        ends.refused += 1;
        return;
    };
    let needs = *object.needs();
    let areas = [needs.text, needs.constants, needs.data, needs.unwind];
    assert!(areas.iter().all(|area| area.size <= 1 << 30));
    assert!(areas.iter().all(|area| area.align.is_power_of_two()));
    if areas.iter().any(|area| area.size > 1 << 20) {
        // A `.bss` made huge: sound, and slow to allocate.
        ends.refused += 1;
        return;
    }
    let mut memory = Memory::new(&needs, NEAR);
    let mut resolve = |name: &str| (!name.len().is_multiple_of(8)).then_some(0x1234_5678_9ABC_DEF0);
    let linked = link(&object, memory.place(), &mut resolve, true);
    memory.check();
    let Ok(linked) = linked else {
        ends.failed += 1;
        return;
    };
    ends.linked += 1;
    assert!(linked.used.text <= needs.text.size);
    assert!(linked.used.constants <= needs.constants.size);
    assert_eq!(linked.used.unwind, needs.unwind.size);
    let text = NEAR.text..=NEAR.text + needs.text.size;
    for function in &linked.functions {
        assert!(text.contains(&function.address));
        assert!(text.contains(&(function.address + function.size)));
    }
    // The table as libgcc will read it, up to the zeros that end it.
    let frames = Frames::parse(memory.unwind()).expect("a sound table");
    for fde in &frames.fdes {
        if let Some(start) = fde.start(memory.unwind(), NEAR.unwind) {
            assert!(text.contains(&start) && text.contains(&(start + fde.range)));
        }
    }
}

#[test]
fn truncated() {
    for object in objects() {
        let mut ends = Ends::default();
        attempt(&object, &mut ends);
        assert_eq!(ends.linked, 1, "whole, it links");
        for len in 0..object.len() {
            let mut ends = Ends::default();
            attempt(&object[..len], &mut ends);
            assert_eq!(ends.linked, 0, "what is missing is missed: {len}");
        }
    }
}

/// Numbers without pattern, the same in each run.
pub(super) struct Random(u64);

impl Random {
    /// Neighbouring seeds have nothing in common.
    pub fn new(seed: u64) -> Self {
        let mut mixed = seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        Self((mixed ^ mixed >> 31) | 1)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

#[test]
fn bits_flipped() {
    let mut random = Random(0x9E37_79B9_7F4A_7C15);
    let mut ends = Ends::default();
    for object in objects() {
        for _ in 0..3000 {
            let mut damaged = object.clone();
            for _ in 0..=random.below(4) {
                let at = random.below(damaged.len());
                damaged[at] ^= 1 << random.below(8);
            }
            attempt(&damaged, &mut ends);
        }
    }
    // Damage is met on all ways, and most bytes of an object are not structure.
    assert!(
        ends.refused > 1000 && ends.failed > 50 && ends.linked > 1000,
        "{ends:?}"
    );
}

/// Fields that hold offsets and counts, with the values that break arithmetic.
#[test]
fn extreme_words() {
    const WORDS: [u64; 8] = [
        0,
        1,
        0x7FFF_FFFF,
        0xFFFF_FFFF,
        1 << 32,
        i64::MAX as u64,
        i64::MIN as u64,
        u64::MAX,
    ];
    let mut ends = Ends::default();
    for object in objects() {
        let mut damaged = object.clone();
        for at in (0..object.len() - 8).step_by(4) {
            for word in WORDS {
                damaged[at..at + 8].copy_from_slice(&word.to_le_bytes());
                attempt(&damaged, &mut ends);
            }
            damaged[at..at + 8].copy_from_slice(&object[at..at + 8]);
        }
    }
    assert!(ends.refused > 1000 && ends.linked > 1000, "{ends:?}");
}

/// At the edges of the address space nothing wraps into other memory.
#[test]
fn extreme_addresses() {
    for object in objects() {
        let parsed = Object::parse(&object).expect("parses");
        for base in [0, 1 << 12, 1 << 63, !0xFF_FFFF] {
            let at = Addresses {
                text: base,
                constants: base.wrapping_add(0x10_0000),
                data: base.wrapping_add(0x20_0000),
                unwind: base.wrapping_add(0x30_0000),
            };
            let mut memory = Memory::new(parsed.needs(), at);
            let result = link(&parsed, memory.place(), &mut |_| Some(u64::MAX), true);
            memory.check();
            assert!(
                !matches!(result, Err(LinkError::Misplaced { .. })),
                "{result:?}"
            );
        }
    }
}
