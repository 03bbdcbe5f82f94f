//! A hash map whose readers take no lock, wait for nobody, and write nothing that is shared.
//!
//! Chains of immutable nodes hang off an array of buckets. Writers take turns (methods are made
//! and forgotten some thousand times a second, not millions); what they unlink is destroyed under
//! epochs. When the map grows or shrinks its nodes are copied into a new array, and what they hold is
//! shared: readers of the old one see the map as it was, and no key is copied, which may panic.
//!
//! Why not a crate: the ones that were tried (see `design/05-table.md`) panic on threads that run
//! their last destructors, where handles are dropped too, or take time in proportion to all keys
//! there ever were. crossbeam's epochs do neither.

use std::hash::{BuildHasher, Hash};
use std::sync::{Arc, PoisonError};

#[cfg(not(feature = "_loom"))]
use crossbeam_epoch::{Atomic, Guard, Owned, Shared, unprotected};

use self::here::pin;
#[cfg(feature = "_loom")]
use crate::reclaim::epoch::{Atomic, Guard, Owned, Shared, unprotected};
use crate::sync::atomic::{AtomicUsize, Ordering};
use crate::sync::fault::{kept, order};
use crate::sync::{KeyHash, Mutex, MutexGuard};

mod here;

/// The fewest buckets. There are as many buckets as entries, or up to eight times as many.
const FEWEST: usize = if cfg!(feature = "_loom") { 2 } else { 64 };

/// What an `Arc` has in front of its value.
pub(super) const COUNTS: usize = 2 * size_of::<usize>();

/// What a key leads to, shared by the nodes of the array that is in use and of those before it.
struct Item<K, V> {
    key: K,
    value: V,
}

struct Node<K, V> {
    hash: u64,
    item: Arc<Item<K, V>>,
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

    /// Puts a node in front of its chain. By a writer.
    fn push(&self, hash: u64, item: Arc<Item<K, V>>, guard: &Guard) {
        let head = self.of(hash);
        let next = Atomic::from(head.load(Ordering::Relaxed, guard));
        let node = Owned::new(Node { hash, item, next });
        head.store(node, order("map.push", Ordering::Release));
    }
}

/// See the module's documentation.
pub(crate) struct Map<K, V> {
    buckets: Atomic<Buckets<K, V>>,
    len: AtomicUsize,
    writer: Mutex<()>,
    hasher: KeyHash,
}

impl<K: Eq + Hash + Send + Sync + 'static, V: Send + Sync + 'static> Map<K, V> {
    /// Sizes of the pieces of memory that one entry takes.
    pub(super) const ENTRY: [usize; 2] =
        [size_of::<Node<K, V>>(), COUNTS + size_of::<Item<K, V>>()];

    pub(crate) fn new() -> Self {
        Self {
            buckets: Atomic::new(Buckets::new(FEWEST)),
            len: AtomicUsize::new(0),
            writer: Mutex::new(()),
            hasher: KeyHash::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// The hash that all other calls want.
    pub(crate) fn hash(&self, key: &K) -> u64 {
        self.hasher.hash_one(key)
    }

    /// What `look` makes of the key's value.
    pub(crate) fn get<R>(&self, hash: u64, key: &K, look: impl FnOnce(&V) -> R) -> Option<R> {
        let guard = pin();
        let same = |item: &Item<K, V>| item.key == *key;
        let (_, node) = self.find(hash, same, &guard)?;
        // SAFETY: as in `find`.
        Some(look(&unsafe { node.deref() }.item.value))
    }

    /// Calls `visit` for every entry there is throughout the call, and maybe for others.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(&V)) {
        let guard = pin();
        for head in &self.buckets(&guard).0 {
            let mut at = head.load(Ordering::Acquire, &guard);
            // SAFETY: as in `find`.
            while let Some(node) = unsafe { at.as_ref() } {
                visit(&node.item.value);
                at = node.next.load(Ordering::Acquire, &guard);
            }
        }
    }

    /// Inserts, unless the key has a value for which `stands` is true. False if it has. A panic of
    /// the key leaves the map as it was.
    pub(crate) fn insert_unless(
        &self,
        hash: u64,
        key: K,
        value: V,
        stands: impl FnOnce(&V) -> bool,
    ) -> bool {
        // Pinned first: that may destroy keys, which shall not happen under the lock.
        let guard = pin();
        let writer = self.lock();
        let same = |item: &Item<K, V>| item.key == key;
        if let Some((link, node)) = self.find(hash, same, &guard) {
            // SAFETY: as in `find`.
            if stands(&unsafe { node.deref() }.item.value) {
                return false;
            }
            self.unlink(link, node, &guard);
        }
        let item = Arc::new(Item { key, value });
        self.buckets(&guard).push(hash, item, &guard);
        self.len.fetch_add(1, Ordering::Relaxed);
        self.resize(&writer, &guard);
        true
    }

    /// Removes the entry with this hash whose value is `gone`, if there is one. Asks nothing of
    /// keys, so that it cannot panic where they do.
    pub(crate) fn remove(&self, hash: u64, gone: impl Fn(&V) -> bool) {
        let guard = pin();
        let writer = self.lock();
        let same = |item: &Item<K, V>| gone(&item.value);
        if let Some((link, node)) = self.find(hash, same, &guard) {
            self.unlink(link, node, &guard);
            self.resize(&writer, &guard);
        }
    }

    fn lock(&self) -> MutexGuard<'_, ()> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn buckets<'g>(&self, guard: &'g Guard) -> &'g Buckets<K, V> {
        // SAFETY: never null; as in `find`.
        unsafe {
            self.buckets
                .load(order("map.array.load", Ordering::Acquire), guard)
                .deref()
        }
    }

    /// The first node with this hash that is the `same`, and the link to it.
    fn find<'g>(
        &self,
        hash: u64,
        same: impl Fn(&Item<K, V>) -> bool,
        guard: &'g Guard,
    ) -> Option<Place<'g, K, V>> {
        let mut link = self.buckets(guard).of(hash);
        loop {
            let at = link.load(order("map.link", Ordering::Acquire), guard);
            // SAFETY: nodes are destroyed only after every thread that was pinned when they were
            // unlinked has unpinned, and this one is pinned.
            let node = unsafe { at.as_ref() }?;
            if node.hash == hash && same(&node.item) {
                return Some((link, at));
            }
            link = &node.next;
        }
    }

    /// Takes a node out of its chain. By a writer.
    fn unlink(&self, link: &Atomic<Node<K, V>>, node: Shared<'_, Node<K, V>>, guard: &Guard) {
        // SAFETY: as in `find`. The node keeps its own link, for readers who stand on it.
        let next = unsafe { node.deref() }.next.load(Ordering::Relaxed, guard);
        link.store(next, Ordering::Release);
        self.len.fetch_sub(1, Ordering::Relaxed);
        // SAFETY: unlinked, once, since writers take turns.
        unsafe {
            let guard = if kept("map.defer") {
                guard
            } else {
                unprotected()
            };
            guard.defer_destroy(node);
        }
    }

    /// Copies the map into an array that suits its length, if the present one does not. Nodes are
    /// copied and items shared, so nothing of the embedder's runs in between.
    fn resize(&self, _writer: &MutexGuard<'_, ()>, guard: &Guard) {
        let old = self.buckets.load(Ordering::Acquire, guard);
        // SAFETY: never null; as in `find`.
        let from = unsafe { old.deref() };
        let (len, many) = (self.len(), from.0.len());
        if len <= many && (many == FEWEST || len >= many / 8) {
            return;
        }
        let to = Buckets::new((len * 2).next_power_of_two().max(FEWEST));
        let mut replaced = Vec::with_capacity(len);
        for head in &from.0 {
            let mut at = head.load(Ordering::Relaxed, guard);
            // SAFETY: as in `find`.
            while let Some(node) = unsafe { at.as_ref() } {
                to.push(node.hash, node.item.clone(), guard);
                replaced.push(at);
                at = node.next.load(Ordering::Relaxed, guard);
            }
        }
        self.buckets
            .store(Owned::new(to), order("map.array.store", Ordering::Release));
        // SAFETY: the old array was replaced just now, and with it the only way to its nodes;
        // writers take turns, so each of them is destroyed once.
        unsafe {
            guard.defer_destroy(old);
            replaced
                .into_iter()
                .for_each(|node| guard.defer_destroy(node));
        }
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
    use std::sync::atomic::{AtomicBool, AtomicUsize};

    use super::*;
    use proptest::prelude::*;

    fn put<K: Eq + Hash + Send + Sync + 'static>(map: &Map<K, u32>, key: K, value: u32) -> bool {
        map.insert_unless(map.hash(&key), key, value, |_| false)
    }

    fn get<K: Eq + Hash + Send + Sync + 'static>(map: &Map<K, u32>, key: &K) -> Option<u32> {
        map.get(map.hash(key), key, |v| *v)
    }

    fn remove(map: &Map<u32, u32>, key: u32, value: u32) {
        map.remove(map.hash(&key), |v| *v == value);
    }

    proptest! {
        #[test]
        fn agrees_with_the_standard_map(ops in prop::collection::vec((0u8..4, 0u32..400, any::<u32>()), 1..3000)) {
            let map = Map::new();
            let mut model = std::collections::HashMap::new();
            for (op, key, value) in ops {
                match op {
                    0 => {
                        let stands = model.contains_key(&key) && value % 2 == 0;
                        let hash = map.hash(&key);
                        let inserted = map.insert_unless(hash, key, value, |_| value % 2 == 0);
                        prop_assert_eq!(inserted, !stands);
                        if !stands {
                            model.insert(key, value);
                        }
                    }
                    1 => {
                        let present = model.get(&key).copied();
                        remove(&map, key, present.unwrap_or(value));
                        model.remove(&key);
                    }
                    2 => {
                        // Another value than the one that is there.
                        let other = model.get(&key).map_or(value, |v| v.wrapping_add(1));
                        remove(&map, key, other);
                    }
                    _ => {}
                }
                prop_assert_eq!(get(&map, &key), model.get(&key).copied());
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
            put(&map, key, key);
        }
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for round in 0..200u32 {
                    for key in 100..400 {
                        put(&map, key + round, key);
                    }
                    for key in 100..400 {
                        remove(&map, key + round, key);
                    }
                }
                over.store(true, Ordering::Relaxed);
            });
            while !over.load(Ordering::Relaxed) {
                for key in 0..100 {
                    assert_eq!(get(&map, &key), Some(key));
                }
            }
        });
    }

    #[test]
    fn keys_that_come_and_go_leave_nothing() {
        let map = Map::new();
        for key in 0..300_000 {
            put(&map, key, key);
            remove(&map, key, key);
        }
        assert_eq!(map.len(), 0);
        assert_eq!(map.buckets(&pin()).0.len(), FEWEST);
    }

    /// It cannot be copied, and it counts how many there are.
    #[derive(PartialEq, Eq, Hash)]
    struct Counted(u32);

    static ALIVE: AtomicUsize = AtomicUsize::new(0);

    impl Drop for Counted {
        fn drop(&mut self) {
            ALIVE.fetch_sub(1, Ordering::Relaxed);
        }
    }

    fn counted(number: u32) -> Counted {
        ALIVE.fetch_add(1, Ordering::Relaxed);
        Counted(number)
    }

    #[test]
    fn growing_and_shrinking_neither_copy_nor_lose_keys() {
        const MANY: u32 = 5_000;
        let map = Map::new();
        for key in 0..MANY {
            put(&map, counted(key), key);
        }
        assert!(map.buckets(&pin()).0.len() >= MANY as usize);
        for key in 0..MANY {
            assert_eq!(get(&map, &counted(key)), Some(key));
        }
        for key in 10..MANY {
            map.remove(map.hash(&counted(key)), |v| *v == key);
        }
        assert_eq!(map.buckets(&pin()).0.len(), FEWEST);
        for key in 0..10 {
            assert_eq!(get(&map, &counted(key)), Some(key));
        }
        drop(map);
        // What was removed is destroyed when no test is pinned.
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while ALIVE.load(Ordering::Relaxed) > 0 && std::time::Instant::now() < deadline {
            pin().flush();
            std::thread::yield_now();
        }
        assert_eq!(ALIVE.load(Ordering::Relaxed), 0);
    }
}
