//! One object, whatever its bytes are, through the linker: an error or a link, and nothing written but where it belongs.
//! What was linked is shown to the unwinder, and moved. For tests, and for the fuzzer (`fuzz/`).

use crate::link::frames::Frames;
use crate::link::{
    Area, Linked, Needs, Object, Place, Recipe, Span, link, needs_of, relink, unwind,
};

/// A number below the one that is given: where things are, and what is known.
pub(crate) type Choose<'c> = dyn FnMut(usize) -> usize + 'c;

/// Bytes behind each area that nobody may write.
const GUARD: usize = 64;
const GUARD_BYTE: u8 = 0xA5;

/// The most that an area may need here: a `.bss` made huge is sound, and slow.
const MOST: usize = 1 << 19;
const PAGE: usize = 4096;

/// Four areas, each between pages that nobody may touch.
pub(crate) struct Arena {
    base: *mut u8,
}

impl Arena {
    const STEP: usize = MOST + 2 * PAGE;

    pub(crate) fn new() -> Self {
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

/// How it ended.
#[derive(Default, Debug)]
pub(crate) struct Ends {
    pub(crate) refused: u32,
    pub(crate) failed: u32,
    pub(crate) in_part: u32,
    pub(crate) linked: u32,
    pub(crate) registered: u32,
    pub(crate) moved: u32,
    pub(crate) out_of_range: u32,
}

unsafe extern "C" {
    fn _Unwind_Find_FDE(pc: *const u8, bases: *mut [usize; 3]) -> *const u8;
}

/// Links bytes, and moves what came of it; panics if anything is wrong with that.
pub(crate) fn attempt(
    choose: &mut Choose<'_>,
    bytes: &[u8],
    arenas: &mut [Arena; 2],
    ends: &mut Ends,
) {
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
    let base = base[choose(base.len())];
    let place = arena.place(&needs, base);
    let (text, table) = (place.text.address, place.unwind.address);
    let known = [
        0,
        1 << 20,
        text.wrapping_add(1 << 20),
        0x1234_5678_9ABC_DEF0,
        u64::MAX,
    ];
    let (known, some) = (known[choose(known.len())], choose(9) + 1);
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

/// The same, with choices in the first two bytes.
pub(crate) fn attempt_bytes(bytes: &[u8], arenas: &mut [Arena; 2], ends: &mut Ends) {
    let Some((choices, object)) = bytes.split_first_chunk::<2>() else {
        return;
    };
    let mut left = usize::from(u16::from_le_bytes(*choices));
    let mut choose = |end: usize| {
        let chosen = left % end;
        left /= end;
        chosen
    };
    attempt(&mut choose, object, arenas, ends);
}

/// For the fuzzer.
#[cfg(feature = "_fuzz")]
#[doc(hidden)]
pub fn link_bytes(bytes: &[u8]) {
    thread_local! {
        static ARENAS: std::cell::RefCell<[Arena; 2]> = std::cell::RefCell::new([Arena::new(), Arena::new()]);
    }
    ARENAS.with_borrow_mut(|arenas| attempt_bytes(bytes, arenas, &mut Ends::default()));
}
