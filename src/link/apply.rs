//! Copying sections to their places and relocating them there.

use ::object::LittleEndian as Le;
use ::object::read::elf::Rela as _;

use super::blame::Failures;
use super::error::LinkError;
use super::object::{Object, Relocation, site};
use super::sections::{Home, Section};
use super::symbols::{Definition, Symbol};
use super::x86_64::{self, Fault, SLOT, STUB, Tables, Target};
use super::{Area, Linked, LinkedFunction, Place, Span, Used, recipe};

/// The symbol that stands for the GOT itself.
pub(super) const GOT: &str = "_GLOBAL_OFFSET_TABLE_";

/// An object on its way to its place.
pub(super) struct Linker<'l, 'd> {
    object: &'l Object<'d>,
    place: Place<'l>,
    resolver: Resolver<'l>,
    got: Got,
    failures: Failures,
}

/// What is known of undefined symbols.
struct Resolver<'l> {
    resolve: &'l mut dyn FnMut(&str) -> Option<u64>,
    /// By symbol: `None` until asked.
    known: Vec<Option<Option<u64>>>,
}

/// GOT and stubs as far as they have been made.
struct Got {
    /// Index by symbol.
    slots: Vec<Option<u64>>,
    stubs: Vec<Option<u64>>,
    slots_made: u64,
    stubs_made: u64,
}

impl<'l, 'd> Linker<'l, 'd> {
    /// Takes the place, if it is large enough and well aligned.
    pub fn new(
        object: &'l Object<'d>,
        place: Place<'l>,
        resolve: &'l mut dyn FnMut(&str) -> Option<u64>,
    ) -> Result<Self, LinkError> {
        let needs = object.needs();
        check("text", &needs.text, &place.text)?;
        check("constants", &needs.constants, &place.constants)?;
        check("data", &needs.data, &place.data)?;
        check("unwind", &needs.unwind, &place.unwind)?;
        let symbols = object.symbols.len();
        Ok(Self {
            object,
            place,
            resolver: Resolver {
                resolve,
                known: vec![None; symbols],
            },
            got: Got {
                slots: vec![None; symbols],
                stubs: vec![None; symbols],
                slots_made: 0,
                stubs_made: 0,
            },
            failures: Failures::default(),
        })
    }

    /// Fills the areas: gaps in the text trap, all other gaps are zero.
    pub fn copy(&mut self) -> Result<(), LinkError> {
        let Place {
            text,
            constants,
            data,
            unwind,
        } = &mut self.place;
        let needs = self.object.needs();
        for (home, span, area, gap) in [
            (Home::Text, text, &needs.text, x86_64::TRAP),
            (Home::Constants, constants, &needs.constants, 0),
            (Home::Data, data, &needs.data, 0),
            (Home::Unwind, unwind, &needs.unwind, 0),
        ] {
            let mut filled = 0;
            let here = self.object.sections.iter().filter(|s| s.home == home);
            for section in here.filter(|section| !section.bytes.is_empty()) {
                write(span, section.offset, section.bytes)?;
                // Written, so it is inside.
                let begin = section.offset as usize;
                if filled < begin {
                    span.bytes[filled..begin].fill(gap);
                }
                filled = filled.max(begin + section.bytes.len());
            }
            let area = prefix(span, area);
            let rest = filled.min(area.len());
            area[rest..].fill(gap);
        }
        Ok(())
    }

    /// Applies all relocations. Those that fail are laid at their functions'
    /// doors; if that cannot be done, the object fails.
    pub fn relocate(&mut self) -> Result<(), LinkError> {
        self.failures.forget_discarded(self.object);
        for relocations in &self.object.relocations {
            for relocation in relocations.all {
                let offset = relocation.r_offset(Le);
                if self
                    .failures
                    .is_silenced(self.object, relocations.section, offset)
                {
                    continue;
                }
                let Err(fault) = self.apply(relocations.section, relocation) else {
                    continue;
                };
                let error = self.explain(relocations.section, relocation, fault);
                self.clear(relocations.section, relocation)?;
                self.failures
                    .blame(self.object, relocations.section, offset, error)?;
            }
        }
        self.failures.spread(self.object)
    }

    fn apply(&mut self, section: usize, relocation: &Relocation) -> Result<(), Fault> {
        let index = relocation.r_sym(Le, false) as usize;
        let section = &self.object.sections[section];
        let symbol = &self.object.symbols[index];
        let address = section_address(&self.place, section).unwrap_or(0);
        let site = site(section, relocation, address);
        if symbol.thread_local && x86_64::needs_address(site.kind) {
            return Err(Fault::Unsupported);
        }
        if symbol.indirect && x86_64::needs_address(site.kind) {
            return Err(Fault::Indirect);
        }
        let mut target = Target {
            address: 0,
            size: None,
        };
        // A kind that cannot be done is named as that, not as unresolved.
        if x86_64::width(site.kind).is_none() {
            return Err(Fault::Unsupported);
        }
        if x86_64::needs_address(site.kind) {
            target.address = self.address(index)?;
        } else if !symbol.is_elsewhere() {
            target.size = Some(symbol.size);
        }
        let mut tables = LinkTables {
            place: &mut self.place,
            object: self.object,
            got: &mut self.got,
            symbol: index,
            target: target.address,
        };
        let Some(patch) = x86_64::patch(&site, &target, &mut tables)? else {
            return Ok(());
        };
        let begin = relocation.r_offset(Le).checked_sub(patch.back.into());
        let begin = begin.ok_or(Fault::Malformed("a relocation before its section"))?;
        let end = begin.checked_add(patch.len() as u64);
        if end.is_none_or(|end| end > section.size) {
            return Err(Fault::Malformed("a relocation beyond its section"));
        }
        let span = span(&mut self.place, section.home);
        let span = span.ok_or(Fault::Malformed("a relocation of nothing"))?;
        let (at, bytes) = (section.offset.saturating_add(begin), patch.bytes());
        // Nearly all are of four bytes: a length that is known is one store.
        let written = match patch.len() {
            4 => write(span, at, &bytes[..4]),
            len => write(span, at, &bytes[..len]),
        };
        written.map_err(|_| Fault::Malformed("a relocation outside of its area"))
    }

    /// The address of a symbol.
    fn address(&mut self, index: usize) -> Result<u64, Fault> {
        let symbol: &Symbol<'_> = &self.object.symbols[index];
        match symbol.definition {
            Definition::Absolute(address) => Ok(address),
            Definition::Common(offset) => Ok(self.place.data.address.wrapping_add(offset)),
            Definition::In { section, offset } => {
                let section = &self.object.sections[section];
                let address = section_address(&self.place, section);
                let address =
                    address.ok_or(Fault::Malformed("a reference to a section not loaded"))?;
                Ok(address.wrapping_add(offset))
            }
            Definition::Undefined { .. } if symbol.name == GOT => {
                Ok(got_address(&self.place, self.object))
            }
            Definition::Undefined { weak } => {
                let Resolver { resolve, known } = &mut self.resolver;
                let known = known[index].get_or_insert_with(|| resolve(symbol.name));
                match (*known, weak) {
                    (Some(address), _) => Ok(address),
                    (None, true) => Ok(0),
                    (None, false) => Err(Fault::Unresolved),
                }
            }
        }
    }

    /// Zeroes the field of a relocation that failed.
    fn clear(&mut self, section: usize, relocation: &Relocation) -> Result<(), LinkError> {
        let width = x86_64::width(relocation.r_type(Le, false)).unwrap_or(0);
        let section = &self.object.sections[section];
        match span(&mut self.place, section.home) {
            Some(span) if width > 0 => {
                let offset = section.offset.saturating_add(relocation.r_offset(Le));
                write(span, offset, &[0; 8][..width])
            }
            _ => Ok(()),
        }
    }

    fn explain(&self, section: usize, relocation: &Relocation, fault: Fault) -> LinkError {
        let symbol = &self.object.symbols[relocation.r_sym(Le, false) as usize];
        let section = self.object.sections[section].name.to_owned();
        let relocation = x86_64::name(relocation.r_type(Le, false));
        let symbol = symbol.name.to_owned();
        match fault {
            Fault::Unsupported => LinkError::Unsupported {
                symbol,
                section,
                relocation,
            },
            Fault::Unresolved => LinkError::Unresolved { symbol, section },
            Fault::Indirect => LinkError::indirect(&symbol),
            Fault::OutOfRange(distance) => LinkError::OutOfRange {
                symbol,
                section,
                relocation,
                distance: distance.clamp(i64::MIN.into(), i64::MAX.into()) as i64,
            },
            Fault::Malformed(what) => LinkError::malformed(format!(
                "{what}: {relocation} against `{symbol}` in section `{section}`"
            )),
        }
    }

    /// Ends the unwind table, and says what came out.
    ///
    /// `keep`: with recipes, as far as functions have one.
    pub fn finish(mut self, keep: bool) -> Result<Linked, LinkError> {
        let unwind = self.finish_unwind()?;
        let mut recipes = match keep {
            true => recipe::make(&recipe::Facts {
                object: self.object,
                place: &self.place,
                known: &self.resolver.known,
                failures: &self.failures,
            }),
            false => vec![None; self.object.functions.len()],
        };
        let mut functions = Vec::with_capacity(self.object.functions.len());
        for (index, function) in self.object.functions.iter().enumerate() {
            let section = &self.object.sections[function.section];
            if !function.public || self.failures.has(index) {
                continue;
            }
            if let Some(address) = section_address(&self.place, section) {
                functions.push(LinkedFunction {
                    name: function.name.to_owned(),
                    address: address.wrapping_add(function.start),
                    size: function.end - function.start,
                    recipe: recipes[index].take(),
                });
            }
        }
        let mut failed = self.failures.into_public(self.object);
        let indirect =
            self.object.symbols.iter().filter(|s| {
                s.indirect && s.public && matches!(s.definition, Definition::In { .. })
            });
        failed.extend(indirect.map(|s| (s.name.to_owned(), LinkError::indirect(s.name))));
        let needs = self.object.needs();
        let slots = self.got.slots_made * SLOT;
        Ok(Linked {
            functions,
            failed,
            unwind,
            used: Used {
                text: match needs.text.size {
                    0 => 0,
                    _ => self.object.stubs_at + self.got.stubs_made * STUB,
                },
                constants: self.object.got_at + slots,
                data: needs.data.size,
                unwind: needs.unwind.size,
            },
        })
    }

    /// Silences the records of functions that failed, and checks that all others
    /// describe code of this object: on that, libgcc relies.
    fn finish_unwind(&mut self) -> Result<Option<u64>, LinkError> {
        let text = self.place.text.address;
        let text_end = text.saturating_add(self.object.code_end);
        let mut alive = false;
        for (index, frames) in &self.object.frames {
            let section = &self.object.sections[*index];
            let address = self.place.unwind.address.wrapping_add(section.offset);
            let begin = section.offset as usize;
            let records = self.place.unwind.bytes.get_mut(begin..begin + frames.len);
            let records = records.ok_or_else(|| LinkError::malformed("unwind records"))?;
            for fde in &frames.fdes {
                if self.failures.silences(*index, fde) {
                    fde.silence(records);
                }
                let Some(start) = fde.start(records, address) else {
                    continue;
                };
                let inside = start >= text && start.checked_add(fde.range) <= Some(text_end);
                if !inside || start.checked_add(fde.range).is_none() {
                    return Err(LinkError::malformed(
                        ".eh_frame: a record of code that is not the object's",
                    ));
                }
                alive |= fde.range > 0;
            }
        }
        Ok(alive.then_some(self.place.unwind.address))
    }
}

/// GOT and stubs, as one relocation sees them.
struct LinkTables<'t, 'l, 'd> {
    place: &'t mut Place<'l>,
    object: &'t Object<'d>,
    got: &'t mut Got,
    symbol: usize,
    target: u64,
}

impl Tables for LinkTables<'_, '_, '_> {
    fn got(&self) -> u64 {
        got_address(self.place, self.object)
    }

    fn slot(&mut self) -> Result<u64, Fault> {
        let full = Fault::Malformed("a GOT larger than expected");
        let index = match self.got.slots[self.symbol] {
            Some(index) => index,
            None => {
                let index = self.got.slots_made;
                let offset = self.object.got_at + index * SLOT;
                if offset + SLOT > self.object.needs().constants.size {
                    return Err(full);
                }
                write(
                    &mut self.place.constants,
                    offset,
                    &self.target.to_le_bytes(),
                )
                .map_err(|_| full)?;
                self.got.slots[self.symbol] = Some(index);
                self.got.slots_made += 1;
                index
            }
        };
        Ok(self.got().wrapping_add(index * SLOT))
    }

    fn stub(&mut self) -> Result<Option<u64>, Fault> {
        if !self.object.symbols[self.symbol].is_elsewhere() {
            return Ok(None);
        }
        let full = Fault::Malformed("more stubs than expected");
        let address = |index| {
            let offset = self.object.stubs_at + index * STUB;
            (offset, self.place.text.address.wrapping_add(offset))
        };
        if let Some(index) = self.got.stubs[self.symbol] {
            return Ok(Some(address(index).1));
        }
        let index = self.got.stubs_made;
        let (offset, at) = address(index);
        if offset + STUB > self.object.needs().text.size {
            return Err(full);
        }
        let slot = self.slot()?;
        let bytes = x86_64::stub(at, slot)?;
        write(&mut self.place.text, offset, &bytes).map_err(|_| full)?;
        self.got.stubs[self.symbol] = Some(index);
        self.got.stubs_made += 1;
        Ok(Some(at))
    }
}

fn got_address(place: &Place<'_>, object: &Object<'_>) -> u64 {
    place.constants.address.wrapping_add(object.got_at)
}

/// Where a section will be, if it is loaded.
pub(super) fn section_address(place: &Place<'_>, section: &Section<'_>) -> Option<u64> {
    let base = match section.home {
        Home::Text => place.text.address,
        Home::Constants => place.constants.address,
        Home::Data => place.data.address,
        Home::Unwind => place.unwind.address,
        Home::Thread | Home::Nowhere => return None,
    };
    Some(base.wrapping_add(section.offset))
}

fn span<'p, 'm>(place: &'p mut Place<'m>, home: Home) -> Option<&'p mut Span<'m>> {
    match home {
        Home::Text => Some(&mut place.text),
        Home::Constants => Some(&mut place.constants),
        Home::Data => Some(&mut place.data),
        Home::Unwind => Some(&mut place.unwind),
        Home::Thread | Home::Nowhere => None,
    }
}

/// The part of a span that the object takes; `check` saw that it is there.
pub(super) fn prefix<'p>(span: &'p mut Span<'_>, area: &Area) -> &'p mut [u8] {
    let len = span.bytes.len().min(area.size as usize);
    &mut span.bytes[..len]
}

/// The only place where linked bytes are written: never outside of the span.
#[inline]
pub(super) fn write(span: &mut Span<'_>, offset: u64, bytes: &[u8]) -> Result<(), LinkError> {
    let begin = usize::try_from(offset).ok();
    let end = begin.and_then(|begin| begin.checked_add(bytes.len()));
    let field = match (begin, end) {
        (Some(begin), Some(end)) => span.bytes.get_mut(begin..end),
        _ => None,
    };
    match field {
        Some(field) => {
            field.copy_from_slice(bytes);
            Ok(())
        }
        None => Err(LinkError::malformed("a section outside of its area")),
    }
}

pub(super) fn check(name: &str, area: &Area, span: &Span<'_>) -> Result<(), LinkError> {
    if (span.bytes.len() as u64) < area.size {
        return Err(LinkError::TooSmall {
            area: name.to_owned(),
            need: area.size,
            have: span.bytes.len() as u64,
        });
    }
    let wraps = span.address.checked_add(area.size).is_none();
    if area.size > 0 && (wraps || !span.address.is_multiple_of(area.align)) {
        return Err(LinkError::Misplaced {
            area: name.to_owned(),
            address: span.address,
            align: area.align,
        });
    }
    Ok(())
}
