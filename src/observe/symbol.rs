//! A place in compiled code, by name.

use std::fmt;

/// Where in which method an address lies: made by [`Cache::symbol_at`](crate::Cache::symbol_at) and
/// [`Cache::symbol_into`](crate::Cache::symbol_into). Shown as `METHOD + OFFSET`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Symbol<N = String> {
    /// The method's key, as its `Debug` prints it; no more than 256 bytes of it.
    pub method: N,
    /// Bytes from the beginning of its code.
    pub offset: u64,
    /// The generation that the code is in: a number that no other has.
    pub generation: u64,
}

impl<N> Symbol<N> {
    pub(crate) fn new(method: N, offset: u64, generation: u64) -> Self {
        Self {
            method,
            offset,
            generation,
        }
    }
}

impl<N: fmt::Display> fmt::Display for Symbol<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} + {}", self.method, self.offset)
    }
}
