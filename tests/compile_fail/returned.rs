//! An entry does not outlive its guard: it cannot be returned without it.
use inkpot::{Entry, Handle, Participant};

type Unary = unsafe extern "C" fn(i64) -> i64;

fn entry<'a>(handle: &Handle<u32, Unary>, me: &'a Participant) -> Entry<'a, Unary> {
    let guard = me.pin();
    handle.entry(&guard).unwrap()
}

fn main() {
    let _ = entry;
}
