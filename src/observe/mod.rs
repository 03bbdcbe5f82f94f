//! What a cache tells of itself.

mod events;
mod occupancy;
mod stall;
mod statistics;
mod symbol;

pub(crate) use events::event;
pub use occupancy::{MethodIs, Occupancy};
pub use stall::Stall;
pub use statistics::{Bytes, CompileTime, Statistics, Staying};
pub use symbol::Symbol;
