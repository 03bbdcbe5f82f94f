//! What is where in an object: what the making of recipes looks up.

use std::ops::Range;

use object::LittleEndian as Le;
use object::read::elf::Rela as _;

use super::super::apply::section_address;
use super::super::frames::Fde;
use super::super::object::{Object, Relocation};
use super::super::sections::Home;
use super::super::symbols::Definition;
use super::make::Facts;

/// The public functions of a section.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Entry {
    None,
    /// All begin here.
    One(u64),
    Several,
}

/// What is where in the object.
pub(super) struct Map<'f> {
    /// By section.
    pub entries: Vec<Entry>,
    /// By section: its relocations; `None` for sections that no recipe can have.
    pub relocations: Vec<Option<&'f [Relocation]>>,
    /// The frames, and the number there, of each record that describes code, by section of that code.
    records: Vec<(usize, usize)>,
    /// By section of code: where its records end, which begin where those of the one before end.
    ends: Vec<usize>,
    /// By section: how many records have their exception table in it, and where the last of them has it.
    tables: Vec<(u32, u64)>,
}

impl<'f> Map<'f> {
    /// `None` if there is an unwind record of which nobody knows what it describes.
    pub fn new(facts: &Facts<'f, '_>) -> Option<Self> {
        let object = facts.object;
        let count = object.sections.len();
        let mut entries = vec![Entry::None; count];
        for function in object.functions.iter().filter(|f| f.public) {
            let entry = &mut entries[function.section];
            *entry = match *entry {
                Entry::None => Entry::One(function.start),
                Entry::One(start) if start == function.start => *entry,
                _ => Entry::Several,
            };
        }
        let mut relocations: Vec<Option<&'f [Relocation]>> = vec![Some(&[]); count];
        for all in &object.relocations {
            let slot = &mut relocations[all.section];
            // Two tables for one section are as rare as relocations that are not in order.
            let sole = slot.is_some_and(<[_]>::is_empty);
            let sorted = all.all.is_sorted_by_key(|one| one.r_offset(Le));
            *slot = (sole && sorted).then_some(all.all);
        }
        let mut map = Self {
            entries,
            relocations,
            records: Vec::new(),
            ends: vec![0; count],
            tables: vec![(0, 0); count],
        };
        let mut records = Vec::new();
        for (index, (section, frames)) in object.frames.iter().enumerate() {
            for (number, fde) in frames.fdes.iter().enumerate() {
                if let Some(code) = map.described(facts, *section, fde)? {
                    records.push((code, (index, number)));
                }
                map.note_table(object, *section, fde)?;
            }
        }
        records.sort_by_key(|&(code, _)| code);
        for &(code, record) in &records {
            map.records.push(record);
            map.ends[code] = map.records.len();
        }
        let mut before = 0;
        for end in &mut map.ends {
            before = before.max(*end);
            *end = before;
        }
        Some(map)
    }

    /// The records of a section of code.
    pub fn records_of(&self, section: usize) -> &[(usize, usize)] {
        let begin = section.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.records[begin..self.ends[section]]
    }

    /// The relocations of some bytes of a section.
    pub fn relocations_in(&self, section: usize, bytes: Range<u64>) -> Option<&'f [Relocation]> {
        let all = self.relocations[section]?;
        let from = match bytes.start {
            0 => 0,
            start => all.partition_point(|one| one.r_offset(Le) < start),
        };
        // All of them are looked at one by one, too.
        let rest = &all[from..];
        let outside = rest.iter().position(|one| one.r_offset(Le) >= bytes.end);
        Some(&rest[..outside.unwrap_or(rest.len())])
    }

    /// The section of the code that a record describes; nothing if it is silent. The outer `None`: unknown.
    fn described(&self, facts: &Facts<'f, '_>, section: usize, fde: &Fde) -> Option<Option<usize>> {
        let object = facts.object;
        let begin = object.sections[section].offset;
        let records = facts.place.unwind.bytes.get(begin as usize..)?;
        let address = facts.place.unwind.address.wrapping_add(begin);
        let Some(start) = fde.start(records, address) else {
            return Some(None);
        };
        let at = fde.start_at as u64;
        let [relocation] = self.relocations_in(section, at..at + 1)? else {
            return None;
        };
        let symbol = &object.symbols[relocation.r_sym(Le, false) as usize];
        let Definition::In { section, offset } = symbol.definition else {
            return None;
        };
        let code = &object.sections[section];
        let offset = offset.wrapping_add_signed(relocation.r_addend(Le));
        let inside = code.home == Home::Text && offset.checked_add(fde.range)? <= code.size;
        let meant = section_address(facts.place, code)?.wrapping_add(offset);
        (inside && meant == start).then_some(Some(section))
    }
    /// Notes where the exception table of what a record describes is.
    fn note_table(&mut self, object: &Object<'_>, section: usize, fde: &Fde) -> Option<()> {
        let record = fde.offset as u64..fde.end as u64;
        for relocation in self.relocations_in(section, record)? {
            let symbol = &object.symbols[relocation.r_sym(Le, false) as usize];
            if relocation.r_offset(Le) != fde.start_at as u64
                && let Definition::In { section, offset } = symbol.definition
            {
                let (count, at) = &mut self.tables[section];
                *count += 1;
                *at = offset.wrapping_add_signed(relocation.r_addend(Le));
            }
        }
        Some(())
    }

    /// Whether a section is the exception table of one function, which finds the types that it catches in slots
    /// elsewhere, each with the address of a type. Nobody but the unwinder knows of the slots: they are
    /// constants, whatever they are among.
    pub fn catches_by_slots(&self, object: &Object<'_>, section: usize) -> bool {
        // No base of landing pads, and types: indirect, relative, of four bytes with a sign.
        let header = [0xFF, 0x9B];
        let table = &object.sections[section];
        table.home == Home::Constants
            && self.tables[section] == (1, 0)
            && table.bytes.starts_with(&header)
    }
}
