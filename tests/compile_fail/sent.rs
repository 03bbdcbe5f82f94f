//! Another thread is not pinned: an entry cannot go there, not even to a scoped one.
use inkpot::{Handle, Participant};

type Unary = unsafe extern "C" fn(i64) -> i64;

fn call(handle: &Handle<u32, Unary>, me: &Participant) {
    let guard = me.pin();
    let entry = handle.entry(&guard).unwrap();
    std::thread::scope(|scope| {
        // SAFETY: there is none.
        scope.spawn(move || unsafe { entry.call(1) });
    });
}

fn main() {
    let _ = call;
}
