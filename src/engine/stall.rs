//! What keeps memory from coming back: it is asked for safepoints, seen, and named.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::core::Core;
use super::recycle::Reclaim;
use crate::method::{ASKED_BY_RECLAIMER, Key};
use crate::observe::{Stall, event};

/// A grace period that is older is not just about to end: code is asked for safepoints.
const ASK_AFTER: Duration = Duration::from_millis(2);
/// For so long at first; then for one part in four of the time, since polls cost threads that are
/// not late more while the flag stands.
const ASK_AT_FIRST: Duration = Duration::from_millis(60);
const ASK_EVERY: u128 = 80;
const ASK_FOR: u128 = 20;

impl<K: Key> Core<K> {
    /// Asks code with polls for safepoints, while somebody is late.
    pub(super) fn ask(&self, reclaim: &Reclaim<K>) {
        let now = self.began.elapsed().as_millis() % ASK_EVERY < ASK_FOR;
        let ask = match reclaim.oldest() {
            Some(age) => age > ASK_AFTER && (age < ASK_AT_FIRST || now),
            // A hold goes at the holder's next safepoint.
            None => reclaim.held() > 0 && now,
        };
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
            let _ = catch_unwind(AssertUnwindSafe(|| listener(&stall)));
        }
    }
}
