//! Which compilations were in vain: of methods that had been compiled before, and of which nothing
//! had changed since. They were evicted, and needed again.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::world::Key;

/// What of a family has been compiled.
#[derive(Default)]
struct Compiled {
    version: u32,
    /// A bit for each part, of this version alone.
    parts: u32,
}

/// What has been compiled: no more for each family than what it is at now, as memory is measured.
#[derive(Default)]
pub struct Again {
    families: Mutex<HashMap<u32, Compiled>>,
    count: AtomicU64,
}

impl Again {
    fn families(&self) -> MutexGuard<'_, HashMap<u32, Compiled>> {
        // A front end that panicked elsewhere leaves this whole.
        self.families.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A method is compiled.
    pub fn compiled(&self, key: &Key) {
        let mut families = self.families();
        let known = families.entry(key.family).or_default();
        if key.version < known.version {
            return; // it has changed meanwhile: somebody was about to call what it was
        }
        if key.version > known.version {
            *known = Compiled {
                version: key.version,
                parts: 0,
            };
        }
        let part = 1 << key.part;
        if known.parts & part != 0 {
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        known.parts |= part;
    }

    /// This version of a family is over.
    pub fn changed(&self, family: u32, version: u32) {
        let mut families = self.families();
        let known = families.entry(family).or_default();
        if known.version <= version {
            *known = Compiled {
                version: version + 1,
                parts: 0,
            };
        }
    }

    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}
