//! Settings about methods that nobody waits for: where calls go meanwhile.

use super::Builder;
use crate::method::Key;
use crate::observe::Listener;

/// What [`Builder`] documents.
#[derive(Default)]
pub(crate) struct Settings {
    pub(crate) fallback: Option<usize>,
}

impl<K: Key> Builder<K> {
    /// Where calls of methods go that have no code: an interpreter's entry, say. The word by which it
    /// knows the method, and methods that go elsewhere, are the front end's to
    /// [say](crate::Frontend::fallback). Default: none; calls of [entries](crate::Handle::get) and of compiled
    /// code wait until the callee is compiled.
    ///
    /// It is a function that takes and returns what its methods do, by the same convention, with the word in LLVM's
    /// `nest` parameter (r10): written in IR, in assembly, or in Rust by [`fallback!`](crate::fallback!). Methods with a
    /// `nest` parameter of their own can have none. It is called on pinned threads, with frames of code below, and may
    /// call methods, come to safepoints, and unwind where its callers can. It outlives the cache.
    ///
    /// With a fallback [`entry_or_fallback`](crate::Handle::entry_or_fallback) has an answer at any time; and calls
    /// from compiled code, by canonical addresses and by callbacks do not wait: they ask for the method, as by
    /// [`request`](crate::Handle::request), and go to the fallback.
    ///
    /// # Cost
    /// A call of a fallback's thunk is a load and a jump more than one of the fallback; a call from compiled code that
    /// finds none some 100 ns more, as it asks each time. Each method takes 32 bytes, charged as bookkeeping.
    pub fn fallback(mut self, entry: *const ()) -> Self {
        self.config.wishes.fallback = Some(entry as usize);
        self
    }

    /// Hears what happens to methods: [`Event`](crate::Event)s, one by one, on a thread of the cache's own. Default:
    /// none; then it costs a branch for each thing that happens, and none in calls.
    pub fn listener(mut self, listener: impl Listener<K>) -> Self {
        self.listener = Some(Box::new(listener));
        self
    }
}
