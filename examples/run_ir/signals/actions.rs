//! What the program asked for, by signal: `sigaction` and its kin, with our handler in the place of the program's.

use libc::sigaction;
use std::ffi::c_int;
use std::mem::zeroed;
use std::ptr;
use std::sync::atomic::{
    AtomicBool, AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering, fence,
};
use std::sync::{Mutex, PoisonError};

use super::{ours, with_all_blocked};
use crate::crash;

/// Signals have the numbers from 1 to 64.
pub const SIGNALS: usize = 65;
const IGNORED: [usize; 2] = [libc::SIG_DFL, libc::SIG_IGN];

/// An action that our handler reads while another thread may change it: read again until the version is even, and
/// still the same. Whoever changes it has all signals blocked, so that no handler waits for the thread it interrupted.
struct Entry {
    version: AtomicU32,
    handler: AtomicUsize,
    flags: AtomicI32,
    mask: AtomicU64,
}

static ACTIONS: [Entry; SIGNALS] = [const {
    Entry {
        version: AtomicU32::new(0),
        handler: AtomicUsize::new(libc::SIG_DFL),
        flags: AtomicI32::new(0),
        mask: AtomicU64::new(0),
    }
}; SIGNALS];

/// Held while one changes.
static CHANGING: Mutex<()> = Mutex::new(());

/// Whether the program has alternate stacks of its own: ours are not for its handlers.
pub static OWN_STACKS: AtomicBool = AtomicBool::new(false);

/// What becomes of a signal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Action {
    pub handler: usize,
    pub flags: c_int,
    /// A bit for each signal that is blocked meanwhile, from the lowest.
    pub mask: u64,
}

impl Action {
    fn of(action: &sigaction) -> Action {
        Action {
            handler: action.sa_sigaction,
            flags: action.sa_flags,
            mask: bits(&action.sa_mask),
        }
    }

    /// Whether a call that the handler interrupts goes on after it.
    pub fn restarts(self) -> bool {
        self.flags & libc::SA_RESTART != 0
    }

    /// What is blocked while the handler runs.
    pub fn blocks(self, signal: c_int) -> libc::sigset_t {
        let own = match self.flags & libc::SA_NODEFER {
            0 => bit(signal),
            _ => 0,
        };
        set(self.mask | own)
    }
}

/// The bit of a signal.
pub fn bit(signal: c_int) -> u64 {
    1 << (signal - 1)
}

/// The kernel's signals are the first word of libc's set.
fn bits(set: &libc::sigset_t) -> u64 {
    // SAFETY: a set is an array of words, of which the first is read.
    unsafe { ptr::from_ref(set).cast::<u64>().read() }
}

fn set(bits: u64) -> libc::sigset_t {
    // SAFETY: plain old data, an array of words of which the first is written.
    unsafe {
        let mut set: libc::sigset_t = zeroed();
        ptr::from_mut(&mut set).cast::<u64>().write(bits);
        set
    }
}

/// The action of a signal that our handler was called for. May be called in a handler.
pub fn get(signal: c_int) -> Action {
    let entry = &ACTIONS[signal as usize];
    loop {
        let version = entry.version.load(Ordering::Acquire);
        let action = Action {
            handler: entry.handler.load(Ordering::Relaxed),
            flags: entry.flags.load(Ordering::Relaxed),
            mask: entry.mask.load(Ordering::Relaxed),
        };
        fence(Ordering::Acquire);
        if version & 1 == 0 && version == entry.version.load(Ordering::Relaxed) {
            return action;
        }
        std::hint::spin_loop();
    }
}

/// To be called with [`CHANGING`] held, and all signals blocked.
fn put(signal: c_int, action: Action) {
    let entry = &ACTIONS[signal as usize];
    let version = entry.version.load(Ordering::Relaxed);
    entry.version.store(version + 1, Ordering::Relaxed);
    fence(Ordering::Release);
    entry.handler.store(action.handler, Ordering::Relaxed);
    entry.flags.store(action.flags, Ordering::Relaxed);
    entry.mask.store(action.mask, Ordering::Relaxed);
    entry.version.store(version + 2, Ordering::Release);
}

/// libc's `sigaction`.
///
/// # Safety
/// As for libc's.
pub unsafe extern "C" fn set_action(
    signal: c_int,
    new: *const sigaction,
    old: *mut sigaction,
) -> c_int {
    if !(1..SIGNALS as c_int).contains(&signal) {
        // SAFETY: libc refuses the number.
        return unsafe { libc::sigaction(signal, new, old) };
    }
    with_all_blocked(|| {
        let _alone = CHANGING.lock().unwrap_or_else(PoisonError::into_inner);
        // SAFETY: the caller's pointers are null or valid.
        unsafe { change(signal, new.as_ref(), old.as_mut()) }
    })
}

/// To be called with [`CHANGING`] held, and all signals blocked.
fn change(signal: c_int, new: Option<&sigaction>, old: Option<&mut sigaction>) -> c_int {
    let before = get(signal);
    let to_kernel = new.map(|new| {
        let mut to_kernel = *new;
        if !IGNORED.contains(&new.sa_sigaction) {
            // Before the kernel is told: the handler may be called at once.
            put(signal, Action::of(new));
            to_kernel.sa_sigaction = ours();
            // Whether a call goes on, and whether the handler stays, is up to ours: see `super::at_once`.
            to_kernel.sa_flags |= libc::SA_SIGINFO | libc::SA_RESTART;
            to_kernel.sa_flags &= !libc::SA_RESETHAND;
            if !OWN_STACKS.load(Ordering::Relaxed) {
                to_kernel.sa_flags &= !libc::SA_ONSTACK; // it would be ours
            }
        } else if new.sa_sigaction == libc::SIG_DFL {
            to_kernel = crash::in_place_of_default(signal).unwrap_or(to_kernel);
        }
        to_kernel
    });
    // SAFETY: plain old data; pointers are null or valid.
    let (outcome, mut result) = unsafe {
        let mut result: sigaction = zeroed();
        let to_kernel = to_kernel.as_ref().map_or(ptr::null(), ptr::from_ref);
        let outcome = libc::sigaction(signal, to_kernel, &mut result);
        (outcome, result)
    };
    if outcome != 0 {
        put(signal, before);
        return outcome;
    }
    if let Some(old) = old {
        if result.sa_sigaction == ours() {
            result.sa_sigaction = before.handler;
            result.sa_flags = before.flags;
            result.sa_mask = set(before.mask);
        } else if crash::is_ours(result.sa_sigaction) {
            // SAFETY: plain old data, for which zero is the default action.
            result = unsafe { zeroed() };
        }
        *old = result;
    }
    outcome
}

/// The handler was to run once: the signal has its default action from here on. May be called in a handler.
pub fn reset(signal: c_int) {
    // SAFETY: plain old data, for which zero is the default action.
    unsafe {
        let default: sigaction = zeroed();
        libc::sigaction(signal, &default, ptr::null_mut());
    }
}

/// libc's `signal`: handlers stay, and system calls go on.
pub unsafe extern "C" fn set_handler(signal: c_int, handler: usize) -> usize {
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

/// libc's `siginterrupt`: whether calls go on that a signal interrupts.
pub unsafe extern "C" fn set_interrupt(signal: c_int, interrupts: c_int) -> c_int {
    // SAFETY: plain old data, for which zero is a value; both are valid.
    unsafe {
        let mut action: sigaction = zeroed();
        if set_action(signal, ptr::null(), &mut action) != 0 {
            return -1;
        }
        match interrupts {
            0 => action.sa_flags |= libc::SA_RESTART,
            _ => action.sa_flags &= !libc::SA_RESTART,
        }
        set_action(signal, &action, ptr::null_mut())
    }
}
