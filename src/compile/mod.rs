//! From requests to object bytes.
//!
//! A [`Backend`] turns a [`Batch`] of keys into one ELF object, in a context that the batch's
//! generation keeps. LLVM is one ([`llvm`], driven by a [`Frontend`]), and it is known there
//! only; a code generator of the embedder's own, or a test's emitter, is another.

mod batch;
pub(crate) mod llvm;
mod queue;
mod source;
mod supplies;
mod symbols;

pub use batch::{Backend, Batch, Callee, Poll};
pub(crate) use batch::{ErasedBackend, sort};
pub use llvm::{DebugInfo, Emitter, Frontend, OptLevel, Refused, Unit};
pub(crate) use queue::{Class, Pushed, Queue, Work, on_a_worker, set_on_a_worker};
pub(crate) use source::Source;
pub(crate) use supplies::{How, Library, Supplies};
pub(crate) use symbols::{OwnSymbol, method_of, parse_symbol, symbol_of};
