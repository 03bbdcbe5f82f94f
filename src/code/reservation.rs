//! The address space that a cache owns, from its first method to its last.

use super::unmap;
use crate::error::{Error, MapStep};

/// A `PROT_NONE` span of address space. Dropping it unmaps all of it.
pub(super) struct Reservation {
    base: u64,
    len: u64,
}

impl Reservation {
    /// Reserves `len` bytes (a multiple of 2 MiB), below the executable where that is possible.
    ///
    /// libgcc (before 13) keeps registered unwind tables sorted by address, highest first, and
    /// walks them for every frame of every throw until it meets one that starts below the pc.
    /// Tables that lie below the program's own code are therefore free for throws in it; tables
    /// above cost each of its frames a walk over all of them.
    pub(super) fn new(len: u64) -> Result<Self, Error> {
        const STEP: u64 = 2 << 20;
        const LOWEST: u64 = 1 << 40;
        let ceiling = lowest_mapping()
            .filter(|&a| a > LOWEST + 2 * len)
            .unwrap_or(0x5000_0000_0000);
        let places = (ceiling - len - LOWEST) / STEP;
        // ThreadSanitizer turns addresses that it does not like into 0, and takes it amiss when it gets that.
        let attempts = if cfg!(inkpot_sanitized) { 0 } else { 16 };
        for _ in 0..attempts {
            let at = LOWEST + random() % places * STEP;
            if let Ok(base) = map_none(at, len, libc::MAP_FIXED_NOREPLACE) {
                if base == at {
                    return Ok(Self { base, len });
                }
                // A kernel that does not know the flag took the address as a hint.
                // SAFETY: mapped above, and known to nobody.
                unsafe { unmap::unmap(base as usize, len as usize) };
            }
        }
        let base = map_none(0, len, 0).map_err(|e| Error::map(MapStep::Reserve, len, e))?;
        Ok(Self { base, len })
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
        // SAFETY: mapped by `new`; the cache is gone, and nothing points into it any more.
        unsafe { unmap::unmap(self.base as usize, self.len as usize) };
    }
}

fn map_none(at: u64, len: u64, extra: i32) -> std::io::Result<u64> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | extra;
    // SAFETY: without MAP_FIXED no existing mapping is replaced, so no memory in use changes.
    let base = unsafe { libc::mmap(at as *mut _, len as usize, libc::PROT_NONE, flags, -1, 0) };
    if base == libc::MAP_FAILED {
        Err(std::io::Error::last_os_error())
    } else {
        Ok(base as u64)
    }
}

/// # Safety
/// The span lies in the reservation, and what was mapped there is in use by nobody.
pub(super) unsafe fn map_anonymous(address: u64, len: u64, protection: i32) -> std::io::Result<()> {
    debug_assert_eq!(address % super::PAGE, 0);
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE | libc::MAP_FIXED;
    // SAFETY: the caller's promise.
    let at = unsafe { libc::mmap(address as *mut _, len as usize, protection, flags, -1, 0) };
    if at == libc::MAP_FAILED {
        Err(std::io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// The lowest mapped address of the process: where the executable starts, unless it is not
/// position independent.
fn lowest_mapping() -> Option<u64> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines()
        .filter_map(|line| u64::from_str_radix(line.split('-').next()?, 16).ok())
        .find(|a| !(1 << 32..0x5000_0000_0000).contains(a))
}

fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(0u8)
}
