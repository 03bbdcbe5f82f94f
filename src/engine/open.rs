//! The open generations of workers: opened, full, sealed.

use std::sync::Mutex;
use std::time::Instant;

use super::core::{Core, lock};
use super::fork;
use crate::config::ContextRelease;
use crate::error::Error;
use crate::generation::{Body, Open, Region};
use crate::method::Key;

/// Bytes of code that a generation may always map: its first slots, of text and of constants. A
/// share of a small budget would be less, and every method would get a generation of its own.
pub(super) const LEAST_CODE: u64 = 32 << 10;

impl<K: Key> Core<K> {
    /// The open generation of methods that stay.
    pub(super) fn staying(&self) -> &Mutex<Option<Open<K>>> {
        &self.open[self.config.workers]
    }

    pub(super) fn open_generation(&self, staying: bool) -> Result<Open<K>, Error> {
        let context = self.context()?;
        let bytes = context.bytes;
        let id = self.ledger().open(bytes);
        let region = Region::new();
        let body = Body {
            callees: Vec::new(),
            context: Some(context),
            region,
        };
        Ok(Open {
            id,
            body,
            methods: 0,
            context_bytes: bytes,
            since: Instant::now(),
            staying,
        })
    }

    fn is_full(&self, open: &Open<K>) -> bool {
        let config = &self.config;
        let limits = self.ledger().limits;
        let share = |budget: u64| {
            if budget == u64::MAX {
                budget
            } else {
                (budget / 8).max(1)
            }
        };
        let code = open.body.region.mapped().code();
        let share_of_code = share(limits.code_budget).min(share(limits.budget));
        let most_code = config
            .generation_code
            .min(share_of_code.max(LEAST_CODE + 1));
        let most_context = config.generation_context.min(share(limits.budget));
        open.methods >= config.generation_methods
            || code >= most_code
            || open.context_bytes >= most_context.max(1)
            || (open.methods > 0 && open.since.elapsed() >= config.generation_age)
    }

    pub(super) fn seal_if_full(&self, slot: &mut Option<Open<K>>) {
        if slot.as_ref().is_some_and(|open| self.is_full(open)) {
            self.seal_slot(slot);
        }
    }

    /// Seals the slot's generation, if there is one.
    pub(super) fn seal_slot(&self, slot: &mut Option<Open<K>>) {
        let Some(mut open) = slot.take() else { return };
        fork::while_not_forking(|| open.body.region.seal());
        let context = match self.config.release {
            ContextRelease::WithGeneration if !open.staying => None,
            // What stays would keep its context for ever.
            _ => open.body.context.take(),
        };
        let sizes = open.body.region.mapped();
        let mut ledger = self.ledger();
        ledger.charge(
            open.id,
            sizes,
            if context.is_some() {
                0
            } else {
                open.context_bytes
            },
        );
        ledger.seal(open.id, open.body);
        // Before anybody can look: it counts in one place or the other.
        if let Some(context) = context {
            self.dispose_later(context);
        }
        drop(ledger);
        self.ring_if_dead();
    }

    /// Seals all open generations. Waits for batches that are being compiled.
    pub(crate) fn seal_all(&self) {
        for slot in &self.open {
            self.seal_slot(&mut lock(slot));
        }
    }

    /// Seals the open generations of workers that are not compiling now.
    pub(crate) fn try_seal(&self) {
        for slot in &self.open {
            if let Ok(mut slot) = slot.try_lock() {
                self.seal_slot(&mut slot);
            }
        }
    }
}
