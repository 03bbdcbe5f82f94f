//! How often a method was asked for by who does not wait.

use std::time::Duration;

use crate::sync::time::Instant;

/// When a wish for a method is granted: after so many within a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admission {
    pub(crate) asks: u32,
    pub(crate) within: Duration,
}

/// Parts of that time in which wishes are counted together.
const PARTS: u32 = 4;
/// The parts that some of the time may be in, which ends in the middle of the last.
const COUNTED: usize = PARTS as usize + 1;

/// Wishes that have not been granted, in the method's state; most often there are none.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asks(Option<Box<Counted>>);

#[derive(Clone, Debug, Default)]
struct Counted {
    /// The latest part first.
    counts: [u32; COUNTED],
    /// When that began.
    since: Option<Instant>,
}

impl Asks {
    /// One more wish, now. Whether it is granted; then the next one is the first again.
    pub(crate) fn admits(&mut self, admission: Admission, now: Instant) -> bool {
        if admission.asks <= 1 {
            return true;
        }
        let counted = self.0.get_or_insert_default();
        counted.go_on(admission.within / PARTS, now);
        counted.counts[0] = counted.counts[0].saturating_add(1);
        let counts = counted.counts.iter();
        let all = counts.fold(0, |n: u32, m| n.saturating_add(*m));
        let granted = all >= admission.asks;
        if granted {
            self.0 = None;
        }
        granted
    }
}

impl Counted {
    /// Makes the latest part the one that it is now.
    fn go_on(&mut self, part: Duration, now: Instant) {
        while let Some(since) = self.since {
            let past = now.saturating_duration_since(since);
            if past < part || past.is_zero() {
                return;
            }
            if self.counts == [0; COUNTED] {
                break;
            }
            self.counts.rotate_right(1);
            self.counts[0] = 0;
            self.since = Some(since + part);
        }
        self.since = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WITHIN: Duration = Duration::from_millis(1000);

    /// Which of the asks at these times, in milliseconds, is granted.
    fn granted(asks: u32, within: Duration, times: &[u64]) -> Vec<u64> {
        let (begin, admission) = (Instant::now(), Admission { asks, within });
        let mut counted = Asks::default();
        let admits = |time: &&u64| counted.admits(admission, begin + Duration::from_millis(**time));
        times.iter().filter(admits).copied().collect()
    }

    #[test]
    fn as_many_within_the_time_whenever_it_begins() {
        for (times, expected) in [
            (&[0, 900, 1300, 1400][..], &[1400][..]),
            (&[0, 900, 1100, 1200], &[1100]),
            (&[0, 500, 1000], &[1000]),
            (&[0, 0, 0, 0, 0, 0], &[0, 0]),
            // What was granted is not counted again.
            (&[0, 1, 2, 3, 4, 900, 901], &[2, 900]),
            (&[0, 1300, 2600, 3900], &[]),
            (&[0, 1, 10_000, 10_001, 20_000, 30_000], &[]),
        ] {
            assert_eq!(granted(3, WITHIN, times), expected, "{times:?}");
        }
    }

    /// As many as were wanted within the time are granted, and none if not as many came within a quarter more.
    #[test]
    fn it_is_right_to_a_quarter() {
        let mut random = 1_u64;
        for round in 0..2000 {
            let asks = 2 + round % 7;
            let mut now = 0;
            let mut times = Vec::new();
            for _ in 0..40 {
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                now += 1 + (random >> 33) % (2000 / u64::from(asks));
                times.push(now);
            }
            // Since the last that was granted.
            let mut since = 0;
            let granted = granted(asks, WITHIN, &times);
            let mut next = granted.iter().copied().peekable();
            for (i, time) in times.iter().enumerate() {
                let first = (i + 1)
                    .checked_sub(asks as usize)
                    .filter(|first| *first >= since);
                let took = first.map(|first| time - times[first]);
                if next.next_if_eq(time).is_some() {
                    assert!(took.is_some_and(|took| took <= 1250), "{asks} {times:?}");
                    since = i + 1;
                } else {
                    assert!(took.is_none_or(|took| took > 1000), "{asks} {times:?}");
                }
            }
        }
    }

    #[test]
    fn no_time_and_all_of_it() {
        assert_eq!(granted(2, Duration::ZERO, &[0, 1, 1, 2, 3]), [1]);
        assert_eq!(granted(2, Duration::MAX, &[0, 1 << 40]), [1 << 40]);
        assert_eq!(granted(0, WITHIN, &[5]), [5]);
    }
}
