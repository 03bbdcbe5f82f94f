//! A hash map whose readers take no lock, wait for nobody, and write nothing that is shared.
//!
//! One array of buckets, looked through from where a key's hash says. A bucket is a cache line with the addresses of four
//! items, their hashes and their numbers: so hardly an item is touched that is not looked for, there is one branch for
//! what is nearly always so, and what the number stands for can be fetched while the key is being compared. Writers
//! take turns (methods are made and forgotten some thousand times a second, not millions). When the map grows or shrinks,
//! the addresses are copied into a new array: readers of the old one see the map as it was, and no key is copied, or
//! hashed, which may panic.
//!
//! There are two kinds of readers. Those of [`Map::get`] may be any thread: they pin the epochs of this module.
//! Those of [`Map::look`] are pinned in the cache already, and must not pay for a second pin. So
//! what is unlinked waits for both: the map keeps it until somebody takes it ([`Map::take_unlinked`]), sees to it that nobody
//! is left who was inside, and destroys it. That is the reclaimer, who has no lock: keys are the embedder's, and may want
//! locks of his when they are dropped.
//!
//! Why not a crate: the ones that were tried (see `design/05-table.md`) panic on threads that run
//! their last destructors, where handles are dropped too, or take time in proportion to all keys
//! there ever were. crossbeam's epochs do neither.

mod buckets;
mod hasher;
mod here;
mod slab;
mod unlinked;
mod watched;

use std::hash::{BuildHasher, Hash};
use std::ptr;
use std::sync::{Arc, PoisonError};

use self::buckets::{Buckets, FEWEST, Found, Item, WIDTH, find, grave, is_item};
use self::here::Epochs;
pub(crate) use self::here::{hold_for_fork, in_child};
use self::slab::Slab;
pub(crate) use self::unlinked::Unlinked;
use self::unlinked::{Garbage, destroy};
use self::watched::Watched;
use crate::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use crate::sync::fault::{kept, order};
use crate::sync::{Mutex, MutexGuard};

/// What an `Arc` has in front of its value.
pub(super) const COUNTS: usize = 2 * size_of::<usize>();

/// The one who changes the map.
struct Writer<K, V> {
    /// Places that are not null.
    used: usize,
    unlinked: Vec<Garbage<K, V>>,
    /// With so much unlinked somebody is to be called.
    call_at: usize,
}

/// What is unlinked after which it is to be taken apart soon.
pub(crate) const MUCH: usize = 1024;

/// See the module's documentation.
pub(crate) struct Map<K, V> {
    buckets: AtomicPtr<Buckets<K, V>>,
    hasher: hasher::Hasher,
    len: AtomicUsize,
    slab: Arc<Slab<Item<K, V>>>,
    epochs: Epochs,
    writer: Mutex<Writer<K, V>>,
}

// SAFETY: the pointers own what they lead to, as boxes would; references to it are given out to several threads.
unsafe impl<K: Send + Sync, V: Send + Sync> Send for Map<K, V> {}
// SAFETY: as above; and whoever changes the map drops keys and values that other threads made.
unsafe impl<K: Send + Sync, V: Send + Sync> Sync for Map<K, V> {}

impl<K: Eq + Hash + Send + Sync + 'static, V: Send + Sync + 'static> Map<K, V> {
    /// Size of the piece of memory that one entry takes, besides its place.
    pub(super) const ENTRY: usize = size_of::<Item<K, V>>();

    pub(crate) fn new() -> Self {
        let buckets = Box::new(Buckets::for_items(0));
        Self {
            buckets: AtomicPtr::new(Box::into_raw(buckets)),
            hasher: hasher::new(),
            len: AtomicUsize::new(0),
            slab: Arc::default(),
            epochs: Epochs::new(),
            writer: Mutex::new(Writer {
                used: 0,
                unlinked: Vec::new(),
                call_at: MUCH,
            }),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// The hash that all other calls want.
    #[inline]
    pub(crate) fn hash(&self, key: &K) -> u32 {
        (self.hasher.hash_one(key) >> 32) as u32
    }

    /// What `look` makes of the key's value.
    pub(crate) fn get<R>(&self, hash: u32, key: &K, look: impl FnOnce(&V) -> R) -> Option<R> {
        let _guard = self.epochs.pin();
        // SAFETY: pinned, until this returns.
        let buckets = unsafe { self.buckets() };
        let found = find(buckets, hash, |item| item.is(key))?;
        // SAFETY: as above.
        Some(look(&unsafe { &*found.item }.value))
    }

    /// What `look` makes of the key's number and value, if it is in the map still when `look` has returned: as long as
    /// that is so its number is nobody else's. `near` is told of the number earlier: of this one, or (seldom) of any.
    ///
    /// # Safety
    /// Nothing that is [taken](Map::take_unlinked) after the call has begun is destroyed before it has returned.
    #[inline(always)]
    #[allow(
        clippy::unnecessary_min_or_max,
        reason = "for loom a bucket has one place"
    )]
    pub(crate) unsafe fn look<R>(
        &self,
        key: &K,
        near: impl FnOnce(u32),
        look: impl FnOnce(u32, &V) -> R,
    ) -> Option<R> {
        // SAFETY: the caller's promise.
        let buckets = unsafe { self.buckets() };
        let hash = self.hash(key);
        let first = buckets.bucket(buckets.home(hash));
        let place = (first.places(hash).trailing_zeros() as usize).min(WIDTH - 1);
        let item = first.items[place].load(order("map.link", Ordering::Acquire));
        near(first.numbers[place].load(Ordering::Relaxed));
        // SAFETY: an item was in the map after the array was loaded, so it is not destroyed yet.
        let is_it = is_item(item) && unsafe { &*item }.is(key);
        let item = match is_it {
            true => item,
            // It is not the first with its hash in the first bucket, or not there.
            false => seldom(move || find(buckets, hash, |item| item.is(key)))?.item,
        };
        // SAFETY: as above.
        let item = unsafe { &*item };
        let seen = look(item.number, &item.value);
        // What `look` loaded comes first: it did so with acquire. If that was stored by whoever has the number now, then
        // `gone` was stored before the number was given back, and so before that: no order of its own is needed.
        let gone = item.gone.load(Ordering::Relaxed) && kept("look.gone");
        (!gone).then_some(seen)
    }

    /// Calls `visit` for every entry there is throughout the call, and maybe for others.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(&V)) {
        let _guard = self.epochs.pin();
        // SAFETY: pinned, until this returns.
        unsafe { self.buckets() }.items().for_each(|item| {
            // SAFETY: as above; it is in the map, or was when this began.
            visit(&unsafe { &*item }.value);
        });
    }

    /// Inserts, unless the key has a value for which `stands` is true. False if it has. A panic of
    /// the key leaves the map as it was. Keys are compared, and dropped, under no lock.
    pub(crate) fn insert_unless(
        &self,
        hash: u32,
        key: K,
        number: u32,
        value: V,
        stands: impl FnOnce(&V) -> bool,
    ) -> bool {
        let _guard = self.epochs.pin();
        let (mut compared, mut before) = (Vec::new(), None);
        let (mut writer, buckets) = loop {
            let writer = self.lock();
            // SAFETY: writers take turns, so what the map has now stays in it while this one has the lock.
            let buckets = unsafe { self.buckets() };
            let mut alike = Vec::new();
            find(buckets, hash, |item| {
                alike.push(ptr::from_ref(item));
                false
            });
            if alike == compared || !kept("map.compared") {
                break (writer, buckets);
            }
            drop(writer);
            // SAFETY: pinned since before they were unlinked, if they were.
            let same = |item: &*const Item<K, V>| unsafe { &**item }.is(&key);
            before = alike.iter().copied().find(same);
            compared = alike;
        };
        let before = before.and_then(|same| find(buckets, hash, |item| ptr::eq(item, same)));
        if let Some(found) = &before {
            // SAFETY: it is in the map, as above.
            let item = unsafe { &*found.item };
            if stands(&item.value) {
                return false;
            }
        }
        let new = self.slab.put(Item {
            gone: AtomicBool::new(false),
            number,
            value,
            key,
            watched: Watched::new(),
        });
        if let Some(Found { at, place, item }) = before {
            buckets.bucket(at).put(place, hash, number, new);
            // SAFETY: just unlinked.
            unsafe { writer.unlink(item) };
            return true;
        }
        let buckets = match writer.used < buckets.most() {
            true => buckets,
            false => self.resize(&mut writer, self.len() + 1),
        };
        writer.put(buckets, hash, number, new);
        self.len.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Removes the entry with this hash whose value is `gone`, if there is one. Asks nothing of
    /// keys, so that it cannot panic where they do. True now and then, when [`MUCH`] is unlinked that nobody has taken.
    pub(crate) fn remove(&self, hash: u32, gone: impl Fn(&V) -> bool) -> bool {
        let mut writer = self.lock();
        // SAFETY: writers take turns, so what the map has now stays in it while this one has the lock.
        let buckets = unsafe { self.buckets() };
        let same = |item: &Item<K, V>| gone(&item.value);
        if let Some(Found { at, place, item }) = find(buckets, hash, same) {
            writer.clear(buckets, at, place);
            let len = self.len.fetch_sub(1, Ordering::Relaxed) - 1;
            // SAFETY: just unlinked.
            unsafe { writer.unlink(item) };
            if buckets.len() > FEWEST && len < buckets.places() / 16 {
                self.resize(&mut writer, len);
            }
        }
        let len = writer.unlinked.len();
        let calls = len >= writer.call_at;
        if calls {
            writer.call_at = len + MUCH;
        }
        calls
    }

    /// Entries that are not in the map any more, and not destroyed yet.
    pub(crate) fn lingering(&self) -> usize {
        self.slab.taken().saturating_sub(self.len())
    }

    /// How much is unlinked, and not taken.
    pub(crate) fn unlinked(&self) -> usize {
        self.lock().unlinked.len()
    }

    /// What was unlinked since the last time. To be destroyed when nobody can be inside of a [`Map::look`] any more that
    /// had begun before this call.
    pub(crate) fn take_unlinked(&self) -> Unlinked<K, V> {
        let mut writer = self.lock();
        writer.call_at = MUCH;
        let all = std::mem::take(&mut writer.unlinked);
        drop(writer);
        Unlinked::new(all, &self.slab, &self.epochs)
    }

    /// Drives the epochs on, as anybody may who reads.
    #[cfg(feature = "_loom")]
    #[allow(dead_code, reason = "for models")]
    pub(crate) fn drive(&self) {
        self.epochs.pin().flush();
    }

    fn lock(&self) -> MutexGuard<'_, Writer<K, V>> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// # Safety
    /// While the result is used nothing is destroyed that is unlinked from now on.
    #[inline(always)]
    unsafe fn buckets(&self) -> &Buckets<K, V> {
        let buckets = self
            .buckets
            .load(order("map.array.load", Ordering::Acquire));
        // SAFETY: never null; the array is destroyed after it was unlinked, so not yet.
        let buckets = unsafe { &*buckets };
        buckets.1.read();
        buckets
    }

    /// Copies the map into an array for so many items.
    fn resize(&self, writer: &mut Writer<K, V>, len: usize) -> &Buckets<K, V> {
        let old = self.buckets.load(Ordering::Acquire);
        // SAFETY: never null, and unlinked only below.
        let from = unsafe { &*old };
        let to = Box::new(Buckets::for_items(len));
        writer.used = 0;
        for bucket in &from.0 {
            for i in 0..WIDTH {
                let item = bucket.items[i].load(Ordering::Relaxed);
                if is_item(item) {
                    let [hash, number] =
                        [&bucket.hashes, &bucket.numbers].map(|n| n[i].load(Ordering::Relaxed));
                    writer.put(&to, hash, number, item);
                }
            }
        }
        let to = Box::into_raw(to);
        self.buckets
            .store(to, order("map.array.store", Ordering::Release));
        writer.unlinked.push(Garbage::Buckets(old));
        // SAFETY: as above.
        unsafe { self.buckets() }
    }
}

impl<K, V> Writer<K, V> {
    /// Puts an item, which is not in there, into the first place that has none.
    fn put(&mut self, buckets: &Buckets<K, V>, hash: u32, number: u32, item: *mut Item<K, V>) {
        let mut at = buckets.home(hash);
        let (bucket, i) = loop {
            let bucket = buckets.bucket(at);
            match bucket.position(|item| !is_item(item)) {
                Some(i) => break (bucket, i),
                None => at = buckets.after(at), // at least half of all places are null
            }
        };
        if bucket.items[i].load(Ordering::Relaxed).is_null() {
            self.used += 1;
        }
        bucket.put(i, hash, number, item);
    }

    /// Takes the item out of a place.
    fn clear(&mut self, buckets: &Buckets<K, V>, at: usize, place: usize) {
        let bucket = buckets.bucket(at);
        // Null tells searches that there is nothing behind. That is so if they knew it already; or if the next bucket ends
        // them, and what is in it begins there.
        let next = buckets.bucket(buckets.after(at));
        let stranger = |i: usize| {
            let hash = next.hashes[i].load(Ordering::Relaxed);
            is_item(next.items[i].load(Ordering::Relaxed))
                && buckets.home(hash) != buckets.after(at)
        };
        let ends_here = || bucket.has_end() || (next.has_end() && !(0..WIDTH).any(stranger));
        if !kept("map.grave") || ends_here() {
            bucket.items[place].store(ptr::null_mut(), Ordering::Relaxed);
            self.used -= 1;
        } else {
            bucket.items[place].store(grave(), Ordering::Relaxed);
        }
    }

    /// # Safety
    /// The item is not in the map any more, and comes here once.
    unsafe fn unlink(&mut self, item: *mut Item<K, V>) {
        // SAFETY: nobody destroys it before the garbage is taken.
        unsafe { &*item }
            .gone
            .store(kept("unlink.gone"), Ordering::Relaxed);
        self.unlinked.push(Garbage::Item(item));
    }
}

/// Keeps what is hardly ever needed out of the way.
#[cold]
#[inline(never)]
fn seldom<R>(run: impl FnOnce() -> R) -> R {
    run()
}

impl<K, V> Drop for Map<K, V> {
    fn drop(&mut self) {
        let buckets = self.buckets.load(Ordering::Relaxed);
        // SAFETY: nobody else has the map any more, so nothing is read concurrently.
        let items = unsafe { &*buckets }.items().map(Garbage::Item);
        let mut all: Vec<_> = items.collect();
        all.push(Garbage::Buckets(buckets));
        let writer = self.writer.get_mut();
        let writer = writer.unwrap_or_else(PoisonError::into_inner);
        all.append(&mut writer.unlinked);
        // SAFETY: as above. What was taken is not among it. Their memory goes with the slab.
        unsafe { destroy(all) };
    }
}

#[cfg(test)]
mod tests;
