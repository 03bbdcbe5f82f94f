//! What a context costs: measured by the allocator, not guessed from a count.
//!
//! LLVM has no way to ask a context for its size, so the allocator is asked before and after.
//! With other threads allocating at the same time a single difference says little; the
//! differences of many compilations say much. Every measured difference is compared with what
//! the earlier ones predict from the size of the object, and one that is far off (another
//! thread's allocation) is replaced by the prediction.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// Bytes of the C heap in use, in all arenas.
pub(super) fn in_use() -> u64 {
    // SAFETY: no preconditions; it takes the allocator's own locks.
    let info = unsafe { libc::mallinfo2() };
    (info.uordblks + info.hblkhd) as u64
}

/// Turns measured differences into charges.
#[derive(Default)]
pub(super) struct Gauge(Mutex<Samples>);

#[derive(Default)]
struct Samples {
    /// Bytes of heap for a context with its prelude, as measured lately.
    opened: VecDeque<u64>,
    /// Bytes of heap for each KiB of object, as measured lately.
    growth: VecDeque<u64>,
}

/// Samples that are remembered of each kind.
const REMEMBERED: usize = 31;
/// A difference up to this many times the prediction, or this many bytes, is believed.
const BELIEVED_FACTOR: u64 = 4;
const BELIEVED_BYTES: u64 = 256 << 10;

impl Gauge {
    fn lock(&self) -> std::sync::MutexGuard<'_, Samples> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The charge for a context that was opened while the heap grew by `measured` (as a
    /// difference that may have gone below zero).
    pub(super) fn opened(&self, measured: u64) -> u64 {
        let mut samples = self.lock();
        let measured = (measured as i64).max(0) as u64;
        remember(&mut samples.opened, measured);
        believe(measured, median(&samples.opened))
    }

    /// The charge for a compilation of an object of `work` bytes.
    pub(super) fn grown(&self, measured: u64, work: u64) -> u64 {
        let mut samples = self.lock();
        let measured = (measured as i64).max(0) as u64;
        if let Some(per_kib) = (measured * 1024).checked_div(work) {
            remember(&mut samples.growth, per_kib);
        }
        let predicted = median(&samples.growth).saturating_mul(work) / 1024;
        believe(measured, predicted)
    }
}

fn remember(samples: &mut VecDeque<u64>, sample: u64) {
    samples.push_back(sample);
    if samples.len() > REMEMBERED {
        samples.pop_front();
    }
}

fn median(samples: &VecDeque<u64>) -> u64 {
    let mut sorted: Vec<u64> = samples.iter().copied().collect();
    sorted.sort_unstable();
    sorted.get(sorted.len() / 2).copied().unwrap_or(0)
}

fn believe(measured: u64, predicted: u64) -> u64 {
    let most = (predicted * BELIEVED_FACTOR).max(predicted + BELIEVED_BYTES);
    if measured > most { predicted } else { measured }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_neighbours_allocation_is_not_charged() {
        let gauge = Gauge::default();
        for _ in 0..20 {
            assert_eq!(gauge.grown(10 << 10, 2048), 10 << 10);
        }
        assert_eq!(
            gauge.grown(1 << 30, 2048),
            10 << 10,
            "another thread took a GiB"
        );
        assert_eq!(
            gauge.grown((-5000i64) as u64, 2048),
            0,
            "another thread freed"
        );
        assert_eq!(
            gauge.grown(20 << 10, 2048),
            20 << 10,
            "a large batch is believed"
        );
    }
}
