//! Who lives in which generation.

/// What has become of a method that was compiled in a generation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
pub enum MethodIs {
    /// Its code is there, and calls go to it.
    Hot,
    /// Its code is there, and it is on probation: it goes next unless a call comes.
    Cold,
    /// It was evicted, invalidated, or moved elsewhere: only its bytes are there.
    Dead,
}

/// A generation that is open or sealed, and its methods: see [`Cache::occupancy`](crate::Cache::occupancy).
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Occupancy {
    /// Its number: generations are counted from 0 on.
    pub generation: u64,
    /// It takes more batches.
    pub open: bool,
    /// Bytes of text, constants and data mapped for it.
    pub code_bytes: u64,
    /// Bytes of all kinds that methods have which are not dead.
    pub live_bytes: u64,
    /// All methods that were compiled or moved into it, in that order.
    pub methods: Vec<MethodIs>,
}
