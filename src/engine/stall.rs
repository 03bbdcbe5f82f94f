//! What keeps memory from coming back: it is asked for safepoints, seen, and named.

use std::time::Duration;

use super::core::Core;
use super::recycle::Reclaim;
use crate::method::{ASKED_BY_RECLAIMER, Key};
use crate::observe::{Stall, event};
use crate::sync::time::Instant;

/// A grace period that is older is not just about to end: code is asked for safepoints.
const ASK_AFTER: Duration = Duration::from_millis(2);
/// For so long at a time. While the flag stands every poll is a call, also of threads that are not
/// late; one that is late and runs comes to a poll at once.
const ASK_FOR: Duration = Duration::from_millis(4);
/// A pause is at least so long, and longer the longer it was in vain: whoever is late does not poll,
/// or does not run.
const LEAST_PAUSE: Duration = Duration::from_millis(4);
const MOST_PAUSE: Duration = Duration::from_millis(250);
const PAUSE_SHARE: u32 = 24;
/// How often it is looked whether somebody has come, while the flag stands.
pub(super) const ASKING_STEP: Duration = Duration::from_micros(200);

/// Whether code is asked for safepoints now, and since when.
pub(super) struct Asking {
    asks: bool,
    since: Instant,
}

impl Asking {
    pub(super) fn new() -> Self {
        Self {
            asks: false,
            since: Instant::now(),
        }
    }

    pub(super) fn asks(&self) -> bool {
        self.asks
    }

    /// Whether to ask now, when the oldest of what waits is so old.
    fn step(&mut self, age: Option<Duration>) -> bool {
        let pause = |age: Duration| (age / PAUSE_SHARE).clamp(LEAST_PAUSE, MOST_PAUSE);
        let asks = match age {
            None => false,
            Some(_) if self.asks => self.since.elapsed() < ASK_FOR,
            Some(age) => self.since.elapsed() >= pause(age),
        };
        if asks != self.asks {
            *self = Self {
                asks,
                since: Instant::now(),
            };
        }
        asks
    }
}

impl<K: Key> Core<K> {
    /// Asks code with polls for safepoints, now and then, while somebody is late.
    pub(super) fn ask(&self, reclaim: &mut Reclaim<K>) {
        let age = match reclaim.oldest() {
            Some(age) => Some(age).filter(|&age| age > ASK_AFTER),
            // A hold goes at the holder's next safepoint: that is not urgent.
            None => (reclaim.held() > 0).then_some(Duration::MAX),
        };
        let ask = reclaim.asking.step(age);
        self.table.cells().ask(ASKED_BY_RECLAIMER, ask);
    }

    /// A stall that has just begun, or has passed to another participant.
    pub(super) fn look_for_stalls(&self, reclaim: &mut Reclaim<K>) -> Option<Stall> {
        let (waiting, held) = {
            let ledger = self.ledger();
            (ledger.retired.total(), ledger.held.total())
        };
        let late = reclaim.oldest().unwrap_or_default() >= self.config.stall_after;
        let whose = match waiting > self.config.stall_bytes {
            // Most of it is waited for, or most of it is held.
            true if !late && held > waiting / 2 => self.domain.holder(),
            true => self.domain.slowest(),
            false if late => self.domain.slowest(),
            false => None,
        };
        let before = reclaim.stall.take();
        let stall = whose.map(|participant| Stall {
            methods: self.names_at(&participant.standing),
            participant: participant.name,
            thread: participant.thread,
            blocked: participant.blocked,
            pinned_for: participant.age,
            waiting_bytes: waiting,
        })?;
        reclaim.stall = Some(stall.clone());
        let news = before.is_none_or(|before| before.thread != stall.thread);
        news.then_some(stall)
    }

    /// The methods that lie at these addresses, each once.
    fn names_at(&self, addresses: &[u64]) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for &address in addresses {
            // A return address may be one past the end of the code.
            let symbol = self.symbol_at(address);
            if let Some(symbol) = symbol.or_else(|| self.symbol_at(address - 1))
                && !names.contains(&symbol.method)
            {
                names.push(symbol.method);
            }
        }
        names
    }

    /// Tells the embedder. No lock is held.
    pub(super) fn tell_of_stall(&self, stall: Option<Stall>) {
        let Some(stall) = stall else { return };
        event!("stalled", participant = %stall.participant, thread = stall.thread,
            pinned_for = ?stall.pinned_for, bytes = stall.waiting_bytes, methods = ?stall.methods);
        if let Some(listener) = &self.config.on_stall {
            // What it does is the embedder's business; reclamation goes on.
            crate::contain(|| listener(&stall));
        }
    }
}
