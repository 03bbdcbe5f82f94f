//! Starts the program in a cache of its own, and sees it to its end.

use crate::frontend::{Key, Part, ProgramFrontend, Source};
use crate::handler_stack::HandlerStack;
use crate::instance::Instance;
use crate::options::{Options, PolicyName};
use crate::refuse::Refusal;
use crate::{crash, operators, process, side_by_side, signals, thread_locals, threads};
use inkpot::evict::{Lru, Sieve};
use inkpot::{BoxError, Cache, ContextRelease, DebugInfo, Error, Guard, Isolation, OptLevel, Tier};
use std::arch::global_asm;
use std::convert::Infallible;
use std::ffi::{CString, OsString, c_char, c_int};
use std::os::unix::ffi::OsStrExt;
use std::ptr;
use std::sync::Arc;

/// Runs the program, and ends with it; comes back only if it could not be started.
pub fn run(source: &Arc<Source>, options: &Options) -> Result<Infallible, BoxError> {
    native_signals();
    threads::take_key()?;
    let cache = signals::with_all_blocked(|| build(source, options))?;
    source.set_cache(cache.clone());
    threads::begin(cache.clone());
    if options.stats {
        let cache = cache.clone();
        process::at_end(move || print_statistics(&cache));
    }
    let alone = options.threads == 1;
    let instance = |number| Instance::new(source, number, alone);
    let instances: Vec<_> = (0..options.threads).map(instance).collect();
    source.set_instances(instances.clone());
    operators::begin(&instances, &cache)?;
    try_assembly(instances[0], &cache)?;
    let arguments = arguments(options);
    if alone {
        crash::watch();
        std::mem::forget(HandlerStack::of_this_thread()); // for as long as the process lives
        return live(instances[0], &cache, arguments);
    }
    let arguments = Shared(arguments);
    let live = move |instance: &'static Instance| {
        let Some(cache) = instance.source.cache() else {
            return String::new(); // it was set above
        };
        let Err(error) = live(instance, cache, arguments.get());
        error.to_string()
    };
    Ok(side_by_side::run(&instances, live, process::report)?)
}

/// `argc` and `argv`.
type Arguments = (c_int, *const *const c_char);

/// The arguments, for each instance's thread. (They are one list for all: a program that writes to its arguments would
/// be seen by the others.)
#[derive(Clone, Copy)]
struct Shared(Arguments);

impl Shared {
    fn get(self) -> Arguments {
        self.0
    }
}

// SAFETY: the list lives as long as the process, and whoever writes to it does so natively too.
unsafe impl Send for Shared {}

/// An instance, on its first thread, from beginning to end; comes back only if it could not be started.
fn live(
    instance: &'static Instance,
    cache: &Cache<Key>,
    (argc, argv): Arguments,
) -> Result<Infallible, BoxError> {
    let participant = threads::first(cache);
    // One guard for the whole run. The program's frames stand on it, and so do its exit handlers.
    let mut guard = participant.pin();
    place_globals(instance, cache, &mut guard)?;
    thread_locals::place(instance)?;
    // SAFETY: the environment that the program would find natively.
    let envp = unsafe { environ }.cast_const().cast();
    let lifecycle = &instance.source.apart.lifecycle;
    // They run after all that the program registers.
    for name in lifecycle.destructors.iter().rev() {
        process::after_all(instance, address(instance, cache, name)?);
    }
    instance.begin();
    let mut call = |name: &str| -> Result<c_int, Error> {
        let code = address(instance, cache, name)?;
        if let Some(key) = instance.source.key(instance.number, name) {
            // Compiled here, where a failure is an error and not the end.
            // SAFETY: it is called by its address only.
            unsafe { cache.method::<unsafe extern "C" fn()>(&key) }?.get(&mut guard)?;
        }
        // SAFETY: a function of C, of at most these parameters, called by a pinned thread.
        Ok(unsafe { run_ir_call(code, argc, argv, envp) })
    };
    for name in &lifecycle.constructors {
        call(name)?;
    }
    let code = call("main")?;
    // Not by returning: that would unpin the thread before the program's exit handlers run.
    process::exit(if instance.source.main_returns {
        code
    } else {
        0
    })
}

/// The address of a function, as the instance sees it.
fn address(instance: &Instance, cache: &Cache<Key>, name: &str) -> Result<*const (), Error> {
    match instance.source.key(instance.number, name) {
        // SAFETY: it is not called through this type.
        Some(key) => Ok(unsafe { cache.method::<unsafe extern "C" fn()>(&key) }?.address()),
        // Its labels outlive an activation: it stands with the globals.
        None => Ok(instance.address(name).unwrap_or(ptr::null())),
    }
}

unsafe extern "C-unwind" {
    /// Calls the program, as `main` is called.
    fn run_ir_call(
        code: *const (),
        argc: c_int,
        argv: *const *const c_char,
        envp: *const *const c_char,
    ) -> c_int;
}

// The unwinder knows nothing of this frame, so that it is the end of the stack: an exception that the program does
// not catch ends it by `std::terminate`, as natively, and never comes to the frames of Rust below.
global_asm!(
    ".globl run_ir_call",
    ".hidden run_ir_call",
    "run_ir_call:",
    "sub rsp, 8",
    "mov rax, rdi",
    "mov edi, esi",
    "mov rsi, rdx",
    "mov rdx, rcx",
    "call rax",
    "add rsp, 8",
    "ret",
);

fn build(source: &Arc<Source>, options: &Options) -> Result<Cache<Key>, Error> {
    let mut builder = Cache::builder(ProgramFrontend(source.clone()))
        .name("run_ir")
        .before_exit(process::exits_by_libc)
        .release_context(ContextRelease::AtSealing)
        .debug_info(match options.debug_info {
            true => DebugInfo::Kept,
            false => DebugInfo::Stripped,
        })
        .polls(true)
        .import(
            thread_locals::RUNTIME,
            thread_locals::address as extern "C" fn(u64) -> *mut u8 as *const (),
        )
        .opt_level(level(options));
    if options.tiers {
        // A program's `main`, or an interpreter's loop, is called once, and stays in the code that it began in.
        let baseline = Tier::baseline().pass_loops_on(true);
        builder = builder.tiers([baseline, Tier::new("optimised", level(options))]);
    }
    builder = match options.policy {
        PolicyName::Lru => builder.policy(Lru::new()),
        PolicyName::Sieve => builder.policy(Sieve::new()),
    };
    if let Some(bytes) = options.code_budget {
        builder = builder.code_budget(bytes);
    }
    // A function is the same when it is compiled again.
    builder = builder.stress(options.stress);
    if options.harden {
        builder = builder.branch_targets(true).pool_constants(true);
    }
    if options.isolate {
        builder = builder.isolation(Isolation::own_executable());
    }
    builder.build()
}

fn level(options: &Options) -> OptLevel {
    match options.opt {
        0 => OptLevel::O0,
        1 => OptLevel::O1,
        2 => OptLevel::O2,
        _ => OptLevel::O3,
    }
}

/// Compiles the instance's globals, for ever, and learns where they are.
fn place_globals(
    instance: &Instance,
    cache: &Cache<Key>,
    guard: &mut Guard<'_>,
) -> Result<(), Error> {
    let key = Key {
        instance: instance.number,
        part: Part::Globals,
    };
    // SAFETY: the type that `program` gave the function of the globals' piece.
    let globals = unsafe { cache.method::<unsafe extern "C" fn() -> *const *const ()>(&key) }?;
    let entry = globals.get(guard)?;
    // SAFETY: it takes nothing and returns the table.
    unsafe { instance.set_addresses(entry.call()) };
    Ok(())
}

/// Compiles the functions with inline assembly: what is wrong in it shows only there, and a program is refused before
/// it starts or not at all.
fn try_assembly(instance: &Instance, cache: &Cache<Key>) -> Result<(), BoxError> {
    let source = &instance.source;
    if source.assembly.is_empty() {
        return Ok(());
    }
    let participant = cache.participant("who looks at assembly");
    let mut guard = participant.pin();
    let key = |name: &str| source.key(instance.number, name);
    let (methods, kept): (Vec<_>, Vec<_>) =
        source.assembly.iter().partition(|name| key(name).is_some());
    assembled(&kept, place_globals(instance, cache, &mut guard))?;
    for name in methods {
        if let Some(key) = key(name) {
            // SAFETY: it is not called.
            let method = unsafe { cache.method::<unsafe extern "C" fn()>(&key) }?;
            assembled(&[name], method.get(&mut guard).map(drop))?;
        }
    }
    Ok(())
}

/// Refuses a program for these functions, if no code could be generated for them.
fn assembled(functions: &[&String], compiled: Result<(), Error>) -> Result<(), BoxError> {
    compiled.map_err(|error| match &error {
        Error::Codegen { message, .. } if !functions.is_empty() => {
            Refusal::of_assembly(message, functions).into()
        }
        _ => error.into(),
    })
}

unsafe extern "C" {
    /// The environment, as `main`'s third parameter has it.
    static environ: *mut *mut c_char;
}

/// `argc` and `argv`, which live as long as the program and end with a null.
fn arguments(options: &Options) -> Arguments {
    let file = options.file.as_os_str();
    let words = std::iter::once(file).chain(options.arguments.iter().map(OsString::as_os_str));
    let mut argv: Vec<*const c_char> = words
        // A word from a command line holds no NUL.
        .filter_map(|word| CString::new(word.as_bytes()).ok())
        .map(|word| word.into_raw().cast_const())
        .collect();
    let argc = argv.len() as c_int;
    argv.push(ptr::null());
    (argc, argv.leak().as_ptr())
}

/// Rust ignores SIGPIPE and catches stack overflows; a C program expects neither.
fn native_signals() {
    for signal in [libc::SIGPIPE, libc::SIGSEGV, libc::SIGBUS] {
        // SAFETY: the default disposition.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
    }
}

fn print_statistics(cache: &Cache<Key>) {
    match serde_json::to_string(&cache.statistics()) {
        Ok(line) => eprintln!("{line}"),
        Err(error) => eprintln!("run_ir: no statistics: {error}"),
    }
}
