//! A moved function is what linking its object at the new place would have made of it.
//!
//! Recipes are not asked here: the object's own relocations say what each field must mean, and that is read from
//! the moved code, through stubs, GOT slots and relaxed instructions.

use ::object::LittleEndian as Le;
use ::object::elf;
use ::object::read::elf::Rela as _;
use inkwell::OptimizationLevel::{Aggressive, None as O0};
use inkwell::targets::RelocMode;

use super::corpus;
use super::moving::separable;
use super::{Addresses, Memory, NEAR, compile_for, exceptions, models, moving};
use crate::link::object::{Object, Relocation};
use crate::link::sections::{Home, Section};
use crate::link::symbols::Definition;
use crate::link::{LinkError, Recipe, Relinked, link, needs_of, relink, x86_64};

/// Near what the first place is near to.
const BESIDE: Addresses = Addresses {
    text: NEAR.text + 0x200_0000,
    constants: NEAR.constants + 0x200_0000,
    data: NEAR.data + 0x200_0000,
    unwind: NEAR.unwind + 0x300_0000,
};

/// Far from everything.
const FAR: Addresses = Addresses {
    text: 0x1000_0000,
    constants: 0x1010_0000,
    data: 0x1020_0000,
    unwind: 0x1030_0000,
};

/// How it went, of how many public functions.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub functions: usize,
    pub recipes: usize,
    pub moved: usize,
    pub out_of_range: usize,
    pub recipe_bytes: u64,
}

/// Memory at made-up addresses.
struct Image<'m>(&'m Memory);

impl<'m> Image<'m> {
    fn read(&self, address: u64, len: u64) -> Option<&'m [u8]> {
        let at = &self.0.at;
        let areas = [
            (at.text, self.0.text()),
            (at.constants, self.0.constants()),
            (at.data, self.0.data()),
            (at.unwind, self.0.unwind()),
        ];
        areas.into_iter().find_map(|(begin, bytes)| {
            let offset = address.checked_sub(begin)? as usize;
            bytes.get(offset..offset.checked_add(len as usize)?)
        })
    }

    fn number(&self, address: u64, len: u64) -> u64 {
        let bytes = self.read(address, len).expect("inside of the image");
        bytes
            .iter()
            .rev()
            .fold(0, |number, &byte| number << 8 | u64::from(byte))
    }

    /// Of four bytes, with a sign.
    fn distance(&self, address: u64) -> u64 {
        i64::from(self.number(address, 4) as i32) as u64
    }
}

/// What a field refers to, which should be `expected`.
fn meaning(
    image: &Image<'_>,
    at: u64,
    section: &Section<'_>,
    relocation: &Relocation,
    expected: u64,
) -> u64 {
    let addend = relocation.r_addend(Le) as u64;
    let slot = |slot: u64| image.number(slot, 8);
    let relative = |value: u64| value.wrapping_add(at).wrapping_sub(addend);
    match relocation.r_type(Le, false) {
        elf::R_X86_64_64 => image.number(at, 8).wrapping_sub(addend),
        elf::R_X86_64_32 => image.number(at, 4).wrapping_sub(addend),
        elf::R_X86_64_32S => image.distance(at).wrapping_sub(addend),
        elf::R_X86_64_PC64 => relative(image.number(at, 8)),
        elf::R_X86_64_GOTPCREL64 => slot(relative(image.number(at, 8))),
        elf::R_X86_64_GOTPCREL
        | elf::R_X86_64_CODE_4_GOTPCRELX
        | elf::R_X86_64_CODE_5_GOTPCRELX
        | elf::R_X86_64_CODE_6_GOTPCRELX => slot(relative(image.distance(at))),
        elf::R_X86_64_PC32 | elf::R_X86_64_PLT32 => {
            let target = relative(image.distance(at));
            match image.read(target, 16) {
                Some([0xFF, 0x25, ..]) if target != expected => {
                    slot(image.distance(target + 2).wrapping_add(target + 6))
                }
                _ => target,
            }
        }
        elf::R_X86_64_GOTPCRELX | elf::R_X86_64_REX_GOTPCRELX => {
            let offset = relocation.r_offset(Le) as usize;
            let was = &section.bytes[offset - 2..offset];
            match image.read(at - 2, 2).expect("inside of the image") {
                is if is == was => slot(relative(image.distance(at))),
                [0x8D, _] | [0x67, 0xE8] => relative(image.distance(at)),
                [0xE9, _] => image.distance(at - 1).wrapping_add(at + 3),
                [0xC7 | 0xF7 | 0x81, _] => image.distance(at),
                other => panic!("relaxed into {other:x?}"),
            }
        }
        other => panic!("{other:?} in a recipe"),
    }
}

/// A function as it was linked at first, from its object, and as it is now.
struct Moved<'m> {
    object: &'m Object<'m>,
    first: Vec<(Home, u64, u64)>,
    now: Vec<(Home, u64, u64)>,
    image: &'m Image<'m>,
}

impl Moved<'_> {
    fn compare(&self, resolve: &dyn Fn(&str) -> Option<u64>) {
        assert_eq!(self.first.len(), self.now.len());
        for (&first, &now) in self.first.iter().zip(&self.now) {
            assert_eq!((first.0, first.2), (now.0, now.2));
            self.compare_part(first, now.1, resolve);
        }
    }

    /// The section that a part is of, and where in it the part begins.
    fn section_of(&self, (home, address, size): (Home, u64, u64)) -> (usize, u64) {
        let sections = self.object.sections.iter().enumerate();
        let mut own = sections.filter_map(|(index, section)| {
            // Slots of types are constants among data.
            let slot = section.home == Home::Data && home == Home::Constants;
            let begin = address.checked_sub(area(section.home)? + section.offset)?;
            let inside = (slot || section.home == home) && begin + size <= section.size.max(1);
            inside.then_some((index, begin))
        });
        own.next().expect("a part is of a section")
    }

    fn compare_part(
        &self,
        first: (Home, u64, u64),
        now: u64,
        resolve: &dyn Fn(&str) -> Option<u64>,
    ) {
        let (index, begin) = self.section_of(first);
        let section = &self.object.sections[index];
        let mut expected = section.bytes.to_vec();
        expected.resize(section.size.max(1) as usize, 0);
        let mut expected = expected[begin as usize..(begin + first.2) as usize].to_vec();
        let mut is = self.image.read(now, first.2).expect("it is there").to_vec();
        let relocations = self.object.relocations.iter();
        let own = relocations.filter(|all| all.section == index);
        for relocation in own.flat_map(|all| all.all) {
            let kind = relocation.r_type(Le, false);
            let offset = relocation.r_offset(Le).wrapping_sub(begin);
            if offset >= first.2 || kind == elf::R_X86_64_NONE {
                continue;
            }
            let wanted = self.target(relocation, resolve);
            let found = meaning(self.image, now + offset, section, relocation, wanted);
            assert_eq!(found, wanted, "{kind:?} at {offset:#x} of {}", section.name);
            let relaxable = [elf::R_X86_64_GOTPCRELX, elf::R_X86_64_REX_GOTPCRELX];
            let back = if relaxable.contains(&kind) { 3 } else { 0 };
            let width = x86_64::width(kind).expect("known") as u64;
            let field = offset.saturating_sub(back) as usize..(offset + width) as usize;
            expected[field.clone()].fill(0);
            is[field].fill(0);
        }
        if first.0 == Home::Unwind && is[4..8] != [0; 4] {
            // Of a record that describes code: the distance back to the common one, which is a part too.
            let cie = now + 4 - self.image.number(now + 4, 4);
            assert!(self.now.iter().any(|part| part.1 == cie));
            expected[4..8].fill(0);
            is[4..8].fill(0);
        }
        assert!(is == expected, "bytes of {} are others", section.name);
    }

    /// Where what a relocation refers to is now.
    fn target(&self, relocation: &Relocation, resolve: &dyn Fn(&str) -> Option<u64>) -> u64 {
        let symbol = &self.object.symbols[relocation.r_sym(Le, false) as usize];
        let (section, offset) = match symbol.definition {
            Definition::Absolute(address) => return address,
            Definition::Undefined { .. } => return resolve(symbol.name).unwrap_or(0),
            Definition::In { section, offset } => (&self.object.sections[section], offset),
            Definition::Common(_) => panic!("data"),
        };
        // An address that is relative to a section means what the addend leads to.
        let kind = relocation.r_type(Le, false);
        let slot = section.home == Home::Data;
        let by_addend = symbol.section && (kind == elf::R_X86_64_64 || slot);
        let ahead = if by_addend {
            relocation.r_addend(Le) as u64
        } else {
            0
        };
        let begin = area(section.home).expect("it is loaded");
        let address = (begin + section.offset + offset).wrapping_add(ahead);
        let mut parts = self.first.iter().zip(&self.now);
        let found = parts
            .clone()
            .find(|((_, at, size), _)| (*at..at + size).contains(&address));
        // An end belongs to what it ends, if nothing begins there.
        let found = found.or_else(|| parts.find(|((_, at, size), _)| at + size == address));
        let (first, now) = found.expect("what it refers to is a part");
        (now.1 + (address - first.1)).wrapping_sub(ahead)
    }
}

/// Where the sections of an area begin when linked from the object.
fn area(home: Home) -> Option<u64> {
    match home {
        Home::Text => Some(NEAR.text),
        Home::Constants => Some(NEAR.constants),
        Home::Data => Some(NEAR.data),
        Home::Unwind => Some(NEAR.unwind),
        Home::Thread | Home::Nowhere => None,
    }
}

/// Links functions again, from a memory into a new one.
fn relink_at(recipes: &[&Recipe], from: &Memory, at: Addresses) -> (Relinked, Memory) {
    let mut new = Memory::new(&needs_of(recipes).expect("laid out"), at);
    let image = Image(from);
    let relinked = relink(
        recipes,
        &|address, len| image.read(address, len),
        new.place(),
    );
    new.check();
    (relinked.expect("links"), new)
}

/// Links an object, moves each function that has a recipe, and compares.
pub(super) fn check(bytes: &[u8], tally: &mut Tally) {
    let Ok(object) = Object::parse(bytes) else {
        return;
    };
    let mut memory = Memory::new(object.needs(), NEAR);
    // Most are near, some far.
    let resolve = |name: &str| match name.len() as u64 {
        len if len % 5 == 0 => Some(0x7FFF_1234_5670 + 0x100 * len),
        len => Some(NEAR.text - 0x100_0000 + 0x100 * len),
    };
    let Ok(linked) = link(&object, memory.place(), &mut |name| resolve(name), true) else {
        return;
    };
    tally.functions += linked.functions.len();
    let recipes = linked.functions.iter().filter_map(|f| f.recipe.as_ref());
    // In another order than they were linked in.
    let recipes: Vec<&Recipe> = recipes.rev().collect();
    tally.recipes += recipes.len();
    tally.recipe_bytes += recipes.iter().map(|r| r.heap_bytes()).sum::<u64>();
    let (relinked, beside) = relink_at(&recipes, &memory, BESIDE);
    for (first, now) in recipes.iter().zip(&relinked.functions) {
        let now = now.as_ref().expect("near, all can be moved");
        let moved = |recipe: &Recipe, memory: &Memory| {
            let moved = Moved {
                object: &object,
                first: first.parts(),
                now: recipe.parts(),
                image: &Image(memory),
            };
            moved.compare(&resolve);
        };
        let recipe = now.recipe.as_ref().expect("made again");
        assert!(recipe.outside().eq(first.outside()));
        moved(recipe, &beside);
        // From there, by itself: back into its old neighbourhood, and far away.
        for at in [NEAR, FAR] {
            let (again, memory) = relink_at(&[recipe], &beside, at);
            match &again.functions[..] {
                [Ok(again)] => {
                    moved(again.recipe.as_ref().expect("made again"), &memory);
                    tally.moved += 1;
                }
                [Err(LinkError::OutOfRange { .. })] if at.text == FAR.text => {
                    assert!(memory.text().iter().all(|&byte| byte == x86_64::TRAP));
                    tally.out_of_range += 1;
                }
                other => panic!("{other:?}"),
            }
        }
    }
}

/// What is referred to as cells are: from nearby alone.
const HIDDEN: &str = r#"
@cell = external hidden global ptr
declare hidden i64 @near(i64)
define i64 @loads(i64 %n) {
  %f = load atomic ptr, ptr @cell monotonic, align 8
  %r = call i64 %f(i64 %n)
  %s = call i64 @near(i64 %r)
  ret i64 %s
}
define i64 @calls(i64 %n) {
  %s = call i64 @near(i64 %n)
  %t = add i64 %s, 1
  ret i64 %t
}
"#;

#[test]
fn moved_or_linked_there() {
    let mut tally = Tally::default();
    for level in [O0, Aggressive] {
        for ir in moving::PROGRAMS.into_iter().chain([HIDDEN]) {
            check(&separable(ir, level), &mut tally);
            for model in models::MODELS {
                for mode in models::MODES {
                    check(&compile_for(ir, level, mode, model), &mut tally);
                }
            }
        }
        for model in models::MODELS {
            for mode in models::MODES {
                check(
                    &compile_for(&models::small_program(), level, mode, model),
                    &mut tally,
                );
            }
            for object in exceptions::objects(model, RelocMode::PIC, level) {
                check(&object, &mut tally);
            }
        }
        for (name, text) in exceptions::texts() {
            let before = tally.recipes;
            check(&separable(&text, level), &mut tally);
            assert_eq!(tally.recipes - before, usize::from(name != "catches"));
        }
    }
    assert!(tally.recipes > 90, "{tally:?}");
    assert!(tally.moved > 180 && tally.out_of_range > 1, "{tally:?}");
}

/// Programs of the corpus, whose functions call each other as methods do: by symbols that are elsewhere.
#[test]
fn the_corpus_moved_or_linked_there() {
    let soak = std::env::var_os("INKPOT_SOAK").is_some();
    let mut tally = Tally::default();
    for object in corpus::methods(if soak { 1 } else { 9 }) {
        check(&object, &mut tally);
    }
    if soak {
        println!("{tally:?}");
    }
    // Those of C have variables.
    assert!(tally.recipes * 2 > tally.functions, "{tally:?}");
}
