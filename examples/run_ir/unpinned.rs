//! Functions of libc that may wait for long: the thread is unpinned meanwhile, so that whatever is evicted can be
//! reclaimed. None of them calls the program back.

use crate::threads::blocking;
use std::ffi::{c_int, c_void};
use std::sync::OnceLock;

/// libc's function of this name.
fn libc_function(slot: &OnceLock<usize>, name: &'static str) -> usize {
    debug_assert!(name.ends_with('\0'));
    // SAFETY: a string of C; looking runs nothing.
    *slot.get_or_init(|| unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr().cast()) as usize })
}

type Six = unsafe extern "C-unwind" fn(usize, usize, usize, usize, usize, usize) -> usize;
type One = unsafe extern "C-unwind" fn(*mut c_void) -> c_int;

/// Functions that take at most six words and return one. A thread that is cancelled in one of them is unwound through
/// the stand-in.
macro_rules! waiting {
    ($($name:ident)*) => {
        fn always(name: &str) -> Option<*const ()> {
            match name {
                $(stringify!($name) => {
                    unsafe extern "C-unwind" fn stand_in(
                        a: usize, b: usize, c: usize, d: usize, e: usize, f: usize,
                    ) -> usize {
                        static REAL: OnceLock<usize> = OnceLock::new();
                        let real = libc_function(&REAL, concat!(stringify!($name), "\0"));
                        // SAFETY: libc's function; it does not look at words that it does not take.
                        blocking(|| unsafe {
                            std::mem::transmute::<usize, Six>(real)(a, b, c, d, e, f)
                        })
                    }
                    let stand_in: Six = stand_in;
                    Some(stand_in as *const ())
                })*
                _ => None,
            }
        }
    };
}

waiting! {
    sigsuspend pause sigwait sigwaitinfo sigtimedwait
    sleep usleep nanosleep clock_nanosleep thrd_sleep
    select pselect poll ppoll epoll_wait epoll_pwait
    read readv pread preadv recv recvfrom recvmsg accept accept4 connect
    wait waitpid wait3 wait4 waitid system flock lockf
    pthread_join pthread_timedjoin_np pthread_cond_wait pthread_cond_timedwait pthread_cond_clockwait
    pthread_mutex_timedlock pthread_rwlock_timedrdlock pthread_rwlock_timedwrlock pthread_barrier_wait
    thrd_join cnd_wait cnd_timedwait mtx_timedlock sem_timedwait sem_clockwait
}

/// Functions that take something, which nearly always is free: they wait only if it is not. The name of the function
/// that tries, and what that returns for "not free", as its result or in errno.
macro_rules! taking {
    ($($name:ident by $trial:ident unless $taken:expr;)*) => {
        fn if_taken(name: &str) -> Option<*const ()> {
            match name {
                $(stringify!($name) => {
                    unsafe extern "C-unwind" fn stand_in(what: *mut c_void) -> c_int {
                        static REAL: OnceLock<usize> = OnceLock::new();
                        static TRIAL: OnceLock<usize> = OnceLock::new();
                        let trial = libc_function(&TRIAL, concat!(stringify!($trial), "\0"));
                        // SAFETY: libc's functions of this type, with what the program gave.
                        unsafe {
                            let tried = std::mem::transmute::<usize, One>(trial)(what);
                            let taken: fn(c_int) -> bool = $taken;
                            if !taken(tried) {
                                return tried;
                            }
                            let real = libc_function(&REAL, concat!(stringify!($name), "\0"));
                            blocking(|| std::mem::transmute::<usize, One>(real)(what))
                        }
                    }
                    let stand_in: One = stand_in;
                    Some(stand_in as *const ())
                })*
                _ => None,
            }
        }
    };
}

fn is_busy(result: c_int) -> bool {
    // A lock that the thread has itself: libc's function says what becomes of that.
    [libc::EBUSY, libc::EDEADLK, libc::EAGAIN].contains(&result)
}

/// A semaphore that is 0: the result is -1, and the reason in errno.
fn is_zero(result: c_int) -> bool {
    // SAFETY: errno is this thread's own.
    result != 0 && unsafe { *libc::__errno_location() } == libc::EAGAIN
}

taking! {
    pthread_mutex_lock by pthread_mutex_trylock unless is_busy;
    pthread_rwlock_rdlock by pthread_rwlock_tryrdlock unless is_busy;
    pthread_rwlock_wrlock by pthread_rwlock_trywrlock unless is_busy;
    mtx_lock by mtx_trylock unless |result| result == 1;
    sem_wait by sem_trywait unless is_zero;
}

/// Functions that read from a stream, at most four words: they wait if it is a file's. (One that the program made up
/// calls the program.)
macro_rules! reading {
    ($($name:ident($stream:literal))*) => {
        fn from_stream(name: &str) -> Option<*const ()> {
            match name {
                $(stringify!($name) => {
                    unsafe extern "C-unwind" fn stand_in(a: usize, b: usize, c: usize, d: usize) -> usize {
                        static REAL: OnceLock<usize> = OnceLock::new();
                        let real = libc_function(&REAL, concat!(stringify!($name), "\0"));
                        let stream = [a, b, c, d][$stream] as *mut libc::FILE;
                        // SAFETY: libc's function, with what the program gave; it does not look at words that it
                        // does not take.
                        unsafe {
                            let real = std::mem::transmute::<usize, Six>(real);
                            if may_wait(stream) {
                                blocking(|| real(a, b, c, d, 0, 0))
                            } else {
                                real(a, b, c, d, 0, 0)
                            }
                        }
                    }
                    Some(stand_in as *const ())
                })*
                _ => None,
            }
        }
    };
}

reading! {
    fgets(2) getc(0) fgetc(0) _IO_getc(0) fread(3) getline(2) getdelim(3)
}

/// Whether nothing is in the stream's buffer, and it is a file.
///
/// # Safety
/// The stream is open.
unsafe fn may_wait(stream: *mut libc::FILE) -> bool {
    /// The first fields of glibc's `FILE`, which its own macros of old looked at.
    #[repr(C)]
    struct Buffer {
        flags: c_int,
        at: *const u8,
        end: *const u8,
    }
    // SAFETY: the caller's promise. Another thread may change the fields meanwhile: then this one waits pinned, or is
    // unpinned without need.
    unsafe {
        let buffer = stream.cast::<Buffer>();
        let (at, end) = ((&raw const (*buffer).at), (&raw const (*buffer).end));
        at.read_volatile() >= end.read_volatile() && libc::fileno(stream) >= 0
    }
}

unsafe extern "C" {
    static mut stdin: *mut libc::FILE;
}

unsafe extern "C-unwind" fn getchar() -> c_int {
    // SAFETY: standard input, as the program would use it; the program's own stream stands there if it changed it.
    unsafe {
        let stream = stdin;
        match may_wait(stream) {
            true => blocking(|| libc::fgetc(stream)),
            false => libc::fgetc(stream),
        }
    }
}

/// The functions that stand in for libc's.
pub fn supplied(name: &str) -> Option<*const ()> {
    let getchar = || (name == "getchar").then_some(getchar as *const ());
    always(name)
        .or_else(|| if_taken(name))
        .or_else(|| from_stream(name))
        .or_else(getchar)
}
