//! What was linked into one slot: a list that only grows, in chunks that never move, so that readers need no lock.

use std::ptr;
use std::sync::PoisonError;

use super::names::{Name, Names};
use crate::sync::fault::order;
use crate::sync::life;
use crate::sync::of_process::{AtomicPtr, AtomicU64, AtomicUsize, Mutex, Ordering};

/// Entries in each of a list's first four chunks; each further four have twice as many as the last.
const FIRST_CHUNK: usize = if cfg!(feature = "_loom") { 1 } else { 8 };
/// Chunks for more functions than a slot can hold, which are 16 bytes apart.
const CHUNKS: usize = 36;

/// One for each method: so all in it is as short as it can be. Code is less than 2 GiB away from all other code.
struct Entry {
    /// From the slot's first byte on; before it, if it is a function that began there.
    begin: i32,
    size: u32,
    name: Name,
    /// 0, or when it was unlinked and, in the lowest bits, why.
    unlinked: AtomicU64,
}

/// What is known of a function.
pub(super) struct Known<'l> {
    pub(super) begin: u64,
    pub(super) name: &'l str,
    /// 0, or when it was unlinked and, in the lowest bits, why.
    pub(super) unlinked: &'l AtomicU64,
}

/// What was linked into one slot.
pub(super) struct List {
    pub(super) generation: u64,
    /// The slot's first byte.
    base: u64,
    len: AtomicUsize,
    chunks: [AtomicPtr<Entry>; CHUNKS],
    /// For who adds.
    names: Mutex<Names>,
    /// Bytes of all these.
    grown: AtomicUsize,
    /// 0 while it is mapped.
    pub(super) unmapped: AtomicU64,
}

/// The chunk of entry `i`, and its place there.
fn position(i: usize) -> (usize, usize) {
    let four = (i / (4 * FIRST_CHUNK) + 1).ilog2() as usize;
    let at = i - 4 * FIRST_CHUNK * ((1 << four) - 1);
    let len = FIRST_CHUNK << four;
    (4 * four + at / len, at % len)
}

fn chunk_len(chunk: usize) -> usize {
    FIRST_CHUNK << (chunk / 4)
}

impl List {
    pub(super) fn new(generation: u64, base: u64) -> Self {
        Self {
            generation,
            base,
            len: AtomicUsize::new(0),
            chunks: std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())),
            names: Mutex::default(),
            grown: AtomicUsize::new(0),
            unmapped: AtomicU64::new(0),
        }
    }

    fn entry(&self, i: usize) -> &Entry {
        let (chunk, at) = position(i);
        // SAFETY: callers ask for entries below `len`, which `push` advanced when it had written
        // them; they stay until the list is dropped.
        unsafe { &*self.chunks[chunk].load(Ordering::Relaxed).add(at) }
    }

    /// Adds what begins at an address, and ends less than 2 GiB from the slot; returns the bytes that the list grew
    /// by. One caller at a time.
    pub(super) fn push(&self, begin: u64, size: u64, name: &str) -> usize {
        let i = self.len.load(Ordering::Relaxed);
        let (chunk, at) = position(i);
        if chunk >= CHUNKS {
            return 0; // no slot is so large
        }
        let mut names = self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let (name, mut grown) = names.put(name);
        drop(names);
        if at == 0 {
            let room = Vec::<Entry>::with_capacity(chunk_len(chunk));
            let memory = std::mem::ManuallyDrop::new(room).as_mut_ptr();
            self.chunks[chunk].store(memory, Ordering::Relaxed);
            grown += chunk_len(chunk) * size_of::<Entry>();
        }
        let entry = Entry {
            begin: begin.wrapping_sub(self.base) as i32,
            size: size as u32,
            name,
            unlinked: AtomicU64::new(0),
        };
        // SAFETY: within the chunk's capacity, and not read before `len` says so.
        unsafe {
            let memory = self.chunks[chunk].load(Ordering::Relaxed);
            memory.add(at).write(entry);
        }
        self.len
            .store(i + 1, order("list.len.store", Ordering::Release));
        self.grown.fetch_add(grown, Ordering::Relaxed);
        grown
    }

    /// The last entry that begins so many bytes from the slot's first or before.
    fn last_before(&self, offset: i64) -> Option<&Entry> {
        let (mut low, mut high) = (0, self.len.load(order("list.len.load", Ordering::Acquire)));
        while low < high {
            let middle = low.midpoint(high);
            if i64::from(self.entry(middle).begin) <= offset {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low.checked_sub(1).map(|i| self.entry(i))
    }

    /// What an address in the slot lies in.
    pub(super) fn known_at(&self, address: u64) -> Option<Known<'_>> {
        let offset = address.wrapping_sub(self.base) as i64;
        let entry = self.last_before(offset)?;
        let begin = i64::from(entry.begin);
        (offset - begin < i64::from(entry.size)).then(|| Known {
            begin: self.base.wrapping_add_signed(begin),
            // SAFETY: the list, which is borrowed, keeps its names.
            name: unsafe { entry.name.get() },
            unlinked: &entry.unlinked,
        })
    }

    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.grown.load(Ordering::Relaxed)
    }
}

impl Drop for List {
    fn drop(&mut self) {
        life::ends(self);
        for (chunk, memory) in self.chunks.iter().enumerate() {
            let memory = memory.load(Ordering::Relaxed);
            if !memory.is_null() {
                // SAFETY: `push` made it, with this capacity; nothing that is in it has to be dropped.
                drop(unsafe { Vec::from_raw_parts(memory, 0, chunk_len(chunk)) });
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
