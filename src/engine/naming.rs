//! Names of what is compiled, by address.

use std::ops::Range;

use super::core::Core;
use crate::code::{Found, Kind, Named};
use crate::method::Key;
use crate::observe::Symbol;

impl<K: Key> Core<K> {
    /// Names the code of methods that were linked, before any of it is called, and the constants and
    /// data of their batch.
    pub(super) fn name<'m>(
        &self,
        generation: u64,
        data: &[Range<u64>],
        methods: impl Iterator<Item = Named<'m>>,
    ) {
        let mut all: Vec<Named<'_>> = methods.collect();
        all.sort_unstable_by_key(|named| named.address);
        let Some(Named { name: first, .. }) = all.first() else {
            return;
        };
        let whose = match all.len() - 1 {
            0 => (*first).to_owned(),
            others => format!("{first} and {others} compiled with it"),
        };
        let rest = data
            .iter()
            .filter(|span| !span.is_empty())
            .map(|span| Named {
                address: span.start,
                size: span.end - span.start,
                name: &whose,
            });
        self.space
            .symbols()
            .add(generation, all.into_iter().chain(rest));
    }

    /// What is compiled at an address.
    pub(crate) fn symbol_at(&self, address: u64) -> Option<Symbol> {
        let named = |found: Found<'_>| {
            let (name, offset) = found.symbol.filter(|_| found.kind == Kind::Text)?;
            Some(Symbol::new(name.to_owned(), offset, found.generation))
        };
        self.space.symbols().look(address, named).flatten()
    }

    /// As [`Core::symbol_at`], with the name in a buffer. Takes no lock and allocates nothing.
    pub(crate) fn symbol_into<'b>(
        &self,
        address: u64,
        buffer: &'b mut [u8],
    ) -> Option<Symbol<&'b str>> {
        let copied = |found: Found<'_>| {
            let (name, offset) = found.symbol.filter(|_| found.kind == Kind::Text)?;
            let mut len = name.len().min(buffer.len());
            while !name.is_char_boundary(len) {
                len -= 1;
            }
            buffer[..len].copy_from_slice(&name.as_bytes()[..len]);
            Some((len, offset, found.generation))
        };
        let (len, offset, generation) = self.space.symbols().look(address, copied).flatten()?;
        let name = std::str::from_utf8(&buffer[..len]).ok()?;
        Some(Symbol::new(name, offset, generation))
    }
}
