//! The file behind code: a memfd, held by two descriptors.

use std::fs::{File, OpenOptions};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd};
use std::sync::atomic::{AtomicU64, Ordering};

use memmap2::{Advice, MmapMut, MmapOptions};

use crate::code::{PAGE, page_up, unmap};
use crate::error::{Error, MapStep};

/// A sparse memfd as long as the reservation: a byte's offset in the file is its distance from
/// the reservation's base, so neighbours in memory are neighbours in the file.
///
/// Its pages are shared with forked children. After a fork the parent starts a fresh one, and
/// never punches pages out of the old.
pub(super) struct Backing {
    /// For filling, and for punching holes.
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

    /// Gives the pages of `offset..offset + len` memory now: running out of it later, at the
    /// first write through a mapping, would be a SIGBUS and not an error.
    pub(super) fn populate(&self, offset: u64, len: u64) -> io::Result<()> {
        let start = offset / PAGE * PAGE;
        let end = page_up(offset + len);
        loop {
            // SAFETY: a system call on a descriptor that we own; it changes file pages only.
            let done = unsafe {
                libc::fallocate(self.file.as_raw_fd(), 0, start as i64, (end - start) as i64)
            };
            let error = io::Error::last_os_error();
            if done == 0 {
                return Ok(());
            } else if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
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

    /// A writable view of the pages that contain `offset..offset + len`.
    pub(super) fn writable(&self, offset: u64, len: u64) -> io::Result<View> {
        let start = offset / PAGE * PAGE;
        // SAFETY: the file is a memfd of this process alone and never truncated, and the bytes that callers write are
        // not yet published to any thread (`CodeSpace::write`).
        let map = unsafe {
            MmapOptions::new()
                .offset(start)
                .len((page_up(offset + len) - start) as usize)
                .map_mut(&self.file)?
        };
        let view = View {
            map: ManuallyDrop::new(map),
            skip: (offset - start) as usize,
            len: len as usize,
        };
        // A child has no use for a writable view of its parent's code.
        view.map.advise(Advice::DontFork)?;
        Ok(view)
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

/// Pages through which code is written, until this is dropped.
pub(super) struct View {
    /// Which would stay mapped if the system refused to unmap it.
    map: ManuallyDrop<MmapMut>,
    skip: usize,
    len: usize,
}

impl View {
    /// The bytes that were asked for.
    pub(super) fn bytes(&mut self) -> &mut [u8] {
        &mut self.map[self.skip..][..self.len]
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // SAFETY: mapped when this was made, and lent only for as long as this is; it is not dropped besides.
        unsafe { unmap::unmap(self.map.as_ptr() as usize, self.map.len()) };
    }
}
