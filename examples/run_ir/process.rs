//! The end of a program: `exit`, `atexit` and their kin.
//!
//! `run_ir` supplies them itself. A program's handlers are methods, to be called while the thread is pinned and
//! the cache is there; libc would call them after all that is gone. Whoever calls `exit` is in the program, and so
//! pinned: the handlers run right there, on top of it, and no frame is unwound. Where libc itself exits (`err`, say),
//! the cache tells of it first: [`exits_by_libc`].

use crate::instance::{self, Instance};
use crate::threads;
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};

/// What the program wants called at its end.
#[derive(Clone, Copy)]
enum Handler {
    Plain(extern "C-unwind" fn()),
    WithArgument(extern "C-unwind" fn(*mut c_void), usize),
    WithStatus(extern "C-unwind" fn(c_int, *mut c_void), usize),
}

/// Handlers of an instance, newest last.
#[derive(Default)]
pub struct Handlers(Mutex<Vec<Handler>>);

static REPORT: OnceLock<Box<dyn Fn() + Send + Sync>> = OnceLock::new();

/// What `__dso_handle` names: only its address counts.
static DSO_HANDLE: u8 = 0;

/// Sets what runs between the program's last handler and the end of the process.
pub fn at_end(report: impl Fn() + Send + Sync + 'static) {
    // A second report is ignored: there is one program, and it ends once.
    let _ = REPORT.set(Box::new(report));
}

/// Calls a function of the instance's when all that it registers has run; of several, the last one first.
///
/// To be called before the instance starts.
pub fn after_all(instance: &Instance, function: *const ()) {
    // SAFETY: a destructor of the program's: it takes nothing.
    let function = unsafe { std::mem::transmute::<*const (), extern "C-unwind" fn()>(function) };
    push(&instance.at_exit, Handler::Plain(function));
}

/// The functions that stand in for libc's of the same name.
pub fn supplied(name: &str) -> Option<*const ()> {
    Some(match name {
        "exit" => exit as extern "C-unwind" fn(c_int) -> ! as *const (),
        "quick_exit" => quick_exit as extern "C-unwind" fn(c_int) -> ! as *const (),
        "atexit" => atexit as extern "C-unwind" fn(extern "C-unwind" fn()) -> c_int as *const (),
        "at_quick_exit" => {
            at_quick_exit as extern "C-unwind" fn(extern "C-unwind" fn()) -> c_int as *const ()
        }
        "__cxa_atexit" => cxa_atexit as *const (),
        "on_exit" => on_exit as *const (),
        "__dso_handle" => (&raw const DSO_HANDLE).cast(),
        _ => return None,
    })
}

/// Ends the instance: its handlers, newest first; and the process, if it is the only one.
///
/// A handler may register others, and may call `exit`: then the rest of the handlers run there.
pub extern "C-unwind" fn exit(code: c_int) -> ! {
    let instance = instance::of_program();
    threads::run_destructors();
    run(&instance.at_exit, code);
    if !instance.alone {
        end(code);
    }
    flush_and_report();
    // SAFETY: the program is over, and so is this process.
    unsafe { libc::exit(code) }
}

/// Something in libc calls its own `exit` (`err`, say), on this thread. The cache still compiles.
///
/// Side by side no such program runs.
pub fn exits_by_libc(code: c_int) {
    let alone = instance::current().filter(|instance| instance.alone);
    if let Some(instance) = alone.filter(|_| !is_over()) {
        threads::run_destructors();
        run(&instance.at_exit, code);
        flush_and_report();
    }
}

/// The only instance's handlers have run, and what comes after them has begun.
static OVER: AtomicBool = AtomicBool::new(false);

/// Whether the program has ended, and what runs is this process's own.
pub fn is_over() -> bool {
    OVER.load(Ordering::Acquire)
}

fn flush_and_report() {
    if !OVER.swap(true, Ordering::AcqRel) {
        // SAFETY: flushes all of the program's streams; their order with what we print is the native one.
        unsafe { libc::fflush(std::ptr::null_mut()) };
        report();
    }
}

/// Runs what [`at_end`] was given.
pub fn report() {
    if let Some(report) = REPORT.get() {
        report();
    }
}

extern "C-unwind" fn quick_exit(code: c_int) -> ! {
    let instance = instance::of_program();
    run(&instance.at_quick_exit, code);
    if !instance.alone {
        end(code);
    }
    // SAFETY: as natively, nothing is flushed.
    unsafe { libc::_exit(code) }
}

/// Ends an instance that runs beside others. Its thread goes no further: its frames are in code, and in Rust, that
/// nothing could take down in order. What they are inside of stays; everything else can be reclaimed.
pub fn end(code: c_int) -> ! {
    instance::of_program().finish(Ok(code & 0xff));
    threads::stay_for_ever()
}

/// Pops one handler at a time: none runs twice, and the lock is free while one runs.
fn run(handlers: &Handlers, code: c_int) {
    while let Some(handler) = pop(handlers) {
        match handler {
            Handler::Plain(function) => function(),
            Handler::WithArgument(function, argument) => function(argument as *mut c_void),
            Handler::WithStatus(function, argument) => function(code, argument as *mut c_void),
        }
    }
}

fn pop(handlers: &Handlers) -> Option<Handler> {
    handlers.0.lock().ok()?.pop()
}

/// 0 for done, as libc's functions answer.
fn push(handlers: &Handlers, handler: Handler) -> c_int {
    match handlers.0.lock() {
        Ok(mut handlers) => {
            handlers.push(handler);
            0
        }
        Err(_) => -1,
    }
}

extern "C-unwind" fn atexit(function: extern "C-unwind" fn()) -> c_int {
    push(&instance::of_program().at_exit, Handler::Plain(function))
}

extern "C-unwind" fn at_quick_exit(function: extern "C-unwind" fn()) -> c_int {
    push(
        &instance::of_program().at_quick_exit,
        Handler::Plain(function),
    )
}

extern "C-unwind" fn cxa_atexit(
    function: extern "C-unwind" fn(*mut c_void),
    argument: *mut c_void,
    _dso: *mut c_void,
) -> c_int {
    push(
        &instance::of_program().at_exit,
        Handler::WithArgument(function, argument as usize),
    )
}

extern "C-unwind" fn on_exit(
    function: extern "C-unwind" fn(c_int, *mut c_void),
    argument: *mut c_void,
) -> c_int {
    push(
        &instance::of_program().at_exit,
        Handler::WithStatus(function, argument as usize),
    )
}
