//! What is done when the program dies of a signal: the function that it died in is named, and where instances run side by
//! side, what the instance printed until then is shown. Then the process dies of that signal, as natively.

use crate::instance::{self, Instance};
use crate::report;
use libc::siginfo_t;
use std::ffi::{c_int, c_void};
use std::mem::zeroed;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// Signals that come of what the program does.
const FAULTS: [c_int; 7] = [
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGABRT,
    libc::SIGBUS,
    libc::SIGFPE,
    libc::SIGSEGV,
    libc::SIGSYS,
];

/// Others that end a process unless it says otherwise.
const DEADLY: [c_int; 13] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGPIPE,
    libc::SIGALRM,
    libc::SIGTERM,
    libc::SIGXCPU,
    libc::SIGXFSZ,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGIO,
];

/// The process's standard output and error. Tables of descriptors that instances make for themselves have them too. Not
/// set where an instance is alone: what the program has for its standard error is right.
static REAL: OnceLock<[c_int; 2]> = OnceLock::new();

/// From here on faults are reported.
pub fn watch() {
    FAULTS.into_iter().for_each(begin);
}

/// From here on what a dying instance printed is shown, too. (Programs with handlers of their own do not come here.)
///
/// To be called before the instances have descriptors of their own.
pub fn watch_side_by_side() {
    let real = [1, 2].map(|descriptor| {
        // SAFETY: no memory is involved. Where it fails nothing is shown.
        unsafe { libc::fcntl(descriptor, libc::F_DUPFD_CLOEXEC, 3) }
    });
    // The first stays: this is called once.
    let _ = REAL.set(real);
    watch();
    DEADLY.into_iter().for_each(begin);
}

fn begin(signal: c_int) {
    // SAFETY: plain old data; the handler only does what handlers may.
    unsafe {
        let mut action: libc::sigaction = zeroed();
        libc::sigaction(signal, ptr::null(), &mut action);
        if action.sa_sigaction == libc::SIG_DFL {
            libc::sigaction(signal, &ours(), ptr::null_mut());
        }
    }
}

fn ours() -> libc::sigaction {
    // SAFETY: plain old data, for which zero is a value.
    unsafe {
        let mut action: libc::sigaction = zeroed();
        action.sa_sigaction = dies as *const () as usize;
        action.sa_flags = libc::SA_ONSTACK | libc::SA_SIGINFO;
        // What happens in the handler itself ends the process.
        libc::sigfillset(&mut action.sa_mask);
        action
    }
}

/// What the kernel is to be told where the program wants the default.
pub fn in_place_of_default(signal: c_int) -> Option<libc::sigaction> {
    FAULTS.contains(&signal).then(ours)
}

/// Whether this handler is what stands for the default.
pub fn is_ours(handler: usize) -> bool {
    handler == dies as *const () as usize
}

unsafe extern "C" fn dies(signal: c_int, said: *mut siginfo_t, context: *mut c_void) {
    static FIRST: AtomicBool = AtomicBool::new(true);
    if !FIRST.swap(false, Ordering::AcqRel) {
        loop {
            // SAFETY: no preconditions. Another thread is about to end the process.
            unsafe { libc::pause() };
        }
    }
    if let Some(instance) = instance::current() {
        // SAFETY: as the kernel gives them.
        let (said, context) = unsafe { (&*said, &*context.cast()) };
        tell(instance, signal, said, context);
    }
    // SAFETY: plain old data, for which zero is the default action; the signal comes when this handler returns, and
    // does what it natively does.
    unsafe {
        libc::sigaction(signal, &zeroed(), ptr::null_mut());
        libc::raise(signal);
    }
}

fn tell(instance: &Instance, signal: c_int, said: &siginfo_t, context: &libc::ucontext_t) {
    let mut errors = 2;
    if let Some(real) = REAL.get() {
        errors = real[1];
        [1, 2]
            .into_iter()
            .zip(*real)
            .for_each(|(from, to)| show(from, to));
    }
    if let Some(cache) = instance.source.cache().filter(|_| is_own(said)) {
        report::write(cache, signal, context, errors);
    }
}

/// Whether what the thread itself did brought the signal about.
fn is_own(said: &siginfo_t) -> bool {
    // SAFETY: a signal that a process sent has the sender's number; getpid has no preconditions.
    said.si_code > 0 || said.si_code == libc::SI_TKILL && unsafe { said.si_pid() == libc::getpid() }
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
