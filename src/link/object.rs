//! An object, parsed, checked and laid out.
//!
//! Parsing decides all that can be decided before there are addresses: which
//! sections are loaded, in which area and at which offset, which symbols are
//! functions, how many GOT slots and stubs there can be at most. What remains
//! for linking is copying and arithmetic.
//!
//! # What goes where
//!
//! ```text
//! text       .text  .text.*                     | padding | stubs
//! constants  .rodata*  .gcc_except_table*
//!            .data.rel.ro*  .data.DW.ref.*      | GOT slots
//! data       .data*  .bss*  COMMON
//! unwind     .eh_frame                          | zeros that end it
//! ```
//!
//! Sections stand in their area in the order of the file, each at its own
//! alignment (text at 16 at least); empty ones that something refers to come last,
//! and take a byte. Sections to merge (`SHF_MERGE`) are placed
//! as they are: merging is a saving, not a duty. `.data.rel.ro` and the
//! references to personality functions are writable only for those who must
//! relocate them while the program runs; here they are constants.
//!
//! Nothing that an object says is believed: every offset, size and index in
//! it is checked, and an area cannot become larger than 1 GiB.

use object::LittleEndian as Le;
use object::SectionIndex;
use object::elf;
use object::read::elf::{FileHeader, Rela, SectionHeader};

use super::error::LinkError;
use super::frames::Frames;
use super::sections::{Home, Layout, Section, SectionTable, parse_sections, place_empty};
use super::symbols::{Definition, Function, Symbol, parse_functions, parse_symbols};
use super::x86_64::{self, Wants};
use super::{Needs, groups, unwind};

pub(super) type Header = elf::FileHeader64<Le>;
pub(super) type Relocation = elf::Rela64<Le>;

/// The relocations of one loaded section.
pub(super) struct Relocations<'d> {
    pub section: usize,
    pub all: &'d [Relocation],
}

/// A relocatable object: checked, and laid out but for its addresses.
pub(crate) struct Object<'d> {
    pub(super) sections: Vec<Section<'d>>,
    pub(super) symbols: Vec<Symbol<'d>>,
    pub(super) functions: Vec<Function<'d>>,
    pub(super) relocations: Vec<Relocations<'d>>,
    /// Unwind records, each with its section.
    pub(super) frames: Vec<(usize, Frames)>,
    /// Where code ends and padding begins.
    pub(super) code_end: u64,
    /// Where the stubs begin in the text area.
    pub(super) stubs_at: u64,
    /// Where the GOT begins in the constants area.
    pub(super) got_at: u64,
    needs: Needs,
    section_bytes: u64,
}

impl<'d> Object<'d> {
    /// Parses and checks an object, and lays it out.
    ///
    /// # Errors
    ///
    /// [`LinkError::Malformed`] for what is no sound x86-64 ELF object, and
    /// [`LinkError::UnsupportedSection`] or [`LinkError::UnsupportedSymbol`] for
    /// what would have to be left out for it to link.
    pub(crate) fn parse(bytes: &'d [u8]) -> Result<Self, LinkError> {
        let header = Header::parse(bytes).map_err(malformed)?;
        let endian = header.endian().map_err(malformed)?;
        if header.e_type(endian) != elf::ET_REL || header.e_machine(endian) != elf::EM_X86_64 {
            return Err(LinkError::malformed("not a relocatable x86-64 object"));
        }
        let table = header.sections(endian, bytes).map_err(malformed)?;
        let elf_symbols = table
            .symbols(endian, bytes, elf::SHT_SYMTAB)
            .map_err(malformed)?;
        let mut layout = Layout::default();
        let discarded = groups::discarded(bytes, &table, &elf_symbols)?;
        let mut sections = parse_sections(bytes, &table, &discarded, &mut layout)?;
        let frames = parse_frames(&mut sections, &mut layout)?;
        let symbols = parse_symbols(&elf_symbols, &sections, &mut layout)?;
        let functions = parse_functions(&elf_symbols, &symbols, &sections)?;
        let mut uses = Uses::new(&symbols);
        let relocations =
            parse_relocations(bytes, &table, elf_symbols.section(), &sections, &mut uses)?;
        check_frame_relocations(&frames, &relocations)?;
        let with_functions = functions.iter().map(|function| function.section);
        let referred = uses.sections().chain(with_functions);
        place_empty(&mut sections, referred, &mut layout)?;
        let (slots, stubs) = uses.count_tables();
        let mut object = Self {
            sections,
            symbols,
            functions,
            relocations,
            frames,
            code_end: 0,
            stubs_at: 0,
            got_at: 0,
            needs: Needs::default(),
            section_bytes: 0,
        };
        object.finish(layout, slots, stubs)?;
        Ok(object)
    }

    /// How much memory the object takes at most.
    pub(crate) fn needs(&self) -> &Needs {
        &self.needs
    }

    /// The sizes of all loaded sections together.
    pub(crate) fn section_bytes(&self) -> u64 {
        self.section_bytes
    }

    /// The names that the object leaves to others to define.
    pub(crate) fn undefined(&self) -> impl Iterator<Item = &'d str> {
        let undefined = |s: &&Symbol<'d>| matches!(s.definition, Definition::Undefined { .. });
        self.symbols.iter().filter(undefined).map(|s| s.name)
    }

    /// The functions that an offset of a text section lies in: more than one
    /// where functions have aliases.
    pub(super) fn functions_at(&self, section: usize, offset: u64) -> impl Iterator<Item = usize> {
        let position = |function: &Function<'_>| (function.section, function.start);
        let after = self
            .functions
            .partition_point(|function| position(function) <= (section, offset));
        (0..after)
            .rev()
            .take_while(move |&index| {
                let function = &self.functions[index];
                function.section == section && function.reach > offset
            })
            .filter(move |&index| self.functions[index].end > offset)
    }

    /// Whether other functions share the function's section.
    pub(super) fn has_neighbours(&self, index: usize) -> bool {
        let own = &self.functions[index];
        let mut others = self.functions.iter().filter(|f| f.section == own.section);
        others.any(|other| (other.start, other.end) != (own.start, own.end))
    }

    /// Adds padding, stubs, GOT and the table's end, and says what is needed.
    fn finish(&mut self, mut layout: Layout, slots: u64, stubs: u64) -> Result<(), LinkError> {
        self.code_end = layout.text.size;
        if self.code_end > 0 || stubs > 0 {
            // One byte at least, so that the return address of a call that ends
            // the last function is still inside.
            layout.text.grow(1, 1)?;
            self.stubs_at = layout.text.grow(stubs * x86_64::STUB, x86_64::CODE_ALIGN)?;
        }
        self.got_at = layout.constants.size;
        if slots > 0 {
            self.got_at = layout.constants.grow(slots * x86_64::SLOT, x86_64::SLOT)?;
        }
        if !self.frames.is_empty() {
            layout.unwind.grow(unwind::END as u64, unwind::ALIGN)?;
        }
        self.section_bytes = self
            .sections
            .iter()
            .filter(|section| section.is_loaded())
            .map(|section| section.size)
            .sum();
        self.needs = Needs {
            text: layout.text,
            constants: layout.constants,
            data: layout.data,
            unwind: layout.unwind,
        };
        Ok(())
    }
}

/// What relocations do with symbols.
struct Uses<'s, 'd> {
    symbols: &'s [Symbol<'d>],
    /// By symbol.
    bits: Vec<u8>,
    /// Whether any wants to know where the GOT is.
    base: bool,
}

impl<'s, 'd> Uses<'s, 'd> {
    /// Some relocation refers to it.
    const REFERRED: u8 = 1;
    /// It may need a GOT slot.
    const SLOT: u8 = 2;
    /// It may need a stub.
    const STUB: u8 = 4;

    fn new(symbols: &'s [Symbol<'d>]) -> Self {
        Self {
            symbols,
            bits: vec![0; symbols.len()],
            base: false,
        }
    }

    /// Notes a relocation. False if its field or its symbol does not exist.
    fn note(&mut self, section: &Section<'_>, relocation: &Relocation) -> bool {
        let site = site(section, relocation, 0);
        let width = x86_64::width(site.kind).unwrap_or(0) as u64;
        let end = relocation.r_offset(Le).checked_add(width);
        let symbol = relocation.r_sym(Le, false) as usize;
        let inside = end.is_some_and(|end| end <= section.bytes.len() as u64);
        let Some(bits) = self.bits.get_mut(symbol).filter(|_| inside) else {
            return false;
        };
        *bits |= Self::REFERRED;
        match x86_64::wants(&site) {
            Wants::Nothing => {}
            Wants::Base => self.base = true,
            Wants::Slot => *bits |= Self::SLOT,
            Wants::Stub => *bits |= Self::STUB,
        }
        true
    }

    /// The sections that are referred to.
    fn sections(&self) -> impl Iterator<Item = usize> {
        let all = self.symbols.iter().zip(&self.bits);
        all.filter_map(|(symbol, bits)| match symbol.definition {
            Definition::In { section, .. } if *bits != 0 => Some(section),
            _ => None,
        })
    }

    /// How many GOT slots and stubs there can be at most.
    fn count_tables(&self) -> (u64, u64) {
        let (mut slots, mut stubs) = (0, 0);
        for (symbol, bits) in self.symbols.iter().zip(&self.bits) {
            let stub = bits & Self::STUB != 0 && symbol.is_elsewhere();
            slots += u64::from(stub || bits & Self::SLOT != 0);
            stubs += u64::from(stub);
        }
        // The GOT has an address even if it is empty.
        (slots.max(u64::from(self.base)), stubs)
    }
}

/// A relocation with its surroundings, for a section at `address`.
pub(super) fn site<'s>(
    section: &Section<'s>,
    relocation: &Relocation,
    address: u64,
) -> x86_64::Site<'s> {
    let offset = relocation.r_offset(Le);
    let before = section.bytes.get(..offset as usize).unwrap_or_default();
    x86_64::Site {
        kind: relocation.r_type(Le, false),
        before,
        place: address.wrapping_add(offset),
        code: section.home == Home::Text,
        addend: relocation.r_addend(Le),
    }
}

fn parse_relocations<'d>(
    bytes: &'d [u8],
    table: &SectionTable<'d>,
    symbol_table: SectionIndex,
    sections: &[Section<'d>],
    uses: &mut Uses<'_, 'd>,
) -> Result<Vec<Relocations<'d>>, LinkError> {
    let mut relocations = Vec::new();
    for header in table.iter() {
        let kind = header.sh_type(Le);
        if !matches!(kind, elf::SHT_RELA | elf::SHT_REL | elf::SHT_CREL) {
            continue;
        }
        let section = header.sh_info(Le) as usize;
        let Some(target) = sections.get(section) else {
            return Err(LinkError::malformed("relocations of no section"));
        };
        if !target.is_loaded() {
            continue;
        }
        let Some((all, link)) = header.rela(Le, bytes).map_err(malformed)? else {
            return Err(LinkError::section(
                target.name,
                "relocations without explicit addends",
            ));
        };
        if link != symbol_table {
            return Err(LinkError::malformed("relocations without a symbol table"));
        }
        if !all.iter().all(|one| uses.note(target, one)) {
            return Err(LinkError::malformed(format!(
                "a relocation outside of its section `{}` or symbol table",
                target.name
            )));
        }
        relocations.push(Relocations { section, all });
    }
    Ok(relocations)
}

/// Checks the unwind records of all `.eh_frame` sections, and places them. A
/// table that describes no function is no table: libgcc would not know what to
/// do with it.
fn parse_frames(
    sections: &mut [Section<'_>],
    layout: &mut Layout,
) -> Result<Vec<(usize, Frames)>, LinkError> {
    let mut all = Vec::new();
    for (index, section) in sections.iter_mut().enumerate() {
        if section.home != Home::Unwind {
            continue;
        }
        let frames = Frames::parse(section.bytes)?;
        if frames.describe_nothing() {
            section.home = Home::Nowhere;
            continue;
        }
        section.bytes = &section.bytes[..frames.len];
        section.size = frames.len as u64;
        section.offset = layout.unwind.grow(section.size, 1)?;
        all.push((index, frames));
    }
    Ok(all)
}

/// Unwind records have been checked as they stand in the object: a relocation
/// may change the addresses in them, never their structure.
fn check_frame_relocations(
    frames: &[(usize, Frames)],
    relocations: &[Relocations<'_>],
) -> Result<(), LinkError> {
    for (section, frames) in frames {
        for one in relocations.iter().filter(|one| one.section == *section) {
            for relocation in one.all {
                let width = x86_64::width(relocation.r_type(Le, false)).unwrap_or(0);
                let field = frames.field_at(relocation.r_offset(Le));
                if width != 0 && field.is_none_or(|field| field.width < width) {
                    return Err(LinkError::malformed(
                        "a relocation of an unwind record's structure",
                    ));
                }
            }
        }
    }
    Ok(())
}

pub(super) fn malformed(error: object::read::Error) -> LinkError {
    LinkError::malformed(error.to_string())
}

pub(super) fn text(bytes: &[u8]) -> Result<&str, LinkError> {
    std::str::from_utf8(bytes).map_err(|_| LinkError::malformed("a name that is not UTF-8"))
}
