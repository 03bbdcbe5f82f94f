//! What a cache tells of itself.

mod events;
mod listener;
mod occupancy;
mod overdue;
mod stall;
mod statistics;
mod symbol;

pub(crate) use events::event;
pub use listener::{Event, EvictedBy, Listener};
pub use occupancy::{MethodIs, Occupancy};
pub use overdue::Overdue;
pub use stall::Stall;
pub use statistics::{Bytes, CompileTime, Statistics, Staying};
pub use symbol::Symbol;
