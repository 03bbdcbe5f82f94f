//! Settings about methods that nobody waits for: where calls go meanwhile.

use std::time::Duration;

use super::Builder;
use crate::method::{Key, Patience};
use crate::observe::Listener;

/// What [`Builder`] documents.
pub(crate) struct Settings {
    pub(crate) fallback: Option<usize>,
    pub(crate) patience: Patience,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            fallback: None,
            patience: Patience {
                first: Duration::from_millis(10),
                most: Duration::from_secs(10),
            },
        }
    }
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

    /// How long a failure is remembered: for `first`, doubled for each that follows without a success between, up to
    /// `most`. Meanwhile the method is not tried again, and who asks for it gets the same error at once. Afterwards it is
    /// tried when somebody asks. [`Cache::invalidate`](crate::Cache::invalidate) makes the cache forget: say it when what
    /// the front end knows has changed. Default: 10 milliseconds, up to 10 seconds; zero is not to remember.
    ///
    /// It lasts as long as something refers to the key (a handle, code that calls it), and beyond that for the last 256
    /// methods that failed. What is not the method's own fault is not remembered: want of memory, a prelude that failed, a
    /// helper that cannot be started, the end of the cache.
    pub fn retry_after(mut self, first: Duration, most: Duration) -> Self {
        self.config.wishes.patience = Patience {
            first,
            most: most.max(first),
        };
        self
    }

    /// Hears what happens to methods: [`Event`](crate::Event)s, one by one, on a thread of the cache's own. Default:
    /// none; then it costs a branch for each thing that happens, and none in calls.
    pub fn listener(mut self, listener: impl Listener<K>) -> Self {
        self.listener = Some(Box::new(listener));
        self
    }
}
