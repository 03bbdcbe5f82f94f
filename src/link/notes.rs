//! Where libgcc notes what it knows of registered tables.
//!
//! Before 13 it strings these notes together, and goes through them for each frame that is unwound: by
//! address from the highest down to the frame's. With thousands of generations that is thousands
//! of loads, each of which waits for the one before. So notes stand side by side, in memory of
//! their own, where they stay in the processor's nearer caches: anywhere on the heap, each would be
//! a miss.

use std::sync::PoisonError;

use crate::sync::plain::Mutex;

/// Room for libgcc's `struct object`, which has six or seven words: all that it reads is in one line of the cache.
#[derive(Clone, Copy, Default)]
#[repr(C, align(64))]
pub(super) struct Note {
    _words: [u64; 16],
}

/// Notes that are made at once: 64 KiB.
const AT_ONCE: usize = 512;

struct Free(Vec<*mut Note>);

// SAFETY: who takes a pointer out is alone with what it points to.
unsafe impl Send for Free {}

/// Notes that nobody has. They are used again, and their memory is never freed: there are as many as tables
/// were known at the same time. Locked only while the process does not fork, as all that links and
/// recycles is.
static FREE: Mutex<Free> = Mutex::new(Free(Vec::new()));

/// A note for the caller alone, all zeros, until it is given back.
pub(super) fn take() -> *mut Note {
    let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
    if free.0.is_empty() {
        let more = Box::leak(vec![Note::default(); AT_ONCE].into_boxed_slice());
        // The first is taken first.
        free.0.extend(more.iter_mut().rev().map(std::ptr::from_mut));
    }
    let note = free.0.pop().expect("there are some now");
    // SAFETY: of those that were made here, and in nobody else's hands. The memory is never freed.
    unsafe { note.write(Note::default()) };
    note
}

/// # Safety
/// It was taken, and nobody reads or writes it any more.
pub(super) unsafe fn give_back(note: *mut Note) {
    let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
    free.0.push(note);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_is_zero_and_nobody_elses() {
        let notes: Vec<_> = (0..2 * AT_ONCE).map(|_| take()).collect();
        for &note in &notes {
            assert_eq!(note as usize % 64, 0);
            // SAFETY: taken above; all of it is words.
            unsafe {
                let words = note.cast::<[u64; 16]>();
                assert_eq!(*words, [0; 16], "new, or as new");
                *words = [note as u64; 16];
            }
        }
        for note in notes {
            // SAFETY: as above, and not used from here on.
            unsafe {
                assert_eq!(
                    *note.cast::<[u64; 16]>(),
                    [note as u64; 16],
                    "nobody else wrote to it"
                );
                give_back(note);
            }
        }
    }
}
