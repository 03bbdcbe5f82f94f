//! The epochs that grace periods are made of.
//!
//! What ships is crossbeam's. A checker sees the threads of this crate only, so under one these are epochs of our own,
//! which do the same accesses in the same order; that crossbeam's do what they promise is checked by crossbeam.

#[cfg(not(feature = "_checked"))]
pub(crate) use crossbeam_epoch::{Collector, Guard, LocalHandle};

#[cfg(feature = "_checked")]
pub(crate) use self::checked::{Collector, Guard, LocalHandle};

#[cfg(feature = "_checked")]
mod checked;
