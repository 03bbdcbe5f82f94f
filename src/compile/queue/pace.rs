//! How long a worker that finds some requests waits for others to come along.
//!
//! What is compiled together costs less, and what comes along need not wait behind this batch. So it
//! pays to wait while requests come faster than one is compiled; but whoever asked first waits too, so
//! it is never for longer than a small part of what the compilation will take.

use std::time::Duration;

use crate::sync::time::Instant;

/// The wait is at most one part in so many of the compilation that follows.
const PART: u32 = 16;
/// When nothing came for so many times as long as it took before, the rest will not come soon.
const LULL: u32 = 4;
/// What sleeping and waking takes, about: less cannot be waited for.
const SHORTEST: Duration = Duration::from_micros(50);
/// No batch waits longer for others, whatever the setting says.
const LONGEST: Duration = Duration::from_secs(1);

/// How fast requests come and go.
pub(super) struct Pace {
    /// When the first came of those that are here, and the last.
    first: Instant,
    last: Instant,
    /// What compiling a method takes, of late; zero if none was compiled yet.
    each: Duration,
}

/// How long to wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Patience {
    /// In all.
    pub(super) most: Duration,
    /// For the next one.
    pub(super) next: Duration,
}

impl Pace {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self {
            first: now,
            last: now,
            each: Duration::ZERO,
        }
    }

    /// One has come; it is the only one if it is the `first`.
    pub(super) fn came(&mut self, now: Instant, first: bool) {
        if first {
            self.first = now;
        }
        self.last = now;
    }

    /// Some were taken, and what is left is as if it had come now.
    pub(super) fn taken(&mut self, now: Instant) {
        (self.first, self.last) = (now, now);
    }

    /// So many were compiled in this time.
    pub(super) fn compiled(&mut self, methods: usize, took: Duration) {
        let each = took / u32::try_from(methods.max(1)).unwrap_or(u32::MAX);
        self.each = match self.each.is_zero() {
            true => each,
            false => self.each * 3 / 4 + each / 4,
        };
    }

    /// How long to wait for others when there are so many, up to `bound`; `None`: not at all.
    pub(super) fn patience(&self, requests: usize, bound: Duration) -> Option<Patience> {
        // A lone one goes at once.
        let others = u32::try_from(requests.checked_sub(1)?).ok()?;
        let gap = self.last.duration_since(self.first).checked_div(others)?;
        let most = self.each * (others + 1) / PART;
        let most = most.min(bound).min(LONGEST);
        (gap < self.each && most >= SHORTEST).then_some(Patience {
            most,
            next: most.min((gap * LULL).max(SHORTEST)),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MICROSECOND: Duration = Duration::from_micros(1);

    /// So many have come, so far apart.
    fn pace(requests: u32, gap: Duration, each: Duration) -> Pace {
        let mut pace = Pace::new();
        let start = Instant::now();
        (0..requests).for_each(|n| pace.came(start + gap * n, n == 0));
        if !each.is_zero() {
            pace.compiled(1, each);
        }
        pace
    }

    #[test]
    fn a_lone_request_goes_at_once() {
        let pace = pace(1, MICROSECOND, 2000 * MICROSECOND);
        assert_eq!(pace.patience(1, LONGEST), None);
        assert_eq!(pace.patience(0, LONGEST), None);
    }

    #[test]
    fn a_storm_is_waited_for_and_never_long() {
        let pace = pace(8, MICROSECOND, 2000 * MICROSECOND);
        let patience = pace.patience(8, LONGEST).unwrap();
        assert_eq!(patience.most, 1000 * MICROSECOND);
        assert_eq!(patience.next, SHORTEST);
        let patience = pace.patience(8, 100 * MICROSECOND).unwrap();
        assert_eq!(patience.most, 100 * MICROSECOND);
        assert_eq!(pace.patience(8, Duration::ZERO), None);
    }

    #[test]
    fn what_comes_slower_than_it_is_compiled_is_not_waited_for() {
        let slow = pace(8, 3000 * MICROSECOND, 2000 * MICROSECOND);
        assert_eq!(slow.patience(8, LONGEST), None);
        let quick = pace(8, 300 * MICROSECOND, 2000 * MICROSECOND);
        let patience = quick.patience(8, LONGEST).unwrap();
        assert_eq!(patience.next, 1000 * MICROSECOND);
        // A wait would be longer than all of the compilation.
        let tiny = pace(8, MICROSECOND, 10 * MICROSECOND);
        assert_eq!(tiny.patience(8, LONGEST), None);
        // Nobody knows yet what it takes.
        assert_eq!(
            pace(8, MICROSECOND, Duration::ZERO).patience(8, LONGEST),
            None
        );
    }

    #[test]
    fn what_compiling_takes_is_learnt() {
        let mut pace = pace(2, MICROSECOND, 1000 * MICROSECOND);
        (0..20).for_each(|_| pace.compiled(10, 50_000 * MICROSECOND));
        assert!(pace.each > 4900 * MICROSECOND && pace.each <= 5000 * MICROSECOND);
    }
}
