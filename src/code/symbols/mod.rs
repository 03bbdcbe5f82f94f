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

mod everywhere;
mod list;
mod names;

use std::ops::Range;
use std::ptr;
use std::sync::{OnceLock, PoisonError};

pub(super) use self::everywhere::{Listed, look_everywhere};
use self::list::List;
use super::Kind;
use crate::sync::fault::{kept, order};
use crate::sync::of_process::{AtomicPtr, AtomicUsize, Mutex, Ordering};
use crate::sync::{global, life};

/// What has names.
const NAMED: [Kind; 3] = [Kind::Text, Kind::Constants, Kind::Data];
/// Slots that one part of a stripe's table covers.
const PART: usize = if cfg!(feature = "_loom") { 8 } else { 1024 };
global! {
    /// Readers, of all caches.
    static READERS: AtomicUsize = AtomicUsize::new(0);
}

/// While it lives nothing is freed that could be found.
struct Reading;

impl Reading {
    fn begin() -> Self {
        // Sequentially consistent, as are the loads that follow and the stores that discard: who
        // frees has either seen this, or its store is seen.
        READERS.fetch_add(1, order("symbols.begin", Ordering::SeqCst));
        Self
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        READERS.fetch_sub(1, order("symbols.end", Ordering::SeqCst));
    }
}

/// Why a method lost its code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cause {
    /// Memory was short, or somebody asked.
    Evicted,
    Invalidated,
    /// It has code elsewhere.
    Moved,
    /// Something that it relied on fell.
    Assumption,
    /// It has code of a later tier.
    Promoted,
}

impl Cause {
    /// Bits of a number that tell it.
    const BITS: u32 = 3;

    /// Which one the lowest bits of a number tell.
    fn of(number: u64) -> Self {
        let all = [
            Self::Evicted,
            Self::Invalidated,
            Self::Moved,
            Self::Assumption,
            Self::Promoted,
        ];
        let known = all
            .into_iter()
            .find(|c| *c as u64 == number & ((1 << Self::BITS) - 1));
        known.unwrap_or(Self::Evicted)
    }
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
                    .get_or_init(|| (0..PART).map(|_| AtomicPtr::new(ptr::null_mut())).collect());
                let list = &part[slot % PART];
                if list.load(Ordering::Relaxed).is_null() {
                    let base = stripe.base + slot as u64 * stripe.slot;
                    let fresh = Box::into_raw(Box::new(List::new(generation, base)));
                    life::begins(fresh);
                    list.store(fresh, order("symbols.add", Ordering::SeqCst));
                    grown += size_of::<List>();
                }
                // SAFETY: it is discarded only when the slot is let go, and the slot's owner, who
                // does that, is adding to it.
                let list = unsafe { &*list.load(Ordering::Relaxed) };
                grown += list.push(address, size, name);
            }
        }
        self.bytes.fetch_add(grown, Ordering::Relaxed);
    }

    /// Notes that the method whose code begins at an address has lost it.
    pub(crate) fn unlinked(&self, entry: u64, why: Cause) {
        let when = self.now() << Cause::BITS | why as u64;
        let mut at = entry;
        let _reading = Reading::begin();
        // A function of several slots is in the list of each.
        while let Some((stripe, list)) = self.list_at(at)
            && let Some(found) = list.known_at(at)
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
    pub(crate) fn discard(&self, kind: Kind, first: usize, n: usize) {
        let mut gone = std::mem::take(
            &mut *self
                .discarded
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        for list in self.lists(kind, first, n) {
            let list = list.swap(ptr::null_mut(), order("symbols.discard", Ordering::SeqCst));
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
        let list = stripe
            .list(slot as usize)?
            .load(order("symbols.load", Ordering::SeqCst));
        // SAFETY: the caller's `Reading` keeps what is found.
        let list = unsafe { list.as_ref() }?;
        Some((stripe, list))
    }

    /// Calls `look` with what is known of an address. Takes no lock and allocates nothing.
    pub(crate) fn look<R>(&self, address: u64, look: impl FnOnce(Found<'_>) -> R) -> Option<R> {
        let _reading = Reading::begin();
        let (stripe, list) = self.list_at(address)?;
        life::goes_on(list);
        let known = list.known_at(address);
        let unlinked = known
            .as_ref()
            .map_or(0, |known| known.unlinked.load(Ordering::Relaxed));
        let why = Cause::of(unlinked);
        let unmapped = list.unmapped.load(Ordering::Relaxed);
        let looked = look(Found {
            kind: stripe.kind,
            generation: list.generation,
            symbol: known.map(|known| (known.name, address - known.begin)),
            unlinked: (unlinked != 0).then_some((why, unlinked >> Cause::BITS)),
            unmapped: (unmapped != 0).then_some(unmapped),
        });
        life::goes_on(list);
        Some(looked)
    }
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

/// Whether nobody reads who could have found what is not to be found any more.
fn nobody_reads() -> bool {
    READERS.load(order("symbols.readers", Ordering::SeqCst)) == 0 || !kept("symbols.wait")
}

#[cfg(test)]
mod tests;
