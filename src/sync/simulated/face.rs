//! What the simulations of this repository's tests need of the inside.

#![allow(missing_docs, reason = "it is for nobody else")]

pub use crate::code::memory;
pub use crate::method::{resolve, resolver};
pub use crate::reclaim::{stack_of_thread as stack, thread_dies};
pub use crate::sync::fault::{asked, seed};
pub use crate::sync::simulated::world;
