//! Objects of all kinds, those of the corpus's programs too, damaged in all ways: an error or a link, never a crash, and
//! nothing written but where it belongs. What was linked is shown to the unwinder.
//!
//! A case is made from its number alone. The short form takes a second or two;
//! `INKPOT_SOAK=1` makes it 100,000 cases, and `INKPOT_SOAK=20` twenty times as many.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use inkwell::OptimizationLevel::{Aggressive, None as O0};
use inkwell::targets::{CodeModel, RelocMode};

use super::damaged::{Random, objects};
use super::{compile_for, corpus, exceptions, groups, models, moving, unwinding};
use crate::link::attempt::{Arena, Ends, attempt};

/// Objects with everything: see there, and each code model with data of all kinds,
/// exceptions, thread-locals and comdat groups.
fn all_objects() -> Vec<Vec<u8>> {
    let mut all = objects();
    let program = models::small_program();
    for model in models::MODELS {
        for (mode, level) in [(RelocMode::PIC, Aggressive), (RelocMode::Static, O0)] {
            all.push(compile_for(&program, level, mode, model));
            all.push(compile_for(models::THREAD_LOCALS, level, mode, model));
        }
        all.extend(exceptions::objects(model, RelocMode::PIC, Aggressive));
    }
    all.extend(exceptions::objects(CodeModel::Large, RelocMode::Static, O0));
    all.push(groups::described_twice(false).finish());
    for level in [O0, Aggressive] {
        let programs = moving::PROGRAMS.map(|ir| moving::separable(ir, level));
        all.extend(programs);
    }
    all
}

const EXTREMES: [u64; 14] = [
    0,
    1,
    2,
    7,
    0x7F,
    0xFF,
    0xFFFF,
    0x7FFF_FFFF,
    0x8000_0000,
    0xFFFF_FFFF,
    1 << 32,
    i64::MAX as u64,
    i64::MIN as u64,
    u64::MAX - 7,
];

/// Damages an object: its bytes, its fields, its length.
fn damage(random: &mut Random, object: &mut Vec<u8>) {
    for _ in 0..=random.below(3) {
        let at = place_of_damage(random, object);
        match random.below(8) {
            0 => object.truncate(at),
            1 => {
                let from = place_of_damage(random, object);
                let len = random.below(64).min(object.len() - at.max(from));
                object.copy_within(from..from + len, at);
            }
            2 | 3 => object[at] ^= 1 << random.below(8),
            4 => object[at] = random.below(256) as u8,
            _ => {
                let word = EXTREMES[random.below(EXTREMES.len())].to_le_bytes();
                let len = (1 << random.below(4)).min(object.len() - at);
                object[at..at + len].copy_from_slice(&word[..len]);
            }
        }
        if object.is_empty() {
            break;
        }
    }
}

/// Anywhere, or in what has structure: headers, symbols, relocations, unwind records.
fn place_of_damage(random: &mut Random, object: &[u8]) -> usize {
    let word = |at: usize| -> Option<usize> {
        let bytes = object.get(at..at.checked_add(8)?)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?) as usize)
    };
    let structured = |random: &mut Random| {
        let headers = word(40)?;
        let count = usize::from(*object.get(60)?).max(1);
        let header = headers.checked_add(64 * random.below(count))?;
        if random.below(3) == 0 {
            return header.checked_add(random.below(64));
        }
        // Of progbits, little is structure; of `.eh_frame`, all.
        let kind = word(header.checked_add(4)?)? as u32;
        let (at, size) = (word(header + 24)?, word(header + 32)?);
        let chosen = kind != 1 && size > 0 && size < object.len();
        chosen.then(|| at.checked_add(random.below(size)))?
    };
    let at = match random.below(4) {
        0 => None,
        _ => structured(random),
    };
    at.filter(|&at| at < object.len())
        .unwrap_or_else(|| random.below(object.len()))
}

#[test]
fn damaged_in_all_ways() {
    let soak = std::env::var("INKPOT_SOAK").map_or(0, |value| value.parse().unwrap_or(1));
    let cases: u64 = if soak > 0 { 100_000 * soak } else { 3_000 };
    let _tables = unwinding::tables();
    let mut arenas = [Arena::new(), Arena::new()];
    let mut ends = Ends::default();
    let objects = all_objects();
    let programs = if soak > 0 {
        [corpus::objects(), corpus::methods(1)].concat()
    } else {
        [corpus::some_objects(), corpus::methods(9)].concat()
    };
    let mut of_programs = 0;
    for case in 0..cases {
        let mut random = Random::new(case);
        // Half of the cases are objects of real programs, which are many.
        let real = random.below(2) == 0;
        let from = if real { &programs } else { &objects };
        let mut object = from[random.below(from.len())].clone();
        of_programs += u32::from(real);
        damage(&mut random, &mut object);
        let begun = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| {
            attempt(
                &mut |end| random.below(end),
                &object,
                &mut arenas,
                &mut ends,
            );
        }));
        assert!(result.is_ok(), "case {case}");
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "case {case} takes too long"
        );
    }
    if soak > 0 {
        println!(
            "{cases} cases, {of_programs} of them of {} objects of the corpus: {ends:?}",
            programs.len()
        );
    }
    let least = cases as u32 / 100;
    assert!(ends.refused > least && ends.failed > least, "{ends:?}");
    assert!(
        ends.linked > least && ends.in_part > least && ends.registered > least,
        "{ends:?}"
    );
    assert!(ends.moved > least, "{ends:?}");
}

/// What the fuzzer has found worth keeping (`fuzz/corpus/link`): its first two bytes choose, the rest is the object.
#[test]
fn the_fuzzers_corpus() {
    let _tables = unwinding::tables();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus/link");
    let mut arenas = [Arena::new(), Arena::new()];
    let mut ends = Ends::default();
    let mut files = 0;
    for entry in std::fs::read_dir(folder).expect("the corpus") {
        let bytes = std::fs::read(entry.expect("an entry").path()).expect("a file of the corpus");
        crate::link::attempt::attempt_bytes(&bytes, &mut arenas, &mut ends);
        files += 1;
    }
    assert!(
        files > 10 && ends.linked > 0 && ends.refused > 0,
        "{files}: {ends:?}"
    );
}
