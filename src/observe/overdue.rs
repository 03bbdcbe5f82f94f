//! Compilations that take too long, by name.

use std::time::Duration;

/// A compilation that goes on, and has taken longer than it should: see
/// [`Builder::compile_limit`](crate::Builder::compile_limit). Nothing happens to it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Overdue {
    /// The methods of its batch, up to sixteen of them: the keys as `Debug` prints them, cut short if they are long.
    pub methods: Vec<String>,
    /// How many methods the batch has.
    pub together: usize,
    /// How long it has been going on.
    pub running_for: Duration,
}
