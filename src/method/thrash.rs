//! Compilations and evictions of one method that follow each other too soon: memory is too short for it, and to compile
//! it again would only put out another.

use std::time::Duration;

use super::Patience;
use crate::sync::time::Instant;

/// Methods are evicted so many times as often as there are methods with code: whoever is asked for again before that would
/// have stayed if memory were some times as large.
const TURNS: u64 = 8;
/// Later than that nobody speaks of the same need.
const LONGEST: Duration = Duration::from_secs(60);
/// As many times what it is put off for, evicted or with code, and the method has come to rest.
const REST: u32 = 8;

/// What is known of that, in the method's state.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Thrash {
    /// When it was last evicted for want of memory, or compiled after that.
    changed: Option<Instant>,
    /// How many were evicted before it then; the lower half of it, as fewer go than that before all is forgotten.
    evictions: u32,
    away: bool,
    /// Cycles that followed each other.
    cycles: u16,
}

impl Thrash {
    /// It was evicted because memory is short, after so many others.
    pub(crate) fn evicted(&mut self, evictions: u64, now: Instant, patience: Patience) {
        if self
            .since(now)
            .is_some_and(|time| time > self.rest(patience))
        {
            self.cycles /= 2;
        }
        *self = Self {
            changed: Some(now),
            evictions: evictions as u32,
            away: true,
            cycles: self.cycles,
        };
    }

    /// It was compiled, when so many had been evicted, and so many have code. Whether that was too soon after its eviction.
    pub(crate) fn compiled(
        &mut self,
        evictions: u64,
        live: u64,
        now: Instant,
        patience: Patience,
    ) -> bool {
        if !std::mem::take(&mut self.away) {
            return false;
        }
        let time = self.since(now).unwrap_or(Duration::MAX);
        let meanwhile = (evictions as u32).wrapping_sub(self.evictions);
        let in_turn = u64::from(meanwhile) <= TURNS * live;
        let soon = time <= self.rest(patience) || (in_turn && time <= LONGEST);
        self.changed = Some(now);
        self.cycles = match soon {
            true => self.cycles.saturating_add(1),
            false => self.cycles / 2,
        };
        soon
    }

    /// Whether a wish for it is put off: the longer, the more cycles there were.
    pub(crate) fn puts_off(&self, now: Instant, patience: Patience) -> bool {
        self.away
            && self.cycles > 0
            && self
                .since(now)
                .is_some_and(|time| time < patience.after(u32::from(self.cycles) - 1))
    }

    fn since(&self, now: Instant) -> Option<Duration> {
        Some(now.saturating_duration_since(self.changed?))
    }

    fn rest(&self, patience: Patience) -> Duration {
        patience.after(u32::from(self.cycles)).saturating_mul(REST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        first: Duration::from_millis(10),
        most: Duration::from_millis(500),
    };

    /// How long a wish is put off, in steps of a millisecond.
    fn put_off(thrash: &Thrash, from: Instant) -> u64 {
        let later = |ms| from + Duration::from_millis(ms);
        (0..10_000)
            .find(|&ms| !thrash.puts_off(later(ms), PATIENCE))
            .unwrap()
    }

    #[test]
    fn each_cycle_doubles_the_time() {
        let mut thrash = Thrash::default();
        let mut now = Instant::now();
        let mut evictions = 0;
        for expected in [0, 10, 20, 40, 80, 160, 320, 500, 500] {
            thrash.evicted(evictions, now, PATIENCE);
            assert_eq!(put_off(&thrash, now), expected);
            now += Duration::from_millis(expected);
            evictions += 10;
            assert!(thrash.compiled(evictions, 10, now, PATIENCE));
            assert!(!thrash.puts_off(now, PATIENCE), "it has code");
            now += Duration::from_millis(5);
        }
    }

    #[test]
    fn rest_halves_them_with_code_and_without() {
        let mut thrash = Thrash::default();
        let mut now = Instant::now();
        let cycle = |thrash: &mut Thrash, now: &mut Instant, lives: Duration, away: Duration| {
            *now += lives;
            thrash.evicted(0, *now, PATIENCE);
            *now += away;
            thrash.compiled(1000, 1, *now, PATIENCE)
        };
        let (soon, long) = (Duration::from_millis(1), Duration::from_secs(5));
        for _ in 0..4 {
            assert!(cycle(&mut thrash, &mut now, soon, soon));
        }
        assert_eq!(thrash.cycles, 4);
        assert!(!cycle(&mut thrash, &mut now, soon, long));
        assert_eq!(thrash.cycles, 2);
        assert!(cycle(&mut thrash, &mut now, long, soon));
        assert_eq!(thrash.cycles, 2, "halved and one more");
        assert!(!cycle(&mut thrash, &mut now, long, long));
        assert_eq!(thrash.cycles, 0);
    }

    #[test]
    fn slow_turns_are_noticed_by_what_was_evicted_meanwhile() {
        for (evicted, live, away, soon) in
            [(80, 10, 5, true), (81, 10, 5, false), (80, 10, 61, false)]
        {
            let mut thrash = Thrash::default();
            let now = Instant::now();
            thrash.evicted(100, now, PATIENCE);
            let later = now + Duration::from_secs(away);
            assert_eq!(thrash.compiled(100 + evicted, live, later, PATIENCE), soon);
        }
    }

    #[test]
    fn what_was_not_evicted_is_no_cycle() {
        let mut thrash = Thrash::default();
        let now = Instant::now();
        assert!(!thrash.compiled(5, 10, now, PATIENCE));
        thrash.evicted(5, now, PATIENCE);
        assert!(thrash.compiled(5, 10, now, PATIENCE));
        assert!(
            !thrash.compiled(5, 10, now, PATIENCE),
            "compiled again, to be moved"
        );
    }
}
