//! A call of a resident method: by a handle under a held guard, by its canonical address, and by a pointer in
//! memory.

use std::hint::black_box;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use inkpot::{Guard, Handle};

use crate::measure::{Pair, nanoseconds};
use crate::methods::{self, Code, Name, Size};

const CALLS: u64 = 50_000;

/// Places in memory at which each loop stands: the same instructions take a tenth more or less by
/// how they lie in cache lines, which says nothing of either side.
const PLACES: usize = 16;

type ByHandle = fn(&Handle<Name, Code>, &Guard<'_>, u64);
type ByPointer = fn(&AtomicPtr<()>, u64);

macro_rules! places {
    ($function:ident: $($place:literal)*) => { [$($function::<$place>),*] };
}
const BY_HANDLE: [ByHandle; PLACES] = places!(by_handle: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
const BY_POINTER: [ByPointer; PLACES] = places!(by_pointer: 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);

pub fn resident() {
    with_method(|handle, guard, code| {
        let slot = AtomicPtr::new(code);
        let pair = Pair {
            name: "call_resident",
            ours: "entry and call",
            theirs: "load and call",
            unit: "ns, mean of 16 places",
        };
        pair.rounds(|| {
            let places = BY_HANDLE.iter().zip(BY_POINTER);
            let figures = places.map(|(by_handle, by_pointer)| {
                nanoseconds(
                    CALLS,
                    |n| by_handle(black_box(handle), black_box(guard), n),
                    |n| by_pointer(black_box(&slot), n),
                )
            });
            means(figures.collect())
        });
    });
}

/// The address leads to a jump through the method's cell, and that to the code.
pub fn canonical() {
    with_method(|handle, _guard, code| {
        let slots = [handle.address().cast_mut(), code].map(AtomicPtr::new);
        let pair = Pair {
            name: "canonical",
            ours: "load and call, by the canonical address",
            theirs: "by that of the code",
            unit: "ns, mean of 16 places",
        };
        pair.rounds(|| {
            let figures = BY_POINTER.iter().map(|by_pointer| {
                let [canonical, code] = &slots;
                nanoseconds(
                    CALLS,
                    |n| by_pointer(black_box(canonical), n),
                    |n| by_pointer(black_box(code), n),
                )
            });
            means(figures.collect())
        });
    });
}

/// The means of both sides.
fn means(figures: Vec<(f64, f64)>) -> (f64, f64) {
    let mean = |side: fn(&(f64, f64)) -> f64| figures.iter().map(side).sum::<f64>() / PLACES as f64;
    (mean(|f| f.0), mean(|f| f.1))
}

/// Runs `measure` with a tiny method, a guard, and the method's code, which is resident meanwhile.
fn with_method(measure: impl FnOnce(&Handle<Name, Code>, &Guard<'_>, *mut ())) {
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
    measure(&handle, &guard, code as *mut ());
}

/// Calls whose arguments are the earlier ones' results, as an interpreter's are.
#[inline(never)]
fn by_handle<const PLACE: usize>(handle: &Handle<Name, Code>, guard: &Guard<'_>, n: u64) {
    let mut x = 0;
    for _ in 0..n {
        let entry = handle.entry(guard).expect("nothing evicts it");
        // SAFETY: the type is right; a tiny method does not look at its object.
        x = unsafe { entry.call(std::ptr::null_mut(), x) };
    }
    pad::<PLACE>();
    assert_eq!(black_box(x), n as i64);
}

#[inline(never)]
fn by_pointer<const PLACE: usize>(slot: &AtomicPtr<()>, n: u64) {
    let mut x = 0;
    for _ in 0..n {
        let code = slot.load(Ordering::Acquire);
        // SAFETY: the slot holds the method's code or canonical address, of this type; the caller keeps both valid.
        x = unsafe { std::mem::transmute::<*mut (), Code>(code)(std::ptr::null_mut(), x) };
    }
    pad::<PLACE>();
    assert_eq!(black_box(x), n as i64);
}

/// Makes each place's function one of its own, of another length than the last.
#[inline(always)]
fn pad<const PLACE: usize>() {
    for i in 0..PLACE % 4 {
        black_box(i + PLACE);
    }
}
