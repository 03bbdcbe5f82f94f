//! The program's signal handlers.
//!
//! A handler of the program's is a method: calling it may mean to compile it, which takes locks and allocates, and
//! so cannot be done wherever a signal happens to interrupt a thread. The kernel is given a handler of ours, which
//! calls the program's at once where no lock is held that this needs:
//!
//! - in the program's own code, wherever it is, and where that code faulted;
//! - in a function of the host's that waits, or sends signals: [`crate::waits`];
//! - in any other where it stands at a system call that waits for something outside of the process: a `fgets` that
//!   waits for a line, say. The locks of streams that may be held there are of no interest to a compilation.
//!
//! Elsewhere it only [notes](noted) the signal, and the program's handler runs a little later.
//!
//! The kernel is always told to let interrupted system calls go on (SA_RESTART). Where the program wants its handler to
//! end them, ours sees to that: it moves the thread past the system call, as the kernel would have. So calls that are
//! interrupted where nothing but noting is done go on in any case, and no function of the host's fails by a signal that
//! natively would not have made it fail.

mod actions;
mod noted;

use libc::siginfo_t;
use std::ffi::{c_int, c_long, c_void};
use std::mem::zeroed;
use std::ptr;
use std::sync::atomic::Ordering;

use crate::instance;
use crate::waits::WAITING;
use actions::Action;

pub use noted::NOTED;

/// Runs `body` with all signals blocked.
pub fn with_all_blocked<R>(body: impl FnOnce() -> R) -> R {
    // SAFETY: plain old data; the mask is this thread's, and inherited by those that it starts.
    unsafe {
        let (mut all, mut before): (libc::sigset_t, libc::sigset_t) = (zeroed(), zeroed());
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        let result = body();
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, ptr::null_mut());
        result
    }
}

/// Leaves errno as it was.
fn keeping_errno<R>(body: impl FnOnce() -> R) -> R {
    // SAFETY: errno is this thread's own.
    unsafe {
        let errno = *libc::__errno_location();
        let result = body();
        *libc::__errno_location() = errno;
        result
    }
}

fn ours() -> usize {
    interrupted as *const () as usize
}

/// The kernel calls this for each signal that the program handles. The program's handler may leave it by `siglongjmp`,
/// or end the thread.
unsafe extern "C-unwind" fn interrupted(signal: c_int, said: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel's arguments are valid, and nobody else's; what `may_run` allows is what the others demand.
    unsafe {
        if is_synchronous(signal, &*said) {
            return call(signal, actions::get(signal), said, context);
        }
        let from_timer = noted::is_from_timer(said);
        match (may_run(&*context.cast()), from_timer) {
            (true, false) => {
                let action = actions::get(signal);
                call(signal, action, said, context);
                // What was noted before comes last, as it natively does when signals nest.
                let others = noted::run(context);
                if others || !action.restarts() {
                    end_call(&mut *context.cast());
                }
            }
            (true, true) => {
                if noted::run(context) {
                    end_call(&mut *context.cast());
                }
            }
            (false, false) => noted::note(signal, said),
            (false, true) => noted::wait_on(),
        }
    }
}

/// Whether the program's handler may run where the thread was interrupted.
fn may_run(context: &libc::ucontext_t) -> bool {
    let Some(instance) = instance::current() else {
        return false;
    };
    let at = context.uc_mcontext.gregs[libc::REG_RIP as usize] as usize as *const ();
    let in_code = || {
        instance
            .source
            .cache()
            .is_some_and(|cache| cache.contains(at))
    };
    WAITING.get() || in_code() || waits_outside(context)
}

/// Whether what the thread itself did brought the signal about: a fault, or `abort` from within a library, where
/// nothing goes on but by the handler.
fn is_synchronous(signal: c_int, said: &siginfo_t) -> bool {
    match signal {
        libc::SIGSEGV | libc::SIGBUS | libc::SIGFPE | libc::SIGILL | libc::SIGTRAP => {
            said.si_code > 0
        }
        // SAFETY: a signal that a process sent has the sender's number; getpid has no preconditions.
        libc::SIGABRT => unsafe {
            said.si_code == libc::SI_TKILL && said.si_pid() == libc::getpid()
        },
        _ => false,
    }
}

/// System calls that wait for something outside, and that the kernel takes up again after a handler. Nothing makes
/// them that holds a lock which a compilation may need.
const OUTSIDE: [c_long; 18] = [
    libc::SYS_read,
    libc::SYS_pread64,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_pwrite64,
    libc::SYS_writev,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_connect,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_flock,
    libc::SYS_fcntl,
    libc::SYS_ioctl,
];

/// Others that the kernel takes up again, which [`crate::waits`] makes: the dynamic linker opens files as well, and
/// every lock is a futex.
const INSIDE: [c_long; 5] = [
    libc::SYS_open,
    libc::SYS_openat,
    libc::SYS_futex,
    libc::SYS_mq_timedreceive,
    libc::SYS_mq_timedsend,
];

/// The system call that the thread is about to make, or to take up again.
fn system_call(context: &libc::ucontext_t) -> Option<c_long> {
    let registers = &context.uc_mcontext.gregs;
    let at = registers[libc::REG_RIP as usize] as usize;
    // A call of null; and an instruction that could be the last byte of what is mapped.
    if at < PAGE || at % PAGE == PAGE - 1 {
        return None;
    }
    // SAFETY: the thread was about to run this instruction, and the next byte is of the same page.
    let bytes = unsafe { (at as *const [u8; 2]).read_unaligned() };
    (bytes == SYSCALL).then_some(registers[libc::REG_RAX as usize])
}

const PAGE: usize = 4096;
const SYSCALL: [u8; 2] = [0x0f, 0x05];

fn waits_outside(context: &libc::ucontext_t) -> bool {
    system_call(context).is_some_and(|number| OUTSIDE.contains(&number))
}

/// A call that the kernel would take up again ends by EINTR instead.
fn end_call(context: &mut libc::ucontext_t) {
    let taken_up =
        system_call(context).filter(|number| OUTSIDE.contains(number) || INSIDE.contains(number));
    if taken_up.is_some() {
        let registers = &mut context.uc_mcontext.gregs;
        registers[libc::REG_RIP as usize] += SYSCALL.len() as i64;
        registers[libc::REG_RAX as usize] = -i64::from(libc::EINTR);
    }
}

/// Calls the program's handler. Nothing in this frame needs dropping: the handler may leave it by `siglongjmp`.
///
/// # Safety
/// The pointers are as the kernel gives them; the thread is pinned.
unsafe fn call(signal: c_int, action: Action, said: *mut siginfo_t, context: *mut c_void) {
    type Plain = unsafe extern "C-unwind" fn(c_int);
    type WithInformation = unsafe extern "C-unwind" fn(c_int, *mut siginfo_t, *mut c_void);
    if action.flags & libc::SA_RESETHAND != 0 {
        actions::reset(signal);
    }
    // The handler's own calls of the host's are as everyone's.
    let waiting = WAITING.replace(false);
    // SAFETY: the caller's promise; the program said by the flag of which type its handler is.
    unsafe {
        if action.flags & libc::SA_SIGINFO != 0 {
            let handler = std::mem::transmute::<usize, WithInformation>(action.handler);
            handler(signal, said, context);
        } else {
            std::mem::transmute::<usize, Plain>(action.handler)(signal);
        }
    }
    WAITING.set(waiting);
}

/// Runs the handlers of all signals that were noted for the calling thread: one of the program's, which has called the
/// host.
pub extern "C-unwind" fn run_noted() {
    // SAFETY: it is pinned, and has just left the program's code.
    unsafe { noted::run(ptr::null_mut()) };
}

/// A thread of the program ends. To be called while it is pinned.
pub fn thread_ends() {
    // SAFETY: by contract pinned, in code of ours that holds no lock.
    unsafe { noted::end() }
}

/// Whether a function of this name gives a signal a handler.
pub fn sets_handlers(name: &str) -> bool {
    const SETTERS: [&str; 5] = [
        "sigaction",
        "__sigaction",
        "signal",
        "bsd_signal",
        "ssignal",
    ];
    SETTERS.contains(&name)
}

/// The program calls the host's functions of these names.
pub fn look_at(imports: &[String]) {
    let own_stacks = imports.iter().any(|name| name == "sigaltstack");
    actions::OWN_STACKS.store(own_stacks, Ordering::Relaxed);
}

/// The functions that stand in for libc's, in a program with handlers of its own.
pub fn supplied(name: &str) -> Option<*const ()> {
    Some(match name {
        "sigaction" | "__sigaction" => actions::set_action as *const (),
        "signal" | "bsd_signal" | "ssignal" => actions::set_handler as *const (),
        "siginterrupt" => actions::set_interrupt as *const (),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU32;

    static HANDLED: AtomicU32 = AtomicU32::new(0);

    extern "C" fn handler(_signal: c_int) {
        HANDLED.fetch_add(1, Ordering::Relaxed);
    }

    /// A thread that ends with something noted leaves nothing behind: else all stubs would go the long way from then on.
    #[test]
    fn a_thread_ends_with_a_signal_noted() {
        let ended = std::thread::spawn(|| {
            // SAFETY: plain old data; a handler of the right type; the signal is as the kernel would tell of it.
            unsafe {
                let mut action: libc::sigaction = zeroed();
                action.sa_sigaction = handler as extern "C" fn(c_int) as usize;
                actions::set_action(libc::SIGUSR2, &action, ptr::null_mut());
                noted::note(libc::SIGUSR2, &zeroed());
                noted::note(libc::SIGUSR2, &zeroed());
            }
            assert_eq!(NOTED.load(Ordering::Relaxed), 1);
            thread_ends();
        });
        ended.join().unwrap();
        assert_eq!(HANDLED.load(Ordering::Relaxed), 1);
        assert_eq!(NOTED.load(Ordering::Relaxed), 0);
    }

    /// What the program asked for is what it is told.
    #[test]
    fn actions_are_told_as_they_were_set() {
        // SAFETY: plain old data; a handler of the right type.
        unsafe {
            let (mut action, mut old): (libc::sigaction, libc::sigaction) = (zeroed(), zeroed());
            action.sa_sigaction = handler as extern "C" fn(c_int) as usize;
            action.sa_flags = libc::SA_NODEFER | libc::SA_RESETHAND;
            libc::sigaddset(&mut action.sa_mask, libc::SIGHUP);
            assert_eq!(actions::set_action(libc::SIGWINCH, &action, &mut old), 0);
            assert_eq!(old.sa_sigaction, libc::SIG_DFL);
            assert_eq!(actions::set_interrupt(libc::SIGWINCH, 0), 0);
            assert_eq!(
                actions::set_action(libc::SIGWINCH, ptr::null(), &mut old),
                0
            );
            assert_eq!(old.sa_sigaction, action.sa_sigaction);
            assert_eq!(old.sa_flags, action.sa_flags | libc::SA_RESTART);
            assert_eq!(libc::sigismember(&old.sa_mask, libc::SIGHUP), 1);
            assert_eq!(libc::sigismember(&old.sa_mask, libc::SIGINT), 0);
            let before = actions::set_handler(libc::SIGWINCH, libc::SIG_IGN);
            assert_eq!(before, action.sa_sigaction);
            assert_eq!(
                actions::set_handler(libc::SIGWINCH, libc::SIG_DFL),
                libc::SIG_IGN
            );
            assert_eq!(actions::set_handler(libc::SIGKILL, before), libc::SIG_ERR);
            assert_eq!(actions::set_handler(65, before), libc::SIG_ERR);
        }
    }
}
