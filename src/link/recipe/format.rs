//! A recipe as values, and as bytes.
//!
//! ```text
//! outside   count, then each address as its distance from the one before
//! function  offset in the first part, size
//! parts     count, then each: area and alignment, distance from the end of the one before, size;
//!           of unwind records also the part that is its CIE
//! fixes     of each part: count, then each: distance from the one before, kind, target, addend
//! ```
//!
//! Numbers are of seven bits a byte, lowest first; those with a sign have it in the lowest bit.

use object::elf::{self, RelocationType};

use super::super::sections::Home;
use super::Recipe;

/// What is needed to link one function again.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// Addresses that fixes refer to: each once, ascending.
    pub outside: Vec<u64>,
    /// Where the function begins in the first part.
    pub entry: u64,
    pub size: u64,
    pub parts: Vec<Part>,
    /// In the order of their parts, and of their offsets there.
    pub fixes: Vec<Fix>,
}

/// A piece of memory that is moved as it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Part {
    pub home: Home,
    /// Where it is now.
    pub address: u64,
    pub size: u64,
    pub align: u64,
    /// Of a record that describes code: the part which is its CIE.
    pub cie: Option<usize>,
}

/// A field to be written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Fix {
    pub part: usize,
    pub offset: u64,
    pub kind: RelocationType,
    pub target: Goal,
    pub addend: i64,
    /// What stands before the field in the object, if that may be relaxed.
    pub before: Before,
}

/// What a fix refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Goal {
    Own {
        part: usize,
        offset: u64,
    },
    /// One of the addresses outside.
    Outside(usize),
}

/// Up to three bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Before {
    len: u8,
    bytes: [u8; 3],
}

impl Before {
    /// The last `len` of some bytes; none if there are not as many.
    pub fn last(bytes: &[u8], len: usize) -> Self {
        let mut before = Self::default();
        if let Some(at) = bytes.len().checked_sub(len) {
            before.bytes[..len].copy_from_slice(&bytes[at..]);
            before.len = len as u8;
        }
        before
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

/// The relocations that a recipe can have, by their numbers in it.
const KINDS: [RelocationType; 13] = [
    elf::R_X86_64_64,
    elf::R_X86_64_32,
    elf::R_X86_64_32S,
    elf::R_X86_64_PC32,
    elf::R_X86_64_PLT32,
    elf::R_X86_64_PC64,
    elf::R_X86_64_GOTPCREL,
    elf::R_X86_64_GOTPCREL64,
    elf::R_X86_64_GOTPCRELX,
    elf::R_X86_64_REX_GOTPCRELX,
    elf::R_X86_64_CODE_4_GOTPCRELX,
    elf::R_X86_64_CODE_5_GOTPCRELX,
    elf::R_X86_64_CODE_6_GOTPCRELX,
];

/// Set in a kind if the addend is -4, as it nearly always is.
const USUAL: u8 = 0x10;
/// How many bytes before the field follow: by this much to the left in the kind.
const BEFORE: u32 = 5;

/// The numbers by relocation; [`NONE`] for those that a recipe cannot have.
const NUMBERS: [u8; 64] = {
    let mut numbers = [NONE; 64];
    let mut number = 0;
    while number < KINDS.len() {
        numbers[KINDS[number].0 as usize] = number as u8;
        number += 1;
    }
    numbers
};
const NONE: u8 = u8::MAX;

fn number_of(kind: RelocationType) -> Option<u8> {
    let number = NUMBERS.get(kind.0 as usize);
    number.copied().filter(|&number| number != NONE)
}

/// Whether a recipe can have such a relocation.
pub(super) fn is_known(kind: RelocationType) -> bool {
    number_of(kind).is_some()
}

impl Plan {
    /// Forgets all, but for its memory.
    pub fn clear(&mut self) {
        self.outside.clear();
        self.parts.clear();
        self.fixes.clear();
    }

    /// As bytes, made in a buffer that is used again and again.
    pub fn encode(&self, out: &mut Vec<u8>) -> Recipe {
        out.clear();
        number(out, self.outside.len() as u64);
        let mut last = 0;
        for &address in &self.outside {
            number(out, address - last);
            last = address;
        }
        number(out, self.entry);
        number(out, self.size);
        number(out, self.parts.len() as u64);
        let mut end = 0u64;
        for part in &self.parts {
            let area = AREAS.iter().position(|&area| area == part.home);
            let area = area.expect("a part is in an area") as u8;
            out.push(area | (part.align.trailing_zeros() as u8) << 2);
            signed(out, part.address.wrapping_sub(end) as i64);
            number(out, part.size);
            if part.home == Home::Unwind {
                number(out, part.cie.map_or(0, |cie| cie as u64 + 1));
            }
            end = part.address.wrapping_add(part.size);
        }
        let mut fixes = &self.fixes[..];
        for part in 0..self.parts.len() {
            let (own, rest) = fixes.split_at(fixes.partition_point(|fix| fix.part <= part));
            fixes = rest;
            number(out, own.len() as u64);
            let mut last = 0;
            for fix in own {
                number(out, fix.offset - last);
                last = fix.offset;
                self.encode_fix(out, fix);
            }
        }
        Recipe(out.as_slice().into())
    }

    fn encode_fix(&self, out: &mut Vec<u8>, fix: &Fix) {
        let kind = number_of(fix.kind).expect("looked at when it was made");
        let usual = if fix.addend == -4 { USUAL } else { 0 };
        out.push(kind | usual | fix.before.len << BEFORE);
        match fix.target {
            Goal::Own { part, offset } => {
                number(out, part as u64);
                number(out, offset);
            }
            Goal::Outside(index) => number(out, (self.parts.len() + index) as u64),
        }
        if usual == 0 {
            signed(out, fix.addend);
        }
        out.extend(fix.before.bytes());
    }

    pub fn decode(recipe: &Recipe) -> Self {
        let mut reader = Reader::new(&recipe.0);
        let mut plan = Self::default();
        let mut last = 0u64;
        for _ in 0..reader.number() {
            last = last.wrapping_add(reader.number());
            plan.outside.push(last);
        }
        plan.entry = reader.number();
        plan.size = reader.number();
        let mut end = 0u64;
        for _ in 0..reader.number() {
            let first = reader.byte();
            let home = AREAS[usize::from(first & 3)];
            let address = end.wrapping_add(reader.signed() as u64);
            let size = reader.number();
            let cie = match home {
                Home::Unwind => reader.number().checked_sub(1).map(|cie| cie as usize),
                _ => None,
            };
            end = address.wrapping_add(size);
            plan.parts.push(Part {
                home,
                address,
                size,
                align: 1 << (first >> 2),
                cie,
            });
        }
        for part in 0..plan.parts.len() {
            let mut offset = 0u64;
            for _ in 0..reader.number() {
                offset += reader.number();
                plan.fixes
                    .push(decode_fix(&mut reader, &plan, part, offset));
            }
        }
        plan
    }
}

fn decode_fix(reader: &mut Reader<'_>, plan: &Plan, part: usize, offset: u64) -> Fix {
    let first = reader.byte();
    let target = reader.number() as usize;
    let target = match target.checked_sub(plan.parts.len()) {
        Some(index) => Goal::Outside(index),
        None => Goal::Own {
            part: target,
            offset: reader.number(),
        },
    };
    let addend = match first & USUAL {
        0 => reader.signed(),
        _ => -4,
    };
    let mut before = Before {
        len: first >> BEFORE,
        ..Before::default()
    };
    for byte in &mut before.bytes[..usize::from(first >> BEFORE)] {
        *byte = reader.byte();
    }
    Fix {
        part,
        offset,
        kind: KINDS[usize::from(first & 0xF)],
        target,
        addend,
        before,
    }
}

/// By their numbers in a recipe. No part is in the data area.
const AREAS: [Home; 4] = [Home::Text, Home::Constants, Home::Unwind, Home::Data];

fn number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn signed(out: &mut Vec<u8>, value: i64) {
    number(out, (value << 1 ^ value >> 63) as u64);
}

/// Reads what this file wrote.
pub(super) struct Reader<'r>(std::slice::Iter<'r, u8>);

impl<'r> Reader<'r> {
    pub fn new(bytes: &'r [u8]) -> Self {
        Self(bytes.iter())
    }

    fn byte(&mut self) -> u8 {
        *self.0.next().expect("a recipe is read as it was written")
    }

    pub fn number(&mut self) -> u64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = self.byte();
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return value;
            }
            shift += 7;
        }
    }

    fn signed(&mut self) -> i64 {
        let value = self.number();
        (value >> 1) as i64 ^ -((value & 1) as i64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_as_it_was_written() {
        let part = |home, address, size, align, cie| Part {
            home,
            address,
            size,
            align,
            cie,
        };
        let parts = vec![
            part(Home::Text, 0x7fff_1234_5670, 1000, 16, None),
            part(Home::Constants, 0x7000_0000_0000, 4, 2 << 20, None),
            part(Home::Unwind, u64::MAX - 31, 24, 1, None),
            part(Home::Unwind, 0, 32, 1, Some(2)),
        ];
        let outside = vec![0, 1, 0x7f, 0x80, 1 << 47, u64::MAX];
        let mut fixes = Vec::new();
        for (number, &kind) in KINDS.iter().enumerate() {
            let target = match number % 3 {
                0 => Goal::Outside(number % outside.len()),
                _ => Goal::Own {
                    part: number % 4,
                    offset: u64::MAX >> number,
                },
            };
            fixes.push(Fix {
                part: number / 5,
                offset: 100 * number as u64 % 500,
                kind,
                target,
                addend: [-4, 0, i64::MIN, i64::MAX, -8][number % 5],
                before: Before::last(&[1, 2, 3, 4], number % 4),
            });
        }
        let plan = Plan {
            outside,
            entry: 7,
            size: 993,
            parts,
            fixes,
        };
        let recipe = plan.encode(&mut vec![1, 2, 3]);
        assert_eq!(Plan::decode(&recipe), plan);
        assert!(recipe.outside().eq(plan.outside.iter().copied()));
    }
}
