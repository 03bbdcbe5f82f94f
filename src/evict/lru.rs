//! Least recently used, on the `lru` crate.

use ::lru::LruCache;

use super::{Cost, MethodId, Policy};

/// Evicts the method whose last call the cache has known of for the longest.
///
/// The cache hears of calls late (they are noted in the method's cell, and passed on in bulk), so
/// this is an LRU of the moments at which calls were *noticed*: two methods called between two
/// looks stand in the order of the looks. A method that nobody called since goes before every one
/// that somebody did, and that is what matters to the hit ratio.
///
/// # Cost
///
/// Every operation is one look-up in a hash table and a few pointers, and the node's allocation on
/// insertion: tens of nanoseconds for thousands of methods, a few hundred (cache misses) for a
/// million. A candidate takes 50 to 80 bytes of heap, and what the most candidates at one time took
/// stays with the policy.
///
/// A pass over many methods that are called only once (start-up code) pushes out everything else:
/// then take [`Sieve`](super::Sieve).
#[derive(Debug)]
pub struct Lru {
    // No limit of its own: the cache counts bytes, and it alone knows when enough has gone. Costs
    // are not kept, since nothing here reads them.
    order: LruCache<MethodId, ()>,
}

impl Lru {
    /// A policy with no candidates.
    pub fn new() -> Self {
        Self {
            order: LruCache::unbounded(),
        }
    }
}

impl Default for Lru {
    fn default() -> Self {
        Self::new()
    }
}

impl Policy for Lru {
    fn insert(&mut self, id: MethodId, _cost: Cost) {
        // `put` alone would move a method that is here already to the front: compiling it anew is
        // no use of it.
        if !self.order.contains(&id) {
            self.order.put(id, ());
        }
    }

    fn hit(&mut self, id: MethodId) {
        self.order.promote(&id);
    }

    fn remove(&mut self, id: MethodId) {
        self.order.pop(&id);
    }

    fn victim(&mut self) -> Option<MethodId> {
        self.order.peek_lru().map(|(&id, ())| id)
    }

    fn len(&self) -> usize {
        self.order.len()
    }

    fn name(&self) -> &'static str {
        "lru"
    }
}
