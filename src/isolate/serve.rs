//! The helper's end.

use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::channel::Channel;
use super::wire::{Broken, Message, PROTOCOL};
use super::{VARIABLE, watch};
use crate::compile::llvm::Workshop;

/// Whether this program can be its own helper.
static ABLE: AtomicBool = AtomicBool::new(false);

pub(super) fn is_able() -> bool {
    ABLE.load(Ordering::Relaxed)
}

/// How a helper ends when it is to end, and when something is wrong.
const DONE: i32 = 0;
const WRONG: i32 = 3;
const PANICKED: i32 = 101;

/// Makes this program able to be its own helper ([`Isolation::own_executable`](crate::Isolation)): to be
/// called first of all in `main`, before threads are started and anything is written.
///
/// In a process that a cache started as its helper this compiles what the cache sends, and never
/// returns. In any other it returns at once.
pub fn run_if_helper() {
    ABLE.store(true, Ordering::Relaxed);
    let Some(asked) = std::env::var_os(VARIABLE) else {
        return;
    };
    let code = catch_unwind(AssertUnwindSafe(|| run(&asked.to_string_lossy())));
    let code = match code {
        Ok(Ok(())) => DONE,
        Ok(Err(problem)) => {
            eprintln!("inkpot-helper: {problem}");
            WRONG
        }
        Err(_) => PANICKED, // and said so
    };
    // SAFETY: ends the process. LLVM's destructors have nothing to give back.
    unsafe { libc::_exit(code) }
}

fn run(asked: &str) -> Result<(), String> {
    let mut numbers = asked.split(' ');
    let protocol = numbers.next().unwrap_or_default();
    if protocol != PROTOCOL.to_string() {
        return Err(format!(
            "this program speaks protocol {PROTOCOL}, and its host {protocol}"
        ));
    }
    let host = numbers.next().and_then(|pid| pid.parse().ok());
    let host = host.ok_or("it was not told who its host is")?;
    let socket = settle().map_err(|error| format!("it has no socket: {error}"))?;
    watch::prepare();
    watch::end_with(host, socket.as_raw_fd())?;
    match serve(&socket) {
        Ok(()) | Err(Broken::Ended) => Ok(()),
        Err(Broken::TimedOut) => unreachable!("a helper waits for ever"),
        Err(Broken::Garbled(problem)) => Err(format!("of the host: {problem}")),
    }
}

/// Makes itself at home: the socket out of the way of what reads and writes by number, and nothing of the host's
/// kept open, nor its directory in use.
fn settle() -> std::io::Result<OwnedFd> {
    let check = |done: libc::c_int| match done {
        -1 => Err(std::io::Error::last_os_error()),
        done => Ok(done),
    };
    // SAFETY: the process is at the beginning of `main`: nobody uses a descriptor that is closed or replaced
    // here. Names are C strings; the structures live through the calls.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0);
        let socket = check(libc::fcntl(0, libc::F_DUPFD_CLOEXEC, 3))?;
        let socket = OwnedFd::from_raw_fd(socket);
        let nothing = check(libc::open(
            c"/dev/null".as_ptr(),
            libc::O_RDWR | libc::O_CLOEXEC,
        ))?;
        check(libc::dup2(nothing, 0))?;
        check(libc::dup2(2, 1))?;
        libc::close(nothing);
        libc::chdir(c"/".as_ptr());
        let mut kind = 0;
        let mut size = size_of::<libc::c_int>() as libc::socklen_t;
        check(libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_DOMAIN,
            (&raw mut kind).cast(),
            &mut size,
        ))?;
        Ok(socket)
    }
}

/// Compiles until the host has gone.
fn serve(socket: &OwnedFd) -> Result<(), Broken> {
    let mut channel = Channel::new(socket.as_fd(), Duration::MAX);
    let first = channel.receive()?;
    let Message::Begin { memory, levels } = first.decode()? else {
        return Err(Broken::Garbled("it did not begin".to_owned()));
    };
    watch::limit_memory(memory);
    let wrong = |error: crate::Error| Broken::Garbled(error.to_string());
    let identity = Workshop::identity().map_err(wrong)?;
    let mut workshop = Workshop::new(&levels).map_err(wrong)?;
    channel.send(&Message::Ready(identity))?;
    loop {
        let frame = channel.receive()?;
        let Message::Compile {
            number,
            asked,
            bitcode,
        } = frame.decode()?
        else {
            return Err(Broken::Garbled("it asked for something else".to_owned()));
        };
        watch::forget_what_was_said();
        match workshop.compile(&asked.job(), bitcode) {
            Ok(made) => channel.send(&Message::Compiled {
                number,
                optimise: made.optimise,
                generate: made.generate,
                object: &made.object,
            })?,
            Err(said) => channel.send(&Message::Refused { number, said })?,
        }
    }
}
