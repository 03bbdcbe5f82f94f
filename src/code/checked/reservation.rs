//! Address space that a checker makes up: see `memory`.

use super::memory;
use crate::error::{Error, MapStep};

pub(super) struct Reservation {
    base: u64,
    len: u64,
}

impl Reservation {
    pub(super) fn new(len: u64) -> Result<Self, Error> {
        /// Code calls what the system's linker put below 2 GiB of its own; nothing is called here.
        const HINT: u64 = 0x2000_0000_0000;
        if super::refuses() {
            let error = std::io::Error::from_raw_os_error(libc::ENOMEM);
            return Err(Error::map(MapStep::Reserve, len, error));
        }
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        // SAFETY: no existing mapping is replaced, so no memory in use changes.
        let base = unsafe { libc::mmap(HINT as *mut _, len as usize, access, flags, -1, 0) };
        assert_ne!(base, libc::MAP_FAILED, "the checker itself needs memory");
        Ok(Self {
            base: base as u64,
            len,
        })
    }

    pub(super) fn base(&self) -> u64 {
        self.base
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        memory::unmap(self.base, self.len);
        // SAFETY: mapped by `new`, and nobody has it any more.
        unsafe { libc::munmap(self.base as *mut _, self.len as usize) };
    }
}

/// # Safety
/// The span lies in the reservation, and what was mapped there is in use by nobody.
pub(super) unsafe fn map_anonymous(address: u64, len: u64, protection: i32) -> std::io::Result<()> {
    if super::refuses() {
        return Err(std::io::Error::from_raw_os_error(libc::ENOMEM));
    }
    #[cfg(feature = "_shuttle")]
    if protection == libc::PROT_NONE {
        crate::sync::simulated::world::not_inside("memory was taken away");
    }
    memory::unmap(address, len);
    if protection != libc::PROT_NONE {
        memory::map(address, len, protection & libc::PROT_WRITE != 0, false);
        // SAFETY: in the reservation, and nobody's: the caller's promise.
        unsafe { std::ptr::write_bytes(address as *mut u8, 0, len as usize) };
    }
    Ok(())
}
