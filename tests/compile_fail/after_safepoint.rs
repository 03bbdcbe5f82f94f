//! A safepoint ends the quantum: entries loaded before are over.
use inkpot::{Handle, Participant};

type Unary = unsafe extern "C" fn(i64) -> i64;

fn call(handle: &Handle<u32, Unary>, me: &Participant) -> i64 {
    let mut guard = me.pin();
    let old = handle.entry(&guard).unwrap();
    guard.safepoint();
    // SAFETY: there is none.
    unsafe { old.call(1) }
}

fn main() {
    let _ = call;
}
