//! The file behind code: a memfd, held by two descriptors.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, MapStep};

/// Whether the system lets files be so long: to write beyond that is a signal that ends the process.
fn may_be_as_long(len: u64) -> io::Result<()> {
    let mut limit = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: `limit` is written by the call.
    unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &mut limit) };
    match limit.rlim_cur < len {
        true => Err(io::Error::from_raw_os_error(libc::EFBIG)),
        false => Ok(()),
    }
}

/// A sparse memfd as long as the reservation: a byte's offset in the file is its distance from
/// the reservation's base, so neighbours in memory are neighbours in the file.
///
/// Its pages are shared with forked children. After a fork the parent starts a fresh one, and
/// never punches pages out of the old.
pub(super) struct Backing {
    /// For writing, and for punching holes.
    file: File,
    /// The same file, opened read-only: executable views are mapped through this one, and the
    /// kernel will not let `mprotect` make them writable.
    sealed: File,
    /// Bytes of pages that are of no more use here, and were not punched out, because a forked
    /// child has them too.
    left: AtomicU64,
}

impl Backing {
    pub(super) fn new(len: u64) -> Result<Self, Error> {
        Self::create(len).map_err(|e| Error::map(MapStep::Backing, len, e))
    }

    fn create(len: u64) -> io::Result<Self> {
        const MFD_EXEC: libc::c_uint = 0x10; // Linux 6.3; older kernels know no such flag, and need none
        let name = c"inkpot";
        let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING;
        // SAFETY: `name` is a C string that lives through the call.
        let mut fd = unsafe { libc::memfd_create(name.as_ptr(), flags | MFD_EXEC) };
        if fd < 0 {
            // SAFETY: as above.
            fd = unsafe { libc::memfd_create(name.as_ptr(), flags) };
        }
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor was just created and is owned by nobody else.
        let file = unsafe { File::from_raw_fd(fd) };
        may_be_as_long(len)?;
        file.set_len(len)?;
        // Whoever gets at the file (a debugger, another descriptor) cannot cut off what is mapped, which would be
        // SIGBUS for those inside.
        let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
        // SAFETY: a system call on a descriptor that we own.
        if unsafe { libc::fcntl(fd, libc::F_ADD_SEALS, seals) } < 0 {
            return Err(io::Error::last_os_error());
        }
        let sealed = OpenOptions::new()
            .read(true)
            .open(format!("/proc/self/fd/{fd}"))?;
        Ok(Self {
            file,
            sealed,
            left: AtomicU64::new(0),
        })
    }

    /// Writes bytes, by a call of the system and not through a mapping: nobody ever has one that is writable, and
    /// want of memory is an error, where a mapping would have a SIGBUS.
    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        may_be_as_long(offset + bytes.len() as u64)?;
        self.file.write_all_at(bytes, offset)
    }

    /// Counts pages that stay until the file goes.
    pub(super) fn leave(&self, bytes: u64) {
        self.left.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn left(&self) -> u64 {
        self.left.load(Ordering::Relaxed)
    }

    /// Gives whole pages back to the system.
    pub(super) fn punch(&self, offset: u64, len: u64) -> io::Result<()> {
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        // SAFETY: a system call on a descriptor that we own. Callers punch only what is mapped
        // nowhere any more.
        let done =
            unsafe { libc::fallocate(self.file.as_raw_fd(), mode, offset as i64, len as i64) };
        if done == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    /// Maps `len` bytes of the file at `address`, readable and, for code, executable.
    ///
    /// # Safety
    /// `address..address + len` lies in the reservation and is in use by nobody.
    pub(super) unsafe fn map_sealed(
        &self,
        address: u64,
        offset: u64,
        len: u64,
        executable: bool,
    ) -> io::Result<()> {
        let exec = if executable { libc::PROT_EXEC } else { 0 };
        // SAFETY: the caller owns the span; MAP_FIXED replaces only its PROT_NONE pages.
        let at = unsafe {
            libc::mmap(
                address as *mut _,
                len as usize,
                libc::PROT_READ | exec,
                libc::MAP_SHARED | libc::MAP_FIXED,
                self.sealed.as_raw_fd(),
                offset as i64,
            )
        };
        if at == libc::MAP_FAILED {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }
}
