//! An entry that may lead to a fallback lives no longer than the handle.
use inkpot::{Handle, Participant};

type Unary = unsafe extern "C" fn(i64) -> i64;

fn call(handle: Handle<u32, Unary>, me: &Participant) -> i64 {
    let guard = me.pin();
    let entry = handle.entry_or_fallback(&guard);
    drop(handle);
    // SAFETY: there is none.
    unsafe { entry.call(1) }
}

fn main() {
    let _ = call;
}
