//! Names that the program does not define: libc's, libm's, and what `run_ir` supplies in their place.

use crate::{c11, process, threads, timers};
use std::ffi::{CStr, CString, OsStr, c_void};
use std::os::unix::ffi::OsStrExt;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// The libraries that a C program is linked with by default.
const LIBRARIES: [&CStr; 3] = [c"libc.so.6", c"libm.so.6", c"libgcc_s.so.1"];

/// The address of a symbol of the C libraries.
pub fn find(name: &str) -> Option<*const ()> {
    process::supplied(name)
        .or_else(|| threads::supplied(name))
        .or_else(|| c11::supplied(name))
        .or_else(|| timers::supplied(name))
        .or_else(|| library_symbol(name))
}

/// Adds a shared library to those that names are looked up in.
pub fn load(library: impl AsRef<OsStr>) -> Result<(), String> {
    let name = CString::new(library.as_ref().as_bytes()).map_err(|error| error.to_string())?;
    // SAFETY: a library that the user asked for; its initialisers are the user's business.
    let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
    if handle.is_null() {
        // SAFETY: after a failure it returns a string, which stays until the next call.
        let reason = unsafe { CStr::from_ptr(libc::dlerror()) };
        return Err(reason.to_string_lossy().into_owned());
    }
    handles().push(handle as usize);
    Ok(())
}

/// The libraries that are looked in, by handle.
fn handles() -> MutexGuard<'static, Vec<usize>> {
    static HANDLES: OnceLock<Mutex<Vec<usize>>> = OnceLock::new();
    let handles = HANDLES.get_or_init(|| {
        let handles = LIBRARIES
            .iter()
            // SAFETY: libraries of the system, whose initialisers are harmless.
            .map(|library| unsafe { libc::dlopen(library.as_ptr(), libc::RTLD_NOW) } as usize)
            .filter(|handle| *handle != 0)
            .collect();
        Mutex::new(handles)
    });
    handles.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Looks in the libraries of C and in those that were loaded only: this process is also full of LLVM's and Rust's
/// names, which a native build of the program would not see.
fn library_symbol(name: &str) -> Option<*const ()> {
    let name = CString::new(name).ok()?;
    let own = handles()
        .iter()
        .find_map(|handle| lookup(*handle as *mut c_void, &name))
        .or_else(|| hidden(&name))?;
    // The default scope goes first where it knows the name: there a preloaded library, or a copy of a
    // variable that the executable keeps for itself, stands in front of the library's own.
    Some(lookup(libc::RTLD_DEFAULT, &name).unwrap_or(own))
}

/// Names that libgcc keeps for programs linked long ago, and has in its static part for others: what the processor
/// can do, which `__builtin_cpu_supports` asks for.
fn hidden(name: &CStr) -> Option<*const ()> {
    if ![c"__cpu_model", c"__cpu_indicator_init"].contains(&name) {
        return None;
    }
    // SAFETY: strings of C; looking runs nothing.
    let address = unsafe { libc::dlvsym(libc::RTLD_DEFAULT, name.as_ptr(), c"GCC_4.8.0".as_ptr()) };
    (!address.is_null()).then_some(address.cast_const().cast())
}

fn lookup(handle: *mut c_void, name: &CStr) -> Option<*const ()> {
    // SAFETY: a handle that is never closed, and a NUL-terminated name.
    let address = unsafe { libc::dlsym(handle, name.as_ptr()) };
    (!address.is_null()).then_some(address.cast_const().cast())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_functions_and_variables_of_libc_and_libm() {
        for name in [
            "printf", "qsort", "_setjmp", "stat", "stdout", "environ", "sin", "__divti3",
        ] {
            assert!(find(name).is_some(), "{name}");
        }
    }

    #[test]
    fn takes_exit_from_run_ir() {
        assert_ne!(find("exit"), library_symbol("exit"));
        assert!(find("atexit").is_some());
    }

    #[test]
    fn knows_nothing_of_the_process_besides() {
        for name in [
            "LLVMContextCreate",
            "_ZSt4cout",
            "rust_panic",
            "no_such_function",
        ] {
            assert_eq!(find(name), None, "{name}");
        }
    }
}
