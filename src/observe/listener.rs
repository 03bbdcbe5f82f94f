//! What happens to methods, told to the embedder one by one.

use std::time::Duration;

use super::{CompileTime, Overdue};
use crate::error::Error;
use crate::method::Key;

/// Hears what happens in a cache: see [`Builder::listener`](crate::Builder::listener). Functions and closures that take
/// a `&Event<'_, K>` are listeners.
///
/// # Who calls it
/// A thread of the cache's own that does nothing else (`NAME-tell`), or, where the embedder
/// [reclaims by hand](crate::Reclaimer::Manual), whoever calls [`Cache::maintain`](crate::Cache::maintain). Events are
/// told one after the other, soon after they have happened, and in the order in which they have happened. No lock of
/// the cache's is held: a listener may use the cache for whatever it likes, and wait. What it does then is told
/// afterwards. A panic of its own costs it that event, and nothing else.
///
/// Events wait in memory until they are told. A listener that is slower than the cache for long loses some: at most
/// 65,536 wait, and how many were lost is told by [`Event::Lost`]. When the cache ends what waits is told first, and the
/// end waits for it (but not where a listener itself, or a front end, lets go of the cache last).
pub trait Listener<K: Key>: Send + Sync + 'static {
    /// Something has happened.
    fn event(&self, event: &Event<'_, K>);
}

impl<K: Key, F: Fn(&Event<'_, K>) + Send + Sync + 'static> Listener<K> for F {
    fn event(&self, event: &Event<'_, K>) {
        self(event);
    }
}

/// Why a method lost its code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub enum EvictedBy {
    /// Memory was short, or [`Cache::evict`](crate::Cache::evict) was called.
    Eviction,
    /// Its key was invalidated.
    Invalidation,
    /// An [`Assumption`](crate::Assumption) fell that it relied on.
    Assumption,
}

/// Something that has happened.
///
/// Of one method they come in this order: `Queued`, `Started`, and then one of `Finished`, `Promoted`, `InVain`, `Failed` and
/// `Dropped` (which may come without `Started`, as `Failed` does of what is queued when the cache ends); `Evicted` after
/// `Finished` or `Promoted`, also while it is on its way to another tier. A method that is compiled again while it has code (because it moves) is `Finished` again without an
/// `Evicted` between. One that is compiled as part of what was asked for in another way is told as the others.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event<'e, K> {
    /// It waits for a compile worker.
    #[non_exhaustive]
    Queued {
        /// The method's key.
        key: &'e K,
    },
    /// A compile worker has begun.
    #[non_exhaustive]
    Started {
        /// The method's key.
        key: &'e K,
        /// How many methods are compiled in its batch.
        together: usize,
    },
    /// It can be called.
    #[non_exhaustive]
    Finished {
        /// The method's key.
        key: &'e K,
        /// Where it is.
        generation: u64,
        /// Bytes of text, constants, data and unwind tables: its part of its batch's.
        bytes: u64,
        /// Where the time went that the batch took, which is that of all methods in it.
        times: &'e CompileTime,
        /// How many methods were compiled in that batch.
        together: usize,
        /// The [tier](crate::Tier) of the code, counted from 0.
        tier: usize,
    },
    /// As `Finished`, with better code than it had: its tier is higher.
    #[non_exhaustive]
    Promoted {
        /// The method's key.
        key: &'e K,
        /// Where it is now.
        generation: u64,
        /// Bytes, as for `Finished`.
        bytes: u64,
        /// Times, as for `Finished`.
        times: &'e CompileTime,
        /// How many methods were compiled in that batch.
        together: usize,
        /// The [tier](crate::Tier) of the code, counted from 0.
        tier: usize,
    },
    /// It was compiled, and not published: it was invalidated meanwhile, or an assumption fell. Who waits for it has it
    /// compiled again.
    #[non_exhaustive]
    InVain {
        /// The method's key.
        key: &'e K,
    },
    /// It was not compiled, because nobody wanted it any more: all who waited had given up, or it was invalidated
    /// and nobody waited; or because the queue was full.
    #[non_exhaustive]
    Dropped {
        /// The method's key.
        key: &'e K,
    },
    /// It could not be compiled.
    #[non_exhaustive]
    Failed {
        /// The method's key.
        key: &'e K,
        /// Why.
        error: &'e Error,
    },
    /// It has no code any more.
    #[non_exhaustive]
    Evicted {
        /// The method's key.
        key: &'e K,
        /// Why.
        cause: EvictedBy,
        /// Where it was.
        generation: u64,
    },
    /// A generation's memory is free again.
    #[non_exhaustive]
    Recycled {
        /// Its number.
        generation: u64,
        /// Bytes of text, constants, data and unwind tables that it took.
        bytes: u64,
        /// The time since its last method was gone.
        waited: Duration,
    },
    /// A compilation has taken longer than it [should](crate::Builder::compile_limit), and goes on. Once for each.
    #[non_exhaustive]
    Overdue {
        /// What is being compiled.
        overdue: &'e Overdue,
    },
    /// The listener was too slow: so many events after the last one were not told.
    #[non_exhaustive]
    Lost {
        /// How many.
        events: u64,
    },
}
