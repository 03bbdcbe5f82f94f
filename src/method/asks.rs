//! How often a method was asked for by who does not wait.

use std::time::{Duration, Instant};

/// When a wish for a method is granted: after so many within a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admission {
    pub(crate) asks: u32,
    pub(crate) within: Duration,
}

/// Wishes that have not been granted, in the method's state.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Asks {
    number: u32,
    /// When the first of them came.
    since: Option<Instant>,
}

impl Asks {
    /// One more wish. Whether it is granted; then the next one is the first again.
    pub(crate) fn admits(&mut self, admission: Admission) -> bool {
        if admission.asks <= 1 {
            return true;
        }
        let now = Instant::now();
        let fresh = |since| now.duration_since(since) <= admission.within;
        if !self.since.is_some_and(fresh) {
            *self = Self {
                number: 0,
                since: Some(now),
            };
        }
        self.number += 1;
        let granted = self.number >= admission.asks;
        if granted {
            *self = Self::default();
        }
        granted
    }
}
