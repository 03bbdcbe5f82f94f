//! The array that a map is looked up in, without whoever changes it.

use std::ptr;

use super::watched::Watched;
use crate::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, Ordering};
use crate::sync::fault::order;

/// Places in a bucket.
pub(super) const WIDTH: usize = if cfg!(feature = "_loom") { 1 } else { 4 };
/// The fewest buckets.
pub(super) const FEWEST: usize = if cfg!(feature = "_loom") { 4 } else { 16 };
/// Up to so many buckets are sparse: that is little memory, and then hardly a key is not in the first bucket that is looked
/// into, which the processor does not foresee.
const SPARSE: usize = if cfg!(feature = "_loom") { 1 } else { 4096 };

/// What a key leads to. Two of them with short keys are a cache line.
#[repr(align(32))]
pub(super) struct Item<K, V> {
    /// It is not in the map any more. Set before anybody can use its number for something else.
    pub(super) gone: AtomicBool,
    pub(super) number: u32,
    pub(super) value: V,
    pub(super) key: K,
    pub(super) watched: Watched,
}

/// Four items that are looked at together: a search goes on behind it if no place is null.
#[repr(align(64))]
pub(super) struct Bucket<K, V> {
    /// Those of the items. Written before the item is.
    pub(super) hashes: [AtomicU32; WIDTH],
    pub(super) items: [AtomicPtr<Item<K, V>>; WIDTH],
    /// Those of the items. Written before the item is.
    pub(super) numbers: [AtomicU32; WIDTH],
}

impl<K: Eq, V> Item<K, V> {
    #[inline(always)]
    pub(super) fn is(&self, key: &K) -> bool {
        self.watched.read();
        self.key == *key
    }
}

/// In the place of an item that was removed from a bucket that searches go past.
pub(super) fn grave<K, V>() -> *mut Item<K, V> {
    ptr::without_provenance_mut(1)
}

pub(super) fn is_item<K, V>(item: *mut Item<K, V>) -> bool {
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
    #[cfg(all(target_arch = "x86_64", not(feature = "_checked")))]
    #[inline(always)]
    pub(super) fn places(&self, hash: u32) -> u32 {
        use std::arch::x86_64::{
            __m128i, _mm_castsi128_ps, _mm_cmpeq_epi32, _mm_movemask_ps, _mm_set1_epi32,
        };
        const { assert!(WIDTH == 4) };
        let hashes: __m128i;
        // SAFETY: it reads the sixteen bytes of the four hashes, and changes nothing. Others may store hashes meanwhile, so
        // it must not be a load of Rust's; to the processor it is four relaxed ones, none of which is torn.
        unsafe {
            std::arch::asm!(
                "movdqu {}, xmmword ptr [{}]", out(xmm_reg) hashes, in(reg) &raw const self.hashes,
                options(pure, readonly, nostack, preserves_flags)
            );
        }
        // SAFETY: every processor of this kind has SSE2.
        unsafe {
            let same = _mm_cmpeq_epi32(hashes, _mm_set1_epi32(hash as i32));
            _mm_movemask_ps(_mm_castsi128_ps(same)) as u32
        }
    }

    /// A bit for each place that has this hash.
    #[cfg(not(all(target_arch = "x86_64", not(feature = "_checked"))))]
    #[inline(always)]
    pub(super) fn places(&self, hash: u32) -> u32 {
        let same = |i: usize| u32::from(self.hashes[i].load(Ordering::Relaxed) == hash) << i;
        (0..WIDTH).fold(0, |places, i| places | same(i))
    }

    /// The first place whose item this is true for.
    pub(super) fn position(&self, is: impl Fn(*mut Item<K, V>) -> bool) -> Option<usize> {
        let mut items = self.items.iter();
        items.position(|item| is(item.load(Ordering::Relaxed)))
    }

    /// Whether no search goes on behind it.
    pub(super) fn has_end(&self) -> bool {
        self.position(|item| item.is_null()).is_some()
    }

    pub(super) fn put(&self, i: usize, hash: u32, number: u32, item: *mut Item<K, V>) {
        self.hashes[i].store(hash, Ordering::Relaxed);
        self.numbers[i].store(number, Ordering::Relaxed);
        self.items[i].store(item, order("map.push", Ordering::Release));
    }
}

/// At least half of all places are null.
pub(super) struct Buckets<K, V>(pub(super) Box<[Bucket<K, V>]>, pub(super) Watched);

impl<K, V> Buckets<K, V> {
    /// For so many items: three quarters of what it may have at most, so that it is not full at once.
    pub(super) fn for_items(len: usize) -> Self {
        let many = (len * 8).div_ceil(3 * WIDTH).next_power_of_two();
        let many = match 2 * many <= SPARSE {
            true => 2 * many,
            false => many.max(2 * SPARSE),
        };
        let many = many.max(FEWEST);
        let mut buckets = Vec::with_capacity(many);
        prefer_huge_pages(buckets.spare_capacity_mut());
        buckets.extend((0..many).map(|_| Bucket::new()));
        Self(buckets.into(), Watched::new())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn places(&self) -> usize {
        self.len() * WIDTH
    }

    /// Places that may be other than null.
    pub(super) fn most(&self) -> usize {
        let part = if self.len() <= SPARSE { 4 } else { 2 };
        self.places() / part
    }

    /// Which bucket the search for a hash begins with.
    #[inline(always)]
    pub(super) fn home(&self, hash: u32) -> usize {
        // The length is a power of two.
        hash as usize & (self.len() - 1)
    }

    pub(super) fn after(&self, at: usize) -> usize {
        (at + 1) & (self.len() - 1)
    }

    #[inline(always)]
    pub(super) fn bucket(&self, at: usize) -> &Bucket<K, V> {
        debug_assert!(at < self.len());
        // SAFETY: `home` and `after` make nothing that is not less than the length, which is not 0.
        unsafe { self.0.get_unchecked(at) }
    }

    pub(super) fn items(&self) -> impl Iterator<Item = *mut Item<K, V>> {
        let places = self.0.iter().flat_map(|bucket| &bucket.items);
        let items = places.map(|item| item.load(Ordering::Acquire));
        items.filter(|item| is_item(*item))
    }
}

/// An item, its bucket, and its place in that.
pub(super) struct Found<K, V> {
    pub(super) at: usize,
    pub(super) place: usize,
    pub(super) item: *mut Item<K, V>,
}

/// The first item with this hash that is the `same`.
///
/// What it finds is good for as long as nothing is destroyed that is unlinked after the array was loaded.
pub(super) fn find<K, V>(
    buckets: &Buckets<K, V>,
    hash: u32,
    mut same: impl FnMut(&Item<K, V>) -> bool,
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
