//! Names that the program does not define: libc's, libm's, and what `run_ir` supplies in their place.

use crate::process;
use std::ffi::{CStr, CString, c_void};
use std::sync::OnceLock;

/// The libraries that a C program is linked with by default.
const LIBRARIES: [&CStr; 3] = [c"libc.so.6", c"libm.so.6", c"libgcc_s.so.1"];

/// The address of a symbol of the C libraries.
pub fn find(name: &str) -> Option<*const ()> {
    process::supplied(name).or_else(|| library_symbol(name))
}

/// Looks in the libraries of [`LIBRARIES`] only: this process is also full of LLVM's and Rust's names, which a
/// native build of the program would not see.
fn library_symbol(name: &str) -> Option<*const ()> {
    static HANDLES: OnceLock<Vec<usize>> = OnceLock::new();
    let handles = HANDLES.get_or_init(|| {
        LIBRARIES
            .iter()
            // SAFETY: libraries of the system, whose initialisers are harmless.
            .map(|library| unsafe { libc::dlopen(library.as_ptr(), libc::RTLD_NOW) } as usize)
            .filter(|handle| *handle != 0)
            .collect()
    });
    let name = CString::new(name).ok()?;
    let own = handles
        .iter()
        .find_map(|handle| lookup(*handle as *mut c_void, &name))?;
    // The default scope goes first where it knows the name: there a preloaded library, or a copy of a
    // variable that the executable keeps for itself, stands in front of the library's own.
    Some(lookup(libc::RTLD_DEFAULT, &name).unwrap_or(own))
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
