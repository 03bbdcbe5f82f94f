//! A call of a resident method: by a handle under a held guard, and by a pointer in memory.

use std::hint::black_box;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use inkpot::{Guard, Handle};

use crate::measure::{Pair, nanoseconds};
use crate::methods::{self, Code, Name, Size};

const CALLS: u64 = 200_000;

pub fn run() {
    static EMITTING: AtomicU64 = AtomicU64::new(0);
    let cache = methods::builder(&EMITTING).build().expect("a cache");
    let name = Name {
        size: Size::Tiny,
        number: 1,
    };
    let handle = methods::handle(&cache, name);
    let participant = cache.participant("caller");
    let mut guard = participant.pin();
    let entry = handle.get(&mut guard).expect("it compiles");
    // SAFETY: the guard is held to the end of this function, and nothing evicts the method.
    let code = unsafe { entry.pointer() };
    let slot = AtomicPtr::new(code as *mut ());
    let pair = Pair {
        name: "call_resident",
        ours: "entry and call",
        theirs: "load and call",
        unit: "ns",
    };
    pair.rounds(|| {
        nanoseconds(
            CALLS,
            |n| by_handle(black_box(&handle), black_box(&guard), n),
            |n| by_pointer(black_box(&slot), n),
        )
    });
}

/// Calls whose arguments are the earlier ones' results, as an interpreter's are.
#[inline(never)]
fn by_handle(handle: &Handle<Name, Code>, guard: &Guard<'_>, n: u64) {
    let mut x = 0;
    for _ in 0..n {
        let entry = handle.entry(guard).expect("nothing evicts it");
        // SAFETY: the type is right; a tiny method does not look at its object.
        x = unsafe { entry.call(std::ptr::null_mut(), x) };
    }
    assert_eq!(black_box(x), n as i64);
}

#[inline(never)]
fn by_pointer(slot: &AtomicPtr<()>, n: u64) {
    let mut x = 0;
    for _ in 0..n {
        let code = slot.load(Ordering::Acquire);
        // SAFETY: the slot holds the method's code, of this type, which the caller keeps.
        x = unsafe { std::mem::transmute::<*mut (), Code>(code)(std::ptr::null_mut(), x) };
    }
    assert_eq!(black_box(x), n as i64);
}
