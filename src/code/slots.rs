//! Which slots of a stripe are taken: a bitmap, searched first fit from the low end.

/// Slots of one stripe. First fit keeps the taken ones dense at the low end, and with that the
/// number of mappings small.
pub(super) struct Slots {
    words: Vec<u64>,
    count: usize,
    /// No slot below this one is free.
    lowest_free: usize,
    taken: usize,
}

impl Slots {
    pub(super) fn new(count: usize) -> Self {
        Self {
            words: vec![0; count.div_ceil(64)],
            count,
            lowest_free: 0,
            taken: 0,
        }
    }

    /// Takes `n` neighbouring slots and returns the first, or `None` when no gap is that long.
    pub(super) fn take(&mut self, n: usize) -> Option<usize> {
        let mut start = self.lowest_free;
        let mut seen_free = false;
        while start + n <= self.count {
            let gap = (start..start + n).position(|i| self.is_taken(i));
            match gap {
                None => {
                    self.set(start, n, true);
                    if !seen_free {
                        self.lowest_free = start + n;
                    }
                    return Some(start);
                }
                Some(used) => {
                    if used > 0 && !seen_free {
                        seen_free = true;
                        self.lowest_free = start;
                    }
                    start = self.skip_taken(start + used);
                }
            }
        }
        None
    }

    /// Takes exactly slot `at`, if it is free.
    pub(super) fn take_at(&mut self, at: usize, n: usize) -> bool {
        let free = at + n <= self.count && (at..at + n).all(|i| !self.is_taken(i));
        if free {
            self.set(at, n, true);
        }
        free
    }

    pub(super) fn give_back(&mut self, first: usize, n: usize) {
        self.set(first, n, false);
        self.lowest_free = self.lowest_free.min(first);
    }

    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    /// Series of neighbouring taken slots: about what the kernel needs of mappings.
    pub(super) fn series(&self) -> usize {
        let mut series = 0;
        let mut last_bit = 0;
        for &word in &self.words {
            series += (word & !(word << 1 | last_bit)).count_ones() as usize;
            last_bit = word >> 63;
        }
        series
    }

    fn is_taken(&self, i: usize) -> bool {
        self.words[i / 64] >> (i % 64) & 1 == 1
    }

    fn skip_taken(&self, mut i: usize) -> usize {
        while i < self.count && self.is_taken(i) {
            let rest = !(self.words[i / 64] >> (i % 64));
            i += (rest.trailing_zeros() as usize).min(64 - i % 64);
        }
        i
    }

    fn set(&mut self, first: usize, n: usize, taken: bool) {
        for i in first..first + n {
            debug_assert_ne!(self.is_taken(i), taken, "slot {i} taken or freed twice");
            self.words[i / 64] ^= 1 << (i % 64);
        }
        if taken {
            self.taken += n
        } else {
            self.taken -= n
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_a_vector_of_flags(ops in prop::collection::vec((any::<bool>(), 1usize..9, any::<prop::sample::Index>()), 1..300)) {
            let count = 203;
            let mut slots = Slots::new(count);
            let mut model = vec![false; count];
            let mut held: Vec<(usize, usize)> = Vec::new();
            for (take, n, pick) in ops {
                if take || held.is_empty() {
                    let expected = (0..=count - n).find(|&s| model[s..s + n].iter().all(|t| !t));
                    prop_assert_eq!(slots.take(n), expected);
                    if let Some(first) = expected {
                        model[first..first + n].fill(true);
                        held.push((first, n));
                    }
                } else {
                    let (first, n) = held.swap_remove(pick.index(held.len()));
                    slots.give_back(first, n);
                    model[first..first + n].fill(false);
                }
                prop_assert_eq!(slots.taken(), model.iter().filter(|t| **t).count());
                let series = (0..count).filter(|&i| model[i] && (i == 0 || !model[i - 1])).count();
                prop_assert_eq!(slots.series(), series);
            }
        }
    }
}
