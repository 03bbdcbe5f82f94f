//! Which method goes when memory is short.
//!
//! The cache decides *when* to evict and *whether it may*; a [`Policy`] decides only *which one is
//! next*. It keeps an order over the **candidates**: the methods that are resident, that nobody
//! keeps, and that are not already on their way out. The cache tells it what becomes of them, and
//! asks it for a victim while it is over its budget.
//!
//! # The life of a candidate
//!
//! ```text
//!                insert(id, cost)
//!   compiled ─────────────────────▶ candidate ──── hit(id): it was called ──┐
//!                                    ▲  │  ▲                                │
//!            called meanwhile:       │  │  └────────────────────────────────┘
//!            insert(id, cost), hit   │  │  victim() named it: remove(id)
//!                                    │  ▼
//!                                  probation ── not called ──▶ dropped (the policy hears no more)
//! ```
//!
//! - **Probation.** A victim is not dropped at once. Its cell is unlinked while its code stays
//!   mapped; a call in that time links it again. Calls between compiled methods pass no lookup of
//!   the host, so this is the only way in which a hot leaf, called by compiled code alone, shows
//!   that it is hot.
//! - **A victim that was called meanwhile.** Calls are counted in the cells, not in the policy, and
//!   the policy hears of them late and once for many. So the cache may answer a victim with
//!   [`hit`](Policy::hit) and ask again: *this one has been in use since you last heard of it, look
//!   again*.
//! - **Leaving for other reasons.** A method that is invalidated, evicted by name, or kept by a
//!   handle is removed as well. One that is no longer kept is inserted again.
//!
//! # Choosing one
//!
//! [`Lru`] is the one to expect no surprises from. [`Sieve`] keeps what is called again and again
//! when many methods are called only once (start-up code, scans), and a hit costs it one bit. A
//! policy that knows more, such as what a method cost to compile, is a [`Policy`] of your own: the
//! trait's documentation has one in full.

mod lru;
mod sieve;

use std::fmt;
use std::time::Duration;

pub use self::lru::Lru;
pub use self::sieve::Sieve;

/// A method as a policy sees it: equal or not, and nothing else.
///
/// An id stands for one method of one cache. It may come back after it was removed, and then means
/// the same method.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MethodId(u64);

impl MethodId {
    /// An id of a number. The cache makes its own; this is here to drive a policy in a test.
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number: for a message, or as an index if one's own are small. Those that a cache makes are not.
    pub const fn get(self) -> u64 {
        self.0
    }
}

/// What a method takes up, and what it took to make it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct Cost {
    /// Bytes of text, constants, data and unwind tables that are this method's own. They return
    /// only when all methods of the generation are gone, so dropping the largest method frees
    /// nothing by itself.
    pub bytes: u64,
    /// The time from emission to publication; for a method compiled in a batch, its share.
    pub compile_time: Duration,
}

impl Cost {
    /// A cost of these figures. The cache makes its own; this is here to drive a policy in a test.
    pub const fn new(bytes: u64, compile_time: Duration) -> Self {
        Self {
            bytes,
            compile_time,
        }
    }
}

/// An order in which methods are to be evicted.
///
/// # What the cache guarantees
///
/// - Every call is made under one lock of the cache: no two at the same time, though from
///   different threads one after the other. So a policy must not call the cache, nor methods.
/// - No call is made on the path of a method call; a method that is resident is called without the
///   policy's knowledge. Calls come from the threads that compile, reclaim, invalidate or change a
///   budget.
/// - An id is inserted before it is hit. It may be hit or removed when it is not, or is no longer,
///   a candidate (the news crossed); such calls must be ignored.
/// - The number of times that the cache asks for a victim before it gives up for now is bounded by
///   [`len`](Policy::len). A policy that makes no progress leaves the cache over its budget; it
///   cannot hang it.
///
/// # What a policy must do
///
/// - **Name only candidates.** [`victim`](Policy::victim) gives an id that was inserted and not
///   removed since; it gives one whenever there is one.
/// - **Make progress.** A victim answered by [`hit`](Policy::hit) moves back in the order: a run of
///   nothing but such answers comes to every candidate in the end, the sooner the better.
/// - **Be quick**: everything else that wants to evict, publish or invalidate waits for the lock.
///   Constant time, or constant over a run of calls, is the measure.
///
/// # What a policy must never do
///
/// - Call into the cache, any of its handles or guards: the lock is not reentrant.
/// - Wait for another thread, or panic.
/// - Take a hint for a promise. A victim named is not a victim dropped; only
///   [`remove`](Policy::remove) says that it is gone.
///
/// # Example
///
/// GreedyDual (Young, 1994): a method is worth what its compilation took for each byte, on top of
/// what the last victim was worth. What is cheap to make again goes first, and what was dear but is
/// never called ages as the others' worth rises past it.
///
/// ```
/// use std::collections::{BTreeSet, HashMap};
/// use std::time::Duration;
/// use inkpot::evict::{Cost, MethodId, Policy};
///
/// #[derive(Default)]
/// struct GreedyDual {
///     floor: u128,
///     order: BTreeSet<(u128, MethodId)>,
///     known: HashMap<MethodId, (u128, Cost)>,
/// }
///
/// impl Policy for GreedyDual {
///     fn insert(&mut self, id: MethodId, cost: Cost) {
///         self.remove(id);
///         // At least 1, so that a hit always lifts a method above the victim's worth.
///         let worth = self.floor + (cost.compile_time.as_nanos() / u128::from(cost.bytes.max(1))).max(1);
///         self.order.insert((worth, id));
///         self.known.insert(id, (worth, cost));
///     }
///
///     fn hit(&mut self, id: MethodId) {
///         if let Some(&(_, cost)) = self.known.get(&id) {
///             self.insert(id, cost);
///         }
///     }
///
///     fn remove(&mut self, id: MethodId) {
///         if let Some((worth, _)) = self.known.remove(&id) {
///             self.order.remove(&(worth, id));
///         }
///     }
///
///     fn victim(&mut self) -> Option<MethodId> {
///         let &(worth, id) = self.order.first()?;
///         self.floor = worth;
///         Some(id)
///     }
///
///     fn len(&self) -> usize {
///         self.known.len()
///     }
///
///     fn name(&self) -> &'static str {
///         "greedy-dual"
///     }
/// }
///
/// let (cheap, dear) = (MethodId::new(1), MethodId::new(2));
/// let mut policy = GreedyDual::default();
/// policy.insert(dear, Cost::new(100, Duration::from_millis(40)));
/// policy.insert(cheap, Cost::new(100, Duration::from_millis(1)));
/// assert_eq!(policy.victim(), Some(cheap));
/// policy.remove(cheap);
/// assert_eq!(policy.victim(), Some(dear));
/// ```
pub trait Policy: Send + 'static {
    /// `id` is a candidate from now on: it was compiled, came back out of probation (then
    /// [`hit`](Policy::hit) follows), or is no longer kept.
    ///
    /// If it is a candidate already, it was compiled anew in place: only its cost has changed, and
    /// this says nothing about its use.
    fn insert(&mut self, id: MethodId, cost: Cost);

    /// `id` has been called, once or a million times, since the policy last heard of it.
    fn hit(&mut self, id: MethodId);

    /// `id` is no candidate any more: it is in probation, evicted, invalidated or kept.
    fn remove(&mut self, id: MethodId);

    /// The candidate that should go next; `None` only if there is none.
    ///
    /// It remains a candidate until [`remove`](Policy::remove). Asked again with no news in
    /// between, a policy may name the same one or another.
    fn victim(&mut self) -> Option<MethodId>;

    /// How many candidates there are.
    fn len(&self) -> usize;

    /// Whether there is no candidate.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A short name for statistics and messages.
    fn name(&self) -> &'static str;
}

/// So that a policy chosen at run time (`Box<dyn Policy>`) goes wherever a policy does.
impl<P: Policy + ?Sized> Policy for Box<P> {
    fn insert(&mut self, id: MethodId, cost: Cost) {
        (**self).insert(id, cost);
    }

    fn hit(&mut self, id: MethodId) {
        (**self).hit(id);
    }

    fn remove(&mut self, id: MethodId) {
        (**self).remove(id);
    }

    fn victim(&mut self) -> Option<MethodId> {
        (**self).victim()
    }

    fn len(&self) -> usize {
        (**self).len()
    }

    fn is_empty(&self) -> bool {
        (**self).is_empty()
    }

    fn name(&self) -> &'static str {
        (**self).name()
    }
}

/// By name alone: a policy has nothing else that is common to all.
impl fmt::Debug for dyn Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("name", &self.name())
            .field("len", &self.len())
            .finish()
    }
}
