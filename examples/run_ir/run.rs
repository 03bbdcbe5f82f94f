//! Starts the program in a cache of its own, and sees it to its end.

use crate::frontend::{Key, ProgramFrontend, Source};
use crate::options::{Options, PolicyName};
use crate::process;
use inkpot::evict::{Lru, Sieve};
use inkpot::{Cache, Error, Guard, OptLevel, Stress};
use std::convert::Infallible;
use std::ffi::{CString, c_char, c_int};
use std::ptr;
use std::sync::Arc;

/// `main` as it is called: by C's calling convention one that takes fewer arguments does not mind the others.
type Main = unsafe extern "C" fn(c_int, *const *const c_char, *const *const c_char) -> c_int;

/// Runs the program, and ends with it; comes back only if it could not be started.
///
/// `returns`: whether `main` returns its exit code.
pub fn run(source: &Arc<Source>, options: &Options, returns: bool) -> Result<Infallible, Error> {
    native_signals();
    let cache = build(source, options)?;
    source.set_cache(cache.clone());
    if options.stats {
        let cache = cache.clone();
        process::at_end(move || print_statistics(&cache));
    }
    let participant = cache.participant("the program");
    // One guard for the whole run. The program's frames stand on it, and so do its exit handlers.
    let mut guard = participant.pin();
    place_globals(source, &cache, &mut guard)?;
    let (argc, argv) = arguments(options);
    // SAFETY: the environment that the program would find natively.
    let envp = unsafe { environ }.cast_const().cast();
    let code = match source.key("main") {
        Some(key) => {
            // SAFETY: `main` is a C function; its parameters were checked.
            let main = unsafe { cache.method::<Main>(&key) }?;
            let entry = main.get(&mut guard)?;
            // SAFETY: as above, with the arguments that C promises.
            unsafe { entry.call(argc, argv, envp) }
        }
        None => {
            // Its labels outlive an activation: it stands with the globals.
            let address = source.address("main").unwrap_or(ptr::null());
            // SAFETY: the code of `main`, kept as long as the program, called by a pinned thread.
            unsafe { std::mem::transmute::<*const (), Main>(address)(argc, argv, envp) }
        }
    };
    // Not by returning: that would unpin the thread before the program's exit handlers run.
    process::exit(if returns { code } else { 0 })
}

fn build(source: &Arc<Source>, options: &Options) -> Result<Cache<Key>, Error> {
    let mut builder = Cache::builder(ProgramFrontend(source.clone()))
        .name("run_ir")
        .opt_level(match options.opt {
            0 => OptLevel::O0,
            1 => OptLevel::O1,
            2 => OptLevel::O2,
            _ => OptLevel::O3,
        });
    builder = match options.policy {
        PolicyName::Lru => builder.policy(Lru::new()),
        PolicyName::Sieve => builder.policy(Sieve::new()),
    };
    if let Some(bytes) = options.code_budget {
        builder = builder.code_budget(bytes);
    }
    if options.stress {
        builder = builder.stress(Stress::a_lot());
    }
    builder.build()
}

/// Compiles the globals, for ever, and learns where they are.
fn place_globals(source: &Source, cache: &Cache<Key>, guard: &mut Guard<'_>) -> Result<(), Error> {
    // SAFETY: the type that `program` gave the function of the globals' piece.
    let globals =
        unsafe { cache.method::<unsafe extern "C" fn() -> *const *const ()>(&Key::Globals) }?;
    // The program has no end at which its data could go.
    std::mem::forget(globals.keep());
    let entry = globals.get(guard)?;
    // SAFETY: it takes nothing and returns the table.
    unsafe { source.set_addresses(entry.call()) };
    // Functions come and go: they shall not share a generation with what stays.
    cache.seal();
    Ok(())
}

unsafe extern "C" {
    /// The environment, as `main`'s third parameter has it.
    static environ: *mut *mut c_char;
}

/// `argc` and `argv`, which live as long as the program and end with a null.
fn arguments(options: &Options) -> (c_int, *const *const c_char) {
    let file = options.file.to_string_lossy().into_owned();
    let words = std::iter::once(file).chain(options.arguments.iter().cloned());
    let mut argv: Vec<*const c_char> = words
        // A word from a command line holds no NUL.
        .filter_map(|word| CString::new(word).ok())
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
