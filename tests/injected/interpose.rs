//! System calls that fail on demand: this executable defines functions of the C library by itself, so
//! that the library under test, the standard library and LLVM, which are linked against these names,
//! come here first. (What the C library calls inside of itself, for its heap and for the stacks of
//! threads, does not.)
//!
//! What is counted, and fails, is what inkpot asks for. The standard library maps an alternate stack for
//! each thread that it starts and ends the process if it gets none: that is let pass.

use std::arch::asm;
use std::collections::BTreeMap;
use std::ffi::{CStr, c_char, c_int, c_long, c_uint, c_void};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Calls that were made since [`plan`].
static SEEN: AtomicU64 = AtomicU64::new(0);
/// The calls of these numbers fail.
static FIRST: AtomicU64 = AtomicU64::new(u64::MAX);
static LAST: AtomicU64 = AtomicU64::new(0);
/// What failed since then.
static FAILED: Mutex<Vec<&str>> = Mutex::new(Vec::new());
/// Mappings that were made by inkpot, and are there.
static MAPPED: Mutex<BTreeMap<usize, Mapping>> = Mutex::new(BTreeMap::new());

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    pub len: usize,
    kind: &'static str,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on calls are counted, from 1, and those of the numbers in this range fail.
pub fn plan(first: u64, last: u64) {
    over();
    lock(&FAILED).clear();
    SEEN.store(0, Ordering::SeqCst);
    LAST.store(last, Ordering::SeqCst);
    FIRST.store(first, Ordering::SeqCst);
}

/// Nothing fails any more. Calls are still counted.
pub fn over() {
    FIRST.store(u64::MAX, Ordering::SeqCst);
}

/// Calls since [`plan`].
pub fn seen() -> u64 {
    SEEN.load(Ordering::SeqCst)
}

/// What failed since [`plan`].
pub fn failed() -> Vec<&'static str> {
    lock(&FAILED).clone()
}

/// The mappings of inkpot's that are there.
pub fn mapped() -> BTreeMap<usize, Mapping> {
    lock(&MAPPED).clone()
}

/// Counts a call; true, with errno set, if it fails.
fn fails(what: &'static str, error: c_int) -> bool {
    let number = SEEN.fetch_add(1, Ordering::SeqCst) + 1;
    let fails = (FIRST.load(Ordering::SeqCst)..=LAST.load(Ordering::SeqCst)).contains(&number);
    if fails {
        lock(&FAILED).push(what);
        // SAFETY: this thread's errno.
        unsafe { *libc::__errno_location() = error };
    }
    fails
}

/// The function of this name that would be called if this executable had none.
fn next(name: &CStr) -> *mut c_void {
    // SAFETY: the name is a C string.
    let found = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
    assert!(!found.is_null());
    found
}

/// Defines functions that count, fail, and otherwise do what the C library's do.
macro_rules! counted {
    ($($name:ident($($argument:ident: $type:ty),*) -> $result:ty, $error:expr, $failure:expr;)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name($($argument: $type),*) -> $result {
            if fails(stringify!($name), $error) {
                return $failure;
            }
            let name = concat!(stringify!($name), "\0");
            let name = CStr::from_bytes_with_nul(name.as_bytes()).expect("ends by 0");
            // SAFETY: the C library's function of this name has this type; the arguments are the caller's.
            unsafe {
                std::mem::transmute::<*mut c_void, unsafe extern "C" fn($($type),*) -> $result>(next(name))($($argument),*)
            }
        }
    )*};
}

counted! {
    memfd_create(name: *const c_char, flags: c_uint) -> c_int, libc::EMFILE, -1;
    ftruncate64(file: c_int, len: i64) -> c_int, libc::EFBIG, -1;
    fallocate(file: c_int, mode: c_int, offset: i64, len: i64) -> c_int, libc::ENOSPC, -1;
    pwrite64(file: c_int, bytes: *const c_void, len: usize, offset: i64) -> isize, libc::ENOSPC, -1;
    open64(path: *const c_char, flags: c_int, mode: c_uint) -> c_int, libc::ENFILE, -1;
    pthread_getattr_np(thread: libc::pthread_t, attributes: *mut c_void) -> c_int, libc::ENOMEM, libc::ENOMEM;
    pthread_create(thread: *mut c_void, attributes: *const c_void, start: *mut c_void, with: *mut c_void) -> c_int,
        libc::EAGAIN, libc::EAGAIN;
    socketpair(domain: c_int, kind: c_int, protocol: c_int, pair: *mut c_int) -> c_int, libc::EMFILE, -1;
    posix_spawnp(pid: *mut c_int, program: *const c_char, actions: *const c_void, attributes: *const c_void,
        arguments: *const c_void, environment: *const c_void) -> c_int, libc::EAGAIN, libc::EAGAIN;
    fcntl(file: c_int, command: c_int, argument: c_long) -> c_int, libc::EMFILE, -1;
    send(socket: c_int, bytes: *const c_void, len: usize, flags: c_int) -> isize, libc::EPIPE, -1;
    recv(socket: c_int, bytes: *mut c_void, len: usize, flags: c_int) -> isize, libc::ECONNRESET, -1;
}

/// What a mapping of inkpot's is; `None` for those of others.
fn kind(len: usize, protection: c_int, flags: c_int) -> Option<&'static str> {
    let has = |flag| flags & flag == flag;
    if has(libc::MAP_STACK) {
        // Those of the standard library are as small as the system allows.
        (len > 64 << 10).then_some("an alternate stack")
    } else if has(libc::MAP_FIXED) {
        Some("slots")
    } else if protection == libc::PROT_NONE {
        Some("a reservation")
    } else {
        None
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mmap64(
    at: *mut c_void,
    len: usize,
    protection: c_int,
    flags: c_int,
    file: c_int,
    offset: i64,
) -> *mut c_void {
    let kind = kind(len, protection, flags);
    if kind.is_some_and(|kind| fails(kind, libc::ENOMEM)) {
        return libc::MAP_FAILED;
    }
    // SAFETY: the arguments are the caller's.
    let mapped = unsafe { libc::syscall(libc::SYS_mmap, at, len, protection, flags, file, offset) };
    let mapped = mapped as *mut c_void;
    if let Some(kind) = kind
        && mapped != libc::MAP_FAILED
        && flags & libc::MAP_FIXED == 0
    {
        lock(&MAPPED).insert(mapped as usize, Mapping { len, kind });
    }
    mapped
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mmap(
    at: *mut c_void,
    len: usize,
    protection: c_int,
    flags: c_int,
    file: c_int,
    offset: i64,
) -> *mut c_void {
    // SAFETY: the arguments are the caller's.
    unsafe { mmap64(at, len, protection, flags, file, offset) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn munmap(at: *mut c_void, len: usize) -> c_int {
    // Held until it is done: another thread may map something there at once.
    let mut mapped = lock(&MAPPED);
    let ours = mapped.get(&(at as usize)).copied();
    if ours.is_some() && fails("munmap", libc::ENOMEM) {
        return -1;
    }
    // SAFETY: the arguments are the caller's.
    let done = unsafe { libc::syscall(libc::SYS_munmap, at, len) };
    if done == 0
        && let Some(ours) = ours
    {
        assert_eq!(ours.len, len, "unmapped in part");
        mapped.remove(&(at as usize));
    }
    done as c_int
}

#[unsafe(no_mangle)]
unsafe extern "C" fn mprotect(at: *mut c_void, len: usize, protection: c_int) -> c_int {
    let ours = lock(&MAPPED).contains_key(&(at as usize));
    if ours && fails("mprotect", libc::ENOMEM) {
        return -1;
    }
    // SAFETY: the arguments are the caller's.
    unsafe { libc::syscall(libc::SYS_mprotect, at, len, protection) as c_int }
}

/// Fails for what inkpot installs: to be told what there is, and to have it back, is never refused.
#[unsafe(no_mangle)]
unsafe extern "C" fn sigaltstack(new: *const libc::stack_t, old: *mut libc::stack_t) -> c_int {
    // SAFETY: the caller's.
    let large = unsafe { new.as_ref() }.is_some_and(|new| new.ss_size > 64 << 10);
    if large && fails("sigaltstack", libc::ENOMEM) {
        return -1;
    }
    // SAFETY: the arguments are the caller's.
    unsafe { libc::syscall(libc::SYS_sigaltstack, new, old) as c_int }
}

/// Of the calls that have no function of their own, `pidfd_open` fails.
#[unsafe(no_mangle)]
unsafe extern "C" fn syscall(
    number: c_long,
    a: usize,
    b: usize,
    c: usize,
    d: usize,
    e: usize,
    f: usize,
) -> c_long {
    if number == libc::SYS_pidfd_open && fails("pidfd_open", libc::EMFILE) {
        return -1;
    }
    let result: c_long;
    // SAFETY: a system call: the arguments are the caller's, and the kernel changes rcx and r11.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") a, in("rsi") b, in("rdx") c, in("r10") d, in("r8") e, in("r9") f,
            lateout("rcx") _, lateout("r11") _,
            options(nostack),
        );
    }
    if !(-4095..0).contains(&result) {
        return result;
    }
    // SAFETY: this thread's errno.
    unsafe { *libc::__errno_location() = -result as c_int };
    -1
}

/// How often somebody has asked for the time of day.
static ASKED: AtomicU64 = AtomicU64::new(0);

/// How often somebody has asked for the time of day.
pub fn asked_for_the_time() -> u64 {
    ASKED.load(Ordering::SeqCst)
}

/// The time of day steps to and fro by hours, from one question to the next; other clocks go on as they do.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(clock: libc::clockid_t, time: *mut libc::timespec) -> c_int {
    // SAFETY: the arguments are the caller's.
    let done = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) };
    if clock == libc::CLOCK_REALTIME && done == 0 {
        let hours = [5, -7, 11, -3][ASKED.fetch_add(1, Ordering::SeqCst) as usize % 4];
        // SAFETY: the caller's, filled above.
        unsafe { (*time).tv_sec += hours * 3600 };
    }
    done as c_int
}
