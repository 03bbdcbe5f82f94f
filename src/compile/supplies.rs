//! What a batch is given by the cache, besides its methods.

use std::sync::{Arc, Weak};

use super::llvm::DebugInfo;
use super::source::Source;
use crate::config::TooLong;
use crate::invalidate::{Assumption, Relying};
use crate::method::{Key, Method, Table};
use crate::sync::atomic::AtomicU64;

/// How a batch is compiled.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct How {
    pub(crate) tier: u8,
    /// Whether it was asked for by a promotion.
    pub(crate) promotes: bool,
    /// Whether all methods of the batch are going to stay.
    pub(crate) staying: bool,
    /// Whether the tier's own emitter may generate the code.
    pub(crate) by_emitter: bool,
    /// How many times it was halved since a helper took too long.
    pub(crate) halvings: u8,
}

/// What the cache gives those that compile.
pub(crate) struct Supplies<'b, K: Key> {
    pub(crate) table: &'b Arc<Table<K>>,
    /// The cache, as assumptions list it.
    pub(crate) relying: &'b Weak<dyn Relying>,
    /// What bitcode takes that is kept.
    pub(crate) kept: &'b Arc<AtomicU64>,
    /// The IR of another method, with the assumption that it is still that method's.
    pub(crate) library: &'b dyn Library<K>,
    pub(crate) tiers: u8,
    pub(crate) polls: bool,
    pub(crate) debug_info: DebugInfo,
    /// Whether each method may be moved without the others, and so should have sections of its own.
    pub(crate) separable: bool,
    /// Instructions that a method shall have at most, and what becomes of longer ones.
    pub(crate) longest: Option<(u64, TooLong)>,
}

/// Knows the IR of methods that others may have in theirs.
pub(crate) trait Library<K: Key> {
    /// Bytes of the heap that requests take which wait: they come and go while others are compiled.
    fn queued_bytes(&self) -> usize;

    /// The method's IR, if others may have that in theirs. `rely_on` is called first, with what falls when the method is
    /// invalidated.
    fn inlinable(
        &self,
        method: &Arc<Method<K>>,
        rely_on: &mut dyn FnMut(&Assumption),
    ) -> Option<Source<K>>;
}
