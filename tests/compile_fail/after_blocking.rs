//! A thread that blocks is not pinned meanwhile: entries loaded before are over.
use inkpot::{Handle, Participant};

type Unary = unsafe extern "C" fn(i64) -> i64;

fn call(handle: &Handle<u32, Unary>, me: &Participant) -> i64 {
    let mut guard = me.pin();
    let old = handle.entry(&guard).unwrap();
    guard.blocking(|| ()).unwrap();
    // SAFETY: there is none.
    unsafe { old.call(1) }
}

fn main() {
    let _ = call;
}
