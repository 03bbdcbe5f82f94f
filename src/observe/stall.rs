//! Threads that keep memory from coming back, by name.

use std::time::Duration;

/// Memory that waits to be freed, for too long or too much of it, and the participant that it most
/// likely waits for: see [`Builder::stall_after`](crate::Builder::stall_after) and
/// [`Builder::stall_bytes`](crate::Builder::stall_bytes). Nothing happens to the participant.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Stall {
    /// The participant's name.
    pub participant: String,
    /// Its thread, as the system numbers it.
    pub thread: i32,
    /// Whether it waits in a `blocking`: then it only holds what its stack has frames in.
    pub blocked: bool,
    /// How long it has been pinned without a re-pin or safepoint, at least; zero if it blocks.
    pub pinned_for: Duration,
    /// Bytes that were retired and not yet freed.
    pub waiting_bytes: u64,
    /// The methods that its last safepoint found on its stack, innermost first, if it ever came to
    /// one: up to eight of them.
    pub methods: Vec<String>,
}
