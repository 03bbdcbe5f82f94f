//! What methods rely on: that the types which their family sees are what they were.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use inkpot::Assumption;

/// An assumption for each family whose types have mattered to somebody. It falls when they change, as often
/// as they do: so there are as many as families, however long it goes on.
#[derive(Default)]
pub struct Types {
    families: Mutex<HashMap<u32, Assumption>>,
}

impl Types {
    /// That the types of a family stay.
    pub fn stay(&self, family: u32) -> Assumption {
        let mut families = self.families.lock().unwrap_or_else(PoisonError::into_inner);
        families.entry(family).or_default().clone()
    }

    /// They have changed: nothing that relied on what they were is called from now on.
    pub fn change(&self, family: u32) {
        // No wait for threads that are in it already: an old method gives an old result, and that is
        // what its key asks for.
        drop(self.stay(family).invalidate());
    }
}
