//! What was linked into one slot: a list that only grows, in chunks that never move, so that readers need no lock.

use crate::sync::fault::order;
use crate::sync::life;
use crate::sync::of_process::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::ptr;

/// Entries in a list's first chunk; each further one has twice as many as the last.
const FIRST_CHUNK: usize = if cfg!(feature = "_loom") { 1 } else { 8 };
/// Chunks for more functions than a slot can hold, which are 16 bytes apart.
const CHUNKS: usize = 10;

pub(super) struct Entry {
    pub(super) begin: u64,
    pub(super) size: u64,
    pub(super) name: Box<str>,
    /// 0, or when it was unlinked and, in the lowest bits, why.
    pub(super) unlinked: AtomicU64,
}

/// What was linked into one slot.
pub(super) struct List {
    pub(super) generation: u64,
    len: AtomicUsize,
    chunks: [AtomicPtr<Entry>; CHUNKS],
    /// 0 while it is mapped.
    pub(super) unmapped: AtomicU64,
}

/// The chunk of entry `i`, and its place there.
fn position(i: usize) -> (usize, usize) {
    let chunk = (i / FIRST_CHUNK + 1).ilog2() as usize;
    (chunk, i - FIRST_CHUNK * ((1 << chunk) - 1))
}

fn chunk_len(chunk: usize) -> usize {
    FIRST_CHUNK << chunk
}

impl List {
    pub(super) fn new(generation: u64) -> Self {
        Self {
            generation,
            len: AtomicUsize::new(0),
            chunks: std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())),
            unmapped: AtomicU64::new(0),
        }
    }

    fn entry(&self, i: usize) -> &Entry {
        let (chunk, at) = position(i);
        // SAFETY: callers ask for entries below `len`, which `push` advanced when it had written
        // them; they stay until the list is dropped.
        unsafe { &*self.chunks[chunk].load(Ordering::Relaxed).add(at) }
    }

    /// Adds an entry; returns the bytes that the list grew by. One caller at a time.
    pub(super) fn push(&self, entry: Entry) -> usize {
        let i = self.len.load(Ordering::Relaxed);
        let (chunk, at) = position(i);
        if chunk == CHUNKS {
            return 0; // no slot is so large
        }
        let mut grown = entry.name.len();
        if at == 0 {
            let room = Vec::<Entry>::with_capacity(chunk_len(chunk));
            let memory = std::mem::ManuallyDrop::new(room).as_mut_ptr();
            self.chunks[chunk].store(memory, Ordering::Relaxed);
            grown += chunk_len(chunk) * size_of::<Entry>();
        }
        // SAFETY: within the chunk's capacity, and not read before `len` says so.
        unsafe {
            let memory = self.chunks[chunk].load(Ordering::Relaxed);
            memory.add(at).write(entry);
        }
        self.len
            .store(i + 1, order("list.len.store", Ordering::Release));
        grown
    }

    /// The last entry that begins at the address or below.
    fn last_before(&self, address: u64) -> Option<&Entry> {
        let (mut low, mut high) = (0, self.len.load(order("list.len.load", Ordering::Acquire)));
        while low < high {
            let middle = low.midpoint(high);
            if self.entry(middle).begin <= address {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low.checked_sub(1).map(|i| self.entry(i))
    }

    pub(super) fn entry_at(&self, address: u64) -> Option<&Entry> {
        self.last_before(address)
            .filter(|entry| address - entry.begin < entry.size)
    }

    pub(super) fn bytes(&self) -> usize {
        let len = self.len.load(Ordering::Relaxed);
        let names: usize = (0..len).map(|i| self.entry(i).name.len()).sum();
        let chunks = (0..CHUNKS).filter(|&c| !self.chunks[c].load(Ordering::Relaxed).is_null());
        let entries: usize = chunks.map(chunk_len).sum();
        size_of::<Self>() + names + entries * size_of::<Entry>()
    }
}

impl Drop for List {
    fn drop(&mut self) {
        life::ends(self);
        let mut left = self.len.load(Ordering::Relaxed);
        for (chunk, memory) in self.chunks.iter().enumerate() {
            let len = left.min(chunk_len(chunk));
            left -= len;
            let memory = memory.load(Ordering::Relaxed);
            if !memory.is_null() {
                // SAFETY: `push` made it, with this capacity, and filled so many.
                drop(unsafe { Vec::from_raw_parts(memory, len, chunk_len(chunk)) });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_follow_each_other() {
        let mut expected = (0, 0);
        for i in 0..5000 {
            assert_eq!(position(i), expected);
            expected.1 += 1;
            if expected.1 == chunk_len(expected.0) {
                expected = (expected.0 + 1, 0);
            }
        }
    }
}
