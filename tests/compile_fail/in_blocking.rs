//! Nor can entries be loaded, or called, by the guard while it blocks.
use inkpot::{Handle, Participant};

type Unary = unsafe extern "C" fn(i64) -> i64;

fn load(handle: &Handle<u32, Unary>, me: &Participant) -> bool {
    let mut guard = me.pin();
    guard.blocking(|| handle.entry(&guard).is_some()).unwrap()
}

fn main() {
    let _ = load;
}
