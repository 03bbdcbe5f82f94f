//! Which slots of a stripe are taken: a bitmap.
//!
//! Where a run comes to lie is chosen at random, so that nobody can tell from one method's address where another is, or
//! where the next will be; but always beside slots that are taken, as the kernel merges neighbours, and in the gaps
//! between these first, so that what is taken stays dense.

use std::hash::BuildHasher;

use crate::sync::KeyHash;

/// Slots of one stripe.
pub(super) struct Slots {
    words: Vec<u64>,
    count: usize,
    taken: usize,
    places: Places,
}

/// Where runs are put.
enum Places {
    /// From the low end on, for stripes whose slots are found by arithmetic.
    InOrder,
    /// At random, by the numbers that a keyed hash makes of 0, 1, 2, ...
    Random(KeyHash, u64),
}

impl Slots {
    /// Slots that are given out from the low end on.
    pub(super) fn in_order(count: usize) -> Self {
        Self::new(count, Places::InOrder)
    }

    /// Slots that are given out at random.
    pub(super) fn at_random(count: usize) -> Self {
        Self::new(count, Places::Random(KeyHash::default(), 0))
    }

    fn new(count: usize, places: Places) -> Self {
        Self {
            words: vec![0; count.div_ceil(64)],
            count,
            taken: 0,
            places,
        }
    }

    /// Takes `n` neighbouring slots and returns the first, or `None` when no gap is that long.
    pub(super) fn take(&mut self, n: usize) -> Option<usize> {
        let first = match self.places {
            Places::InOrder => self.gaps().find(|gap| gap.len() >= n)?.start,
            Places::Random(..) => self.place(n)?,
        };
        self.set(first, n, true);
        Some(first)
    }

    /// A place for `n` slots beside those that are taken: between two series of them, if any gap there is long enough.
    fn place(&mut self, n: usize) -> Option<usize> {
        if self.taken == 0 {
            return (n <= self.count).then(|| self.random(self.count - n + 1));
        }
        let (mut inner, mut outer) = (Vec::new(), Vec::new());
        for gap in self.gaps().filter(|gap| gap.len() >= n) {
            let (low, high) = (gap.start, gap.end - n);
            match (gap.start > 0, gap.end < self.count) {
                (true, true) if low == high => inner.push(low),
                (true, true) => inner.extend([low, high]),
                (true, false) => outer.push(low),
                (false, _) => outer.push(high),
            }
        }
        let places = if inner.is_empty() { outer } else { inner };
        (!places.is_empty()).then(|| places[self.random(places.len())])
    }

    /// A number below `end`.
    fn random(&mut self, end: usize) -> usize {
        let Places::Random(keyed, n) = &mut self.places else {
            return 0;
        };
        *n += 1;
        ((u128::from(keyed.hash_one(*n)) * end as u128) >> 64) as usize
    }

    /// Takes exactly slot `at`, and those after it, if they are free.
    pub(super) fn take_at(&mut self, at: usize, n: usize) -> bool {
        let free = at + n <= self.count && self.run(at, false) >= at + n;
        if free {
            self.set(at, n, true);
        }
        free
    }

    pub(super) fn give_back(&mut self, first: usize, n: usize) {
        self.set(first, n, false);
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

    /// Series of neighbouring free slots, from the low end on.
    fn gaps(&self) -> impl Iterator<Item = std::ops::Range<usize>> {
        let mut at = 0;
        std::iter::from_fn(move || {
            let start = self.run(at, true);
            at = self.run(start, false);
            (start < self.count).then_some(start..at)
        })
    }

    /// Where the series of slots that are taken, or free, ends which `i` is in; `i` if it is not in one.
    fn run(&self, mut i: usize, taken: bool) -> usize {
        while i < self.count {
            let word = if taken {
                self.words[i / 64]
            } else {
                !self.words[i / 64]
            };
            let same = (!(word >> (i % 64))).trailing_zeros() as usize;
            if same < 64 - i % 64 {
                i += same;
                break;
            }
            i += 64 - i % 64;
        }
        i.min(self.count)
    }

    fn set(&mut self, first: usize, n: usize, taken: bool) {
        for i in first..first + n {
            let is_taken = self.words[i / 64] >> (i % 64) & 1 == 1;
            debug_assert_ne!(is_taken, taken, "slot {i} taken or freed twice");
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

    /// Whether a run of `n` slots from `first` on lies beside taken ones, or, if `inner`, between them.
    fn lies_beside(model: &[bool], first: usize, n: usize, inner: bool) -> bool {
        let before = first > 0 && model[first - 1];
        let after = first + n < model.len() && model[first + n];
        let enclosed = model[..first].contains(&true) && model[first + n..].contains(&true);
        (before || after) && (enclosed || !inner)
    }

    proptest! {
        #[test]
        fn agrees_with_a_vector_of_flags(
            random: bool,
            ops in prop::collection::vec((any::<bool>(), 1usize..9, any::<prop::sample::Index>()), 1..300),
        ) {
            let count = 203;
            let mut slots = if random { Slots::at_random(count) } else { Slots::in_order(count) };
            let mut model = vec![false; count];
            let mut held: Vec<(usize, usize)> = Vec::new();
            for (take, n, pick) in ops {
                if take || held.is_empty() {
                    let free = |s: usize| model[s..s + n].iter().all(|t| !t);
                    let mut fits = (0..=count - n).filter(|&s| free(s));
                    let got = slots.take(n);
                    if !random {
                        prop_assert_eq!(got, fits.next());
                    } else if let Some(first) = got {
                        prop_assert!(free(first));
                        let inner = fits.any(|s| lies_beside(&model, s, n, true));
                        prop_assert!(held.is_empty() || lies_beside(&model, first, n, inner));
                    } else {
                        prop_assert_eq!(fits.next(), None);
                    }
                    if let Some(first) = got {
                        model[first..first + n].fill(true);
                        held.push((first, n));
                    }
                } else {
                    let (first, n) = held.swap_remove(pick.index(held.len()));
                    // What is behind it can be had by whoever extends a run, and nothing else.
                    let behind = first + n;
                    let free = behind < count && !model[behind];
                    prop_assert_eq!(slots.take_at(behind, 1), free);
                    if free {
                        slots.give_back(behind, 1);
                    }
                    slots.give_back(first, n);
                    model[first..first + n].fill(false);
                }
                prop_assert_eq!(slots.taken(), model.iter().filter(|t| **t).count());
                let series = (0..count).filter(|&i| model[i] && (i == 0 || !model[i - 1])).count();
                prop_assert_eq!(slots.series(), series);
            }
        }
    }

    /// The same requests, in many stripes: the first lies anywhere, the next on either side, and of many gaps each is chosen.
    #[test]
    fn nobody_can_tell_where_a_run_will_be() {
        let mut firsts = std::collections::BTreeSet::new();
        let mut gaps = [0; 8];
        let mut above = 0;
        for _ in 0..800 {
            let mut slots = Slots::at_random(10_000);
            let first = slots.take(1).unwrap();
            firsts.insert(first);
            let second = slots.take(1).unwrap();
            above += usize::from(second == first + 1);
            assert!(second.abs_diff(first) == 1 || first == 0 || first == 9_999);
            let mut slots = Slots::at_random(16);
            assert!(slots.take_at(0, 16));
            (0..8).for_each(|gap| slots.give_back(2 * gap, 1));
            gaps[slots.take(1).unwrap() / 2] += 1;
        }
        assert!(firsts.len() > 700, "{}", firsts.len());
        assert!((200..600).contains(&above), "{above}");
        // The one at the low end is not between two series.
        assert_eq!(gaps[0], 0);
        assert!(gaps[1..].iter().all(|&n| n > 50), "{gaps:?}");
    }
}
