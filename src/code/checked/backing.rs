//! The file behind code that a checker makes up. Its pages are the reservation's own.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use super::memory;
use crate::error::{Error, MapStep};

pub(super) struct Backing {
    /// Where the byte at offset 0 is, as soon as that is known.
    base: AtomicU64,
    left: AtomicU64,
}

fn system() -> io::Result<()> {
    if super::refuses() {
        return Err(io::Error::from_raw_os_error(libc::ENOMEM));
    }
    Ok(())
}

impl Backing {
    pub(super) fn new(len: u64) -> Result<Self, Error> {
        system().map_err(|e| Error::map(MapStep::Backing, len, e))?;
        Ok(Self {
            base: AtomicU64::new(0),
            left: AtomicU64::new(0),
        })
    }

    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        system()?;
        let at = self.base.load(Ordering::Relaxed) + offset;
        // SAFETY: bytes of a run of the reservation that the caller owns, and fills now, so that nobody reads them.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), at as *mut u8, bytes.len()) };
        Ok(())
    }

    pub(super) fn leave(&self, bytes: u64) {
        self.left.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn left(&self) -> u64 {
        self.left.load(Ordering::Relaxed)
    }

    pub(super) fn punch(&self, _offset: u64, _len: u64) -> io::Result<()> {
        system()
    }

    /// # Safety
    /// `address..address + len` lies in the reservation and is in use by nobody.
    pub(super) unsafe fn map_sealed(
        &self,
        address: u64,
        offset: u64,
        len: u64,
        executable: bool,
    ) -> io::Result<()> {
        system()?;
        self.base.store(address - offset, Ordering::Relaxed);
        memory::map(address, len, false, executable);
        // SAFETY: in the reservation, and nobody's: the caller's promise.
        unsafe { std::ptr::write_bytes(address as *mut u8, 0, len as usize) };
        Ok(())
    }
}
