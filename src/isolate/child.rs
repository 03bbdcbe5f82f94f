//! A child process, ended and waited for whatever the embedder does about its children.
//!
//! The embedder may ignore SIGCHLD, so that a child vanishes when it ends and its number is another's
//! soon; or reap all children itself. So a child is meant by a descriptor of it, where the kernel has
//! these (5.4), and nobody relies on learning how it ended.

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use crate::sync::plain::Mutex;

/// How long a process that was killed may take to end.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) struct Child {
    pid: libc::pid_t,
    /// None if the kernel has none, or did not let us.
    descriptor: Option<OwnedFd>,
    /// Once it was waited for. Then its number means nothing any more.
    ended: Mutex<Option<Ended>>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ended {
    With(ExitStatus),
    /// Somebody else has waited for it, or nobody has to.
    Unknown,
}

impl Child {
    /// Of a child that was started just now.
    pub(super) fn new(pid: u32) -> Self {
        let pid = pid as libc::pid_t;
        // SAFETY: no preconditions; the descriptor, if it is one, is nobody else's.
        let descriptor = unsafe {
            let descriptor = libc::syscall(libc::SYS_pidfd_open, pid, 0);
            (descriptor >= 0).then(|| OwnedFd::from_raw_fd(descriptor as i32))
        };
        Self {
            pid,
            descriptor,
            ended: Mutex::new(None),
        }
    }

    /// Ends it, whatever it is doing.
    pub(super) fn kill(&self) {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.is_some() {
            return;
        }
        // SAFETY: no preconditions. Without a descriptor the number is that of a child which we have not
        // waited for; were it another's by now, somebody else would have reaped our children.
        unsafe {
            match &self.descriptor {
                Some(descriptor) => {
                    let none = std::ptr::null::<libc::siginfo_t>();
                    let fd = descriptor.as_raw_fd();
                    libc::syscall(libc::SYS_pidfd_send_signal, fd, libc::SIGKILL, none, 0);
                }
                None => {
                    libc::kill(self.pid, libc::SIGKILL);
                }
            }
        }
    }

    /// Waits for its end, but not for ever: `None` if it lives on, though it was killed perhaps.
    pub(super) fn wait(&self) -> Option<Ended> {
        let until = Instant::now() + PATIENCE;
        loop {
            let ended = self.has_ended();
            if ended.is_some() || Instant::now() >= until {
                return ended;
            }
            self.pause();
        }
    }

    /// One that takes long to end (inside of the kernel, say) is no zombie afterwards: a thread waits for it.
    pub(super) fn reap_later(self: &Arc<Self>) {
        let child = self.clone();
        // Without a thread it stays one until this process ends: nothing else comes of it.
        let _ = std::thread::Builder::new()
            .name("inkpot-reap".to_owned())
            .stack_size(64 << 10)
            .spawn(move || while child.wait().is_none() {});
    }

    /// A moment, or until it ends.
    fn pause(&self) {
        let Some(descriptor) = &self.descriptor else {
            return std::thread::sleep(Duration::from_millis(1));
        };
        let mut end = libc::pollfd {
            fd: descriptor.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one structure, which lives through the call.
        unsafe { libc::poll(&mut end, 1, 100) };
    }

    /// Whether it has; and it leaves no zombie then.
    fn has_ended(&self) -> Option<Ended> {
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.is_none() {
            let (kind, id) = match &self.descriptor {
                Some(descriptor) => (libc::P_PIDFD, descriptor.as_raw_fd() as libc::id_t),
                None => (libc::P_PID, self.pid as libc::id_t),
            };
            // SAFETY: all zeros are a value of this structure, which lives through the call; of a child
            // that ended the kernel fills in the fields that are read.
            let (done, pid, code, status) = unsafe {
                let mut info: libc::siginfo_t = std::mem::zeroed();
                let done = libc::waitid(kind, id, &mut info, libc::WEXITED | libc::WNOHANG);
                (done, info.si_pid(), info.si_code, info.si_status())
            };
            *ended = match (done, pid) {
                (0, 0) => None, // still running
                (0, _) if code == libc::CLD_EXITED => {
                    Some(Ended::With(ExitStatus::from_raw(status << 8)))
                }
                (0, _) => Some(Ended::With(ExitStatus::from_raw(status & 0x7f))),
                _ if interrupted() => None,
                _ => Some(Ended::Unknown),
            };
        }
        *ended
    }
}

fn interrupted() -> bool {
    std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_ends_late_is_no_zombie() {
        let child = std::process::Command::new("sleep").arg("1000").spawn();
        let pid = child.expect("it runs").id();
        let child = Arc::new(Child::new(pid));
        child.reap_later();
        assert!(child.has_ended().is_none());
        child.kill();
        // A zombie would be there still.
        let there = || std::path::Path::new(&format!("/proc/{pid}")).exists();
        let until = Instant::now() + Duration::from_secs(20);
        while there() {
            assert!(Instant::now() < until, "it is not waited for");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
