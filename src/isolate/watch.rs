//! What bounds a helper: its host's life, memory, what it writes.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a helper that is aborted at the limit of its memory writes.
pub(super) const NO_MEMORY: &str = "inkpot-helper: no memory is left";

/// Bytes that may be written to standard error for one module.
const MOST_SAID: u64 = 256 << 10;

/// Whether its memory has a limit.
static LIMITED: AtomicBool = AtomicBool::new(false);

/// Signals, files, and who is to go first when the machine has no memory.
pub(super) fn prepare() {
    // SAFETY: the handler does only what a handler may; structures live through the calls, and all zeros
    // are values of theirs.
    unsafe {
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
        // Too much said is cut off, rather than the end.
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = at_abort as *const () as usize;
        libc::sigaction(libc::SIGABRT, &action, std::ptr::null_mut());
    }
    limit(libc::RLIMIT_FSIZE, MOST_SAID);
    // An abort is expected here, and the host is told of it.
    limit(libc::RLIMIT_CORE, 0);
    let _ = std::fs::write("/proc/self/oom_score_adj", "500");
}

/// No more than this from now on; less, if that was the rule before.
fn limit(resource: libc::__rlimit_resource_t, most: u64) {
    let mut limits = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: the structure lives through the calls.
    unsafe {
        if libc::getrlimit(resource, &mut limits) == 0 {
            limits.rlim_cur = limits.rlim_cur.min(most);
            libc::setrlimit(resource, &limits);
        }
    }
}

/// Bytes of memory that the process may take for itself.
pub(super) fn limit_memory(bytes: u64) {
    if bytes != u64::MAX {
        limit(libc::RLIMIT_DATA, bytes);
        LIMITED.store(true, Ordering::Relaxed);
    }
}

/// LLVM has several ways to say that memory has run out, and the library of C++ has others. Whatever it
/// said: where not even this much is left, that was it.
extern "C" fn at_abort(_signal: libc::c_int) {
    const LITTLE: usize = 256 << 10;
    if !LIMITED.load(Ordering::Relaxed) {
        return;
    }
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: system calls that a handler may make; memory of our own is mapped and never touched, and the
    // process ends. The text may be read for its length.
    unsafe {
        let at = libc::mmap(std::ptr::null_mut(), LITTLE, access, kind, -1, 0);
        if at == libc::MAP_FAILED {
            libc::write(2, NO_MEMORY.as_ptr().cast(), NO_MEMORY.len());
        }
    }
}

/// What was written for the last module is no news.
pub(super) fn forget_what_was_said() {
    // SAFETY: no preconditions. Where standard error is no file nothing happens.
    unsafe {
        libc::ftruncate(2, 0);
        libc::lseek(2, 0, libc::SEEK_SET);
    }
}

/// From now on this process ends with its host: when that closes the socket, or ends itself. Whoever
/// compiles may be inside LLVM for long, so a thread sees to it.
pub(super) fn end_with(host: libc::pid_t, socket: RawFd) -> Result<(), String> {
    // SAFETY: no preconditions.
    let process = unsafe { libc::syscall(libc::SYS_pidfd_open, host, 0) } as RawFd;
    let error = std::io::Error::last_os_error();
    if process < 0 && error.raw_os_error() == Some(libc::ESRCH) {
        return Err("its host has gone".to_owned());
    }
    let watch = move || {
        let watched = |fd, events| libc::pollfd {
            fd, // one below zero is not looked at
            events,
            revents: 0,
        };
        let mut ends = [
            watched(socket, libc::POLLRDHUP),
            watched(process, libc::POLLIN),
        ];
        // SAFETY: the structures live through the calls; `_exit` ends the process.
        unsafe {
            while libc::poll(ends.as_mut_ptr(), ends.len() as _, -1) <= 0 {}
            libc::_exit(0)
        }
    };
    std::thread::Builder::new()
        .name("inkpot-watch".to_owned())
        .stack_size(64 << 10)
        .spawn(watch)
        .map(|_| ())
        .map_err(|error| format!("it has no thread: {error}"))
}
