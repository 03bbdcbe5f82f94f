//! From object bytes to linked code.
//!
//! LLVM emits each batch as an ELF object in memory. Neither module nor context
//! is needed any more then: the object is placed and linked here, for its place in the
//! code region of its generation. The bytes are in memory of the worker's own meanwhile:
//! the region is only ever executable.
//!
//! ```text
//! Object::parse(bytes)      checked, laid out: how much of each area it needs
//!        │
//!      needs() ───────────► the caller finds room, and so the addresses
//!        │
//! link(object, place, ..)   copies, relocates, makes GOT and stubs,
//!        │                  checks the unwind table as it came out
//!      Linked ────────────► functions and where they are; which ones failed
//! ```
//!
//! A batch has four areas, of which each generation has one of its own:
//!
//! | area | holds | as the code sees it |
//! | --- | --- | --- |
//! | text | functions, packed at 16 bytes; stubs; padding of `int3` | executable |
//! | constants | read-only data, also with addresses in it; the GOT | readable |
//! | data | `.data`, `.bss`, common symbols | writable |
//! | unwind | `.eh_frame`, and zeros that end it | readable |
//!
//! # A failure costs its own function only
//!
//! A batch holds the methods of many requests. When a symbol is unknown, or a
//! relocation cannot be done, the fault is laid at the door of the function
//! whose code, or whose unwind record, holds the relocation, and of all who
//! call it directly; the others link. Those that failed are in
//! [`Linked::failed`], their fields left zero, and must not be called. A fault
//! that cannot be laid at a function's door (in a constant; in a private function
//! that shares its section with others, who may call it without a relocation)
//! fails the object, and the caller takes the batch apart.
//!
//! # Weak, common, comdat, indirect
//!
//! An object is linked by itself: what it defines, weakly or not, is its own,
//! common symbols too, and of comdat groups of one name in it the first is kept.
//! `__start_` and `__stop_` symbols are nobody's unless the embedder knows them. An
//! indirect function (`STT_GNU_IFUNC`) fails with those who use it: its
//! resolver would have to run before the code it is in can be executed.
//!
//! # Exceptions
//!
//! Exception tables are constants; personality, type infos and the functions that
//! throw are symbols like others. LLVM refers to type infos through `.data`, so
//! an object that catches by type needs data. A type info of the object's own goes
//! with its memory: an exception of that type must not be kept for longer.
//!
//! # Linking again, elsewhere
//!
//! A function that is to be moved later comes with its [`Recipe`]: which bytes are its own, and what was written
//! where. From the linked bytes and the recipe it is linked again at any place, without the object, and comes
//! with a recipe once more. [`recipe`] says how, and which functions have none.
//!
//! ```text
//! link(object, ..)  ──► functions, each with a recipe ───┐
//!                                      ▲                 ▼
//!                                      └── relink(recipes, bytes, place)
//! ```
//!
//! # Damaged objects
//!
//! An object may come from disk or from a network. Whatever its bytes are,
//! linking ends, with code that lies within the given memory or an error. It
//! cannot promise that the *code* is good.

mod apply;
#[cfg(any(test, feature = "_fuzz"))]
pub(crate) mod attempt;
mod blame;
mod error;
mod frames;
mod groups;
mod notes;
mod object;
mod recipe;
pub(crate) mod runtime;
mod sections;
mod symbols;
pub(crate) mod unwind;
mod x86_64;

#[cfg(test)]
mod tests;

pub use error::LinkError;
pub(crate) use object::Object;
#[cfg(test)]
pub(crate) use recipe::Relinked;
pub(crate) use recipe::{Recipe, needs_of, relink};

/// An amount of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Area {
    /// In bytes.
    pub size: u64,
    /// What its address must be a multiple of; at least 1.
    pub align: u64,
}

impl Default for Area {
    fn default() -> Self {
        Self { size: 0, align: 1 }
    }
}

/// What an object takes at most, with GOT, stubs, padding and the table's end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    pub text: Area,
    pub constants: Area,
    pub data: Area,
    /// Exact.
    pub unwind: Area,
}

/// Memory for one area.
#[derive(Debug)]
pub(crate) struct Span<'m> {
    /// Where it will be executed or read.
    pub address: u64,
    /// Where it is written.
    pub bytes: &'m mut [u8],
}

/// Memory for an object.
#[derive(Debug)]
pub(crate) struct Place<'m> {
    pub text: Span<'m>,
    pub constants: Span<'m>,
    pub data: Span<'m>,
    pub unwind: Span<'m>,
}

/// A function, linked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LinkedFunction {
    pub name: String,
    pub address: u64,
    pub size: u64,
    /// How it is linked at another place, if it can be, and if [`link`] was asked for it.
    pub recipe: Option<Recipe>,
}

/// Bytes really used, from the beginning of each area.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Used {
    pub text: u64,
    pub constants: u64,
    pub data: u64,
    pub unwind: u64,
}

/// What became of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Linked {
    /// The public functions that can be called.
    pub functions: Vec<LinkedFunction>,
    /// The public functions that cannot, and why.
    pub failed: Vec<(String, LinkError)>,
    /// Where the unwind table starts; `None` if there is nothing to register.
    pub unwind: Option<u64>,
    pub used: Used,
}

/// Links an object into its place.
///
/// `resolve` is asked once for each undefined symbol that is used, and says its
/// address. A weak symbol that it does not know is 0. `keep`: functions come with their
/// [recipes](Recipe).
///
/// # Errors
///
/// What concerns single functions is in [`Linked::failed`]. Errors concern the
/// whole object: nothing of it may be used, and its memory holds anything.
pub(crate) fn link(
    object: &Object<'_>,
    place: Place<'_>,
    resolve: &mut dyn FnMut(&str) -> Option<u64>,
    keep: bool,
) -> Result<Linked, LinkError> {
    let mut linker = apply::Linker::new(object, place, resolve)?;
    linker.copy()?;
    linker.relocate()?;
    linker.finish(keep)
}
