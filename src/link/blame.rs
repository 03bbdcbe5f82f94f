//! Whose fault it is: from the place of a relocation that failed to the
//! functions that cannot be used.

use std::collections::BTreeMap;

use ::object::LittleEndian as Le;
use ::object::read::elf::Rela as _;

use super::error::LinkError;
use super::frames::Fde;
use super::object::{Object, Relocation};
use super::sections::Home;
use super::symbols::Definition;
use super::x86_64;

/// The functions that failed, and the unwind records that did.
#[derive(Default)]
pub(super) struct Failures {
    /// By the function's index: its first error.
    functions: BTreeMap<usize, LinkError>,
    /// Section and offset of records with a fault of their own.
    records: Vec<(usize, usize)>,
}

impl Failures {
    /// Whether nothing has failed.
    pub fn is_empty(&self) -> bool {
        self.functions.is_empty() && self.records.is_empty()
    }

    /// Whether a function has failed.
    pub fn has(&self, function: usize) -> bool {
        self.functions.contains_key(&function)
    }

    /// Whether an unwind record, or the common one it refers to, has failed.
    pub fn silences(&self, section: usize, fde: &Fde) -> bool {
        self.records.iter().any(|&(failed, record)| {
            failed == section && (record == fde.offset || record == fde.cie)
        })
    }

    /// Lets the records be silent whose code is in a discarded comdat group.
    pub fn forget_discarded(&mut self, object: &Object<'_>) {
        if !object.sections.iter().any(|section| section.discarded) {
            return;
        }
        for relocations in &object.relocations {
            let section = relocations.section;
            let Some((_, frames)) = object.frames.iter().find(|(index, _)| *index == section)
            else {
                continue;
            };
            for relocation in relocations.all {
                let symbol = &object.symbols[relocation.r_sym(Le, false) as usize];
                let field = frames.field_at(relocation.r_offset(Le));
                if let Some(field) = field
                    && symbol.discarded
                    && frames.is_start(field)
                {
                    self.records.push((section, field.record));
                }
            }
        }
    }

    /// Whether an offset is in a record that is silent, and needs no relocation.
    pub fn is_silenced(&self, object: &Object<'_>, section: usize, offset: u64) -> bool {
        if self.records.is_empty() || object.sections[section].home != Home::Unwind {
            return false;
        }
        let frames = object.frames.iter().find(|(index, _)| *index == section);
        let field = frames.and_then(|(_, frames)| frames.field_at(offset));
        field.is_some_and(|field| self.records.contains(&(section, field.record)))
    }

    /// The public functions that failed.
    pub fn into_public(self, object: &Object<'_>) -> Vec<(String, LinkError)> {
        let named = |(index, error): (usize, LinkError)| {
            let function = &object.functions[index];
            function.public.then(|| (function.name.to_owned(), error))
        };
        self.functions.into_iter().filter_map(named).collect()
    }

    /// Finds the functions that own a fault at an offset in a section.
    ///
    /// # Errors
    ///
    /// The fault itself, if no function owns it.
    pub fn blame(
        &mut self,
        object: &Object<'_>,
        section: usize,
        offset: u64,
        error: LinkError,
    ) -> Result<(), LinkError> {
        match object.sections[section].home {
            Home::Text => self.blame_code(object, section, offset, &error),
            Home::Unwind => self.blame_record(object, section, offset, &error),
            _ => Err(error),
        }
    }

    fn blame_code(
        &mut self,
        object: &Object<'_>,
        section: usize,
        offset: u64,
        error: &LinkError,
    ) -> Result<(), LinkError> {
        let mut found = false;
        for index in object.functions_at(section, offset) {
            self.functions.entry(index).or_insert_with(|| error.clone());
            found = true;
        }
        if found { Ok(()) } else { Err(error.clone()) }
    }

    /// The functions that a record describes: that of one FDE, or those of all
    /// FDEs of a CIE.
    fn blame_record(
        &mut self,
        object: &Object<'_>,
        section: usize,
        offset: u64,
        error: &LinkError,
    ) -> Result<(), LinkError> {
        let frames = object.frames.iter().find(|(index, _)| *index == section);
        let field = frames.and_then(|(_, frames)| Some((frames, frames.field_at(offset)?)));
        let Some((frames, field)) = field else {
            return Err(error.clone());
        };
        let record = field.record;
        self.records.push((section, record));
        for fde in &frames.fdes {
            if fde.offset != record && fde.cie != record {
                continue;
            }
            let start = relocation_at(object, section, fde.start_at as u64);
            let target = start.and_then(|relocation| code_target(object, relocation, Home::Unwind));
            let (section, offset) = target.ok_or_else(|| error.clone())?;
            self.blame_code(object, section, offset, error)?;
        }
        Ok(())
    }

    /// Lets those fail that refer to functions that failed.
    ///
    /// # Errors
    ///
    /// When it cannot be known who they are.
    pub fn spread(&mut self, object: &Object<'_>) -> Result<(), LinkError> {
        // Usually none failed; otherwise as many rounds as calls are deep.
        let mut before = 0;
        while self.functions.len() > before {
            before = self.functions.len();
            for (&index, error) in &self.functions {
                // Calls within a section have no relocations.
                if !object.functions[index].public && object.has_neighbours(index) {
                    return Err(error.clone());
                }
            }
            for relocations in &object.relocations {
                let home = object.sections[relocations.section].home;
                if home == Home::Unwind {
                    continue;
                }
                for relocation in relocations.all {
                    self.spread_along(object, relocations.section, home, relocation)?;
                }
            }
        }
        Ok(())
    }

    fn spread_along(
        &mut self,
        object: &Object<'_>,
        from: usize,
        home: Home,
        relocation: &Relocation,
    ) -> Result<(), LinkError> {
        let Some((section, offset)) = code_target(object, relocation, home) else {
            return Ok(());
        };
        for index in object.functions_at(section, offset) {
            let Some(error) = self.functions.get(&index).cloned() else {
                continue;
            };
            if home == Home::Text {
                self.blame_code(object, from, relocation.r_offset(Le), &error)?;
            } else if object.functions[index].start == offset {
                // A pointer to it: anyone may hold that. Jump tables point into
                // functions, not to their beginnings.
                return Err(error);
            }
        }
        Ok(())
    }
}

fn relocation_at<'o>(
    object: &'o Object<'_>,
    section: usize,
    offset: u64,
) -> Option<&'o Relocation> {
    let own = object
        .relocations
        .iter()
        .filter(|one| one.section == section);
    own.flat_map(|one| one.all)
        .find(|relocation| relocation.r_offset(Le) == offset)
}

/// The code that a relocation refers to, as section and offset. `home` is where
/// the relocation itself is.
fn code_target(object: &Object<'_>, relocation: &Relocation, home: Home) -> Option<(usize, u64)> {
    let symbol = &object.symbols[relocation.r_sym(Le, false) as usize];
    let Definition::In { section, offset } = symbol.definition else {
        return None;
    };
    if object.sections[section].home != Home::Text {
        return None;
    }
    // An instruction counts from its end, and its field is the last in it.
    let kind = relocation.r_type(Le, false);
    let bias = match home == Home::Text && x86_64::is_relative(kind) {
        true => 4,
        false => 0,
    };
    let addend = relocation.r_addend(Le).wrapping_add(bias);
    Some((section, offset.wrapping_add_signed(addend)))
}
