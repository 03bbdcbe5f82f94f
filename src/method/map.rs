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
//! is left who was pinned in the cache, and drops it; which hands it on to the epochs.
//!
//! Why not a crate: the ones that were tried (see `design/05-table.md`) panic on threads that run
//! their last destructors, where handles are dropped too, or take time in proportion to all keys
//! there ever were. crossbeam's epochs do neither.

mod hasher;
mod here;
mod slab;
mod watched;

use std::hash::{BuildHasher, Hash};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::{Arc, PoisonError};

use self::here::pin;
use self::slab::Slab;
use self::watched::Watched;
use crate::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicUsize, Ordering};
use crate::sync::fault::{kept, order};
use crate::sync::{Mutex, MutexGuard};

/// Places in a bucket.
const WIDTH: usize = if cfg!(feature = "_loom") { 1 } else { 4 };
/// The fewest buckets.
const FEWEST: usize = if cfg!(feature = "_loom") { 4 } else { 16 };

/// What an `Arc` has in front of its value.
pub(super) const COUNTS: usize = 2 * size_of::<usize>();

/// What a key leads to. Two of them with short keys are a cache line.
#[repr(align(32))]
struct Item<K, V> {
    /// It is not in the map any more. Set before anybody can use its number for something else.
    gone: AtomicBool,
    number: u32,
    value: V,
    key: K,
    watched: Watched,
}

/// Four items that are looked at together: a search goes on behind it if no place is null.
#[repr(align(64))]
struct Bucket<K, V> {
    /// Those of the items. Written before the item is.
    hashes: [AtomicU32; WIDTH],
    items: [AtomicPtr<Item<K, V>>; WIDTH],
    /// Those of the items. Written before the item is.
    numbers: [AtomicU32; WIDTH],
}

/// In the place of an item that was removed from a bucket that searches go past.
fn grave<K, V>() -> *mut Item<K, V> {
    ptr::without_provenance_mut(1)
}

fn is_item<K, V>(item: *mut Item<K, V>) -> bool {
    item.addr() > 1
}

impl<K, V> Bucket<K, V> {
    fn new() -> Self {
        let numbers = || std::array::from_fn(|_| AtomicU32::new(0));
        Self {
            hashes: numbers(),
            items: std::array::from_fn(|_| AtomicPtr::new(ptr::null_mut())),
            numbers: numbers(),
        }
    }

    /// A bit for each place that has this hash.
    #[inline(always)]
    fn places(&self, hash: u32) -> u32 {
        let same = |i: usize| u32::from(self.hashes[i].load(Ordering::Relaxed) == hash) << i;
        (0..WIDTH).fold(0, |places, i| places | same(i))
    }

    /// The first place whose item this is true for.
    fn position(&self, is: impl Fn(*mut Item<K, V>) -> bool) -> Option<usize> {
        let mut items = self.items.iter();
        items.position(|item| is(item.load(Ordering::Relaxed)))
    }

    /// Whether no search goes on behind it.
    fn has_end(&self) -> bool {
        self.position(|item| item.is_null()).is_some()
    }

    fn put(&self, i: usize, hash: u32, number: u32, item: *mut Item<K, V>) {
        self.hashes[i].store(hash, Ordering::Relaxed);
        self.numbers[i].store(number, Ordering::Relaxed);
        self.items[i].store(item, order("map.push", Ordering::Release));
    }
}

/// At least half of all places are null.
struct Buckets<K, V>(Box<[Bucket<K, V>]>, Watched);

impl<K, V> Buckets<K, V> {
    /// For so many items: three eighths of the places at most, so that it is not full at once.
    fn for_items(len: usize) -> Self {
        let many = (len * 8).div_ceil(3 * WIDTH).next_power_of_two();
        let many = many.max(FEWEST);
        let mut buckets = Vec::with_capacity(many);
        prefer_huge_pages(buckets.spare_capacity_mut());
        buckets.extend((0..many).map(|_| Bucket::new()));
        Self(buckets.into(), Watched::new())
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn places(&self) -> usize {
        self.len() * WIDTH
    }

    /// Which bucket the search for a hash begins with.
    #[inline(always)]
    fn home(&self, hash: u32) -> usize {
        // The length is a power of two.
        hash as usize & (self.len() - 1)
    }

    fn after(&self, at: usize) -> usize {
        (at + 1) & (self.len() - 1)
    }

    #[inline(always)]
    fn bucket(&self, at: usize) -> &Bucket<K, V> {
        debug_assert!(at < self.len());
        // SAFETY: `home` and `after` make nothing that is not less than the length, which is not 0.
        unsafe { self.0.get_unchecked(at) }
    }

    fn items(&self) -> impl Iterator<Item = *mut Item<K, V>> {
        let places = self.0.iter().flat_map(|bucket| &bucket.items);
        let items = places.map(|item| item.load(Ordering::Acquire));
        items.filter(|item| is_item(*item))
    }
}

/// The one who changes the map.
struct Writer<K, V> {
    /// Places that are not null.
    used: usize,
    unlinked: Vec<Garbage<K, V>>,
}

/// What has come out of the map, and is referred to by nobody but readers.
enum Garbage<K, V> {
    Item(*mut Item<K, V>),
    Buckets(*mut Buckets<K, V>),
}

// SAFETY: it owns what it points to, as a box would.
unsafe impl<K: Send, V: Send> Send for Garbage<K, V> {}

/// # Safety
/// No reader is left.
unsafe fn destroy<K, V>(all: Vec<Garbage<K, V>>, slab: &Slab<Item<K, V>>) {
    let mut items = Vec::new();
    for garbage in all {
        match garbage {
            Garbage::Item(item) => {
                // SAFETY: nobody else refers to it, and it comes here once. A key may panic: it loses its own then.
                let _ = catch_unwind(AssertUnwindSafe(|| unsafe {
                    (*item).watched.write();
                    item.drop_in_place();
                }));
                items.push(item);
            }
            // SAFETY: as above; it came from a box.
            Garbage::Buckets(buckets) => drop(unsafe { Box::from_raw(buckets) }),
        }
    }
    // SAFETY: they came from there, and there is nothing in them any more.
    unsafe { slab.give_back(items) };
}

/// What readers may still look at that have found it before it was unlinked. When this is dropped, those of
/// [`Map::look`] are not among them any more.
pub(crate) struct Unlinked<K: Send + 'static, V: Send + 'static> {
    all: Vec<Garbage<K, V>>,
    slab: Arc<Slab<Item<K, V>>>,
}

impl<K: Send, V: Send> Unlinked<K, V> {
    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
}

impl<K: Send + 'static, V: Send + 'static> Drop for Unlinked<K, V> {
    fn drop(&mut self) {
        let all = std::mem::take(&mut self.all);
        if !all.is_empty() {
            let slab = self.slab.clone();
            let guard = pin();
            // SAFETY: those of `look` are gone, and those of `get` were pinned before this, or have not found it.
            let destroy = move || unsafe { destroy(all, &slab) };
            if kept("map.defer") {
                guard.defer(destroy);
            } else {
                destroy();
            }
            // Out of the thread's own list: it may not come here again.
            guard.flush();
        }
    }
}

/// See the module's documentation.
pub(crate) struct Map<K, V> {
    buckets: AtomicPtr<Buckets<K, V>>,
    hasher: hasher::Hasher,
    len: AtomicUsize,
    slab: Arc<Slab<Item<K, V>>>,
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
            writer: Mutex::new(Writer {
                used: 0,
                unlinked: Vec::new(),
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
        let _guard = pin();
        // SAFETY: pinned, until this returns.
        let buckets = unsafe { self.buckets() };
        let found = find(buckets, hash, |item| item.key == *key)?;
        // SAFETY: as above.
        Some(look(&unsafe { &*found.item }.value))
    }

    /// What `look` makes of the key's number and value, if it is in the map still when `look` has returned: as long as
    /// that is so its number is nobody else's. `near` is told of the number earlier: of this one, or (seldom) of any.
    ///
    /// # Safety
    /// Nothing that was [taken](Map::take_unlinked) since the call began is dropped before it has returned.
    #[inline(always)]
    #[allow(
        clippy::unnecessary_min_or_max,
        reason = "for loom a bucket has one place"
    )]
    pub(super) unsafe fn look<R>(
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
        let is_it = is_item(item) && unsafe { &*item }.key == *key;
        let item = match is_it {
            true => item,
            // It is not the first with its hash in the first bucket, or not there.
            false => seldom(|| find(buckets, hash, |item| item.key == *key))?.item,
        };
        // SAFETY: as above.
        let item = unsafe { &*item };
        let seen = look(item.number, &item.value);
        // What `look` loaded comes first: it did so with acquire. If that was stored by whoever has the number now, then
        // `gone` was stored before.
        (!item.gone.load(Ordering::Acquire)).then_some(seen)
    }

    /// Calls `visit` for every entry there is throughout the call, and maybe for others.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(&V)) {
        let _guard = pin();
        // SAFETY: pinned, until this returns.
        unsafe { self.buckets() }.items().for_each(|item| {
            // SAFETY: as above; it is in the map, or was when this began.
            visit(&unsafe { &*item }.value);
        });
    }

    /// Inserts, unless the key has a value for which `stands` is true. False if it has. A panic of
    /// the key leaves the map as it was.
    pub(crate) fn insert_unless(
        &self,
        hash: u32,
        key: K,
        number: u32,
        value: V,
        stands: impl FnOnce(&V) -> bool,
    ) -> bool {
        // Pinned first: that may destroy keys, which shall not happen under the lock.
        let _guard = pin();
        let mut writer = self.lock();
        // SAFETY: writers take turns, so what the map has now stays in it while this one has the lock.
        let buckets = unsafe { self.buckets() };
        let before = find(buckets, hash, |item| item.key == key);
        if let Some(found) = &before {
            // SAFETY: as above.
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
        let buckets = match writer.used < buckets.places() / 2 {
            true => buckets,
            false => self.resize(&mut writer, self.len() + 1),
        };
        writer.put(buckets, hash, number, new);
        self.len.fetch_add(1, Ordering::Relaxed);
        true
    }

    /// Removes the entry with this hash whose value is `gone`, if there is one. Asks nothing of
    /// keys, so that it cannot panic where they do. Returns how much is unlinked now, and not taken.
    pub(crate) fn remove(&self, hash: u32, gone: impl Fn(&V) -> bool) -> usize {
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
        writer.unlinked.len()
    }

    /// What was unlinked since the last time. To be dropped when nobody can be inside of a [`Map::look`] any more that had begun
    /// before this call.
    pub(crate) fn take_unlinked(&self) -> Unlinked<K, V> {
        Unlinked {
            all: std::mem::take(&mut self.lock().unlinked),
            slab: self.slab.clone(),
        }
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
                None => at = buckets.after(at), // half of all places are null
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
        if bucket.has_end() || (next.has_end() && !(0..WIDTH).any(stranger)) {
            bucket.items[place].store(ptr::null_mut(), Ordering::Relaxed);
            self.used -= 1;
        } else {
            bucket.items[place].store(grave(), Ordering::Relaxed);
        }
    }

    /// # Safety
    /// The item is not in the map any more, and comes here once.
    unsafe fn unlink(&mut self, item: *mut Item<K, V>) {
        // SAFETY: nobody destroys it before the garbage is dropped.
        unsafe { &*item }.gone.store(true, Ordering::Release);
        self.unlinked.push(Garbage::Item(item));
    }
}

/// Asks for large pages where nothing has been written yet, if there is room for some: of a large array every look-up
/// would miss in the processor's own table of pages.
fn prefer_huge_pages<T>(memory: &mut [T]) {
    const HUGE: usize = 2 << 20;
    let whole = memory.as_mut_ptr_range();
    let (start, end) = (whole.start.addr(), whole.end.addr());
    let (start, end) = (start.next_multiple_of(HUGE), end / HUGE * HUGE);
    if start < end {
        let from = whole.start.with_addr(start);
        // SAFETY: these pages are the caller's. It changes nothing of what is in them, and may be refused.
        unsafe { libc::madvise(from.cast(), end - start, libc::MADV_HUGEPAGE) };
    }
}

/// Keeps what is hardly ever needed out of the way.
#[cold]
#[inline(never)]
fn seldom<R>(run: impl FnOnce() -> R) -> R {
    run()
}

/// An item, its bucket, and its place in that.
struct Found<K, V> {
    at: usize,
    place: usize,
    item: *mut Item<K, V>,
}

/// The first item with this hash that is the `same`.
///
/// What it finds is good for as long as nothing is destroyed that is unlinked after the array was loaded.
fn find<K, V>(
    buckets: &Buckets<K, V>,
    hash: u32,
    same: impl Fn(&Item<K, V>) -> bool,
) -> Option<Found<K, V>> {
    let mut at = buckets.home(hash);
    loop {
        let bucket = buckets.bucket(at);
        let mut places = bucket.places(hash);
        while places != 0 {
            let place = places.trailing_zeros() as usize;
            // An item that was there when this began is found: its hash was written before. If the place has another
            // one's by now, it was removed meanwhile; whose item this is, its key says.
            let item = bucket.items[place].load(order("map.link", Ordering::Acquire));
            if is_item(item) {
                // SAFETY: it was in the map after the array was loaded, so it is not destroyed yet.
                let found = unsafe { &*item };
                found.watched.read();
                if same(found) {
                    return Some(Found { at, place, item });
                }
            }
            places &= places - 1;
        }
        if bucket.has_end() {
            return None;
        }
        at = buckets.after(at);
    }
}

impl<K, V> Drop for Map<K, V> {
    fn drop(&mut self) {
        let buckets = self.buckets.load(Ordering::Relaxed);
        // SAFETY: nobody else has the map any more, so nothing is read concurrently.
        let items = unsafe { &*buckets }.items().map(Garbage::Item);
        let mut all: Vec<_> = items.collect();
        all.push(Garbage::Buckets(buckets));
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        all.append(&mut writer.unlinked);
        drop(writer);
        // SAFETY: as above. What was taken is not among it.
        unsafe { destroy(all, &self.slab) };
    }
}

#[cfg(test)]
mod tests;
