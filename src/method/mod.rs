//! Methods: a key, a cell that every caller goes through, and what is known of the code.

mod asks;
mod assembler;
mod callback;
mod cells;
mod entry;
pub(crate) mod errno;
mod failure;
mod fallback;
mod map;
mod record;
mod resolve;
mod table;
pub(crate) mod targets;
mod thrash;
mod wakers;

pub(crate) use asks::{Admission, Asks};
pub(crate) use callback::CALLBACK_BYTES;
pub(crate) use cells::{ASKED_BY_EMBEDDER, ASKED_BY_RECLAIMER, CellWord, FULL, POLL};
pub use entry::{Entry, MethodType};
pub(crate) use failure::{Failure, Patience};
pub use fallback::{
    Fallback, FallbackArgument, FallbackResult, fallback_convention, fallback_move, fallback_result,
};
#[cfg(feature = "_loom")]
#[allow(unused_imports, reason = "for models")]
pub(crate) use map::Map;
pub(crate) use map::{hold_for_fork, in_child};
pub(crate) use record::{Method, Phase, Resident, State};
pub(crate) use resolve::ResolveContext;
#[cfg(feature = "_checked")]
#[allow(unused_imports, reason = "for tests that play the processor")]
pub use resolve::{resolve, resolver};
#[cfg(test)]
pub(crate) use table::id_of;
pub(crate) use table::{Forgotten, Table, cell_of};
pub(crate) use thrash::Thrash;
pub(crate) use wakers::Wakers;

/// What can be a method's key: a front end's name for a piece of code.
///
/// Implemented for every type that fits; there is nothing to write. Its `Eq`, `Hash`, `Debug` and
/// `Drop` run under locks of the cache, and must not call it. What its `Debug` prints stands in
/// every error and event about the method: keep it short.
pub trait Key: Clone + Eq + std::hash::Hash + std::fmt::Debug + Send + Sync + 'static {}

impl<K: Clone + Eq + std::hash::Hash + std::fmt::Debug + Send + Sync + 'static> Key for K {}
