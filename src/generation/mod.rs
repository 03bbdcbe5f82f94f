//! Generations: a context, the batches compiled in it, and the region that holds their code.
//!
//! ```text
//! open ---------> sealed ---------> dead --------> fallow ---------> recycled
//! one worker      full or old       sealed, and    retired: its      unmapped, its
//! adds batches    enough            no method is   grace period      context disposed of
//!                                   left           runs
//! ```

mod pool;
mod region;

pub(crate) use pool::Pool;
pub(crate) use region::{Added, Failure, Region, Sizes};

use std::any::Any;
use std::sync::Arc;

use crate::invalidate::Inner;
use crate::method::{Key, Method};
use crate::sync::time::Instant;

/// What a backend keeps per generation (an LLVM context), type-erased, and its size in bytes as
/// measured.
pub(crate) struct Context {
    pub(crate) value: Box<dyn Any + Send>,
    pub(crate) bytes: u64,
}

/// Everything that a generation owns. It belongs to its compile worker while the generation is
/// open, then to the ledger, then to the reclaimer.
pub(crate) struct Body<K: Key> {
    /// What its code calls: cells and thunks that must outlive it.
    pub(crate) callees: Vec<Arc<Method<K>>>,
    /// Whose versions' addresses its code may have.
    pub(crate) assumptions: Vec<Arc<Inner>>,
    /// `None` once released, or taken out of use by a panic in the middle of a compilation.
    pub(crate) context: Option<Context>,
    pub(crate) region: Region,
}

/// A generation that takes more batches.
pub(crate) struct Open<K: Key> {
    pub(crate) id: u64,
    pub(crate) body: Body<K>,
    pub(crate) methods: usize,
    /// Bytes that the context has grown by since it was opened, and what it had then.
    pub(crate) context_bytes: u64,
    pub(crate) since: Instant,
    /// Its methods stay for as long as the cache.
    pub(crate) staying: bool,
}
