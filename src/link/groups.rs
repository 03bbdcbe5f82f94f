//! Comdat groups: of two with the same signature, the first is kept.
//!
//! A group is a list of sections that stand or fall together: a function, its
//! exception table, what it refers to in private. Groups of other objects are
//! not looked at: each object keeps its own copy.
//!
//! What a discarded group defines by a public name is the kept group's from then
//! on, or somebody else's if that has none of the name. A reference by
//! a private name has nowhere to lead to, and is an error; unwind records of
//! discarded code are silenced, as every linker does.

use std::collections::HashSet;

use object::LittleEndian as Le;
use object::SymbolIndex;
use object::elf;
use object::read::elf::{SectionHeader, SymbolTable};

use super::error::LinkError;
use super::object::{Header, malformed};
use super::sections::SectionTable;

/// Which sections are members of discarded groups; empty if none is.
pub(super) fn discarded(
    bytes: &[u8],
    table: &SectionTable<'_>,
    symbols: &SymbolTable<'_, Header>,
) -> Result<Vec<bool>, LinkError> {
    let mut seen = HashSet::new();
    let mut discarded = Vec::new();
    for header in table.iter() {
        let Some((flags, members)) = header.group(Le, bytes).map_err(malformed)? else {
            continue;
        };
        if flags.0 & elf::GRP_COMDAT.0 == 0 || seen.insert(signature(table, symbols, header)?) {
            continue;
        }
        discarded.resize(table.len(), false);
        for member in members {
            let member = discarded.get_mut(member.get(Le) as usize);
            *member.ok_or_else(|| LinkError::malformed("a group of no sections"))? = true;
        }
    }
    Ok(discarded)
}

/// The name that a group goes by: that of its symbol, or of that symbol's section.
fn signature<'d>(
    table: &SectionTable<'d>,
    symbols: &SymbolTable<'d, Header>,
    header: &elf::SectionHeader64<Le>,
) -> Result<&'d [u8], LinkError> {
    let index = SymbolIndex(header.sh_info(Le) as usize);
    let symbol = symbols.symbol(index).map_err(malformed)?;
    if symbol.st_type() == elf::STT_SECTION
        && let Some(section) = symbols
            .symbol_section(Le, symbol, index)
            .map_err(malformed)?
    {
        let section = table.section(section).map_err(malformed)?;
        return table.section_name(Le, section).map_err(malformed);
    }
    symbols.symbol_name(Le, symbol).map_err(malformed)
}
