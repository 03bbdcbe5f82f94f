//! SIEVE: one queue, one bit a method, one hand.
//!
//! Yazhuo Zhang, Juncheng Yang, Yao Yue, Ymir Vigfusson, K. V. Rashmi: *SIEVE is Simpler than LRU:
//! an Efficient Turn-Key Eviction Algorithm for Web Caches*, NSDI 2024.
//!
//! ```text
//!   oldest                                        newest
//!     A ──▶ B* ──▶ C* ──▶ D ──▶ E* ──▶ F       * visited since the hand last came by
//!           ▲
//!          hand ── walks towards the newest, then starts over at the oldest
//! ```
//!
//! New methods enter at the newest end, unvisited. A hit sets the visited bit and moves nothing. To
//! find a victim the hand walks on: what is visited loses its bit and stays *where it is* (this is
//! what sets SIEVE apart from CLOCK, which puts it back among the new); the first that is unvisited
//! is the victim. Above: the hand takes the bits of B and C, and stops at D.
//!
//! **The hand rests on the victim that it named**, for the victim is still a candidate. Three things
//! can happen to it: it is removed, and the hand steps to its newer neighbour; it is hit, and the
//! next search takes that bit and goes on; nothing, and the next search finds it again. When the
//! newest method is removed from under it, the hand has nowhere newer to go and is lifted: the next
//! search starts at the oldest. Removing any other method does not touch the hand.
//!
//! The queue is linked by indices into one `Vec`; freed nodes are chained through `newer` and used
//! again first.

use std::collections::HashMap;
use std::fmt;

// The hasher of the table inside `Lru`: a few multiplications. Ids are the cache's own numbers, so
// no stranger chooses them and nothing is gained by the standard library's slower one.
use ::lru::DefaultHasher;

use super::{Cost, MethodId, Policy};

/// "No node". Not a valid index: a list of that many nodes would not fit into memory.
const NONE: u32 = u32::MAX;

struct Node {
    id: MethodId,
    older: u32,
    /// The newer neighbour; of a free node, the next free one.
    newer: u32,
    visited: bool,
}

/// Evicts the oldest method that was not called since the search last came by.
///
/// New methods have to be called again soon to stay; methods that proved themselves are not mixed
/// with the new ones. A burst of methods that are called once passes through without pushing out
/// what is in use, which it would with [`Lru`](super::Lru).
///
/// Algorithm: Zhang et al., *SIEVE is Simpler than LRU: an Efficient Turn-Key Eviction Algorithm for
/// Web Caches*, NSDI 2024.
///
/// # Cost
///
/// Every operation but the search is one look-up in a hash table: tens of nanoseconds for thousands
/// of methods, one or two hundred (cache misses) for a million. The search clears one bit a step,
/// and each was set by a hit, so over time it is constant too; a single one walks over all methods
/// if all were hit (a million: 4 ms). A candidate takes 50 to 80 bytes of heap, and what the most
/// candidates at one time took stays with the policy.
pub struct Sieve {
    nodes: Vec<Node>,
    index: HashMap<MethodId, u32, DefaultHasher>,
    oldest: u32,
    newest: u32,
    /// Where the search goes on; `NONE` for the oldest.
    hand: u32,
    /// The first free node.
    free: u32,
}

impl Sieve {
    /// A policy with no candidates.
    pub fn new() -> Self {
        Self {
            nodes: Vec::new(),
            index: HashMap::default(),
            oldest: NONE,
            newest: NONE,
            hand: NONE,
            free: NONE,
        }
    }

    fn node(&mut self, at: u32) -> &mut Node {
        &mut self.nodes[at as usize]
    }

    /// Appends `id` at the newest end.
    fn link(&mut self, id: MethodId) -> u32 {
        let node = Node {
            id,
            older: self.newest,
            newer: NONE,
            visited: false,
        };
        let at = self.place(node);
        match self.newest {
            NONE => self.oldest = at,
            newest => self.node(newest).newer = at,
        }
        self.newest = at;
        at
    }

    /// Puts a node into a free place, or a new one.
    fn place(&mut self, node: Node) -> u32 {
        if self.free != NONE {
            let at = self.free;
            self.free = self.node(at).newer;
            *self.node(at) = node;
            return at;
        }
        let at = u32::try_from(self.nodes.len()).unwrap_or(NONE);
        assert!(at != NONE, "too many methods for one policy");
        self.nodes.push(node);
        at
    }

    /// Takes a node out of the queue, and from under the hand.
    fn unlink(&mut self, at: u32) {
        let &mut Node { older, newer, .. } = self.node(at);
        match older {
            NONE => self.oldest = newer,
            older => self.node(older).newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.node(newer).older = older,
        }
        if self.hand == at {
            self.hand = newer;
        }
        self.node(at).newer = self.free;
        self.free = at;
    }
}

impl Default for Sieve {
    fn default() -> Self {
        Self::new()
    }
}

impl Policy for Sieve {
    fn insert(&mut self, id: MethodId, _cost: Cost) {
        if !self.index.contains_key(&id) {
            let at = self.link(id);
            self.index.insert(id, at);
        }
    }

    fn hit(&mut self, id: MethodId) {
        if let Some(&at) = self.index.get(&id) {
            self.node(at).visited = true;
        }
    }

    fn remove(&mut self, id: MethodId) {
        if let Some(at) = self.index.remove(&id) {
            self.unlink(at);
        }
    }

    fn victim(&mut self) -> Option<MethodId> {
        if self.oldest == NONE {
            return None;
        }
        // Ends: a step that does not return clears a bit, and nothing here sets one.
        loop {
            let at = if self.hand == NONE {
                self.oldest
            } else {
                self.hand
            };
            self.hand = at;
            let node = self.node(at);
            if !node.visited {
                return Some(node.id);
            }
            node.visited = false;
            self.hand = node.newer;
        }
    }

    fn len(&self) -> usize {
        self.index.len()
    }

    fn name(&self) -> &'static str {
        "sieve"
    }
}

impl fmt::Debug for Sieve {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sieve")
            .field("len", &self.index.len())
            .finish_non_exhaustive()
    }
}
