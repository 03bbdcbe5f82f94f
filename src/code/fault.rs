//! A handler for SIGSEGV that says which method's code was gone when somebody came.
//!
//! It runs wherever the fault happened, so it takes no lock and allocates nothing: the sentence is
//! made in a buffer on its stack, from names that stay readable while it reads ([`super::symbols`]),
//! and written at once. Then the signal goes on to whatever handler stood before, called as the
//! kernel would have called it.

use std::ffi::{c_int, c_void};
use std::fmt::Write;
use std::mem::zeroed;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use libc::{sigaction, siginfo_t, ucontext_t};

use super::symbols::{Cause, Found, Symbols, look_everywhere};
use super::{Kind, alternate};

/// What stood before. Set before the handler is installed.
static BEFORE: OnceLock<sigaction> = OnceLock::new();
/// That handler was to be called once, and was.
static SPENT: AtomicBool = AtomicBool::new(false);

/// Makes the process say, on its standard error, when it faults (SIGSEGV) in memory of a cache whose
/// code is gone:
///
/// ```text
/// inkpot: thread 4711 (worker) returned into Add(5) + 17, generation 12, evicted at 3.201417 s,
/// unmapped at 3.205512 s; now it is 3.215003 s since the cache "inkpot" began
/// ```
///
/// (on one line), or `jumped to`, `read`, `wrote to`. The method is known if the cache has a
/// [quarantine](crate::Builder::quarantine), and the memory is in it; else the cache alone is. Then
/// the signal goes on to the handler that stood before, or ends the process as it would have.
///
/// For all caches of the process, there already or not; once, later calls do nothing. Handlers that
/// are installed later stand before this one, and should pass on what they do not know.
///
/// The handler is async-signal-safe, and runs on the thread's alternate stack: the calling thread,
/// and threads that become participants from now on, are given one of 64 KiB until they end, if they
/// have none, or one of less than half of that. It costs nothing else until there is a fault.
pub fn install_fault_handler() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        crate::loaded::for_good();
        // SAFETY: plain old data, for which zero is a value; the handler has the type that the flag
        // says, and what it needs is set before it is installed.
        unsafe {
            let mut before: sigaction = zeroed();
            libc::sigaction(libc::SIGSEGV, ptr::null(), &mut before);
            // It is the first: this runs once.
            let _ = BEFORE.set(before);
            let mut ours: sigaction = zeroed();
            ours.sa_sigaction =
                handle as extern "C" fn(c_int, *mut siginfo_t, *mut c_void) as usize;
            ours.sa_flags =
                libc::SA_SIGINFO | libc::SA_ONSTACK | before.sa_flags & libc::SA_RESTART;
            libc::sigaction(libc::SIGSEGV, &ours, ptr::null_mut());
        }
        alternate::begin();
    });
    alternate::give();
}

extern "C" fn handle(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel's arguments are valid; errno is this thread's own.
    unsafe {
        let errno = *libc::__errno_location();
        if is_fault(info) {
            let fault = Fault::new(&*info, &*context.cast());
            look_everywhere(fault.address, |symbols| fault.tell(symbols));
        }
        *libc::__errno_location() = errno;
        pass_on(signal, info, context);
    }
}

/// Whether the kernel sends it because of what the thread did, rather than somebody else.
///
/// # Safety
/// The information is valid.
unsafe fn is_fault(info: *const siginfo_t) -> bool {
    // SAFETY: the caller's promise.
    unsafe { (*info).si_code > 0 }
}

/// What a thread did that it could not.
struct Fault {
    address: u64,
    rip: u64,
    rsp: u64,
    how: How,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum How {
    Fetch,
    Read,
    Write,
}

impl Fault {
    fn new(info: &siginfo_t, context: &ucontext_t) -> Self {
        /// Bits of a page fault's error code.
        const WRITE: i64 = 1 << 1;
        const FETCH: i64 = 1 << 4;
        let registers = &context.uc_mcontext.gregs;
        let error = registers[libc::REG_ERR as usize];
        // SAFETY: of a SIGSEGV by the kernel, so there is an address.
        let address = unsafe { info.si_addr() } as u64;
        let rip = registers[libc::REG_RIP as usize] as u64;
        Self {
            address,
            rip,
            rsp: registers[libc::REG_RSP as usize] as u64,
            how: match error {
                // A processor without an execute-disable bit does not say so.
                _ if error & FETCH != 0 || address == rip => How::Fetch,
                _ if error & WRITE != 0 => How::Write,
                _ => How::Read,
            },
        }
    }

    /// Says what happened, if it happened in memory that holds nothing any more.
    fn tell(&self, symbols: &Symbols) {
        if !symbols.knows(self.address) {
            return;
        }
        let mut text = Text::new();
        // Cannot fail: what does not fit is cut off.
        let _ = match symbols.look(self.address, |found| {
            self.describe(&mut text, symbols, found)
        }) {
            Some(Some(written)) => written,
            Some(None) => return, // its memory is there
            None => self.describe_nothing(&mut text, symbols),
        };
        text.print();
    }

    fn describe(
        &self,
        text: &mut Text,
        symbols: &Symbols,
        found: Found<'_>,
    ) -> Option<std::fmt::Result> {
        let unmapped = found.unmapped?;
        let did = self.did(found.symbol.map(|(_, offset)| offset));
        let mut write = || {
            write!(text, "{did}")?;
            match found.kind {
                Kind::Constants => write!(text, " constants of")?,
                Kind::Data => write!(text, " data of")?,
                _ => {}
            }
            match found.symbol {
                Some((name, offset)) => write!(text, " {name} + {offset}")?,
                None => write!(text, " what was between methods")?,
            }
            write!(text, ", generation {}", found.generation)?;
            if let Some((why, when)) = found.unlinked {
                let why = match why {
                    Cause::Evicted => "evicted",
                    Cause::Invalidated => "invalidated",
                    Cause::Moved => "moved",
                    Cause::Assumption => "invalidated by an assumption",
                    Cause::Promoted => "promoted",
                };
                write!(text, ", {why} at {}", Seconds(when))?;
            }
            write!(text, ", unmapped at {}", Seconds(unmapped))?;
            let (now, owner) = (Seconds(symbols.now()), symbols.owner());
            write!(text, "; now it is {now} since the cache {owner:?} began")?;
            self.write_caller(text, did)
        };
        Some(write())
    }

    fn describe_nothing(&self, text: &mut Text, symbols: &Symbols) -> std::fmt::Result {
        let (address, owner) = (self.address, symbols.owner());
        let did = self.did(None);
        write!(
            text,
            "{did} {address:#x}, where the cache {owner:?} has no code, or none any more: a \
             quarantine tells what it was"
        )?;
        self.write_caller(text, did)
    }

    /// What the thread did. `offset` is that of the address in its method, if that is known.
    fn did(&self, offset: Option<u64>) -> Did {
        match self.how {
            How::Read => Did::Read,
            How::Write => Did::Write,
            // The first instruction is never returned to. After a return the address is still where
            // it was taken from.
            How::Fetch if offset == Some(0) => Did::Jump,
            How::Fetch => match word_at(self.rsp.wrapping_sub(8)) {
                Some(word) if word == self.rip => Did::Return,
                None if offset.is_some() => Did::Return,
                _ => Did::Jump,
            },
        }
    }

    /// Where the thread was called from, if it was called.
    fn write_caller(&self, text: &mut Text, did: Did) -> std::fmt::Result {
        match word_at(self.rsp) {
            Some(caller) if did == Did::Jump => {
                write!(text, "; the call would have returned to {caller:#x}")
            }
            _ => Ok(()),
        }
    }
}

/// What the calling thread did to come to an address.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Did {
    Jump,
    Return,
    Read,
    Write,
}

/// With the thread that did it.
impl std::fmt::Display for Did {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut name = [0u8; 16];
        // SAFETY: the buffer has the 16 bytes that are written; gettid has no preconditions.
        let thread = unsafe {
            libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr());
            libc::gettid()
        };
        let end = name.iter().position(|&b| b == 0).unwrap_or(name.len());
        let name = std::str::from_utf8(&name[..end]).unwrap_or("");
        let did = match self {
            Did::Jump => "jumped to",
            Did::Return => "returned into",
            Did::Read => "read",
            Did::Write => "wrote to",
        };
        write!(f, "inkpot: thread {thread} ({name}) {did}")
    }
}

/// The word at an address, if it can be read.
fn word_at(address: u64) -> Option<u64> {
    // The kernel reads the mask before it looks at what to do with it, which is nothing.
    const NO_SUCH_THING_TO_DO: c_int = !0;
    // SAFETY: with this argument the call changes nothing, whatever the address.
    let outcome = unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            NO_SUCH_THING_TO_DO,
            address,
            ptr::null_mut::<c_void>(),
            8,
        )
    };
    // SAFETY: errno is this thread's own.
    let unreadable = outcome == -1 && unsafe { *libc::__errno_location() } == libc::EFAULT;
    // SAFETY: the kernel could read it, and it is this thread's stack.
    (!unreadable).then(|| unsafe { (address as *const u64).read_unaligned() })
}

/// Nanoseconds, shown as seconds.
struct Seconds(u64);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let microseconds = self.0 / 1000;
        let (whole, rest) = (microseconds / 1_000_000, microseconds % 1_000_000);
        write!(f, "{whole}.{rest:06} s")
    }
}

/// A line of text that needs no heap.
struct Text {
    bytes: [u8; 1024],
    len: usize,
}

impl Text {
    fn new() -> Self {
        Self {
            bytes: [0; 1024],
            len: 0,
        }
    }

    /// Writes it to the standard error, with the end of a line.
    fn print(&mut self) {
        let end = self.len.min(self.bytes.len() - 1);
        self.bytes[end] = b'\n';
        // SAFETY: the buffer is valid for its length. What cannot be written is lost.
        unsafe { libc::write(2, self.bytes.as_ptr().cast(), end + 1) };
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let room = self.bytes.len() - self.len;
        let taken = &text.as_bytes()[..text.len().min(room)];
        self.bytes[self.len..self.len + taken.len()].copy_from_slice(taken);
        self.len += taken.len();
        Ok(())
    }
}

/// Does with the signal what would have been done with it.
///
/// # Safety
/// In the handler, with what the kernel gave it.
unsafe fn pass_on(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let Some(before) = BEFORE.get() else { return };
    // SAFETY: the caller's promise.
    let fault = unsafe { is_fault(info) };
    match before.sa_sigaction {
        libc::SIG_IGN if !fault => {}
        // The kernel lets nobody ignore a fault.
        libc::SIG_DFL | libc::SIG_IGN => die(signal, fault),
        _ if SPENT.load(Ordering::Relaxed) => die(signal, fault),
        handler => {
            if before.sa_flags & libc::SA_RESETHAND != 0 {
                SPENT.store(true, Ordering::Relaxed);
            }
            // SAFETY: the mask is this thread's, until the kernel restores what it was when our
            // handler returns; the handler is of the type that its flag says.
            unsafe {
                libc::pthread_sigmask(libc::SIG_BLOCK, &before.sa_mask, ptr::null_mut());
                if before.sa_flags & libc::SA_NODEFER != 0 {
                    let mut own: libc::sigset_t = zeroed();
                    libc::sigaddset(&mut own, signal);
                    libc::pthread_sigmask(libc::SIG_UNBLOCK, &own, ptr::null_mut());
                }
                type Informed = unsafe extern "C" fn(c_int, *mut siginfo_t, *mut c_void);
                if before.sa_flags & libc::SA_SIGINFO != 0 {
                    std::mem::transmute::<usize, Informed>(handler)(signal, info, context);
                } else {
                    std::mem::transmute::<usize, unsafe extern "C" fn(c_int)>(handler)(signal);
                }
            }
        }
    }
}

/// The process is to end by the signal, as soon as the handler has returned.
fn die(signal: c_int, fault: bool) {
    // SAFETY: the default action; the signal is blocked until the handler returns.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
        if !fault {
            libc::raise(signal);
        }
        // Else the same instruction faults again.
    }
}
