//! A socket between host and helper, with a time until which it is waited for.

use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::wire::{Broken, Frame, Message};

/// How long is waited at a time. If that takes longer it was this process that stood still (it was stopped, or
/// a debugger holds it), and not the other.
const SLICE: Duration = Duration::from_millis(100);

/// One end of the socket.
pub(super) struct Channel<'s> {
    socket: BorrowedFd<'s>,
    /// How long it may still be waited; for ever, if none.
    left: Cell<Option<Duration>>,
}

impl<'s> Channel<'s> {
    pub(super) fn new(socket: BorrowedFd<'s>, patience: Duration) -> Self {
        Self {
            socket,
            left: Cell::new(Some(patience).filter(|patience| *patience != Duration::MAX)),
        }
    }

    pub(super) fn send(&mut self, message: &Message<'_>) -> Result<(), Broken> {
        let outgoing = message.encode();
        self.write_all(&outgoing.head)?;
        self.write_all(outgoing.tail)?;
        Ok(())
    }

    pub(super) fn receive(&mut self) -> Result<Frame, Broken> {
        Frame::receive(self)
    }

    /// Repeats what would block until it need not, or until the time has come.
    fn patiently(
        &self,
        for_what: libc::c_short,
        mut attempt: impl FnMut(libc::c_int) -> isize,
    ) -> std::io::Result<usize> {
        loop {
            let done = attempt(libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT);
            if let Ok(done) = usize::try_from(done) {
                return Ok(done);
            }
            let error = std::io::Error::last_os_error();
            match error.kind() {
                ErrorKind::Interrupted => {}
                ErrorKind::WouldBlock => self.wait(for_what)?,
                _ => return Err(error),
            }
        }
    }

    /// An error if the time is over, and there is nothing to be done even now.
    fn wait(&self, for_what: libc::c_short) -> std::io::Result<()> {
        let slice = self.left.get().map(|left| left.min(SLICE));
        // Rounded up: it is looked at the clock again.
        let timeout = match slice {
            None => -1,
            Some(Duration::ZERO) => 0,
            Some(slice) => slice.as_millis() as i32 + 1,
        };
        let mut waits_for = libc::pollfd {
            fd: self.socket.as_raw_fd(),
            events: for_what,
            revents: 0,
        };
        let started = Instant::now();
        // SAFETY: one structure, which lives through the call. What came of it is seen by trying again.
        let ready = unsafe { libc::poll(&mut waits_for, 1, timeout) };
        if let (Some(left), Some(slice)) = (self.left.get(), slice) {
            if slice.is_zero() && ready == 0 {
                return Err(ErrorKind::TimedOut.into());
            }
            let waited = started.elapsed().min(slice);
            self.left.set(Some(left - waited));
        }
        Ok(())
    }
}

impl Read for Channel<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let (socket, at, many) = (
            self.socket.as_raw_fd(),
            buffer.as_mut_ptr().cast(),
            buffer.len(),
        );
        let attempt = || {
            // SAFETY: the buffer may be written for its length, and is the caller's for the call.
            let receive = |flags| unsafe { libc::recv(socket, at, many, flags) };
            self.patiently(libc::POLLIN, receive)
        };
        match attempt() {
            // Who ended without having read all that it got: once, and then what it had written is read.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => attempt(),
            done => done,
        }
    }
}

impl Write for Channel<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let (socket, at, many) = (self.socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len());
        // SAFETY: the bytes may be read for their length.
        self.patiently(libc::POLLOUT, |flags| unsafe {
            libc::send(socket, at, many, flags)
        })
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
