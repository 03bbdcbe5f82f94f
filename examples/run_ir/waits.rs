//! Functions of the host's that wait, that send signals, or that change which are blocked.
//!
//! All of them are called through one piece of code, [`run_ir_wait`], which says to the thread that it is inside of
//! one. It takes no lock there that anyone else needs, and allocates nothing: so a handler of the program's may run
//! right where such a function is interrupted ([`crate::signals`]). It is run by the kernel then, which sees itself
//! to what becomes of the call that was interrupted.
//!
//! What a function of this kind is given are at most eight words, and it returns at most two.

use crate::signals;
use std::arch::global_asm;
use std::cell::Cell;
use std::ffi::{c_int, c_void};

/// By what they wait for.
const WAITS: [&[&str]; 8] = [
    // Files and terminals.
    &[
        "read",
        "__read_chk",
        "readv",
        "pread",
        "pread64",
        "__pread_chk",
        "__pread64_chk",
        "preadv",
        "preadv64",
        "write",
        "writev",
        "pwrite",
        "pwrite64",
        "pwritev",
        "pwritev64",
        "open",
        "open64",
        "__open_2",
        "__open64_2",
        "openat",
        "openat64",
        "__openat_2",
        "__openat64_2",
        "creat",
        "creat64",
        "fcntl",
        "fcntl64",
        "ioctl",
        "flock",
        "lockf",
        "lockf64",
        "fsync",
        "fdatasync",
        "sendfile",
        "sendfile64",
        "splice",
        "tee",
        "copy_file_range",
        "tcdrain",
    ],
    // Other ends of sockets and queues.
    &[
        "recv",
        "__recv_chk",
        "recvfrom",
        "__recvfrom_chk",
        "recvmsg",
        "recvmmsg",
        "send",
        "sendto",
        "sendmsg",
        "sendmmsg",
        "accept",
        "accept4",
        "connect",
        "msgrcv",
        "msgsnd",
        "semop",
        "semtimedop",
        "mq_receive",
        "mq_send",
        "mq_timedreceive",
        "mq_timedsend",
    ],
    // Many things at once.
    &[
        "select",
        "pselect",
        "poll",
        "__poll_chk",
        "ppoll",
        "__ppoll_chk",
        "epoll_wait",
        "epoll_pwait",
        "epoll_pwait2",
    ],
    // Time.
    &[
        "sleep",
        "usleep",
        "nanosleep",
        "clock_nanosleep",
        "thrd_sleep",
    ],
    // Child processes, and whatever a system call may wait for.
    &["wait", "waitpid", "wait3", "wait4", "waitid", "syscall"],
    // Signals: natively a handler has run when a call returns that sends one, or lets one through.
    &[
        "pause",
        "sigsuspend",
        "sigpause",
        "sigwait",
        "sigwaitinfo",
        "sigtimedwait",
        "kill",
        "killpg",
        "tgkill",
        "pthread_kill",
        "sigqueue",
        "pthread_sigqueue",
        "raise",
        "gsignal",
        "abort",
        "sigprocmask",
        "pthread_sigmask",
        "sighold",
        "sigrelse",
    ],
    // Threads. (Not `pthread_once`: it calls the program.)
    &[
        "pthread_join",
        "pthread_timedjoin_np",
        "pthread_clockjoin_np",
        "pthread_mutex_lock",
        "pthread_mutex_timedlock",
        "pthread_mutex_clocklock",
        "pthread_cond_wait",
        "pthread_cond_timedwait",
        "pthread_cond_clockwait",
        "pthread_barrier_wait",
        "pthread_rwlock_rdlock",
        "pthread_rwlock_wrlock",
        "pthread_rwlock_timedrdlock",
        "pthread_rwlock_timedwrlock",
        "pthread_rwlock_clockrdlock",
        "pthread_rwlock_clockwrlock",
        "pthread_spin_lock",
        "sem_wait",
        "sem_timedwait",
        "sem_clockwait",
        "mtx_lock",
        "mtx_timedlock",
        "cnd_wait",
        "cnd_timedwait",
        "thrd_join",
    ],
    // The same in C++, where it is not inline.
    &[
        "_ZNSt6thread4joinEv",
        "_ZNSt18condition_variable4waitERSt11unique_lockISt5mutexE",
        "_ZNSt28__atomic_futex_unsigned_base19_M_futex_wait_untilEPjjbNSt6chrono8durationIlSt5ratioILl1ELl1EEEENS2_IlS3_ILl1ELl1000000000EEEE",
        "_ZNSt28__atomic_futex_unsigned_base26_M_futex_wait_until_steadyEPjjbNSt6chrono8durationIlSt5ratioILl1ELl1EEEENS2_IlS3_ILl1ELl1000000000EEEE",
        "_ZNSt11this_thread11__sleep_forENSt6chrono8durationIlSt5ratioILl1ELl1EEEENS1_IlS2_ILl1ELl1000000000EEEE",
    ],
];

/// Whether a function of this name is called as one that waits.
pub fn waits(name: &str) -> bool {
    WAITS.iter().any(|names| names.contains(&name))
}

thread_local! {
    /// Whether the thread is inside of a function that waits, and not in a handler that was run there.
    pub static WAITING: Cell<bool> = const { Cell::new(false) };
}

/// Before the function. What was noted until now runs here: nothing is noted from here on.
extern "C-unwind" fn enter() {
    WAITING.set(true);
    signals::run_noted();
}

/// After it.
extern "C" fn leave() {
    WAITING.set(false);
}

/// The unwinder's answer to go on with.
const CONTINUE_UNWIND: c_int = 8;
/// The unwinder does not only look, it leaves frames.
const CLEANUP_PHASE: c_int = 2;

/// What the unwinder calls as it passes the frame of `run_ir_wait`: the thread was cancelled, or a handler of the
/// program's ended it, inside of the function. An exception in C++ passes as well.
extern "C" fn left(
    _version: c_int,
    actions: c_int,
    _class: u64,
    _exception: *mut c_void,
    _context: *mut c_void,
) -> c_int {
    if actions & CLEANUP_PHASE != 0 {
        leave();
    }
    CONTINUE_UNWIND
}

unsafe extern "C" {
    /// Calls the function in `r11`.
    pub fn run_ir_wait();
}

// A frame of Rust's must not be left by cancellation if there is anything to do in it: this one has a personality of
// its own instead. Two words of the caller's arguments on the stack are handed on, whether there are any or not.
global_asm!(
    ".hidden run_ir_wait",
    ".globl run_ir_wait",
    ".type run_ir_wait,@function",
    "run_ir_wait:",
    ".cfi_startproc",
    ".cfi_personality 0x1b, {left}", // four bytes, relative to their place
    "push rbp",
    ".cfi_def_cfa_offset 16",
    ".cfi_offset rbp, -16",
    "mov rbp, rsp",
    ".cfi_def_cfa_register rbp",
    "push rdi",
    "push rsi",
    "push rdx",
    "push rcx",
    "push r8",
    "push r9",
    "push rax",
    "push r11",
    "call {enter}",
    "pop r11",
    "pop rax",
    "pop r9",
    "pop r8",
    "pop rcx",
    "pop rdx",
    "pop rsi",
    "pop rdi",
    "push qword ptr [rbp + 24]",
    "push qword ptr [rbp + 16]",
    "call r11",
    "mov [rsp], rax",
    "mov [rsp + 8], rdx",
    "call {leave}",
    "mov rax, [rsp]",
    "mov rdx, [rsp + 8]",
    "mov rsp, rbp",
    "pop rbp",
    ".cfi_def_cfa rsp, 8",
    ".cfi_restore rbp",
    "ret",
    ".cfi_endproc",
    ".size run_ir_wait, . - run_ir_wait",
    enter = sym enter,
    leave = sym leave,
    left = sym left,
);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::symbols;

    /// A name that no library has would never be asked for.
    #[test]
    fn the_names_are_of_libc_and_listed_once() {
        let all: Vec<_> = WAITS.concat();
        for name in &all {
            let cpp = name.starts_with("_ZNSt");
            // Each version of libc lacks some of the newer ones.
            let newer = name.contains("clock") || *name == "epoll_pwait2" || name.starts_with("__");
            assert!(cpp || newer || symbols::find(name).is_some(), "{name}");
            assert_eq!(
                all.iter().filter(|other| *other == name).count(),
                1,
                "{name}"
            );
        }
        assert!(!waits("pthread_once") && !waits("printf"));
    }

    #[test]
    fn the_names_of_cpp() {
        symbols::load("libstdc++.so.6").unwrap();
        for name in WAITS[7] {
            assert!(symbols::find(name).is_some(), "{name}");
        }
    }
}
