//! Shuttle's threads and locks, and beside them what shuttle does not have: time, thread-locals of the standard
//! library's shape, atomics that can be in statics and in raw memory, and threads that cannot be had.
//!
//! All that is random comes from the [world]'s seed, so that a run is repeated by it.

pub(crate) mod atomic;
mod lock;
pub(crate) mod thread;
pub mod world;

pub(crate) use self::lock::{Condvar, Mutex, MutexGuard};
pub(super) use self::world::now;
pub(crate) use super::local::{LocalKey, local as thread_local};
