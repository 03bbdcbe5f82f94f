//! What has come out of a map, until nobody can be looking at it.

use std::sync::Arc;

use super::buckets::{Buckets, Item};
use super::here::Epochs;
use super::slab::Slab;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::fault::{kept, order};

/// What is referred to by nobody but readers.
pub(super) enum Garbage<K, V> {
    Item(*mut Item<K, V>),
    Buckets(*mut Buckets<K, V>),
}

// SAFETY: it owns what it points to, as a box would.
unsafe impl<K: Send, V: Send> Send for Garbage<K, V> {}

/// What readers may still look at that have found it before it was unlinked. If it is dropped it leaks keys; memory of
/// theirs goes with the map.
pub(crate) struct Unlinked<K, V> {
    all: Vec<Garbage<K, V>>,
    slab: Arc<Slab<Item<K, V>>>,
    epochs: Epochs,
    /// Those are gone that were inside of a `get`.
    over: Arc<AtomicBool>,
}

impl<K: Send, V: Send> Unlinked<K, V> {
    /// All of it was unlinked by the caller, or whoever he has heard of.
    pub(super) fn new(
        all: Vec<Garbage<K, V>>,
        slab: &Arc<Slab<Item<K, V>>>,
        epochs: &Epochs,
    ) -> Self {
        let over = Arc::new(AtomicBool::new(all.is_empty()));
        if !all.is_empty() {
            let mark = over.clone();
            let guard = epochs.pin();
            // Whoever comes to run it does this store, and nothing else: keys are dropped where the embedder expects it.
            guard.defer(move || mark.store(true, order("map.mark", Ordering::Release)));
            // Out of the thread's own list: it may not come here again.
            guard.flush();
        }
        Self {
            all,
            slab: slab.clone(),
            epochs: epochs.clone(),
            over,
        }
    }

    /// How much there is.
    pub(crate) fn len(&self) -> usize {
        self.all.len()
    }

    /// Whether nobody is inside of a [`get`](super::Map::get) any more who may have found some of it. To be asked again
    /// and again: each time drives the epochs on.
    pub(crate) fn is_over(&self) -> bool {
        let over = || self.over.load(order("map.over", Ordering::Acquire)) || !kept("map.wait");
        over() || {
            self.epochs.pin().flush();
            over()
        }
    }

    /// Drops the keys. Nobody's lock may be held.
    ///
    /// # Safety
    /// [`is_over`](Unlinked::is_over) has said so, and whoever was inside of a [`look`](super::Map::look) when this was taken has
    /// left it; or nobody reads the map any more.
    pub(crate) unsafe fn destroy(self) {
        // SAFETY: the caller's promise.
        let items = unsafe { destroy(self.all) };
        // SAFETY: they came from there, and there is nothing in them any more.
        unsafe { self.slab.give_back(items) };
    }
}

/// Destroys it; returns where the items were.
///
/// # Safety
/// No reader is left.
pub(super) unsafe fn destroy<K, V>(all: Vec<Garbage<K, V>>) -> Vec<*mut Item<K, V>> {
    let mut items = Vec::new();
    for garbage in all {
        match garbage {
            Garbage::Item(item) => {
                // SAFETY: nobody else refers to it.
                unsafe { &*item }.watched.end();
                // SAFETY: as above, and it comes here once. A key may panic: it loses its own then.
                crate::contain(|| unsafe { item.drop_in_place() });
                items.push(item);
            }
            Garbage::Buckets(buckets) => {
                // SAFETY: as above; it came from a box.
                let buckets = unsafe { Box::from_raw(buckets) };
                buckets.1.end();
            }
        }
    }
    items
}
