//! What is done when LLVM crashes on a file.
//!
//! Its readers, and its passes, are made for what LLVM wrote. A damaged file can make them read wild pointers, run out
//! of stack, or give up by `abort`. Nothing of the program runs yet, so there is nothing to lose: the process ends with
//! a message. To try in a child process first would also tell, but double the time to start.

use inkwell::llvm_sys::error_handling::{LLVMInstallFatalErrorHandler, LLVMResetFatalErrorHandler};
use std::ffi::{CStr, c_char, c_int};

/// The signals by which LLVM dies of input that its authors did not think of.
const CRASHES: [c_int; 6] = [
    libc::SIGSEGV,
    libc::SIGBUS,
    libc::SIGILL,
    libc::SIGFPE,
    libc::SIGABRT,
    // What stands behind calls of which LLVM is sure that they do not return.
    libc::SIGTRAP,
];

/// Room for the handler when the reader has run out of stack.
const HANDLER_STACK: usize = 64 << 10;

/// Turns a crash of LLVM's into a message and exit code 2, while it lives.
pub struct Watch {
    before: Vec<libc::sigaction>,
    stack_before: libc::stack_t,
    stack: Vec<u8>,
}

impl Watch {
    /// Begins to watch.
    pub fn start() -> Watch {
        // SAFETY: plain old data, for which zero is a value.
        let (mut watch, mut action): (Watch, libc::sigaction) = unsafe {
            let stack_before = std::mem::zeroed();
            let stack = vec![0; HANDLER_STACK];
            (
                Watch {
                    before: Vec::new(),
                    stack_before,
                    stack,
                },
                std::mem::zeroed(),
            )
        };
        let stack = libc::stack_t {
            ss_sp: watch.stack.as_mut_ptr().cast(),
            ss_flags: 0,
            ss_size: watch.stack.len(),
        };
        action.sa_sigaction = give_up as extern "C" fn(c_int) as usize;
        action.sa_flags = libc::SA_ONSTACK;
        // SAFETY: the stack lives until `drop` has put the old one back; the handler only calls what is safe in
        // a signal handler; the fatal error handler does not return.
        unsafe {
            libc::sigaltstack(&stack, &mut watch.stack_before);
            for signal in CRASHES {
                let mut before = std::mem::zeroed();
                libc::sigaction(signal, &action, &mut before);
                watch.before.push(before);
            }
            LLVMInstallFatalErrorHandler(Some(fatal));
        }
        watch
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // SAFETY: puts back what `start` found.
        unsafe {
            LLVMResetFatalErrorHandler();
            for (signal, before) in CRASHES.into_iter().zip(&self.before) {
                libc::sigaction(signal, before, std::ptr::null_mut());
            }
            libc::sigaltstack(&self.stack_before, std::ptr::null_mut());
        }
    }
}

extern "C" fn give_up(_signal: c_int) {
    let message = b"run_ir: not a valid program: LLVM crashed on it\n";
    // SAFETY: both are async-signal-safe; nothing of this process is to be trusted any more.
    unsafe {
        libc::write(2, message.as_ptr().cast(), message.len());
        libc::_exit(2);
    }
}

extern "C" fn fatal(reason: *const c_char) {
    // SAFETY: LLVM gives a NUL-terminated string.
    let reason = unsafe { CStr::from_ptr(reason) }.to_string_lossy();
    eprintln!("run_ir: not a valid program: {reason}");
    // SAFETY: ends the process without running destructors of the LLVM that just gave up.
    unsafe { libc::_exit(2) }
}
