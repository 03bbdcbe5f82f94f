//! Handlers that are registered for good need their code for good.

use std::ffi::c_void;
use std::sync::Once;

/// Sees to it that this crate is not unloaded, where it is part of a library that a host loads and unloads: handlers of
/// exits and of faults can be registered, and not be taken back.
pub(crate) fn for_good() {
    static ONCE: Once = Once::new();
    // SAFETY: `info` is plain old data, for which zero is a value, and read only where the call has filled it in; the
    // name that it points to is the loader's. Nothing is loaded that is not there.
    ONCE.call_once(|| unsafe {
        let mut info: libc::Dl_info = std::mem::zeroed();
        let here = for_good as *const () as *const c_void;
        if libc::dladdr(here, &mut info) != 0 && !info.dli_fname.is_null() {
            // Fails for the executable itself, which stays anyway.
            let mode = libc::RTLD_LAZY | libc::RTLD_NOLOAD | libc::RTLD_NODELETE;
            libc::dlopen(info.dli_fname, mode);
        }
    });
}
