//! Executable memory: one reservation of address space, cut into stripes by permission.
//!
//! ```text
//! low                                                                              high
//! | thunks r-x | cells rw- | text r-x .... | constants r-- | unwind r-- | data rw- | callbacks r-x |
//! ```
//!
//! The whole span is below 2 GiB, so code reaches its constants, its cells and every thunk with
//! a 32-bit displacement. A stripe is cut into slots of one size; a [`Run`] is a series of
//! neighbouring slots, and belongs to one generation. Text stands beside text and constants
//! beside constants, at the same distances in the backing file, so the kernel merges the
//! mappings of neighbours and a million methods need a handful of them.
//!
//! Thunks, callbacks, text, constants and unwind tables are pages of a memfd, mapped through a descriptor
//! that was reopened read-only: the kernel refuses to make these mappings writable, for ever.
//! They are filled by `pwrite`, through another descriptor: nothing ever maps them to be written.
//! Cells and data are private anonymous memory, so that a forked child has its own.
//!
//! What is free is `PROT_NONE`, never a hole: no other `mmap` of the process can take it.

pub(crate) mod alternate;
#[cfg_attr(feature = "_checked", path = "checked/backing.rs")]
mod backing;
mod fault;
#[cfg(feature = "_checked")]
#[path = "checked/memory.rs"]
pub mod memory;
mod quarantine;
#[cfg_attr(feature = "_checked", path = "checked/reservation.rs")]
mod reservation;
mod slots;
mod space;
mod symbols;
#[cfg_attr(feature = "_checked", allow(dead_code))]
mod unmap;

pub use fault::install_fault_handler;
pub use quarantine::Quarantine;
pub(crate) use space::{CodeSpace, Kind, Run};
pub(crate) use symbols::{Cause, Found, Named};

/// The page size that this crate is built for (x86-64 has no other base size).
pub(crate) const PAGE: u64 = 4096;

/// Zeros on the heap, to be written to code memory; an error if there is no room for them.
pub(crate) fn zeros(len: u64) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let refused = |_| {
        Error::map(
            MapStep::Write,
            len,
            std::io::Error::from_raw_os_error(libc::ENOMEM),
        )
    };
    bytes.try_reserve_exact(len as usize).map_err(refused)?;
    bytes.resize(len as usize, 0);
    Ok(bytes)
}

/// Rounds up to whole pages.
pub(crate) const fn page_up(bytes: u64) -> u64 {
    bytes.div_ceil(PAGE) * PAGE
}

/// Whether the system fails now, as far as a checker makes it up.
use crate::error::{Error, MapStep};
#[cfg(feature = "_shuttle")]
use crate::sync::simulated::world::refuses;
#[cfg(feature = "_loom")]
const fn refuses() -> bool {
    false
}
