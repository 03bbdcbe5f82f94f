//! A cache as assumptions see it.

use std::any::Any;
use std::sync::Arc;
use std::time::Duration;

use super::core::Core;
use crate::error::Error;
use crate::invalidate::{Inner, Relying};
use crate::method::Key;
use crate::sync::fault::kept;

/// Bonds that are undone before others have a turn at the ledger.
const TURN: usize = 1024;

impl<K: Key> Relying for Core<K> {
    fn unlink(&self, fallen: &[(Arc<Inner>, u64)]) -> Option<Box<dyn Any + Send>> {
        let mut panic = None;
        let mut rest = fallen.iter();
        let mut now = rest.next();
        while now.is_some() && self.check_fork().is_ok() && kept("fall.unlink") {
            let mut ledger = self.ledger();
            let mut left = TURN;
            while let Some((assumption, version)) = now
                && left > 1
            {
                let turn = ledger.drop_dependents(assumption, *version, left);
                panic = turn.panic.or(panic);
                left = left.saturating_sub(turn.done);
                if turn.over {
                    ledger.counters.assumptions_invalidated += 1;
                    now = rest.next();
                }
            }
            drop(ledger);
            self.ring_if_dead();
        }
        panic
    }

    fn wait(&self, patience: Option<Duration>) -> Result<(), Error> {
        self.wait_for_grace(patience)
    }

    fn keep_running(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        self.domain.keep()
    }
}
