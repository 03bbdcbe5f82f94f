//! Quarantine: what was unmapped stays `PROT_NONE` for a while before its addresses are used again.

use std::collections::VecDeque;
use std::sync::PoisonError;
use std::time::Duration;

use super::Kind;
use crate::sync::time::Instant;
use crate::sync::{Mutex, MutexGuard};

/// For how long code that has gone keeps its addresses to itself: set by
/// [`Builder::quarantine`](crate::Builder::quarantine).
///
/// A call that comes too late, or a pointer that was kept too long, meets memory that nobody can
/// touch, and not other code. With [`install_fault_handler`](crate::install_fault_handler) the
/// process says which method it was.
///
/// It costs no memory but for names; address space, and mappings of the kernel's, which no longer
/// join. When address space runs out, all of it is given up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Quarantine {
    /// Bytes that are in quarantine at most: if there are more, the oldest leave it.
    pub bytes: u64,
    /// For so long: then they leave it.
    pub time: Duration,
}

impl Default for Quarantine {
    /// 64 MiB, for as long as they are the last 64 MiB.
    fn default() -> Self {
        Self {
            bytes: 64 << 20,
            time: Duration::MAX,
        }
    }
}

/// Slots that nobody has, and that were somebody's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Freed {
    pub(super) kind: Kind,
    pub(super) first: usize,
    pub(super) n: usize,
    pub(super) bytes: u64,
}

/// What is in quarantine.
pub(super) struct Ward {
    limits: Quarantine,
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    /// The oldest first.
    all: VecDeque<(Freed, Instant)>,
    bytes: u64,
}

impl Ward {
    pub(super) fn new(limits: Quarantine) -> Self {
        Self {
            limits,
            inside: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes slots in. Returns those that leave for it.
    pub(super) fn admit(&self, freed: Freed) -> Vec<Freed> {
        let mut inside = self.lock();
        inside.bytes += freed.bytes;
        inside.all.push_back((freed, Instant::now()));
        inside.leaving(self.limits)
    }

    /// Those whose time is over.
    pub(super) fn discharge(&self) -> Vec<Freed> {
        self.lock().leaving(self.limits)
    }

    /// All of them, because there is need.
    pub(super) fn clear(&self) -> Vec<Freed> {
        self.lock().leaving(Quarantine {
            bytes: 0,
            time: Duration::ZERO,
        })
    }

    /// Bytes in quarantine.
    pub(super) fn bytes(&self) -> u64 {
        self.lock().bytes
    }
}

impl Inside {
    fn leaving(&mut self, limits: Quarantine) -> Vec<Freed> {
        let mut leaving = Vec::new();
        while let Some(&(freed, since)) = self.all.front() {
            if self.bytes <= limits.bytes && since.elapsed() < limits.time {
                break;
            }
            self.all.pop_front();
            self.bytes -= freed.bytes;
            leaving.push(freed);
        }
        leaving
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn freed(first: usize, bytes: u64) -> Freed {
        Freed {
            kind: Kind::Text,
            first,
            n: 1,
            bytes,
        }
    }

    #[test]
    fn the_oldest_leave_for_those_that_come() {
        let ward = Ward::new(Quarantine {
            bytes: 100,
            time: Duration::MAX,
        });
        assert_eq!(ward.admit(freed(0, 60)), []);
        assert_eq!(ward.admit(freed(1, 40)), []);
        assert_eq!(ward.bytes(), 100);
        assert_eq!(ward.admit(freed(2, 10)), [freed(0, 60)]);
        assert_eq!(ward.discharge(), []);
        // Larger than all of it: it does not stay at all.
        let all = [freed(1, 40), freed(2, 10), freed(3, 101)];
        assert_eq!(ward.admit(freed(3, 101)), all);
        assert_eq!(ward.bytes(), 0);
    }

    #[test]
    fn they_leave_when_their_time_is_over() {
        let ward = Ward::new(Quarantine {
            bytes: 100,
            time: Duration::from_millis(30),
        });
        let began = Instant::now();
        assert_eq!(ward.admit(freed(0, 60)), []);
        std::thread::sleep(Duration::from_millis(31));
        assert_eq!(ward.discharge(), [freed(0, 60)]);
        assert!(began.elapsed() >= Duration::from_millis(30));
        assert_eq!(ward.admit(freed(1, 60)), []);
        assert_eq!(ward.clear(), [freed(1, 60)]);
        assert_eq!(ward.clear(), []);
    }
}
