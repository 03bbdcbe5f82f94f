//! What a cache tells of itself.

mod events;
mod stall;
mod statistics;
mod symbol;

pub(crate) use events::event;
pub use stall::Stall;
pub use statistics::{Bytes, CompileTime, Statistics, Staying};
pub use symbol::Symbol;
