//! Memory that is made up: what a checker has for the system's.
//!
//! A reservation is ordinary memory, which can be read and written all the time. What the system would let a thread do
//! with a page is noted beside it, and a test that plays the processor asks before it touches any: so a call that
//! comes too late is a finding, and not the end of the process. A page that is taken away is overwritten.

use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::code::PAGE;

/// What fills memory that nobody has: no instruction that anybody would meet by accident.
const GONE: u8 = 0xce;

/// What can be done with a page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Page {
    /// It can be written.
    pub writable: bool,
    /// It can be run.
    pub executable: bool,
    /// Mappings so far, when this one was made: tells it from others that were at the same address.
    pub serial: u64,
}

#[derive(Default)]
struct Memory {
    pages: BTreeMap<u64, Page>,
    /// Whoever calls code reads what stands for its page here; to map and to unmap it is to write it.
    #[cfg(feature = "_loom")]
    touched: BTreeMap<u64, std::rc::Rc<loom::cell::UnsafeCell<()>>>,
    serial: u64,
}

// All threads of a checker are one to the system.
std::thread_local! {
    static MEMORY: RefCell<Memory> = RefCell::default();
}

/// Maps pages, in place of what was there.
pub(in crate::code) fn map(address: u64, len: u64, writable: bool, executable: bool) {
    assert!(
        !(writable && executable),
        "memory is written or run, not both"
    );
    MEMORY.with_borrow_mut(|memory| {
        memory.serial += 1;
        let page = Page {
            writable,
            executable,
            serial: memory.serial,
        };
        for at in (address..address + len).step_by(PAGE as usize) {
            memory.pages.insert(at, page);
            #[cfg(feature = "_loom")]
            memory.touched.insert(at, std::rc::Rc::default());
        }
    });
}

/// Takes pages away.
pub(in crate::code) fn unmap(address: u64, len: u64) {
    let gone: Vec<u64> = MEMORY.with_borrow_mut(|memory| {
        let gone = memory.pages.range(address..address + len);
        let gone = gone.map(|(&at, _)| at).collect::<Vec<_>>();
        for at in &gone {
            memory.pages.remove(at);
            #[cfg(feature = "_loom")]
            if let Some(page) = memory.touched.remove(at) {
                page.with_mut(|_| ());
            }
        }
        gone
    });
    for at in gone {
        // SAFETY: a page of a reservation, which is memory that can be written as long as that is there. Who is
        // said to have had it has it no more.
        unsafe { std::ptr::write_bytes(at as *mut u8, GONE, PAGE as usize) };
    }
}

/// Forgets what an earlier run has left.
#[allow(dead_code, reason = "for tests that play the processor")]
pub fn forget() {
    MEMORY.take();
}

/// Pages that there are.
#[allow(dead_code, reason = "for tests that play the processor")]
pub fn pages() -> usize {
    MEMORY.with_borrow(|memory| memory.pages.len())
}

/// What is noted of the page that an address lies in.
#[allow(dead_code, reason = "for tests that play the processor")]
pub fn page(address: u64) -> Option<Page> {
    MEMORY.with_borrow(|memory| memory.pages.get(&(address / PAGE * PAGE)).copied())
}

/// The bytes at an address, all of one mapping; `None` if the system would not let them be read.
#[allow(dead_code, reason = "for tests that play the processor")]
pub fn read<const N: usize>(address: u64) -> Option<[u8; N]> {
    let first = page(address)?;
    (page(address + N as u64 - 1)? == first).then(|| {
        // SAFETY: both pages are of a reservation, so all between is memory that can be read.
        unsafe { (address as *const [u8; N]).read_unaligned() }
    })
}

/// Calls code at an address: that it is there, and that its being unmapped is ordered after this, is checked.
#[cfg(feature = "_loom")]
#[track_caller]
#[allow(dead_code, reason = "for models")]
pub fn call(address: u64) {
    let at = address / PAGE * PAGE;
    let page = MEMORY.with_borrow(|memory| memory.touched.get(&at).cloned());
    assert!(
        page.is_some() && self::page(at).is_some_and(|page| page.executable),
        "a call of nothing"
    );
    page.into_iter().for_each(|page| page.with(|_| ()));
}
