//! Memory for things of one size, close together: they are looked at in no order, so what counts is how many cache lines
//! and pages they are spread over. What is given back is used again, and goes back to the system with the last.

use std::mem::MaybeUninit;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::sync::plain::{Mutex, MutexGuard};

/// Things in the first chunk, and in the largest: each has as many as all before it.
const FIRST: usize = 32;
const LARGEST: usize = 1024;

/// See the module's documentation.
pub(super) struct Slab<T> {
    memory: Mutex<Memory<T>>,
    /// Read without the lock: a forked child may not wait for it.
    taken: AtomicUsize,
}

struct Memory<T> {
    free: Vec<*mut T>,
    /// From boxes.
    chunks: Vec<*mut [MaybeUninit<T>]>,
    /// Places in all of them.
    len: usize,
}

// SAFETY: only memory is shared; what is put into it is the caller's, and goes from thread to thread with it.
unsafe impl<T: Send> Send for Slab<T> {}
// SAFETY: as above.
unsafe impl<T: Send> Sync for Slab<T> {}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self {
            memory: Mutex::new(Memory {
                free: Vec::new(),
                chunks: Vec::new(),
                len: 0,
            }),
            taken: AtomicUsize::new(0),
        }
    }
}

impl<T> Slab<T> {
    fn lock(&self) -> MutexGuard<'_, Memory<T>> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a thing where it stays until it is dropped in place, and its place is given back. Valid for as long as the slab.
    pub(super) fn put(&self, thing: T) -> *mut T {
        let mut memory = self.lock();
        if memory.free.is_empty() {
            memory.grow();
        }
        let place = memory.free.pop().expect("it has just grown");
        // SAFETY: it lies in a chunk, which lives as long as this, and nobody else has it.
        unsafe { place.write(thing) };
        self.taken.fetch_add(1, Ordering::Relaxed);
        place
    }

    /// How many places are taken.
    pub(super) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    /// # Safety
    /// They came from [`Slab::put`], are not given back twice, and what was in them has been dropped.
    pub(super) unsafe fn give_back(&self, places: Vec<*mut T>) {
        self.taken.fetch_sub(places.len(), Ordering::Relaxed);
        self.lock().free.extend(places);
    }
}

impl<T> Memory<T> {
    fn grow(&mut self) {
        let many = self.len.clamp(FIRST, LARGEST);
        let chunk: *mut [MaybeUninit<T>] = Box::into_raw(Box::new_uninit_slice(many));
        let first: *mut T = chunk.cast();
        // The lowest is taken first.
        let places = (0..many).rev().map(|i| first.wrapping_add(i));
        self.free.extend(places);
        self.chunks.push(chunk);
        self.len += many;
    }
}

impl<T> Drop for Memory<T> {
    fn drop(&mut self) {
        for chunk in &self.chunks {
            // SAFETY: it came from a box; whoever has put something into it has done with that.
            drop(unsafe { Box::from_raw(*chunk) });
        }
    }
}
