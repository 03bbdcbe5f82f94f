//! Settings about methods that nobody waits for: where calls go meanwhile.

use std::sync::Arc;
use std::time::Duration;

use super::Builder;
use crate::method::{Admission, Key, Patience};
use crate::observe::Listener;

/// What [`Builder`] documents.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) fallback: Option<usize>,
    pub(crate) patience: Patience,
    pub(crate) damping: Patience,
    pub(crate) admission: Admission,
    pub(crate) longest: Option<(u64, TooLong)>,
    pub(crate) compile_limit: Option<Duration>,
}

/// What becomes of methods that are [too long](Builder::longest).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub enum TooLong {
    /// They are not compiled: [`Error::Declined`](crate::Error::Declined).
    #[default]
    Refuse,
    /// They are compiled for the first [tier](Builder::tiers), and come to no other. (If there is one tier only they are
    /// compiled for that.)
    CheapestTier,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            fallback: None,
            patience: Patience {
                first: Duration::from_millis(10),
                most: Duration::from_secs(10),
            },
            damping: Patience {
                first: Duration::from_millis(10),
                most: Duration::from_secs(2),
            },
            admission: Admission {
                asks: 1,
                within: Duration::ZERO,
            },
            longest: None,
            compile_limit: None,
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
    /// finds none some 200 ns more, as it asks each time. Each method takes 32 bytes, charged as bookkeeping.
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

    /// Methods that nobody waits for are compiled when they have been asked for so many times, the last and the first no
    /// longer than `within` apart: by [`request`](crate::Handle::request), by
    /// [`entry_or_fallback`](crate::Handle::entry_or_fallback), and by calls that go to a [fallback](Builder::fallback).
    /// They are counted by quarters of that time, so up to a quarter more may lie between them. Once it has been evicted
    /// a method is counted anew. Who waits, in [`get`](crate::Handle::get) or in a call without a fallback, is always
    /// served. Default: 1, at once.
    pub fn admit_after(mut self, asks: u32, within: Duration) -> Self {
        self.config.wishes.admission = Admission { asks, within };
        self
    }

    /// How long methods are put off that are evicted for want of memory, compiled again soon, and evicted again: the
    /// second time for `first`, doubled with each time that follows, up to `most`. It begins at the eviction; meanwhile
    /// nobody compiles them who does not wait, and calls go to the [fallback](Builder::fallback). Code that is there so
    /// stays there, and is called: the cache compiles a part of what is asked for, rather than everything in turns. It is
    /// halved when the method stays, or is not asked for, eight times as long. Default: 10 milliseconds, up to 2 seconds; zero
    /// is not to put off. Who waits is always served.
    ///
    /// Soon is before eight times as many methods have been evicted as there are with code, and within a minute. Both numbers,
    /// [how often](crate::Statistics::thrashes) that is and how many requests were
    /// [put off](crate::Statistics::damped), say that the budget is too small. What is known of a method lasts as long as
    /// something refers to its key.
    pub fn damping(mut self, first: Duration, most: Duration) -> Self {
        self.config.wishes.damping = Patience {
            first,
            most: most.max(first),
        };
        self
    }

    /// How long the IR of a method may be, in instructions of all functions that the front end emitted or adopted for it,
    /// and what becomes of longer ones. To be refused is a failure that is [remembered](Builder::retry_after) until the
    /// method is invalidated. Default: no limit. (Other [backends](crate::Backend) than LLVM's decide for themselves: they
    /// fail a method with [`Error::Declined`](crate::Error::Declined).)
    pub fn longest(mut self, instructions: u64, longer: TooLong) -> Self {
        self.config.wishes.longest = Some((instructions, longer));
        self
    }

    /// How long a batch may be compiled before that is told: to the [listener](Builder::listener), as
    /// [`Event::Overdue`](crate::Event::Overdue), and in the [`Statistics`](crate::Statistics), while it goes on. A front
    /// end that hangs, or passes that never end, are seen so. Nothing happens to it. Linking does not count. Default: no
    /// limit.
    ///
    /// It is the reclaimer that looks, or [`Cache::maintain`](crate::Cache::maintain): up to a limit, or a second, late.
    pub fn compile_limit(mut self, limit: Duration) -> Self {
        self.config.wishes.compile_limit = Some(limit);
        self
    }

    /// Hears what happens to methods: [`Event`](crate::Event)s, one by one, on a thread of the cache's own. Default:
    /// none; then it costs a branch for each thing that happens, and none in calls.
    pub fn listener(mut self, listener: impl Listener<K>) -> Self {
        self.listener = Some(Arc::new(listener));
        self
    }
}
