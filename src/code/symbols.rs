//! Names of code by address: for reports of crashes, of stalls, and of profilers.
//!
//! Each slot of text, constants and data has a list of what was linked into it: where it begins,
//! its size, its name. Slots are found by arithmetic. A list only grows, in chunks that never move,
//! so readers need neither a lock nor an allocation: they may be handlers of signals, which
//! interrupt anything.
//!
//! ```text
//! slot n ──> generation, length, unmapped at
//!            chunks ──> | entry | x 8 | entry | x 16 | ...     by ascending address
//!                         └> begin, size, name, unlinked at
//! ```
//!
//! A list stays while its slot is in quarantine, and is discarded when the slot's addresses may be
//! used again. It is freed at once if nobody reads, or else the next time that something is
//! discarded. A reader that never ends (a handler that does not return) keeps what is discarded
//! from then on.

use std::ops::{Deref, Range};
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::Kind;

/// What has names.
const NAMED: [Kind; 3] = [Kind::Text, Kind::Constants, Kind::Data];
/// Slots that one part of a stripe's table covers.
const PART: usize = 1024;
/// Entries in a list's first chunk; each further one has twice as many as the last.
const FIRST_CHUNK: usize = 8;
/// Chunks for more functions than a slot can hold, which are 16 bytes apart.
const CHUNKS: usize = 10;

/// Readers, of all caches.
static READERS: AtomicUsize = AtomicUsize::new(0);

/// While it lives nothing is freed that could be found.
struct Reading;

impl Reading {
    fn begin() -> Self {
        // Sequentially consistent, as are the loads that follow and the stores that discard: who
        // frees has either seen this, or its store is seen.
        READERS.fetch_add(1, Ordering::SeqCst);
        Self
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        READERS.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Why a method lost its code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cause {
    /// Memory was short, or somebody asked.
    Evicted,
    Invalidated,
}

/// Something that was linked in.
pub(crate) struct Named<'n> {
    pub(crate) address: u64,
    pub(crate) size: u64,
    pub(crate) name: &'n str,
}

/// What is known of an address. Times are nanoseconds since the names began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found<'a> {
    pub(crate) kind: Kind,
    pub(crate) generation: u64,
    /// Its name and the offset in it; `None` between two.
    pub(crate) symbol: Option<(&'a str, u64)>,
    pub(crate) unlinked: Option<(Cause, u64)>,
    pub(crate) unmapped: Option<u64>,
}

struct Entry {
    begin: u64,
    size: u64,
    name: Box<str>,
    /// 0, or when it was unlinked and, in the lowest bit, whether it was invalidated.
    unlinked: AtomicU64,
}

/// What was linked into one slot.
struct List {
    generation: u64,
    len: AtomicUsize,
    chunks: [AtomicPtr<Entry>; CHUNKS],
    /// 0 while it is mapped.
    unmapped: AtomicU64,
}

/// The chunk of entry `i`, and its place there.
fn position(i: usize) -> (usize, usize) {
    let chunk = (i / FIRST_CHUNK + 1).ilog2() as usize;
    (chunk, i - FIRST_CHUNK * ((1 << chunk) - 1))
}

fn chunk_len(chunk: usize) -> usize {
    FIRST_CHUNK << chunk
}

impl List {
    fn new(generation: u64) -> Self {
        Self {
            generation,
            len: AtomicUsize::new(0),
            chunks: [const { AtomicPtr::new(ptr::null_mut()) }; CHUNKS],
            unmapped: AtomicU64::new(0),
        }
    }

    fn entry(&self, i: usize) -> &Entry {
        let (chunk, at) = position(i);
        // SAFETY: callers ask for entries below `len`, which `push` advanced when it had written
        // them; they stay until the list is dropped.
        unsafe { &*self.chunks[chunk].load(Ordering::Acquire).add(at) }
    }

    /// Adds an entry; returns the bytes that the list grew by. One caller at a time.
    fn push(&self, entry: Entry) -> usize {
        let i = self.len.load(Ordering::Relaxed);
        let (chunk, at) = position(i);
        if chunk == CHUNKS {
            return 0; // no slot is so large
        }
        let mut grown = entry.name.len();
        if at == 0 {
            let room = Vec::<Entry>::with_capacity(chunk_len(chunk));
            let memory = std::mem::ManuallyDrop::new(room).as_mut_ptr();
            self.chunks[chunk].store(memory, Ordering::Release);
            grown += chunk_len(chunk) * size_of::<Entry>();
        }
        // SAFETY: within the chunk's capacity, and not read before `len` says so.
        unsafe {
            let memory = self.chunks[chunk].load(Ordering::Relaxed);
            memory.add(at).write(entry);
        }
        self.len.store(i + 1, Ordering::Release);
        grown
    }

    /// The last entry that begins at the address or below.
    fn last_before(&self, address: u64) -> Option<&Entry> {
        let (mut low, mut high) = (0, self.len.load(Ordering::Acquire));
        while low < high {
            let middle = low.midpoint(high);
            if self.entry(middle).begin <= address {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low.checked_sub(1).map(|i| self.entry(i))
    }

    fn entry_at(&self, address: u64) -> Option<&Entry> {
        self.last_before(address)
            .filter(|entry| address - entry.begin < entry.size)
    }

    fn bytes(&self) -> usize {
        let len = self.len.load(Ordering::Relaxed);
        let names: usize = (0..len).map(|i| self.entry(i).name.len()).sum();
        let chunks = (0..CHUNKS).filter(|&c| !self.chunks[c].load(Ordering::Relaxed).is_null());
        let entries: usize = chunks.map(chunk_len).sum();
        size_of::<Self>() + names + entries * size_of::<Entry>()
    }
}

impl Drop for List {
    fn drop(&mut self) {
        let mut left = *self.len.get_mut();
        for (chunk, memory) in self.chunks.iter_mut().enumerate() {
            let len = left.min(chunk_len(chunk));
            left -= len;
            let memory = *memory.get_mut();
            if !memory.is_null() {
                // SAFETY: `push` made it, with this capacity, and filled so many.
                drop(unsafe { Vec::from_raw_parts(memory, len, chunk_len(chunk)) });
            }
        }
    }
}

type Part = Box<[AtomicPtr<List>]>;

struct Stripe {
    kind: Kind,
    base: u64,
    len: u64,
    slot: u64,
    parts: Box<[OnceLock<Part>]>,
}

impl Stripe {
    fn slots(&self) -> usize {
        (self.len / self.slot) as usize
    }

    fn list(&self, slot: usize) -> Option<&AtomicPtr<List>> {
        Some(&self.parts[slot / PART].get()?[slot % PART])
    }

    /// The slots that a span of addresses touches.
    fn touched(&self, address: u64, size: u64) -> Range<usize> {
        let first = (address - self.base) / self.slot;
        let end = (address + size.max(1) - self.base).div_ceil(self.slot);
        first as usize..(end as usize).min(self.slots())
    }
}

/// All names of a cache.
pub(crate) struct Symbols {
    /// The cache's name.
    owner: String,
    /// The whole of its address space.
    span: Range<u64>,
    stripes: [Stripe; NAMED.len()],
    /// Held by who adds names.
    adding: Mutex<()>,
    /// Discarded while somebody read.
    #[allow(clippy::vec_box, reason = "readers may refer to them")]
    discarded: Mutex<Vec<Box<List>>>,
    bytes: AtomicUsize,
    began: u64,
}

/// Nanoseconds by the system's steady clock. May be asked in a signal handler.
fn clock() -> u64 {
    let mut now = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `now` lives through the call.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &mut now) };
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

impl Symbols {
    /// No names yet, for a cache of this name and address space; `stripe` says where a kind begins,
    /// its length, and the size of its slots.
    pub(super) fn new(
        owner: &str,
        span: Range<u64>,
        stripe: impl Fn(Kind) -> (u64, u64, u64),
    ) -> Self {
        let stripes = NAMED.map(|kind| {
            let (base, len, slot) = stripe(kind);
            let parts = ((len / slot) as usize).div_ceil(PART);
            Stripe {
                kind,
                base,
                len,
                slot,
                parts: (0..parts).map(|_| OnceLock::new()).collect(),
            }
        });
        Self {
            owner: owner.to_owned(),
            span,
            stripes,
            adding: Mutex::default(),
            discarded: Mutex::default(),
            bytes: AtomicUsize::new(0),
            began: clock(),
        }
    }

    /// The time now, as in [`Found`].
    pub(crate) fn now(&self) -> u64 {
        clock().saturating_sub(self.began).max(1)
    }

    /// The cache's name.
    pub(super) fn owner(&self) -> &str {
        &self.owner
    }

    /// Whether an address lies where there are names if there is anything.
    pub(super) fn knows(&self, address: u64) -> bool {
        self.stripe_at(address).is_some()
    }

    /// Bytes that names take.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed) as u64
    }

    fn stripe_at(&self, address: u64) -> Option<&Stripe> {
        let here = |s: &&Stripe| (s.base..s.base + s.len).contains(&address);
        self.stripes.iter().find(here)
    }

    /// Names what a generation has got, by ascending addresses, in slots of its own.
    pub(crate) fn add<'n>(&self, generation: u64, all: impl IntoIterator<Item = Named<'n>>) {
        let _alone = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        let mut grown = 0;
        for Named {
            address,
            size,
            name,
        } in all
        {
            let Some(stripe) = self.stripe_at(address) else {
                continue;
            };
            for slot in stripe.touched(address, size) {
                let part = stripe.parts[slot / PART]
                    .get_or_init(|| (0..PART).map(|_| AtomicPtr::default()).collect());
                let list = &part[slot % PART];
                if list.load(Ordering::Relaxed).is_null() {
                    let fresh = Box::into_raw(Box::new(List::new(generation)));
                    list.store(fresh, Ordering::SeqCst);
                    grown += size_of::<List>();
                }
                // SAFETY: it is discarded only when the slot is let go, and the slot's owner, who
                // does that, is adding to it.
                let list = unsafe { &*list.load(Ordering::Relaxed) };
                grown += list.push(Entry {
                    begin: address,
                    size,
                    name: name.into(),
                    unlinked: AtomicU64::new(0),
                });
            }
        }
        self.bytes.fetch_add(grown, Ordering::Relaxed);
    }

    /// Notes that the method whose code begins at an address has lost it.
    pub(crate) fn unlinked(&self, entry: u64, why: Cause) {
        let when = self.now() << 1 | u64::from(why == Cause::Invalidated);
        let mut at = entry;
        let _reading = Reading::begin();
        // A function of several slots is in the list of each.
        while let Some((stripe, list)) = self.list_at(at)
            && let Some(found) = list.entry_at(at)
            && found.begin == entry
        {
            found.unlinked.store(when, Ordering::Relaxed);
            at = (at - stripe.base) / stripe.slot * stripe.slot + stripe.slot + stripe.base;
        }
    }

    /// Notes that slots have been unmapped.
    pub(super) fn unmapped(&self, kind: Kind, first: usize, n: usize) {
        let now = self.now();
        let _reading = Reading::begin();
        for list in self.lists(kind, first, n) {
            let list = list.load(Ordering::SeqCst);
            // SAFETY: what is found stays while `_reading` lives.
            if let Some(list) = unsafe { list.as_ref() } {
                list.unmapped.store(now, Ordering::Relaxed);
            }
        }
    }

    /// Forgets what was in slots whose addresses may be used again.
    pub(super) fn discard(&self, kind: Kind, first: usize, n: usize) {
        let mut gone = std::mem::take(
            &mut *self
                .discarded
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        for list in self.lists(kind, first, n) {
            let list = list.swap(ptr::null_mut(), Ordering::SeqCst);
            if !list.is_null() {
                // SAFETY: from a box; whoever swaps it out has it.
                let list = unsafe { Box::from_raw(list) };
                self.bytes.fetch_sub(list.bytes(), Ordering::Relaxed);
                gone.push(list);
            }
        }
        if !nobody_reads() {
            let mut discarded = self
                .discarded
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            discarded.append(&mut gone);
        }
    }

    fn lists(&self, kind: Kind, first: usize, n: usize) -> impl Iterator<Item = &AtomicPtr<List>> {
        let stripe = self.stripes.iter().find(move |s| s.kind == kind);
        let slots = stripe.into_iter().flat_map(move |s| {
            let slots = first..first + n;
            slots.filter_map(move |slot| s.list(slot))
        });
        slots.filter(|list| !list.load(Ordering::Relaxed).is_null())
    }

    /// The list of the slot that an address lies in. The caller reads.
    fn list_at(&self, address: u64) -> Option<(&Stripe, &List)> {
        let stripe = self.stripe_at(address)?;
        let slot = (address - stripe.base) / stripe.slot;
        let list = stripe.list(slot as usize)?.load(Ordering::SeqCst);
        // SAFETY: the caller's `Reading` keeps what is found.
        let list = unsafe { list.as_ref() }?;
        Some((stripe, list))
    }

    /// Calls `look` with what is known of an address. Takes no lock and allocates nothing.
    pub(crate) fn look<R>(&self, address: u64, look: impl FnOnce(Found<'_>) -> R) -> Option<R> {
        let _reading = Reading::begin();
        let (stripe, list) = self.list_at(address)?;
        let entry = list.entry_at(address);
        let unlinked = entry.map_or(0, |e| e.unlinked.load(Ordering::Relaxed));
        let why = [Cause::Evicted, Cause::Invalidated][unlinked as usize & 1];
        let unmapped = list.unmapped.load(Ordering::Relaxed);
        Some(look(Found {
            kind: stripe.kind,
            generation: list.generation,
            symbol: entry.map(|e| (&*e.name, address - e.begin)),
            unlinked: (unlinked != 0).then_some((why, unlinked >> 1)),
            unmapped: (unmapped != 0).then_some(unmapped),
        }))
    }
}

/// Whether nobody reads who could have found what is not to be found any more.
fn nobody_reads() -> bool {
    READERS.load(Ordering::SeqCst) == 0
}

/// The symbols of all caches of the process, for handlers of signals. Places are used again, and
/// never freed.
static CACHES: AtomicPtr<Place> = AtomicPtr::new(ptr::null_mut());

struct Place {
    symbols: AtomicPtr<Symbols>,
    next: *mut Place,
}

fn places() -> impl Iterator<Item = &'static Place> {
    let mut at = CACHES.load(Ordering::SeqCst);
    std::iter::from_fn(move || {
        // SAFETY: null, or a place, which is never freed.
        let place = unsafe { at.as_ref() }?;
        at = place.next;
        Some(place)
    })
}

/// Symbols that [`look_everywhere`] finds.
pub(super) struct Listed {
    symbols: *mut Symbols,
    place: &'static Place,
}

// SAFETY: the symbols are a box's that this owns, and can be shared and sent.
unsafe impl Send for Listed {}
// SAFETY: as above.
unsafe impl Sync for Listed {}

impl Listed {
    pub(super) fn new(symbols: Symbols) -> Self {
        let symbols = Box::into_raw(Box::new(symbols));
        let (relaxed, success) = (Ordering::Relaxed, Ordering::SeqCst);
        let take = |place: &&Place| {
            let (free, place) = (ptr::null_mut(), &place.symbols);
            place
                .compare_exchange(free, symbols, success, relaxed)
                .is_ok()
        };
        let place = places().find(take).unwrap_or_else(|| {
            let place = Box::leak(Box::new(Place {
                symbols: AtomicPtr::new(symbols),
                next: CACHES.load(relaxed),
            }));
            while let Err(next) = CACHES.compare_exchange(place.next, place, success, relaxed) {
                place.next = next;
            }
            place
        });
        Self { symbols, place }
    }
}

impl Deref for Listed {
    type Target = Symbols;

    fn deref(&self) -> &Symbols {
        // SAFETY: alive until `drop`.
        unsafe { &*self.symbols }
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        self.place.symbols.store(ptr::null_mut(), Ordering::SeqCst);
        // In doubt it leaks: a handler of a signal may be reading, and nobody waits for it.
        if nobody_reads() {
            // SAFETY: from a box, and no longer to be found.
            drop(unsafe { Box::from_raw(self.symbols) });
        }
    }
}

/// Calls `look` with the symbols of the cache in whose address space an address lies. Takes no lock
/// and allocates nothing.
pub(super) fn look_everywhere<R>(address: u64, look: impl FnOnce(&Symbols) -> R) -> Option<R> {
    let _reading = Reading::begin();
    let symbols = places().find_map(|place| {
        // SAFETY: null, or symbols, which stay while `_reading` lives.
        let symbols = unsafe { place.symbols.load(Ordering::SeqCst).as_ref() };
        symbols.filter(|s| s.span.contains(&address))
    });
    symbols.map(look)
}

impl Drop for Symbols {
    fn drop(&mut self) {
        for stripe in &self.stripes {
            for list in stripe.parts.iter().filter_map(OnceLock::get).flatten() {
                let list = list.load(Ordering::Relaxed);
                if !list.is_null() {
                    // SAFETY: from a box, and nobody refers to it any more.
                    drop(unsafe { Box::from_raw(list) });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOT: u64 = 16 << 10;
    const BASE: u64 = 1 << 40;

    /// Stripes of 4096 slots, one after the other.
    fn symbols() -> Symbols {
        let span = BASE..BASE + 3 * 4096 * SLOT;
        Symbols::new("test", span, |kind| {
            let at = NAMED.iter().position(|&k| k == kind).unwrap() as u64;
            (BASE + at * 4096 * SLOT, 4096 * SLOT, SLOT)
        })
    }

    fn named(address: u64, size: u64, name: &str) -> Named<'_> {
        Named {
            address,
            size,
            name,
        }
    }

    fn at(symbols: &Symbols, address: u64) -> Option<(u64, Option<(String, u64)>)> {
        symbols.look(address, |f| {
            (f.generation, f.symbol.map(|(n, o)| (n.to_owned(), o)))
        })
    }

    #[test]
    fn positions_follow_each_other() {
        let mut expected = (0, 0);
        for i in 0..5000 {
            assert_eq!(position(i), expected);
            expected.1 += 1;
            if expected.1 == chunk_len(expected.0) {
                expected = (expected.0 + 1, 0);
            }
        }
    }

    #[test]
    fn addresses_have_the_names_that_they_were_given() {
        let symbols = symbols();
        assert_eq!(at(&symbols, BASE), None);
        // As many as a slot holds, in batches.
        for batch in 0..256 {
            let names: Vec<_> = (0..4).map(|i| format!("f{}", batch * 4 + i)).collect();
            let first = BASE + SLOT + batch * 64;
            let all = (0..).zip(&names);
            symbols.add(7, all.map(|(i, name)| named(first + i * 16, 12, name)));
        }
        for i in 0..1024 {
            let begin = BASE + SLOT + i * 16;
            for offset in [0, 5, 11] {
                let expected = (format!("f{i}"), offset);
                assert_eq!(at(&symbols, begin + offset), Some((7, Some(expected))));
            }
            assert_eq!(at(&symbols, begin + 12), Some((7, None)), "between two");
        }
        assert_eq!(at(&symbols, BASE + SLOT - 1), None);
        assert_eq!(at(&symbols, BASE + 2 * SLOT), None);
        assert_eq!(at(&symbols, 0), None);
        assert_eq!(at(&symbols, u64::MAX), None);
    }

    #[test]
    fn a_large_function_is_in_all_its_slots() {
        let symbols = symbols();
        let begin = BASE + 5 * SLOT + 100;
        symbols.add(
            1,
            [
                named(begin, 3 * SLOT, "large"),
                named(begin + 3 * SLOT, 16, "next"),
            ],
        );
        symbols.unlinked(begin, Cause::Invalidated);
        for offset in (0..3 * SLOT).step_by(1000) {
            let found = symbols.look(begin + offset, |f| {
                assert_eq!(f.symbol, Some(("large", offset)));
                f.unlinked.unwrap().0
            });
            assert_eq!(found, Some(Cause::Invalidated));
        }
        symbols.look(begin + 3 * SLOT, |f| {
            assert_eq!((f.symbol, f.unlinked), (Some(("next", 0)), None));
        });
        symbols.unlinked(begin + 3 * SLOT, Cause::Evicted);
        symbols.unmapped(Kind::Text, 5, 4);
        symbols.look(begin + 3 * SLOT, |f| {
            let (why, when) = f.unlinked.unwrap();
            assert_eq!(why, Cause::Evicted);
            assert!(when <= f.unmapped.unwrap());
        });
        symbols.discard(Kind::Text, 5, 4);
        assert_eq!(at(&symbols, begin), None);
        assert_eq!(symbols.bytes(), 0);
    }

    #[test]
    fn constants_and_text_have_tables_of_their_own() {
        let symbols = symbols();
        let constants = BASE + 4096 * SLOT;
        symbols.add(
            1,
            [named(BASE, 10, "code"), named(constants, 10, "constants")],
        );
        symbols.look(constants + 3, |f| {
            assert_eq!(
                (f.kind, f.symbol),
                (Kind::Constants, Some(("constants", 3)))
            );
        });
        symbols.discard(Kind::Constants, 0, 1);
        assert_eq!(at(&symbols, constants), None);
        assert!(at(&symbols, BASE).is_some());
        // Of a kind without names nothing is known, and nothing is discarded.
        symbols.discard(Kind::Unwind, 0, 1);
    }

    /// Readers look all the time, while lists come and go; what they see is whole.
    #[test]
    fn readers_see_whole_names_while_lists_go() {
        let symbols = symbols();
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|threads| {
            for _ in 0..2 {
                threads.spawn(|| {
                    let mut seen = 0;
                    while !stop.load(Ordering::Relaxed) {
                        for slot in 0..4 {
                            let found = at(&symbols, BASE + slot * SLOT + 8);
                            if let Some((generation, Some((name, 8)))) = found {
                                assert_eq!(name, format!("method of {generation}"));
                                seen += 1;
                            }
                        }
                    }
                    assert!(seen > 0);
                });
            }
            for generation in 0..20_000 {
                let slot = generation % 4;
                let name = format!("method of {generation}");
                symbols.add(generation, [named(BASE + slot * SLOT, 16, &name)]);
                if generation % 64 == 0 {
                    std::thread::yield_now();
                }
                symbols.discard(Kind::Text, slot as usize, 1);
            }
            symbols.add(9, [named(BASE, 16, "method of 9")]);
            std::thread::sleep(std::time::Duration::from_millis(5));
            stop.store(true, Ordering::Relaxed);
        });
        // Other tests read too.
        while symbols.bytes() > 0 || !symbols.discarded.lock().unwrap().is_empty() {
            symbols.discard(Kind::Text, 0, 4);
        }
    }
}
