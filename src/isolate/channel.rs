//! A socket between host and helper, with a time until which it is waited for.

use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

use super::wire::{Broken, Frame, Message};

/// One end of the socket.
pub(super) struct Channel<'s> {
    socket: BorrowedFd<'s>,
    /// For ever, if none.
    until: Option<Instant>,
}

impl<'s> Channel<'s> {
    pub(super) fn new(socket: BorrowedFd<'s>, patience: Duration) -> Self {
        Self {
            socket,
            until: Instant::now().checked_add(patience),
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

    fn wait(&self, for_what: libc::c_short) -> std::io::Result<()> {
        let timeout = match self.until {
            None => -1,
            Some(until) => {
                let left = until.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(ErrorKind::TimedOut.into());
                }
                // Rounded up: it is looked at the clock again.
                i32::try_from(left.as_millis() + 1).unwrap_or(i32::MAX)
            }
        };
        let mut waits_for = libc::pollfd {
            fd: self.socket.as_raw_fd(),
            events: for_what,
            revents: 0,
        };
        // SAFETY: one structure, which lives through the call. What came of it is seen by trying again.
        unsafe { libc::poll(&mut waits_for, 1, timeout) };
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
