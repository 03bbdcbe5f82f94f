//! Signals that arrived where the program's handler could not run: each thread's, until it can.
//!
//! Stubs before the host's functions look at one word for all threads, and run what was noted. But a thread may come
//! to a place where handlers can run, and stay there: in a loop, or in a function that waits. So when a signal is
//! noted a timer is started, which sends the same signal to the same thread a little later.

use libc::siginfo_t;
use std::cell::{Cell, UnsafeCell};
use std::ffi::{c_int, c_void};
use std::mem::{MaybeUninit, zeroed};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};

use super::actions::{self, SIGNALS, bit};
use super::{call, keeping_errno, with_all_blocked};

/// How many threads have something noted. Looked at by every stub.
pub static NOTED: AtomicU32 = AtomicU32::new(0);

/// How long after the signal the timer goes off, in nanoseconds, at first; twice as long each time.
const SOON: i64 = 1_000_000;
const LATEST: i64 = 64_000_000;

thread_local! {
    /// A bit for each signal noted.
    static PENDING: Cell<u64> = const { Cell::new(0) };
    /// What the kernel said of it.
    static SAID: UnsafeCell<[MaybeUninit<siginfo_t>; SIGNALS]> =
        const { UnsafeCell::new([const { MaybeUninit::uninit() }; SIGNALS]) };
    /// The timer, if there is one: the kernel's number for it.
    static TIMER: Cell<Option<c_int>> = const { Cell::new(None) };
    /// How long it waits the next time.
    static DELAY: Cell<i64> = const { Cell::new(SOON) };
}

/// What timers send along: its address is nobody else's.
static MARK: u8 = 0;

/// Whether the signal comes from the timer.
///
/// # Safety
/// `said` is the kernel's.
pub unsafe fn is_from_timer(said: *const siginfo_t) -> bool {
    // SAFETY: the caller's promise; signals of timers have a value.
    unsafe { (*said).si_code == libc::SI_TIMER && (*said).si_value().sival_ptr == mark() }
}

fn mark() -> *mut c_void {
    (&raw const MARK).cast_mut().cast()
}

/// Keeps a signal for later. What comes twice runs once, as natively; this goes for real-time signals too, of which
/// the kernel would keep count.
///
/// # Safety
/// In our handler, with what the kernel said.
pub unsafe fn note(signal: c_int, said: *const siginfo_t) {
    let pending = PENDING.get();
    if pending == 0 {
        NOTED.fetch_add(1, Ordering::Relaxed);
    }
    PENDING.set(pending | bit(signal));
    // SAFETY: this thread's own; only read by `next`, with all signals blocked.
    SAID.with(|all| unsafe {
        (*all.get())[signal as usize].write(*said);
    });
    if TIMER.get().is_none() {
        DELAY.set(SOON);
        keeping_errno(|| start_timer(signal));
    }
}

/// By system calls: libc's functions are not for handlers.
fn start_timer(signal: c_int) {
    // SAFETY: plain old data; the kernel reads and writes what is given.
    unsafe {
        let mut event: libc::sigevent = zeroed();
        event.sigev_notify = libc::SIGEV_THREAD_ID;
        event.sigev_signo = signal;
        event.sigev_value.sival_ptr = mark();
        event.sigev_notify_thread_id = libc::gettid();
        let mut id: c_int = 0;
        // Without a timer the handler runs at the next call of a function of the host's.
        if libc::syscall(
            libc::SYS_timer_create,
            libc::CLOCK_MONOTONIC,
            &event,
            &mut id,
        ) == 0
        {
            TIMER.set(Some(id));
            wind();
        }
    }
}

/// Lets the timer go off once more. In our handler.
pub fn wait_on() {
    if PENDING.get() != 0 {
        keeping_errno(wind);
    }
}

fn wind() {
    let Some(id) = TIMER.get() else { return };
    let delay = DELAY.get();
    DELAY.set((2 * delay).min(LATEST));
    // SAFETY: plain old data; the timer is this thread's.
    unsafe {
        let mut once: libc::itimerspec = zeroed();
        once.it_value.tv_nsec = delay;
        let none = ptr::null_mut::<libc::itimerspec>();
        libc::syscall(libc::SYS_timer_settime, id, 0, &once, none);
    }
}

/// If it has just gone off, its signal comes before this returns, and finds nothing to do.
fn stop_timer() {
    if let Some(id) = TIMER.take() {
        // SAFETY: the timer is this thread's, and is not used again.
        unsafe { libc::syscall(libc::SYS_timer_delete, id) };
    }
}

/// Runs the handlers of all signals that were noted for the calling thread, lowest first. True if there were any, and
/// one of them does not let a call go on that it interrupts.
///
/// `context` is where the thread was interrupted; without it, handlers are told of where it is now.
///
/// # Safety
/// On a pinned thread, where it holds no lock that the compilation of a method may need.
pub unsafe fn run(context: *mut c_void) -> bool {
    if PENDING.get() == 0 {
        return false;
    }
    keeping_errno(|| {
        stop_timer();
        let mut interrupts = false;
        while let Some((signal, mut said)) = next() {
            let action = actions::get(signal);
            interrupts |= !action.restarts();
            // SAFETY: plain old data; the masks are this thread's. A handler that leaves by `siglongjmp` brings its
            // own mask along, as natively.
            unsafe {
                let mut before: libc::sigset_t = zeroed();
                libc::pthread_sigmask(libc::SIG_BLOCK, &action.blocks(signal), &mut before);
                let mut here: libc::ucontext_t = zeroed();
                let context = match context.is_null() {
                    true => {
                        libc::getcontext(&mut here);
                        (&raw mut here).cast()
                    }
                    false => context,
                };
                call(signal, action, &mut said, context);
                libc::pthread_sigmask(libc::SIG_SETMASK, &before, ptr::null_mut());
            }
        }
        interrupts
    })
}

/// Takes the lowest signal that was noted. Signals are blocked meanwhile: two words change together.
fn next() -> Option<(c_int, siginfo_t)> {
    with_all_blocked(|| {
        let pending = PENDING.get();
        if pending == 0 {
            return None;
        }
        let signal = pending.trailing_zeros() as c_int + 1;
        let rest = pending & (pending - 1);
        PENDING.set(rest);
        if rest == 0 {
            NOTED.fetch_sub(1, Ordering::Relaxed);
        }
        // SAFETY: written when the bit was set, by this thread.
        let said = SAID.with(|all| unsafe { (*all.get())[signal as usize].assume_init() });
        Some((signal, said))
    })
}

/// The thread ends: what was noted runs now, and nothing is noted any more.
///
/// # Safety
/// As for [`run`].
pub unsafe fn end() {
    // SAFETY: plain old data, the mask is this thread's; the caller's promise.
    unsafe {
        let mut all: libc::sigset_t = zeroed();
        libc::sigfillset(&mut all);
        libc::pthread_sigmask(libc::SIG_BLOCK, &all, ptr::null_mut());
        run(ptr::null_mut());
    }
}
