//! What a cache tells of itself.

mod events;
mod statistics;

pub(crate) use events::event;
pub use statistics::{Bytes, CompileTime, Statistics};
