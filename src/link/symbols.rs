//! The symbols of an object, and the functions among them.

use std::collections::HashMap;

use object::LittleEndian as Le;
use object::elf;
use object::read::elf::{Sym, SymbolTable};
use object::{SectionIndex, SymbolIndex};

use super::error::LinkError;
use super::object::{Header, malformed, text};
use super::sections::{Home, Layout, Section, alignment};

/// Where a symbol is defined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Definition {
    /// Not here; if `weak`, it may be missing.
    Undefined { weak: bool },
    /// An address of its own.
    Absolute(u64),
    /// At an offset in a section.
    In { section: usize, offset: u64 },
    /// At an offset in the data area.
    Common(u64),
}

/// A symbol of the object.
pub(super) struct Symbol<'d> {
    pub name: &'d str,
    pub definition: Definition,
    pub size: u64,
    pub thread_local: bool,
    /// Its address is what a function says that would have to be run first.
    pub indirect: bool,
    /// Others may refer to it by name.
    pub public: bool,
    /// It was defined in a comdat group that another one stands for.
    pub discarded: bool,
    /// It stands for its section.
    pub section: bool,
}

/// A function that the object defines.
pub(super) struct Function<'d> {
    pub name: &'d str,
    pub section: usize,
    pub start: u64,
    pub end: u64,
    /// The furthest end of all functions of the section up to this one.
    pub reach: u64,
    /// Others may refer to it by name.
    pub public: bool,
}

impl Symbol<'_> {
    /// Whether it may lie anywhere in the address space.
    pub fn is_elsewhere(&self) -> bool {
        matches!(
            self.definition,
            Definition::Undefined { .. } | Definition::Absolute(_)
        )
    }
}

pub(super) fn parse_symbols<'d>(
    table: &SymbolTable<'d, Header>,
    sections: &[Section<'d>],
    layout: &mut Layout,
) -> Result<Vec<Symbol<'d>>, LinkError> {
    let mut symbols = Vec::with_capacity(table.len().max(1));
    if table.is_empty() {
        // Relocations without a symbol refer to the first.
        symbols.push(Symbol {
            name: "",
            definition: Definition::Absolute(0),
            size: 0,
            thread_local: false,
            indirect: false,
            public: false,
            discarded: false,
            section: false,
        });
    }
    for (index, symbol) in table.iter().enumerate() {
        let mut name = text(table.symbol_name(Le, symbol).map_err(malformed)?)?;
        let definition = define(table, index, symbol, name, sections, layout)?;
        let kind = symbol.st_type();
        let mut thread_local = kind == elf::STT_TLS;
        if let Definition::In { section, .. } = definition {
            if kind == elf::STT_SECTION {
                name = sections[section].name;
            }
            thread_local |= sections[section].home == Home::Thread;
        }
        let discarded = match definition {
            Definition::In { section, .. } => sections[section].discarded,
            _ => false,
        };
        symbols.push(Symbol {
            name,
            definition,
            size: symbol.st_size(Le),
            thread_local,
            indirect: kind == elf::STT_GNU_IFUNC,
            public: index != 0 && symbol.st_bind() != elf::STB_LOCAL,
            discarded,
            section: kind == elf::STT_SECTION,
        });
    }
    if symbols.iter().any(|symbol| symbol.discarded) {
        redirect(table, &mut symbols);
    }
    Ok(symbols)
}

/// Makes the public symbols of discarded groups those of the groups that are kept.
fn redirect(table: &SymbolTable<'_, Header>, symbols: &mut [Symbol<'_>]) {
    let defined = |symbol: &&Symbol<'_>| {
        let elsewhere = matches!(symbol.definition, Definition::Undefined { .. });
        symbol.public && !symbol.discarded && !elsewhere
    };
    let kept: HashMap<&str, (Definition, u64)> = symbols
        .iter()
        .filter(defined)
        .map(|symbol| (symbol.name, (symbol.definition, symbol.size)))
        .collect();
    for (entry, symbol) in table.iter().zip(symbols) {
        if symbol.public && symbol.discarded {
            let weak = entry.st_bind() == elf::STB_WEAK;
            let nowhere = (Definition::Undefined { weak }, 0);
            (symbol.definition, symbol.size) = kept.get(symbol.name).copied().unwrap_or(nowhere);
        }
    }
}

/// Where a symbol is defined; makes room for a common one.
fn define<'d>(
    table: &SymbolTable<'d, Header>,
    index: usize,
    symbol: &elf::Sym64<Le>,
    name: &str,
    sections: &[Section<'d>],
    layout: &mut Layout,
) -> Result<Definition, LinkError> {
    let value = symbol.st_value(Le);
    if index == 0 {
        return Ok(Definition::Absolute(0));
    }
    let section = table
        .symbol_section(Le, symbol, SymbolIndex(index))
        .map_err(malformed)?;
    if let Some(SectionIndex(section)) = section {
        let home = sections.get(section).ok_or_else(|| {
            LinkError::malformed(format!("symbol `{name}` is in a section that is not there"))
        })?;
        if home.is_loaded() && value > home.size {
            return Err(LinkError::malformed(format!(
                "symbol `{name}` is outside of its section `{}`",
                home.name
            )));
        }
        return Ok(Definition::In {
            section,
            offset: value,
        });
    }
    match symbol.st_shndx(Le) {
        elf::SHN_UNDEF => Ok(Definition::Undefined {
            weak: symbol.st_bind() == elf::STB_WEAK,
        }),
        elf::SHN_ABS => Ok(Definition::Absolute(value)),
        elf::SHN_COMMON | LARGE_COMMON if symbol.st_type() != elf::STT_TLS => {
            // The value of a common symbol is its alignment.
            let align = alignment("COMMON", value)?;
            layout
                .data
                .grow(symbol.st_size(Le).max(1), align)
                .map(Definition::Common)
        }
        other => Err(LinkError::malformed(format!(
            "symbol `{name}` is in the reserved section {:#x}",
            other.0
        ))),
    }
}

/// `SHN_X86_64_LCOMMON`: a common symbol of the medium code model.
const LARGE_COMMON: elf::SymbolSection = elf::SymbolSection(0xff02);

pub(super) fn parse_functions<'d>(
    table: &SymbolTable<'d, Header>,
    symbols: &[Symbol<'d>],
    sections: &[Section<'d>],
) -> Result<Vec<Function<'d>>, LinkError> {
    let mut functions = Vec::with_capacity(symbols.len());
    for (entry, symbol) in table.iter().zip(symbols) {
        let Definition::In { section, offset } = symbol.definition else {
            continue;
        };
        let home = &sections[section];
        if entry.st_type() != elf::STT_FUNC || home.home != Home::Text || symbol.discarded {
            continue;
        }
        match offset.checked_add(symbol.size) {
            Some(end) if end <= home.size => functions.push(Function {
                name: symbol.name,
                section,
                start: offset,
                end,
                reach: end,
                public: symbol.public,
            }),
            _ => {
                return Err(LinkError::malformed(format!(
                    "function `{}` is longer than its section `{}`",
                    symbol.name, home.name
                )));
            }
        }
    }
    functions.sort_by_key(|function| (function.section, function.start));
    for index in 1..functions.len() {
        let (before, this) = (&functions[index - 1], &functions[index]);
        if before.section == this.section {
            functions[index].reach = this.end.max(before.reach);
        }
    }
    Ok(functions)
}
