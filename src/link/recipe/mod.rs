//! Recipes: how a linked function is linked again somewhere else.
//!
//! Nothing of an object is kept. Linked code *is* the bytes of the object but for the fields
//! that relocations wrote, and those have explicit addends, so they can be written anew. What must be
//! remembered of a function is which pieces of memory are its own, and what was written where:
//!
//! ```text
//! parts   text of the function, and of private functions that only it reaches; its constants, jump tables,
//!         exception table; its unwind records        area, address, size, alignment
//! fixes   in which part, at which offset             kind, target, addend
//!         a target is a place in one of the parts, or an address outside
//! ```
//!
//! To [`relink`] a function its parts are copied to their new places and each fix is done as the
//! relocation was: by the same arithmetic, with GOT slots and stubs made anew. Where linking relaxed an
//! instruction, the recipe has the bytes that it had in the object; they come back first, since at the new
//! place another form of it may be right.
//!
//! # Who has one
//!
//! A function has a recipe if it is certain what belongs to it. The unit is the section, as it is for every
//! linker: what refers to a symbol of a section stays inside that section, and between two sections nothing
//! is known to either but by relocations. In a section of code with two public functions, one may call the other
//! and leave no trace of it; so neither can be moved. (Inkpot has LLVM give each function a section of its own.)
//! Sections to merge are divided further, into their entries, by those references that name one: every linker
//! may do so.
//!
//! What is only read may be copied: each of those who refer to a constant takes one along. That
//! is for constants of some size done only if nobody shares them. None has a recipe who
//!
//! - refers to data that can be written (the slots in it that name the types which are caught are constants), or to another public function other than through a cell,
//! - shares private code with others,
//! - has a relocation whose meaning depends on more than its target: relative to the GOT's base, sizes, and
//!   those of 8 and 16 bits.

mod format;
mod make;
mod map;
mod relink;

pub(super) use make::{Facts, make};
#[cfg(test)]
pub(crate) use relink::Relinked;
pub(crate) use relink::{needs_of, relink};

use format::Reader;

/// How one function is linked at another place. Compact: there may be one for each method that lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recipe(Box<[u8]>);

impl Recipe {
    /// The area of each part, its address and its size.
    #[cfg(test)]
    pub(super) fn parts(&self) -> Vec<(super::sections::Home, u64, u64)> {
        let plan = format::Plan::decode(self);
        let part = |part: &format::Part| (part.home, part.address, part.size);
        plan.parts.iter().map(part).collect()
    }

    /// Bytes that it takes of the heap.
    pub(crate) fn heap_bytes(&self) -> u64 {
        self.0.len() as u64
    }

    /// The addresses outside of its own parts that the function refers to: cells, thunks, functions of the
    /// host. Each once, in ascending order.
    pub(crate) fn outside(&self) -> impl Iterator<Item = u64> + '_ {
        let mut reader = Reader::new(&self.0);
        let count = reader.number();
        let mut address = 0u64;
        (0..count).map(move |_| {
            address = address.wrapping_add(reader.number());
            address
        })
    }
}
