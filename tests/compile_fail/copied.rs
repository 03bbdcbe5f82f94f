//! The bare pointer comes out by unsafe code only.
use inkpot::{Handle, Participant};

type Unary = unsafe extern "C" fn(i64) -> i64;

fn copy(handle: &Handle<u32, Unary>, me: &Participant) -> Unary {
    let guard = me.pin();
    handle.entry(&guard).unwrap().pointer()
}

fn main() {
    let _ = copy;
}
