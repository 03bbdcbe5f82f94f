//! The program's signal handlers.
//!
//! A handler of the program's is a method: calling it may mean to compile it, which takes locks and allocates, and
//! so cannot be done wherever a signal happens to interrupt a thread. The kernel is given a handler of ours, which
//!
//! - calls the program's at once where it interrupted the program's own code (no lock of ours is held there), where
//!   that code faulted, and inside `raise` and `abort`;
//! - elsewhere only notes the signal. The program's handler runs when the thread next calls a function of the host
//!   (by [`crate::stubs`]), or comes back from one that waits or sends signals: natively it would have run before.
//!
//! What is noted twice before it runs, runs once, as natively; this goes for real-time signals too, of which the
//! kernel would keep count.

use inkpot::Cache;
use libc::{sigaction, siginfo_t};
use std::cell::{Cell, UnsafeCell};
use std::ffi::{c_int, c_void};
use std::mem::{MaybeUninit, zeroed};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use crate::frontend::Key;

/// Signals have the numbers from 1 to 64.
const SIGNALS: usize = 65;
const IGNORED: [usize; 2] = [libc::SIG_DFL, libc::SIG_IGN];

/// What the program asked for, by signal. An entry is written before the kernel is told, never changed, and never
/// freed: our handler reads it without a lock.
static ACTIONS: [AtomicPtr<sigaction>; SIGNALS] =
    [const { AtomicPtr::new(ptr::null_mut()) }; SIGNALS];

/// Held while one changes.
static CHANGING: Mutex<()> = Mutex::new(());

fn action(signal: c_int) -> sigaction {
    // SAFETY: our handler runs only for signals that have an entry; entries stay as they are.
    unsafe { *ACTIONS[signal as usize].load(Ordering::Acquire) }
}

/// How many threads have something noted. Looked at by every stub.
pub static NOTED: AtomicU32 = AtomicU32::new(0);

static CACHE: OnceLock<Cache<Key>> = OnceLock::new();

thread_local! {
    /// A bit for each signal noted.
    static PENDING: Cell<u64> = const { Cell::new(0) };
    /// What the kernel said of it.
    static SAID: UnsafeCell<[MaybeUninit<siginfo_t>; SIGNALS]> =
        const { UnsafeCell::new([const { MaybeUninit::uninit() }; SIGNALS]) };
    /// The signal that the thread is raising.
    static RAISING: Cell<c_int> = const { Cell::new(0) };
}

/// Starts threads that no signal interrupts: those of the program's process are for its own threads.
pub fn blocked<R>(start: impl FnOnce() -> R) -> R {
    // SAFETY: plain old data; the mask is this thread's, and inherited by those that it starts.
    unsafe {
        let (mut all, mut before): (libc::sigset_t, libc::sigset_t) = (zeroed(), zeroed());
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        let started = start();
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, ptr::null_mut());
        started
    }
}

/// Says in which cache the program runs.
pub fn begin(cache: Cache<Key>) {
    // The first stays: there is one program.
    let _ = CACHE.set(cache);
}

/// libc's `sigaction`, with our handler in the place of the program's.
///
/// # Safety
/// As for libc's.
unsafe extern "C" fn set_action(
    signal: c_int,
    new: *const sigaction,
    old: *mut sigaction,
) -> c_int {
    let Some(index) = usize::try_from(signal).ok().filter(|&n| n < SIGNALS) else {
        // SAFETY: libc refuses the number.
        return unsafe { libc::sigaction(signal, new, old) };
    };
    let _alone = CHANGING.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: the caller's pointers are null or valid; entries stay as they are.
    unsafe {
        let before = ACTIONS[index].load(Ordering::Acquire);
        let ours = interrupted as extern "C" fn(c_int, *mut siginfo_t, *mut c_void) as usize;
        let mut result: sigaction = zeroed();
        let outcome = if new.is_null() {
            libc::sigaction(signal, ptr::null(), &mut result)
        } else {
            let mut to_kernel = *new;
            if !IGNORED.contains(&to_kernel.sa_sigaction) {
                ACTIONS[index].store(Box::into_raw(Box::new(*new)), Ordering::Release);
                to_kernel.sa_sigaction = ours;
                // A call that waits comes back, so that the handler can run; then it goes on: see `returning`.
                to_kernel.sa_flags = (to_kernel.sa_flags | libc::SA_SIGINFO) & !libc::SA_RESTART;
            }
            libc::sigaction(signal, &to_kernel, &mut result)
        };
        if outcome == 0 && !old.is_null() {
            // The kernel itself takes a handler out that was to run once.
            *old = match result.sa_sigaction == ours && !before.is_null() {
                true => *before,
                false => result,
            };
        }
        outcome
    }
}

/// libc's `signal`: handlers stay, and system calls go on.
unsafe extern "C" fn set_handler(signal: c_int, handler: usize) -> usize {
    // SAFETY: plain old data, for which zero is a value; both are valid.
    unsafe {
        let (mut new, mut old): (sigaction, sigaction) = (zeroed(), zeroed());
        new.sa_sigaction = handler;
        new.sa_flags = libc::SA_RESTART;
        match set_action(signal, &new, &mut old) {
            0 => old.sa_sigaction,
            _ => libc::SIG_ERR,
        }
    }
}

/// The kernel calls this for each signal that the program handles.
extern "C" fn interrupted(signal: c_int, said: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel's arguments are valid.
    let (code, at) = unsafe {
        let context = &*context.cast::<libc::ucontext_t>();
        let at = context.uc_mcontext.gregs[libc::REG_RIP as usize];
        ((*said).si_code, at as usize as *const ())
    };
    let faulted = code > 0
        && matches!(
            signal,
            libc::SIGSEGV | libc::SIGBUS | libc::SIGFPE | libc::SIGILL | libc::SIGTRAP
        );
    let in_the_program = CACHE.get().is_some_and(|cache| cache.contains(at));
    let raised = RAISING.get() == signal;
    if faulted || in_the_program || raised {
        RAISING.set(0);
        // SAFETY: the program's handler, with what the kernel gave, on a thread of the program's.
        unsafe { call(signal, said, context) };
        return;
    }
    let bit = 1 << (signal - 1);
    let pending = PENDING.get();
    if pending == 0 {
        NOTED.fetch_add(1, Ordering::Relaxed);
    }
    PENDING.set(pending | bit);
    // SAFETY: this thread's own; only read by `run_noted`, with the signal blocked.
    SAID.with(|all| unsafe {
        (*all.get())[signal as usize].write(*said);
    });
}

/// Calls the program's handler. Nothing in this frame needs dropping: the handler may leave it by `siglongjmp`.
///
/// # Safety
/// The pointers are as the kernel gives them; the thread is pinned.
unsafe fn call(signal: c_int, said: *mut siginfo_t, context: *mut c_void) {
    let action = action(signal);
    let handler = action.sa_sigaction;
    type WithInformation = unsafe extern "C" fn(c_int, *mut siginfo_t, *mut c_void);
    // SAFETY: the caller's promise; the program said by the flag of which type its handler is.
    unsafe {
        if action.sa_flags & libc::SA_SIGINFO != 0 {
            std::mem::transmute::<usize, WithInformation>(handler)(signal, said, context);
        } else {
            std::mem::transmute::<usize, unsafe extern "C" fn(c_int)>(handler)(signal);
        }
    }
}

/// Runs the handlers of all signals that were noted for the calling thread, lowest first.
pub extern "C" fn run_noted() {
    run_all();
}

/// The same; true if all of them let a call go on that they interrupted.
fn run_all() -> bool {
    // SAFETY: errno is this thread's own.
    let errno = unsafe { *libc::__errno_location() };
    let mut restart = true;
    while let Some(signal) = next() {
        let action = action(signal);
        restart &= action.sa_flags & libc::SA_RESTART != 0;
        // SAFETY: plain old data; the masks are this thread's. A handler that leaves by `siglongjmp` brings its own
        // mask along, as natively.
        unsafe {
            let mut blocked = action.sa_mask;
            if action.sa_flags & libc::SA_NODEFER == 0 {
                libc::sigaddset(&mut blocked, signal);
            }
            let mut before: libc::sigset_t = zeroed();
            libc::pthread_sigmask(libc::SIG_BLOCK, &blocked, &mut before);
            let mut said = SAID.with(|all| (*all.get())[signal as usize].assume_init());
            // Where it was interrupted is past: it gets where it is now.
            let mut context: libc::ucontext_t = zeroed();
            libc::getcontext(&mut context);
            call(signal, &mut said, (&raw mut context).cast());
            libc::pthread_sigmask(libc::SIG_SETMASK, &before, ptr::null_mut());
        }
    }
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = errno };
    restart
}

/// Takes the lowest signal that was noted. Signals are blocked meanwhile: two words change together.
fn next() -> Option<c_int> {
    if PENDING.get() == 0 {
        return None;
    }
    // SAFETY: plain old data; the mask is this thread's.
    unsafe {
        let (mut all, mut before): (libc::sigset_t, libc::sigset_t) = (zeroed(), zeroed());
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &all, &mut before);
        let pending = PENDING.get();
        let signal = pending.trailing_zeros() as c_int + 1;
        let rest = pending & pending.wrapping_sub(1);
        PENDING.set(rest);
        if rest == 0 && pending != 0 {
            NOTED.fetch_sub(1, Ordering::Relaxed);
        }
        libc::pthread_sigmask(libc::SIG_SETMASK, &before, ptr::null_mut());
        (pending != 0).then_some(signal)
    }
}

/// libc's `raise`: the handler has run when it returns.
extern "C" fn raise(signal: c_int) -> c_int {
    RAISING.set(signal);
    // SAFETY: the program's wish.
    let outcome = unsafe { libc::raise(signal) };
    RAISING.set(0);
    outcome
}

/// libc's `abort`: a handler for its signal runs at once.
extern "C" fn abort() -> ! {
    RAISING.set(libc::SIGABRT);
    // SAFETY: the program's wish.
    unsafe { libc::abort() }
}

/// What the kernel never goes on with after a handler.
const NEVER_RESTARTED: [&str; 15] = [
    "sigsuspend",
    "pause",
    "sigwaitinfo",
    "sigtimedwait",
    "sleep",
    "usleep",
    "nanosleep",
    "clock_nanosleep",
    "select",
    "pselect",
    "poll",
    "ppoll",
    "epoll_wait",
    "epoll_pwait",
    "kill",
];

/// Functions of libc that wait, send signals, or change which are blocked: natively a handler has run when one of
/// them returns. Each takes at most six words and returns one.
macro_rules! returning {
    ($($name:ident)*) => {
        /// The function that stands in for libc's `name`.
        fn returning(name: &str) -> Option<*const ()> {
            match name {
                $(stringify!($name) => {
                    extern "C" fn stand_in(a: usize, b: usize, c: usize, d: usize, e: usize, f: usize) -> usize {
                        static REAL: OnceLock<usize> = OnceLock::new();
                        let real = *REAL.get_or_init(|| {
                            let name = concat!(stringify!($name), "\0");
                            // SAFETY: a string of C; looking runs nothing.
                            unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr().cast()) as usize }
                        });
                        type Six = unsafe extern "C" fn(usize, usize, usize, usize, usize, usize) -> usize;
                        loop {
                            // SAFETY: libc's function; it does not look at words that it does not take.
                            let result = unsafe {
                                std::mem::transmute::<usize, Six>(real)(a, b, c, d, e, f)
                            };
                            let interrupted = was_interrupted(result);
                            let restart = run_all();
                            if !(interrupted && restart) || NEVER_RESTARTED.contains(&stringify!($name)) {
                                return result;
                            }
                        }
                    }
                    let stand_in: extern "C" fn(usize, usize, usize, usize, usize, usize) -> usize = stand_in;
                    Some(stand_in as *const ())
                })*
                _ => None,
            }
        }
    };
}

/// Whether a call ended because of a signal: it says -1, and EINTR.
fn was_interrupted(result: usize) -> bool {
    // SAFETY: errno is this thread's own. A result may have 32 bits.
    (result == usize::MAX || result as u32 == u32::MAX)
        && unsafe { *libc::__errno_location() } == libc::EINTR
}

returning! {
    kill killpg tgkill pthread_kill sigqueue pthread_sigqueue
    sigprocmask pthread_sigmask sigsuspend pause sigwait sigwaitinfo sigtimedwait
    sleep usleep nanosleep clock_nanosleep alarm setitimer
    select pselect poll ppoll epoll_wait epoll_pwait
    read write readv writev recv recvfrom recvmsg send sendto sendmsg accept accept4 connect
    wait waitpid wait3 wait4 waitid sem_wait sem_timedwait
}

/// Whether a function of this name gives a signal a handler.
pub fn sets_handlers(name: &str) -> bool {
    SETTERS.contains(&name)
}

const SETTERS: [&str; 5] = [
    "sigaction",
    "__sigaction",
    "signal",
    "bsd_signal",
    "ssignal",
];

/// The functions that stand in for libc's, in a program with handlers of its own.
pub fn supplied(name: &str) -> Option<*const ()> {
    Some(match name {
        "sigaction" | "__sigaction" => set_action as *const (),
        "signal" | "bsd_signal" | "ssignal" => set_handler as *const (),
        "abort" => abort as extern "C" fn() -> ! as *const (),
        "raise" | "gsignal" => raise as extern "C" fn(c_int) -> c_int as *const (),
        _ => return returning(name),
    })
}
