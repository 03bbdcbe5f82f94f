//! How the last compilation of a method ended that failed, and until when that stands.

use std::time::Duration;

use crate::error::Error;
use crate::sync::time::Instant;

/// A failure, in its method's state.
pub(crate) struct Failure {
    pub(crate) error: Error,
    stands: Stands,
    /// Failures in a row that stood.
    times: u32,
}

/// How long a failure is the answer to whoever asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stands {
    /// Until those have heard who wait for the compilation.
    Heard,
    /// Until then. Afterwards the method is tried again if somebody asks.
    Until(Instant),
    /// Until the method is invalidated.
    ForGood,
}

/// How long something is put off: at first, and at most. Nothing is if the first is zero.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) first: Duration,
    pub(crate) most: Duration,
}

impl Patience {
    /// After so many failures before.
    pub(crate) fn after(self, times: u32) -> Duration {
        let longer = 1_u32.checked_shl(times).unwrap_or(u32::MAX);
        self.first.saturating_mul(longer).min(self.most)
    }
}

impl Failure {
    /// An error for those who wait now.
    pub(crate) fn to_be_heard(error: Error) -> Self {
        Self {
            error,
            stands: Stands::Heard,
            times: 0,
        }
    }

    /// The method has failed, perhaps not for the first time. The error comes back if it can be tried again at once.
    pub(crate) fn of(
        error: Error,
        before: Option<&Self>,
        patience: Patience,
    ) -> Result<Self, Error> {
        if patience.first.is_zero() || !error.is_of_the_method() {
            return Err(error);
        }
        let times = before.map_or(0, |failure| failure.times);
        let stands = match error.is_for_good() {
            true => None,
            false => Instant::now().checked_add(patience.after(times)),
        };
        Ok(Self {
            error,
            stands: stands.map_or(Stands::ForGood, Stands::Until),
            times: times.saturating_add(1),
        })
    }

    /// Whether it is remembered when all have heard it.
    pub(crate) fn is_remembered(&self) -> bool {
        self.stands != Stands::Heard
    }

    /// Whether the method is not to be tried now.
    pub(crate) fn stands(&self) -> bool {
        match self.stands {
            Stands::Heard => false,
            Stands::Until(time) => Instant::now() < time,
            Stands::ForGood => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        first: Duration::from_millis(10),
        most: Duration::from_secs(1),
    };

    #[test]
    fn patience_doubles_up_to_the_most() {
        let all = [0, 1, 2, 6, 7, 31, 32, 1000].map(|times| PATIENCE.after(times).as_millis());
        assert_eq!(all, [10, 20, 40, 640, 1000, 1000, 1000, 1000]);
        let long = Patience {
            first: Duration::MAX,
            most: Duration::MAX,
        };
        assert_eq!(long.after(40), Duration::MAX);
    }

    #[test]
    fn what_is_not_the_methods_fault_is_not_remembered() {
        let codegen = |message: &str| Error::Codegen {
            method: "m".to_owned(),
            message: message.to_owned(),
        };
        for error in [Error::ShuttingDown, Error::Forked] {
            assert!(Failure::of(error, None, PATIENCE).is_err());
        }
        let off = Patience {
            first: Duration::ZERO,
            ..PATIENCE
        };
        assert!(Failure::of(codegen("x"), None, off).is_err());
        let first = Failure::of(codegen("x"), None, PATIENCE).unwrap();
        assert!(first.is_remembered() && first.stands() && first.times == 1);
        let second = Failure::of(codegen("y"), Some(&first), PATIENCE).unwrap();
        assert_eq!(second.times, 2);
        let heard = Failure::to_be_heard(codegen("z"));
        assert!(!heard.is_remembered() && !heard.stands());
    }
}
