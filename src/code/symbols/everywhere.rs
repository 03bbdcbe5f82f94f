//! The symbols of all caches of the process, for handlers of signals.

use std::ops::Deref;
use std::ptr;

use super::{Reading, Symbols, nobody_reads};
use crate::sync::global;
use crate::sync::of_process::{AtomicPtr, Ordering};

global! {
    /// Where there are symbols. Places are used again, and never freed.
    static CACHES: AtomicPtr<Place> = AtomicPtr::new(ptr::null_mut());
}

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
pub(in crate::code) struct Listed {
    symbols: *mut Symbols,
    place: &'static Place,
}

// SAFETY: the symbols are a box's that this owns, and can be shared and sent.
unsafe impl Send for Listed {}
// SAFETY: as above.
unsafe impl Sync for Listed {}

impl Listed {
    pub(in crate::code) fn new(symbols: Symbols) -> Self {
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
pub(in crate::code) fn look_everywhere<R>(
    address: u64,
    look: impl FnOnce(&Symbols) -> R,
) -> Option<R> {
    let _reading = Reading::begin();
    let symbols = places().find_map(|place| {
        // SAFETY: null, or symbols, which stay while `_reading` lives.
        let symbols = unsafe { place.symbols.load(Ordering::SeqCst).as_ref() };
        symbols.filter(|s| s.span.contains(&address))
    });
    symbols.map(look)
}
