//! A hash map whose readers take no lock, wait for nobody, and write nothing that is shared.
//!
//! Chains of immutable nodes hang off an array of buckets. Writers take turns (methods are made
//! and forgotten some thousand times a second, not millions); what they unlink is destroyed under
//! epochs. When the map grows or shrinks, all of it is copied into a new array: readers of the old
//! one see the map as it was.
//!
//! Why not a crate: the ones that were tried (see `design/05-table.md`) panic on threads that run
//! their last destructors, where handles are dropped too, or take time in proportion to all keys
//! there ever were. crossbeam's epochs do neither.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crossbeam_epoch::{Atomic, Guard, Owned, Shared, pin, unprotected};

/// The fewest buckets. There are as many buckets as entries, or up to eight times as many.
const FEWEST: usize = 64;

struct Node<K, V> {
    hash: u64,
    key: K,
    value: V,
    next: Atomic<Node<K, V>>,
}

/// A node, and the link that leads to it.
type Place<'g, K, V> = (&'g Atomic<Node<K, V>>, Shared<'g, Node<K, V>>);

struct Buckets<K, V>(Box<[Atomic<Node<K, V>>]>);

impl<K, V> Buckets<K, V> {
    fn new(len: usize) -> Self {
        Self((0..len).map(|_| Atomic::null()).collect())
    }

    fn of(&self, hash: u64) -> &Atomic<Node<K, V>> {
        // The length is a power of two.
        &self.0[hash as usize & (self.0.len() - 1)]
    }
}

/// See the module's documentation.
pub(super) struct Map<K, V> {
    buckets: Atomic<Buckets<K, V>>,
    len: AtomicUsize,
    writer: Mutex<()>,
    hasher: RandomState,
}

impl<K: Clone + Eq + Hash + Send + 'static, V: Clone + Send + 'static> Map<K, V> {
    pub(super) fn new() -> Self {
        Self {
            buckets: Atomic::new(Buckets::new(FEWEST)),
            len: AtomicUsize::new(0),
            writer: Mutex::new(()),
            hasher: RandomState::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// What `look` makes of the key's value.
    pub(super) fn get<R>(&self, key: &K, look: impl FnOnce(&V) -> R) -> Option<R> {
        let guard = pin();
        let hash = self.hasher.hash_one(key);
        let mut at = self
            .buckets(&guard)
            .of(hash)
            .load(Ordering::Acquire, &guard);
        loop {
            // SAFETY: nodes are destroyed only after every thread that was pinned when they were
            // unlinked has unpinned, and this one is pinned.
            let node = unsafe { at.as_ref() }?;
            if node.hash == hash && node.key == *key {
                return Some(look(&node.value));
            }
            at = node.next.load(Ordering::Acquire, &guard);
        }
    }

    /// Calls `visit` for every entry there is throughout the call, and maybe for others.
    pub(super) fn for_each(&self, mut visit: impl FnMut(&V)) {
        let guard = pin();
        for head in &self.buckets(&guard).0 {
            let mut at = head.load(Ordering::Acquire, &guard);
            // SAFETY: as in `get`.
            while let Some(node) = unsafe { at.as_ref() } {
                visit(&node.value);
                at = node.next.load(Ordering::Acquire, &guard);
            }
        }
    }

    /// Inserts, unless the key has a value for which `stands` is true. False if it has.
    pub(super) fn insert_unless(&self, key: K, value: V, stands: impl FnOnce(&V) -> bool) -> bool {
        let writer = self.lock();
        let guard = pin();
        let hash = self.hasher.hash_one(&key);
        if let Some((link, node)) = self.find(&key, hash, &guard) {
            // SAFETY: as in `get`.
            if stands(unsafe { &node.deref().value }) {
                return false;
            }
            self.unlink(link, node, &guard);
        }
        let head = self.buckets(&guard).of(hash);
        let next = Atomic::from(head.load(Ordering::Relaxed, &guard));
        head.store(
            Owned::new(Node {
                hash,
                key,
                value,
                next,
            }),
            Ordering::Release,
        );
        self.resize(
            self.len.fetch_add(1, Ordering::Relaxed) + 1,
            &writer,
            &guard,
        );
        true
    }

    /// Removes the key's entry if `gone` says so of its value.
    pub(super) fn remove_if(&self, key: &K, gone: impl FnOnce(&V) -> bool) {
        let writer = self.lock();
        let guard = pin();
        let hash = self.hasher.hash_one(key);
        if let Some((link, node)) = self.find(key, hash, &guard)
            // SAFETY: as in `get`.
            && gone(unsafe { &node.deref().value })
        {
            self.unlink(link, node, &guard);
            self.resize(self.len(), &writer, &guard);
        }
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn buckets<'g>(&self, guard: &'g Guard) -> &'g Buckets<K, V> {
        // SAFETY: never null; as in `get`.
        unsafe { self.buckets.load(Ordering::Acquire, guard).deref() }
    }

    /// The key's node and the link to it. By a writer.
    fn find<'g>(&self, key: &K, hash: u64, guard: &'g Guard) -> Option<Place<'g, K, V>> {
        let mut link = self.buckets(guard).of(hash);
        loop {
            let at = link.load(Ordering::Acquire, guard);
            // SAFETY: as in `get`.
            let node = unsafe { at.as_ref() }?;
            if node.hash == hash && node.key == *key {
                return Some((link, at));
            }
            link = &node.next;
        }
    }

    /// Takes a node out of its chain. By a writer.
    fn unlink(&self, link: &Atomic<Node<K, V>>, node: Shared<'_, Node<K, V>>, guard: &Guard) {
        // SAFETY: as in `get`. The node keeps its own link, for readers who stand on it.
        let next = unsafe { node.deref() }.next.load(Ordering::Relaxed, guard);
        link.store(next, Ordering::Release);
        self.len.fetch_sub(1, Ordering::Relaxed);
        // SAFETY: unlinked, once, since writers take turns.
        unsafe { guard.defer_destroy(node) };
    }

    /// Copies the map into an array that suits `len` entries, if the present one does not.
    fn resize(&self, len: usize, _writer: &MutexGuard<'_, ()>, guard: &Guard) {
        let old = self.buckets.load(Ordering::Acquire, guard);
        // SAFETY: never null; as in `get`.
        let from = unsafe { old.deref() };
        let many = from.0.len();
        if len <= many && (many == FEWEST || len >= many / 8) {
            return;
        }
        let to = Buckets::new((len * 2).next_power_of_two().max(FEWEST));
        for head in &from.0 {
            let mut at = head.load(Ordering::Relaxed, guard);
            // SAFETY: as in `get`.
            while let Some(node) = unsafe { at.as_ref() } {
                let new_head = to.of(node.hash);
                let next = Atomic::from(new_head.load(Ordering::Relaxed, guard));
                let (hash, key, value) = (node.hash, node.key.clone(), node.value.clone());
                new_head.store(
                    Owned::new(Node {
                        hash,
                        key,
                        value,
                        next,
                    }),
                    Ordering::Relaxed,
                );
                let this = at;
                at = node.next.load(Ordering::Relaxed, guard);
                // SAFETY: the old array goes, and with it the only way to its nodes; each is
                // destroyed once.
                unsafe { guard.defer_destroy(this) };
            }
        }
        self.buckets.store(Owned::new(to), Ordering::Release);
        // SAFETY: replaced just now; writers take turns.
        unsafe { guard.defer_destroy(old) };
    }
}

impl<K, V> Drop for Map<K, V> {
    fn drop(&mut self) {
        // SAFETY: nobody else has the map any more, so nothing is read concurrently.
        unsafe {
            let guard = unprotected();
            let buckets = self.buckets.load(Ordering::Relaxed, guard).into_owned();
            for head in &buckets.0 {
                let mut at = head.load(Ordering::Relaxed, guard);
                while !at.is_null() {
                    let node = at.into_owned();
                    at = node.next.load(Ordering::Relaxed, guard);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_the_standard_map(ops in prop::collection::vec((0u8..3, 0u16..400, any::<u32>()), 1..3000)) {
            let map = Map::new();
            let mut model = std::collections::HashMap::new();
            for (op, key, value) in ops {
                match op {
                    0 => {
                        let stands = model.contains_key(&key) && value % 2 == 0;
                        prop_assert_eq!(map.insert_unless(key, value, |_| value % 2 == 0), !stands);
                        if !stands {
                            model.insert(key, value);
                        }
                    }
                    1 => {
                        map.remove_if(&key, |v| v % 3 != 0);
                        if model.get(&key).is_some_and(|v| v % 3 != 0) {
                            model.remove(&key);
                        }
                    }
                    _ => prop_assert_eq!(map.get(&key, |v| *v), model.get(&key).copied()),
                }
                prop_assert_eq!(map.len(), model.len());
            }
            let mut all = Vec::new();
            map.for_each(|v| all.push(*v));
            let mut expected: Vec<_> = model.into_values().collect();
            all.sort_unstable();
            expected.sort_unstable();
            prop_assert_eq!(all, expected);
        }
    }

    #[test]
    fn readers_see_what_stays_while_others_come_and_go() {
        let map = Map::new();
        for key in 0..100u32 {
            map.insert_unless(key, key, |_| false);
        }
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..200u32 {
                    for key in 100..400 {
                        map.insert_unless(key + round, key, |_| false);
                    }
                    for key in 100..400 {
                        map.remove_if(&(key + round), |_| true);
                    }
                }
                over.store(true, Ordering::Relaxed);
            });
            while !over.load(Ordering::Relaxed) {
                for key in 0..100 {
                    assert_eq!(map.get(&key, |v| *v), Some(key));
                }
            }
        });
    }

    #[test]
    fn keys_that_come_and_go_leave_nothing() {
        let map = Map::new();
        for key in 0..300_000u64 {
            map.insert_unless(key, key, |_| false);
            map.remove_if(&key, |_| true);
        }
        assert_eq!(map.len(), 0);
        assert_eq!(map.buckets(&pin()).0.len(), FEWEST);
    }
}
