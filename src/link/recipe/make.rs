//! Making recipes, when an object has been linked.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use object::LittleEndian as Le;
use object::elf;
use object::read::elf::Rela as _;

use super::super::apply::section_address;
use super::super::blame::Failures;
use super::super::object::{Object, Relocation, site};
use super::super::sections::{Entries, Home, Section};
use super::super::symbols::Definition;
use super::super::x86_64::{self, SLOT, Wants};
use super::super::{Place, apply};
use super::Recipe;
use super::format::{self, Before, Fix, Goal, Part, Plan};
use super::map::{Entry, Map};

/// A section of constants that several functions share is taken along by each of them up to this size.
const SMALL: u64 = 1024;

/// An object that has been linked.
pub(in crate::link) struct Facts<'f, 'd> {
    pub object: &'f Object<'d>,
    pub place: &'f Place<'f>,
    /// The addresses of undefined symbols, by number: as `apply::Resolver` keeps them.
    pub known: &'f [Option<Option<u64>>],
    pub failures: &'f Failures,
}

/// The recipes of public functions, by number; `None` for those that have none.
pub(in crate::link) fn make(facts: &Facts<'_, '_>) -> Vec<Option<Recipe>> {
    let functions = &facts.object.functions;
    let mut recipes = vec![None; functions.len()];
    let Some(map) = Map::new(facts) else {
        return recipes;
    };
    // By section: how many have it.
    let mut shared = vec![0u32; facts.object.sections.len()];
    let mut made = Vec::new();
    let mut sections = Vec::new();
    let mut collector = Collector::new(facts, &map);
    let mut bytes = Vec::new();
    let mut next = 0;
    for (section, entry) in map.entries.iter().enumerate() {
        let Entry::One(_) = entry else { continue };
        if collector.collect(section).is_none() {
            continue;
        }
        let first = sections.len();
        sections.extend(collector.sections());
        for &section in &sections[first..] {
            shared[section] += 1;
        }
        // They are in the order of their sections.
        let skipped = functions[next..].iter().take_while(|f| f.section < section);
        next += skipped.count();
        let own = functions[next..]
            .iter()
            .take_while(|f| f.section == section);
        let own = next..next + own.count();
        for index in own.clone() {
            let function = &functions[index];
            if function.public && !facts.failures.has(index) {
                collector.plan.entry = function.start;
                collector.plan.size = function.end - function.start;
                recipes[index] = Some(collector.plan.encode(&mut bytes));
            }
        }
        made.push((own, first..sections.len()));
    }
    for (own, of) in made {
        if !is_alone(facts.object, &sections[of], &shared) {
            recipes[own].fill(None);
        }
    }
    recipes
}

/// Whether all that is not only read belongs to one function, and whether what is only read is worth copying.
fn is_alone(object: &Object<'_>, sections: &[usize], shared: &[u32]) -> bool {
    sections.iter().all(|&section| {
        let section_of = &object.sections[section];
        shared[section] <= 1 || section_of.home == Home::Constants && section_of.size <= SMALL
    })
}

/// What is moved as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Unit {
    Section(usize),
    /// An entry of a section to merge: its first byte, and the one behind its last.
    Entry(usize, u64, u64),
    /// The address of a type that is caught: its section, and where it is there.
    Slot(usize, u64),
    /// The number of the frames, and of the record in them.
    Record(usize, usize),
    /// The number of the frames, and where the record begins and ends.
    Common(usize, usize, usize),
}

/// So many units are looked through one by one.
const FEW: usize = 16;

/// Gathers what belongs to the functions of one section, and then of another.
struct Collector<'c, 'f, 'd> {
    facts: &'c Facts<'f, 'd>,
    map: &'c Map<'f>,
    section: usize,
    /// By the number of their part.
    units: Vec<Unit>,
    /// Their numbers, if they are more than [`FEW`].
    numbers: HashMap<Unit, usize>,
    /// Sections of which entries are among the units.
    divided: HashSet<usize>,
    plan: Plan,
}

impl<'c, 'f, 'd> Collector<'c, 'f, 'd> {
    fn new(facts: &'c Facts<'f, 'd>, map: &'c Map<'f>) -> Self {
        Self {
            facts,
            map,
            section: 0,
            units: Vec::new(),
            numbers: HashMap::new(),
            divided: HashSet::new(),
            plan: Plan::default(),
        }
    }

    /// All parts and fixes; `None` if something among them cannot be moved, or is not known to be theirs.
    fn collect(&mut self, section: usize) -> Option<()> {
        self.section = section;
        self.units.clear();
        self.numbers.clear();
        self.divided.clear();
        self.plan.clear();
        self.unit(Unit::Section(section))?;
        let mut done = 0;
        while let Some(&unit) = self.units.get(done) {
            self.follow(done, unit)?;
            done += 1;
        }
        self.sort_parts();
        self.sort_outside();
        Some(())
    }

    /// The sections of which all was collected.
    fn sections(&self) -> impl Iterator<Item = usize> {
        self.units.iter().filter_map(|unit| match *unit {
            Unit::Section(section) => Some(section),
            _ => None,
        })
    }

    /// The number of the part that is a unit, if it is made.
    fn number_of(&self, unit: Unit) -> Option<usize> {
        match self.units.len() {
            ..=FEW => self.units.iter().position(|&known| known == unit),
            _ => self.numbers.get(&unit).copied(),
        }
    }

    /// Its part is made next.
    fn note(&mut self, unit: Unit) {
        let number = self.units.len();
        self.units.push(unit);
        if number == FEW {
            self.numbers.extend(self.units.iter().copied().zip(0..));
        } else if number > FEW {
            self.numbers.insert(unit, number);
        }
    }

    /// The number of the part that is a unit; it is made when first asked for.
    fn unit(&mut self, unit: Unit) -> Option<usize> {
        if let Some(number) = self.number_of(unit) {
            return Some(number);
        }
        let object = self.facts.object;
        let (index, bytes, cie) = match unit {
            Unit::Section(section) => (section, 0..object.sections[section].size.max(1), None),
            Unit::Entry(section, begin, end) => (section, begin..end, None),
            Unit::Slot(section, at) => (section, at..at + SLOT, None),
            Unit::Record(frames, number) => {
                let (section, records) = &object.frames[frames];
                let fde = &records.fdes[number];
                let cies = &records.cies;
                let common = cies
                    .binary_search_by_key(&fde.cie, |&(begin, _)| begin)
                    .ok()?;
                let (begin, end) = cies[common];
                let cie = self.unit(Unit::Common(frames, begin, end))?;
                (*section, fde.offset as u64..fde.end as u64, Some(cie))
            }
            Unit::Common(frames, begin, end) => {
                (object.frames[frames].0, begin as u64..end as u64, None)
            }
        };
        let section = &object.sections[index];
        let number = self.plan.parts.len();
        self.plan.parts.push(Part {
            home: match unit {
                Unit::Slot(..) => Home::Constants,
                _ => section.home,
            },
            address: section_address(self.facts.place, section)?.wrapping_add(bytes.start),
            size: bytes.end - bytes.start,
            align: alignment(section, bytes.start),
            cie,
        });
        self.note(unit);
        Some(number)
    }

    /// Makes fixes of a unit's relocations, and units of what they refer to.
    fn follow(&mut self, number: usize, unit: Unit) -> Option<()> {
        let object = self.facts.object;
        let (section, bytes) = match unit {
            // Those that may have relocations are not divided.
            Unit::Entry(..) => return Some(()),
            Unit::Slot(section, at) => (section, at..at + SLOT),
            Unit::Section(section) => {
                self.follow_code(section)?;
                (section, 0..u64::MAX)
            }
            Unit::Record(frames, record) => {
                let (section, records) = &object.frames[frames];
                let fde = &records.fdes[record];
                (*section, fde.offset as u64..fde.end as u64)
            }
            Unit::Common(frames, begin, end) => (object.frames[frames].0, begin as u64..end as u64),
        };
        let mut end = bytes.start;
        for relocation in self.map.relocations_in(section, bytes.clone())? {
            end = self.fix(number, section, bytes.start, end, relocation)?;
        }
        Some(())
    }

    /// The records of code, all of whose functions must be callable.
    fn follow_code(&mut self, section: usize) -> Option<()> {
        let Facts {
            object, failures, ..
        } = self.facts;
        if object.sections[section].home != Home::Text {
            return Some(());
        }
        if !failures.is_empty() {
            let mut own =
                (0..object.functions.len()).filter(|&f| object.functions[f].section == section);
            if own.any(|function| failures.has(function)) {
                return None;
            }
        }
        let map = self.map;
        for &(frames, record) in map.records_of(section) {
            self.unit(Unit::Record(frames, record))?;
        }
        Some(())
    }

    /// Makes a fix of a relocation in a part that begins at `begin` of its section, where nothing before `from`
    /// may be written any more. Returns where its field ends.
    fn fix(
        &mut self,
        part: usize,
        section: usize,
        begin: u64,
        from: u64,
        relocation: &Relocation,
    ) -> Option<u64> {
        let kind = relocation.r_type(Le, false);
        if kind == elf::R_X86_64_NONE {
            return Some(from);
        }
        if !format::is_known(kind) {
            return None;
        }
        let site = site(&self.facts.object.sections[section], relocation, 0);
        let (kind, before) = match x86_64::wants(&site) {
            // What a relocation means must not depend on the bytes around it, which change.
            Wants::Stub => (elf::R_X86_64_PLT32, Before::default()),
            _ => (kind, Before::last(site.before, x86_64::relaxable(&site))),
        };
        let offset = relocation.r_offset(Le);
        let first = offset - before.bytes().len() as u64;
        if first < from {
            return None;
        }
        let (target, addend) = self.target(section, relocation)?;
        self.plan.fixes.push(Fix {
            part,
            offset: offset - begin,
            kind,
            target,
            addend,
            before,
        });
        Some(offset + x86_64::width(kind)? as u64)
    }

    /// What a relocation of a section refers to, and what is to be added.
    fn target(&mut self, from: usize, relocation: &Relocation) -> Option<(Goal, i64)> {
        let addend = relocation.r_addend(Le);
        let object = self.facts.object;
        let index = relocation.r_sym(Le, false) as usize;
        let symbol = &object.symbols[index];
        if symbol.thread_local || symbol.indirect || symbol.discarded {
            return None;
        }
        let (section, offset) = match symbol.definition {
            Definition::In { section, offset } => (section, offset),
            Definition::Absolute(address) => return Some((self.outside(address), addend)),
            Definition::Undefined { .. } if symbol.name == apply::GOT => return None,
            Definition::Undefined { weak } => {
                let address = match (self.facts.known[index]?, weak) {
                    (Some(address), _) => address,
                    (None, true) => 0,
                    (None, false) => return None,
                };
                return Some((self.outside(address), addend));
            }
            Definition::Common(_) => return None,
        };
        let unit = match object.sections[section].home {
            Home::Text if section == self.section => Unit::Section(section),
            Home::Text if self.map.entries[section] == Entry::None => Unit::Section(section),
            Home::Constants => {
                // What refers to a section means the place that the addend leads to, if it is an address. Of a
                // distance, some of the addend makes up for where its field is.
                let absolute = relocation.r_type(Le, false) == elf::R_X86_64_64;
                let place = match symbol.section {
                    false => Some(offset),
                    true if absolute => offset.checked_add_signed(addend),
                    true => None,
                };
                let whole = self.number_of(Unit::Section(section)).is_some();
                if !whole
                    && let Some(place) = place
                    && let Some(entry) = self.entry_at(section, place)
                {
                    let part = self.unit(Unit::Entry(section, entry.start, entry.end))?;
                    let offset = place - entry.start;
                    let addend = if symbol.section { 0 } else { addend };
                    self.divided.insert(section);
                    return Some((Goal::Own { part, offset }, addend));
                }
                // The same constant twice would have two addresses.
                if self.divided.contains(&section) {
                    return None;
                }
                Unit::Section(section)
            }
            Home::Data if relocation.r_type(Le, false) == elf::R_X86_64_PC32 => {
                let at = offset.checked_add_signed(addend)?;
                let part = self.slot(from, section, at)?;
                return Some((Goal::Own { part, offset: 0 }, 0));
            }
            _ => return None,
        };
        let part = self.unit(unit)?;
        Some((Goal::Own { part, offset }, addend))
    }

    /// The part that is the slot of a type, to which an exception table refers.
    fn slot(&mut self, table: usize, section: usize, at: u64) -> Option<usize> {
        let object = self.facts.object;
        if !self.map.catches_by_slots(object, table) {
            return None;
        }
        let [address] = self
            .map
            .relocations_in(section, at..at.checked_add(SLOT)?)?
        else {
            return None;
        };
        // Types of the object's own are not copied: who has caught one compares addresses.
        let symbol = &object.symbols[address.r_sym(Le, false) as usize];
        let slot = address.r_offset(Le) == at
            && address.r_type(Le, false) == elf::R_X86_64_64
            && symbol.is_elsewhere();
        slot.then(|| self.unit(Unit::Slot(section, at))).flatten()
    }

    /// The entry that an offset of a section to merge is in, if it can be taken by itself.
    fn entry_at(&self, index: usize, offset: u64) -> Option<Range<u64>> {
        let plain = self.map.relocations[index].is_some_and(<[_]>::is_empty);
        let section = &self.facts.object.sections[index];
        plain.then(|| entry_at(section, offset)).flatten()
    }

    fn outside(&mut self, address: u64) -> Goal {
        let known = self.plan.outside.iter().position(|&one| one == address);
        Goal::Outside(known.unwrap_or_else(|| {
            self.plan.outside.push(address);
            self.plan.outside.len() - 1
        }))
    }

    /// Brings the parts into the order that they have in memory, but for the first, and the fixes into that of
    /// their parts. Mostly they are.
    fn sort_parts(&mut self) {
        let plan = &mut self.plan;
        let area = |home: Home| match home {
            Home::Text => 0,
            Home::Constants => 1,
            _ => 2,
        };
        let place = |part: &Part| (area(part.home), part.address);
        if plan.parts[1..].is_sorted_by_key(place) {
            return;
        }
        let mut order: Vec<usize> = (0..plan.parts.len()).collect();
        order[1..].sort_by_key(|&old| place(&plan.parts[old]));
        let mut places = vec![0; order.len()];
        for (new, &old) in order.iter().enumerate() {
            places[old] = new;
        }
        plan.parts = order.iter().map(|&old| plan.parts[old]).collect();
        for part in &mut plan.parts {
            part.cie = part.cie.map(|cie| places[cie]);
        }
        for fix in &mut plan.fixes {
            fix.part = places[fix.part];
            if let Goal::Own { part, .. } = &mut fix.target {
                *part = places[*part];
            }
        }
        plan.fixes.sort_by_key(|fix| fix.part);
    }

    fn sort_outside(&mut self) {
        let plan = &mut self.plan;
        if plan.outside.is_sorted() {
            return;
        }
        let before = plan.outside.clone();
        plan.outside.sort_unstable();
        for fix in &mut plan.fixes {
            if let Goal::Outside(index) = &mut fix.target {
                let place = plan.outside.binary_search(&before[*index]);
                *index = place.expect("the same ones");
            }
        }
    }
}

/// The entry that an offset of a section to merge is in.
fn entry_at(section: &Section<'_>, offset: u64) -> Option<Range<u64>> {
    let at = usize::try_from(offset).ok()?;
    let (before, after) = section.bytes.split_at_checked(at)?;
    let entry = match section.entries {
        Entries::No => return None,
        Entries::Of(size) => {
            let begin = offset - offset % size;
            begin..begin.checked_add(size)?
        }
        Entries::Strings => {
            let end = after.iter().position(|&byte| byte == 0)? + 1;
            let begin = before
                .iter()
                .rposition(|&byte| byte == 0)
                .map_or(0, |nul| nul + 1);
            begin as u64..offset + end as u64
        }
    };
    (entry.end <= section.bytes.len() as u64).then_some(entry)
}

/// What the address of an offset in a section is a multiple of.
fn alignment(section: &Section<'_>, offset: u64) -> u64 {
    let align = match section.home {
        Home::Text => section.align.max(x86_64::CODE_ALIGN),
        Home::Unwind => 1,
        _ => section.align,
    };
    match offset {
        0 => align,
        offset => align.min(1 << offset.trailing_zeros()),
    }
}
