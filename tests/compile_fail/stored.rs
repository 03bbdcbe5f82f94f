//! An entry cannot be kept beyond its guard.
use inkpot::{Handle, Participant};

type Unary = unsafe extern "C" fn(i64) -> i64;

fn call(handle: &Handle<u32, Unary>, me: &Participant) -> i64 {
    let kept;
    {
        let guard = me.pin();
        kept = handle.entry(&guard).unwrap();
    }
    // SAFETY: there is none.
    unsafe { kept.call(1) }
}

fn main() {
    let _ = call;
}
