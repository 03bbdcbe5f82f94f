//! Where instances run side by side and one dies of a signal, the process does: what the instance printed until then is
//! shown first.

use crate::instance;
use std::ffi::{c_int, c_void};
use std::mem::zeroed;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Signals that end a process unless it says otherwise.
const DEADLY: [c_int; 20] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGUSR1,
    libc::SIGSEGV,
    libc::SIGUSR2,
    libc::SIGPIPE,
    libc::SIGALRM,
    libc::SIGTERM,
    libc::SIGXCPU,
    libc::SIGXFSZ,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGIO,
    libc::SIGSYS,
];

/// The process's standard output and error. Tables of descriptors that instances make for themselves have them too.
static REAL: OnceLock<[c_int; 2]> = OnceLock::new();

/// From here on what a dying instance printed is shown. (Programs with handlers of their own do not come here.)
///
/// To be called before the instances have descriptors of their own.
pub fn watch() {
    let real = [1, 2].map(|descriptor| {
        // SAFETY: no memory is involved. Where it fails nothing is shown.
        unsafe { libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, 3) }
    });
    // The first stays: this is called once.
    let _ = REAL.set(real);
    for signal in DEADLY {
        // SAFETY: plain old data; the handler only does what handlers may.
        unsafe {
            let mut action: libc::sigaction = zeroed();
            libc::sigaction(signal, ptr::null(), &mut action);
            if action.sa_sigaction == libc::SIG_DFL {
                action.sa_sigaction = dies as extern "C" fn(c_int) as usize;
                action.sa_flags = libc::SA_ONSTACK | libc::SA_RESETHAND;
                libc::sigaction(signal, &action, ptr::null_mut());
            }
        }
    }
}

extern "C" fn dies(signal: c_int) {
    static FIRST: AtomicBool = AtomicBool::new(true);
    if !FIRST.swap(false, Ordering::AcqRel) {
        loop {
            // SAFETY: no preconditions. Another thread is about to end the process.
            unsafe { libc::pause() };
        }
    }
    if let (Some(_), Some(real)) = (instance::current(), REAL.get()) {
        [1, 2]
            .into_iter()
            .zip(*real)
            .for_each(|(from, to)| show(from, to));
    }
    // SAFETY: comes when this handler returns, and does what it natively does.
    unsafe { libc::raise(signal) };
}

/// Copies an instance's file, which is the calling thread's under this number.
fn show(from: c_int, to: c_int) {
    let mut buffer = [0_u8; 4096];
    let mut at = 0;
    loop {
        // SAFETY: the buffer is as long as said.
        let read = unsafe { libc::pread(from, buffer.as_mut_ptr().cast(), buffer.len(), at) };
        let Some(bytes) = usize::try_from(read).ok().filter(|bytes| *bytes > 0) else {
            return;
        };
        // SAFETY: as above.
        if unsafe { libc::write(to, buffer.as_ptr().cast(), bytes) } != read {
            return;
        }
        at += read as i64;
    }
}

/// The stack that the calling thread's handler runs on: its own may have overflown.
pub struct HandlerStack(*mut c_void);

const BYTES: usize = 64 << 10;

impl HandlerStack {
    pub fn of_this_thread() -> HandlerStack {
        // SAFETY: new memory, which stays until the kernel is told of its end.
        unsafe {
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let memory = libc::mmap(ptr::null_mut(), BYTES, protection, flags, -1, 0);
            if memory == libc::MAP_FAILED {
                return HandlerStack(ptr::null_mut());
            }
            let stack = libc::stack_t {
                ss_sp: memory,
                ss_flags: 0,
                ss_size: BYTES,
            };
            libc::sigaltstack(&stack, ptr::null_mut());
            HandlerStack(memory)
        }
    }
}

impl Drop for HandlerStack {
    fn drop(&mut self) {
        if self.0.is_null() {
            return;
        }
        // SAFETY: from `of_this_thread`, on whose thread this is; the kernel does not use it from here on.
        unsafe {
            let none = libc::stack_t {
                ss_sp: ptr::null_mut(),
                ss_flags: libc::SS_DISABLE,
                ss_size: 0,
            };
            libc::sigaltstack(&none, ptr::null_mut());
            libc::munmap(self.0, BYTES);
        }
    }
}
