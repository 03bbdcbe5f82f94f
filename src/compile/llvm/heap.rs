//! What a context costs: measured by the allocator, not guessed from a count.
//!
//! LLVM has no way to ask a context for its size, so the allocator is asked before and after. With
//! other threads allocating at the same time a single difference says little; their sum says much,
//! since what others take they give back: so differences below zero count as well. One that is far
//! off from what the earlier ones predict, by the size of the object, is another thread's, and is
//! replaced by the prediction.

use std::collections::VecDeque;
use std::sync::PoisonError;

use crate::sync::plain::{Mutex, MutexGuard};

/// Bytes of the C heap in use, in all arenas.
pub(super) fn in_use() -> i64 {
    // SAFETY: no preconditions; it takes the allocator's own locks.
    let info = unsafe { libc::mallinfo2() };
    (info.uordblks + info.hblkhd) as i64
}

/// The largest piece that the allocator keeps for a thread when it is freed, the smallest, and how far
/// sizes are apart.
const LARGEST_IN_STORE: usize = 1032;
const SMALLEST: usize = 24;
const STEP: usize = 16;
/// Pieces that it keeps of each size.
const KEPT_OF_EACH_SIZE: usize = 7;

/// Fills the calling thread's store of freed pieces. What is in there counts as in use: if it were
/// full at one time and not at another, the difference would look like a context's.
pub(super) fn fill_store() {
    const SIZES: usize = (LARGEST_IN_STORE - SMALLEST) / STEP + 1;
    let mut pieces = [std::ptr::null_mut(); 2 * SIZES * KEPT_OF_EACH_SIZE];
    let mut many = 0;
    // Now and then a piece is one step larger than was asked for, and is one of the next size then.
    let mut of_this_size = 0;
    for size in (SMALLEST..=LARGEST_IN_STORE).step_by(STEP) {
        let mut of_next_size = 0;
        while of_this_size < KEPT_OF_EACH_SIZE && of_next_size < KEPT_OF_EACH_SIZE {
            // SAFETY: no preconditions; the size of null is 0.
            let usable = unsafe {
                pieces[many] = libc::malloc(size);
                libc::malloc_usable_size(pieces[many])
            };
            many += 1;
            if usable > size {
                of_next_size += 1;
            } else {
                of_this_size += 1;
            }
        }
        of_this_size = of_next_size;
    }
    for piece in pieces {
        // SAFETY: allocated above, or null.
        unsafe { libc::free(piece) };
    }
}

/// A copy of `bytes` by whose capacity the heap in use grows: it is too large to come out of the
/// thread's store.
pub(crate) fn measurable(bytes: &[u8]) -> Vec<u8> {
    let mut copy = Vec::with_capacity(bytes.len().max(2 * LARGEST_IN_STORE));
    copy.extend_from_slice(bytes);
    copy
}

/// What the allocator takes for a piece of so many bytes, with its own header and rounding.
pub(super) fn taken_by(bytes: usize) -> i64 {
    match bytes {
        0 => 0,
        _ => (bytes + 8).next_multiple_of(16).max(32) as i64,
    }
}

/// Turns measured differences into charges.
#[derive(Default)]
pub(super) struct Gauge(Mutex<Samples>);

#[derive(Default)]
struct Samples {
    /// Bytes of heap for a context with its prelude, as measured lately.
    opened: VecDeque<i64>,
    /// Bytes of heap for each KiB of object, as measured lately.
    growth: VecDeque<i64>,
}

/// Samples that are remembered of each kind.
const REMEMBERED: usize = 31;
/// A difference is believed that is not further from the prediction than so many times the
/// prediction, or this many bytes.
const BELIEVED_FACTOR: i64 = 3;
const BELIEVED_BYTES: i64 = 64 << 10;

impl Gauge {
    fn lock(&self) -> MutexGuard<'_, Samples> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes of a context that was opened while the heap grew by `measured`.
    pub(super) fn opened(&self, measured: i64) -> i64 {
        let mut samples = self.lock();
        remember(&mut samples.opened, measured);
        believe(measured, median(&samples.opened), 0).max(0)
    }

    /// What a context of `size` bytes grew by in the compilation of an object of `work` bytes.
    pub(super) fn grown(&self, measured: i64, work: u64, size: i64) -> i64 {
        let mut samples = self.lock();
        let work = work as i64;
        if let Some(per_kib) = measured.saturating_mul(1024).checked_div(work) {
            remember(&mut samples.growth, per_kib);
        }
        let predicted = median(&samples.growth).max(0).saturating_mul(work) / 1024;
        believe(measured, predicted, size)
    }
}

fn remember(samples: &mut VecDeque<i64>, sample: i64) {
    samples.push_back(sample);
    if samples.len() > REMEMBERED {
        samples.pop_front();
    }
}

fn median(samples: &VecDeque<i64>) -> i64 {
    let mut sorted: Vec<i64> = samples.iter().copied().collect();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}

/// A context's tables double when they are full: it may grow by its own size at once.
fn believe(measured: i64, predicted: i64, size: i64) -> i64 {
    let by_factor = predicted.saturating_mul(BELIEVED_FACTOR);
    let tolerance = by_factor.max(BELIEVED_BYTES).max(size);
    if measured.saturating_sub(predicted).saturating_abs() > tolerance {
        predicted
    } else {
        measured
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: i64 = 1 << 10;

    fn gauge() -> Gauge {
        let gauge = Gauge::default();
        for _ in 0..20 {
            assert_eq!(gauge.grown(10 * KIB, 2048, 100 * KIB), 10 * KIB);
        }
        gauge
    }

    #[test]
    fn a_neighbours_allocation_is_not_charged() {
        let gauge = gauge();
        let size = 100 * KIB;
        assert_eq!(gauge.grown(1 << 30, 2048, size), 10 * KIB, "taken");
        assert_eq!(gauge.grown(-1 << 30, 2048, size), 10 * KIB, "given back");
        assert_eq!(gauge.grown(20 * KIB, 2048, size), 20 * KIB, "a large batch");
    }

    #[test]
    fn small_allocations_of_neighbours_cancel_out() {
        let gauge = gauge();
        let of_neighbours = [70 * KIB, -30 * KIB, -50 * KIB, 10 * KIB];
        let charges = of_neighbours.map(|n| gauge.grown(10 * KIB + n, 2048, 100 * KIB));
        assert_eq!(charges.iter().sum::<i64>(), 40 * KIB);
    }

    #[test]
    fn a_table_that_doubles_is_charged() {
        let gauge = gauge();
        assert_eq!(gauge.grown(5000 * KIB, 2048, 6000 * KIB), 5000 * KIB);
        assert_eq!(gauge.grown(5000 * KIB, 2048, 3000 * KIB), 10 * KIB);
    }

    #[test]
    fn an_opened_context_never_costs_less_than_nothing() {
        let gauge = Gauge::default();
        assert_eq!(gauge.opened(10 * KIB), 10 * KIB);
        assert_eq!(gauge.opened(-20 * KIB), 0);
        assert_eq!(gauge.opened(11 * KIB), 11 * KIB);
        assert_eq!(gauge.opened(1 << 30), 11 * KIB);
    }
}
