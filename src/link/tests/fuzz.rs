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
use super::{
    GUARD, GUARD_BYTE, compile_for, corpus, exceptions, groups, models, moving, unwinding,
};
use crate::link::frames::Frames;
use crate::link::{
    Area, Linked, Needs, Object, Place, Recipe, Span, link, needs_of, relink, unwind,
};

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

/// The most that an area may need here: a `.bss` made huge is sound, and slow.
const MOST: usize = 1 << 19;
const PAGE: usize = 4096;

/// Four areas, each between pages that nobody may touch.
struct Arena {
    base: *mut u8,
}

impl Arena {
    const STEP: usize = MOST + 2 * PAGE;

    fn new() -> Self {
        let (len, none) = (4 * Self::STEP + PAGE, libc::PROT_NONE);
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        // SAFETY: a new mapping, of memory that is nobody's yet.
        let base = unsafe { libc::mmap(std::ptr::null_mut(), len, none, flags, -1, 0) };
        assert_ne!(base, libc::MAP_FAILED);
        let arena = Self { base: base.cast() };
        for area in 0..4 {
            let rights = libc::PROT_READ | libc::PROT_WRITE;
            // SAFETY: pages of the mapping above.
            let result =
                unsafe { libc::mprotect(arena.area(area).cast(), Self::STEP - PAGE, rights) };
            assert_eq!(result, 0);
        }
        arena
    }

    /// After a page without rights.
    fn area(&self, area: usize) -> *mut u8 {
        // SAFETY: within the mapping, for four areas.
        unsafe { self.base.add(PAGE + area * Self::STEP) }
    }

    /// So much of an area, and the guard behind it.
    fn bytes(&mut self, area: usize, size: u64) -> &'static mut [u8] {
        // SAFETY: within the area, which is a page longer than `MOST`; each area is taken once at a
        // time, and the mapping stays for the life of the process.
        unsafe { std::slice::from_raw_parts_mut(self.area(area), size as usize + GUARD) }
    }

    /// Filled, guarded; addresses may be those where it is, or others.
    fn place(&mut self, needs: &Needs, base: Option<u64>) -> Place<'static> {
        let mut span = |index: usize, area: &Area| {
            let bytes = self.bytes(index, area.size);
            bytes.fill(GUARD_BYTE);
            let (bytes, _) = bytes.split_at_mut(area.size as usize);
            let offset = (index * Self::STEP) as u64;
            let address = match base {
                Some(base) => base.wrapping_add(offset),
                None => bytes.as_ptr() as u64,
            };
            Span { address, bytes }
        };
        Place {
            text: span(0, &needs.text),
            constants: span(1, &needs.constants),
            data: span(2, &needs.data),
            unwind: span(3, &needs.unwind),
        }
    }

    fn check(&mut self, needs: &Needs) {
        let sizes = [&needs.text, &needs.constants, &needs.data, &needs.unwind].map(|a| a.size);
        for (area, size) in sizes.into_iter().enumerate() {
            let guard = &self.bytes(area, size)[size as usize..];
            assert!(guard.iter().all(|&byte| byte == GUARD_BYTE), "area {area}");
        }
    }
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

/// How it ended.
#[derive(Default, Debug)]
struct Ends {
    refused: u32,
    failed: u32,
    in_part: u32,
    linked: u32,
    registered: u32,
    moved: u32,
    out_of_range: u32,
}

unsafe extern "C" {
    fn _Unwind_Find_FDE(pc: *const u8, bases: *mut [usize; 3]) -> *const u8;
}

fn attempt(random: &mut Random, bytes: &[u8], arenas: &mut [Arena; 2], ends: &mut Ends) {
    let [arena, other] = arenas;
    let Ok(object) = Object::parse(bytes) else {
        ends.refused += 1;
        return;
    };
    let needs = *object.needs();
    let areas = [needs.text, needs.constants, needs.data, needs.unwind];
    assert!(areas.iter().all(|area| area.size <= 1 << 30));
    if areas.iter().any(|area| area.size as usize > MOST) {
        ends.refused += 1;
        return;
    }
    let base = [
        None,
        None,
        Some(1 << 28),
        Some(0),
        Some(1 << 63),
        Some(!0xFF_FFFF),
    ];
    let base = base[random.below(base.len())];
    let place = arena.place(&needs, base);
    let (text, table) = (place.text.address, place.unwind.address);
    let known = [
        0,
        1 << 20,
        text.wrapping_add(1 << 20),
        0x1234_5678_9ABC_DEF0,
        u64::MAX,
    ];
    let (known, some) = (known[random.below(known.len())], random.below(9) + 1);
    let mut resolve = |name: &str| (name.len() % some != 2).then_some(known);
    let linked = link(&object, place, &mut resolve, true);
    arena.check(&needs);
    let Ok(linked) = linked else {
        ends.failed += 1;
        return;
    };
    match linked.failed.is_empty() {
        true => ends.linked += 1,
        false => ends.in_part += 1,
    }
    assert!(linked.used.text <= needs.text.size && linked.used.data <= needs.data.size);
    assert!(linked.used.constants <= needs.constants.size);
    let code = text..=text + needs.text.size;
    for function in &linked.functions {
        assert!(code.contains(&function.address));
        assert!(code.contains(&(function.address + function.size)));
    }
    move_on(&linked, (arena, &needs, base), other, ends);
    let records = arena.bytes(3, needs.unwind.size);
    let records = &records[..needs.unwind.size as usize];
    let frames = Frames::parse(records).expect("a sound table");
    let starts = frames
        .fdes
        .iter()
        .filter_map(|fde| Some((fde.start(records, table)?, fde.range)));
    let starts: Vec<(u64, u64)> = starts.collect();
    for (start, range) in &starts {
        assert!(code.contains(start) && code.contains(&(start + range)));
    }
    if let (Some(table), None) = (linked.unwind, base) {
        ends.registered += 1;
        // SAFETY: the linker says that it is sound; it stays until it is deregistered. To look for
        // code runs none, and `bases` has the size of libgcc's `dwarf_eh_bases`.
        unsafe {
            let mut part = unwind::register(table);
            for (start, range) in starts.into_iter().chain([(text, 0)]) {
                let mut bases = [0; 3];
                _Unwind_Find_FDE((start + range / 2) as *const u8, &raw mut bases);
            }
            part.deregister();
        }
    }
}

/// Moves what has a recipe from one arena to the other. Nothing is read but what was linked, and nothing written but
/// where it belongs.
fn move_on(
    linked: &Linked,
    (from, of, base): (&mut Arena, &Needs, Option<u64>),
    to: &mut Arena,
    ends: &mut Ends,
) {
    let recipes = linked.functions.iter().filter_map(|f| f.recipe.as_ref());
    let recipes: Vec<&Recipe> = recipes.collect();
    let needs = needs_of(&recipes).expect("no more than the object");
    let sizes = [&needs.text, &needs.constants, &needs.data, &needs.unwind].map(|a| a.size);
    // Aliases are as many copies.
    if sizes.iter().any(|&size| size as usize > MOST) {
        return;
    }
    let all = [&of.text, &of.constants, &of.data, &of.unwind].map(|area| area.size);
    let areas = [0, 1, 2, 3].map(|index| {
        let offset = (index * Arena::STEP) as u64;
        let at = base.map_or(from.area(index) as u64, |base| base.wrapping_add(offset));
        (at, &from.bytes(index, all[index])[..all[index] as usize])
    });
    let read = |address: u64, len: u64| {
        let found = areas.iter().find_map(|(at, bytes)| {
            let offset = address.checked_sub(*at)? as usize;
            bytes.get(offset..offset.checked_add(len as usize)?)
        });
        Some(found.expect("a part is of what was linked"))
    };
    // Beside it, or far away.
    let step = match of.text.size % 3 {
        0 => 1 << 40,
        _ => 5 * Arena::STEP as u64,
    };
    let shifted = base.map(|base| base.wrapping_add(step));
    let place = to.place(&needs, shifted);
    let (text, table) = (place.text.address, place.unwind.address);
    let moved = relink(&recipes, &read, place);
    to.check(&needs);
    let Ok(moved) = moved else { return };
    let code = text..=text + needs.text.size;
    for function in &moved.functions {
        match function {
            Ok(function) => {
                ends.moved += 1;
                assert!(code.contains(&function.address));
                assert!(code.contains(&(function.address + function.size)));
            }
            Err(_) => ends.out_of_range += 1,
        }
    }
    let records = &to.bytes(3, needs.unwind.size)[..needs.unwind.size as usize];
    let frames = Frames::parse(records).expect("a sound table");
    for fde in &frames.fdes {
        if let Some(start) = fde.start(records, table) {
            assert!(code.contains(&start) && code.contains(&(start + fde.range)));
        }
    }
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
            attempt(&mut random, &object, &mut arenas, &mut ends);
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
