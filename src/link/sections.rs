//! The sections of an object: which are loaded, and where to.

use object::LittleEndian as Le;
use object::elf;
use object::read::elf::SectionHeader;

use super::Area;
use super::error::LinkError;
use super::object::{Header, malformed, text};
use super::x86_64;

pub(super) type SectionTable<'d> = object::read::elf::SectionTable<'d, Header>;

/// No area of one batch is larger than this, so that everything inside the text
/// is within reach of everything else.
const LARGEST: u64 = 1 << 30;

/// The largest alignment that a section may ask for: a huge page.
const MOST_ALIGNED: u64 = 2 << 20;

/// The area that a section is loaded into, if any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Home {
    Text,
    Constants,
    Data,
    Unwind,
    /// Thread-local: not loaded, and whoever refers to it is refused.
    Thread,
    /// Debug information, notes, tables for linkers.
    Nowhere,
}

/// A section of the object.
pub(super) struct Section<'d> {
    pub name: &'d str,
    pub home: Home,
    /// Of a comdat group that another one stands for.
    pub discarded: bool,
    /// Where it stands in its area.
    pub offset: u64,
    pub size: u64,
    pub align: u64,
    /// Its contents: empty for `.bss`.
    pub bytes: &'d [u8],
    /// Whether it consists of entries that stand each for itself.
    pub entries: Entries,
}

/// What a section to merge (`SHF_MERGE`) consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entries {
    /// It is none.
    No,
    /// Entries of so many bytes.
    Of(u64),
    /// Strings, ended by a NUL byte each.
    Strings,
}

impl Entries {
    fn of(header: &elf::SectionHeader64<Le>) -> Self {
        let flags = header.sh_flags(Le).0;
        let has = |flag: elf::SectionFlags| flags & flag.0 != 0;
        match (has(elf::SHF_MERGE), header.sh_entsize(Le)) {
            (true, 1) if has(elf::SHF_STRINGS) => Self::Strings,
            (true, size @ 1..) if !has(elf::SHF_STRINGS) => Self::Of(size),
            _ => Self::No,
        }
    }
}

impl Section<'_> {
    pub fn is_loaded(&self) -> bool {
        !matches!(self.home, Home::Thread | Home::Nowhere)
    }

    /// Gives it a place of `size` bytes.
    fn place(&mut self, size: u64, layout: &mut Layout) -> Result<(), LinkError> {
        self.offset = match self.home {
            Home::Text => layout.text.grow(size, self.align.max(x86_64::CODE_ALIGN)),
            Home::Constants => layout.constants.grow(size, self.align),
            Home::Data => layout.data.grow(size, self.align),
            // Placed when its records are known.
            Home::Unwind | Home::Thread | Home::Nowhere => Ok(0),
        }?;
        Ok(())
    }
}

/// The areas, growing.
#[derive(Default)]
pub(super) struct Layout {
    pub text: Area,
    pub constants: Area,
    pub data: Area,
    pub unwind: Area,
}

impl Area {
    /// Appends `size` bytes and returns where they begin.
    pub(super) fn grow(&mut self, size: u64, align: u64) -> Result<u64, LinkError> {
        let offset = self.size.next_multiple_of(align);
        match offset.checked_add(size) {
            Some(end) if end <= LARGEST => {
                self.size = end;
                self.align = self.align.max(align);
                Ok(offset)
            }
            _ => Err(LinkError::malformed("an area of more than 1 GiB")),
        }
    }
}

pub(super) fn parse_sections<'d>(
    bytes: &'d [u8],
    table: &SectionTable<'d>,
    discarded: &[bool],
    layout: &mut Layout,
) -> Result<Vec<Section<'d>>, LinkError> {
    let mut sections = Vec::with_capacity(table.len());
    for (index, header) in table.iter().enumerate() {
        let name = table.section_name(Le, header).map_err(malformed)?;
        let name = text(name)?;
        let discarded = discarded.get(index).is_some_and(|&discarded| discarded);
        let home = match discarded {
            true => Home::Nowhere,
            false => home(name, header)?,
        };
        let mut section = Section {
            name,
            home,
            discarded,
            offset: 0,
            size: header.sh_size(Le),
            align: 1,
            bytes: &[],
            entries: Entries::of(header),
        };
        if section.is_loaded() {
            read_section(bytes, header, &mut section, layout)?;
        }
        sections.push(section);
    }
    Ok(sections)
}

/// Gives a loaded section its contents and, unless it is empty, its place.
fn read_section<'d>(
    bytes: &'d [u8],
    header: &elf::SectionHeader64<Le>,
    section: &mut Section<'d>,
    layout: &mut Layout,
) -> Result<(), LinkError> {
    if header.sh_type(Le) != elf::SHT_NOBITS {
        section.bytes = header.data(Le, bytes).map_err(malformed)?;
    }
    section.align = alignment(section.name, header.sh_addralign(Le))?;
    if section.size > 0 {
        section.place(section.size, layout)?;
    }
    Ok(())
}

/// Gives a place to those sections that are empty, and that something refers to: one byte, as an
/// area of no bytes has no address. Constants and functions may have no bytes, too.
pub(super) fn place_empty(
    sections: &mut [Section<'_>],
    referred: impl Iterator<Item = usize>,
    layout: &mut Layout,
) -> Result<(), LinkError> {
    let mut placed = vec![false; sections.len()];
    for index in referred {
        let section = &mut sections[index];
        if section.size == 0 && !std::mem::replace(&mut placed[index], true) {
            section.place(1, layout)?;
        }
    }
    Ok(())
}

/// Decides what becomes of a section.
fn home(name: &str, header: &elf::SectionHeader64<Le>) -> Result<Home, LinkError> {
    let kind = header.sh_type(Le);
    let flags = header.sh_flags(Le).0;
    let has = |flag: elf::SectionFlags| flags & flag.0 != 0;
    let family = |base: &str| {
        let rest = name.strip_prefix(base);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let refuse = |why: &str| Err(LinkError::section(name, why));
    if !has(elf::SHF_ALLOC) || has(elf::SHF_EXCLUDE) || kind == elf::SHT_NOTE {
        return Ok(Home::Nowhere);
    }
    if matches!(
        kind,
        elf::SHT_INIT_ARRAY | elf::SHT_FINI_ARRAY | elf::SHT_PREINIT_ARRAY
    ) || [
        ".ctors",
        ".dtors",
        ".init",
        ".fini",
        ".init_array",
        ".fini_array",
    ]
    .into_iter()
    .any(family)
    {
        return refuse("constructors and destructors do not run here");
    }
    if has(elf::SHF_COMPRESSED) {
        return refuse("compressed");
    }
    if matches!(kind, elf::SHT_RELA | elf::SHT_REL) {
        return refuse("relocations of a linked image");
    }
    let empty = kind == elf::SHT_NOBITS;
    if !empty && kind != elf::SHT_PROGBITS && kind != elf::SHT_X86_64_UNWIND {
        return refuse("contents of an unknown type");
    }
    if has(elf::SHF_TLS) {
        return Ok(Home::Thread);
    }
    if name == ".eh_frame" {
        return match empty {
            true => refuse("without contents"),
            false => Ok(Home::Unwind),
        };
    }
    if has(elf::SHF_EXECINSTR) {
        return match (has(elf::SHF_WRITE), empty) {
            (true, _) => refuse("code that is writable"),
            (_, true) => refuse("code without contents"),
            (false, false) => Ok(Home::Text),
        };
    }
    let constant = [".data.rel.ro", ".ldata.rel.ro", ".data.DW.ref"];
    if has(elf::SHF_WRITE) && !constant.into_iter().any(family) {
        return Ok(Home::Data);
    }
    Ok(Home::Constants)
}

pub(super) fn alignment(section: &str, align: u64) -> Result<u64, LinkError> {
    match align {
        0 => Ok(1),
        align if !align.is_power_of_two() => Err(LinkError::malformed(format!(
            "section `{section}` has alignment {align}"
        ))),
        align if align > MOST_ALIGNED => Err(LinkError::section(
            section,
            format!("its alignment of {align} is more than {MOST_ALIGNED}"),
        )),
        align => Ok(align),
    }
}
