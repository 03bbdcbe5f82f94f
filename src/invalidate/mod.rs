//! What compiled code relies on, and how it falls.
//!
//! An assumption is a version, and a list of the caches that may have code which relies on it. Which
//! methods these are each cache knows itself, under its ledger (`engine::ledger::bonds`).
//!
//! # Order
//!
//! A method binds itself to the version of now: its cache is *first* put into the list, and then the
//! version is read. Who invalidates *first* advances the version, and then reads the list. So either the
//! cache is in the list that is read, or the method is bound to the new version. And when a method is
//! published its versions are looked at under the ledger, which who invalidates takes after he has
//! advanced the version: so either the method is found there, or it is not published.

mod lists;
mod token;

use std::any::Any;
use std::fmt;
use std::sync::{Arc, Weak};

use self::lists::Fallen;
pub(crate) use self::lists::{Inner, Relying, hold_for_fork};
pub use self::token::Invalidation;
use crate::sync::atomic::Ordering;
use crate::sync::fault::order;

/// Something that compiled code relies on: a class's table of methods, the value of a constant, the
/// types that were seen so far.
///
/// A front end says with [`Unit::assume`](crate::Unit::assume) that the method which it emits relies on
/// it (another backend with [`Batch::assume`](crate::Batch::assume)). [`Assumption::invalidate`] then
/// unlinks all such methods, of all caches, each once; what is being compiled meanwhile is not published,
/// and whoever waits for it gets what is compiled afterwards. It may fall any number of times: each time its
/// version advances, and what is compiled from then on relies on the new one.
///
/// It belongs to no cache and knows no keys. Clones are the same assumption. It lives as long as a
/// clone of it, a member, or code which relies on it.
///
/// ```
/// use inkpot::{Assumption, BoxError, Cache, Frontend, Unit};
///
/// /// One method, which returns a number that hardly ever changes.
/// struct Constant {
///     value: std::sync::atomic::AtomicU64,
///     unchanged: Assumption,
/// }
///
/// impl Frontend for &'static Constant {
///     type Key = ();
///
///     fn emit<'ctx>(&self, _: &(), unit: &mut Unit<'_, 'ctx, ()>) -> Result<(), BoxError> {
///         unit.assume(&self.unchanged); // first; then look at what it is about
///         let value = self.value.load(std::sync::atomic::Ordering::SeqCst);
///         let long = unit.context().i64_type();
///         let function = unit.define(long.fn_type(&[], false));
///         let build = unit.context().create_builder();
///         build.position_at_end(unit.context().append_basic_block(function, "entry"));
///         build.build_return(Some(&long.const_int(value, false)))?;
///         Ok(())
///     }
/// }
///
/// fn main() -> Result<(), BoxError> {
///     let constant: &'static Constant = Box::leak(Box::new(Constant {
///         value: 1.into(),
///         unchanged: Assumption::new(),
///     }));
///     let cache = Cache::builder(constant).build()?;
///     let me = cache.participant("main");
///     let mut guard = me.pin();
///     // SAFETY: the front end gives its method this type.
///     let get = unsafe { cache.method::<unsafe extern "C" fn() -> u64>(&()) }?;
///     // SAFETY: it can be called at any time.
///     assert_eq!(unsafe { get.get(&mut guard)?.call() }, 1);
///     // First change what it is about, and then let it fall.
///     constant.value.store(2, std::sync::atomic::Ordering::SeqCst);
///     drop(constant.unchanged.invalidate());
///     assert!(!cache.is_resident(&()));
///     // SAFETY: as above.
///     assert_eq!(unsafe { get.get(&mut guard)?.call() }, 2);
///     Ok(())
/// }
/// ```
#[derive(Clone)]
pub struct Assumption {
    inner: Arc<Inner>,
}

impl Assumption {
    /// An assumption that nothing relies on yet.
    pub fn new() -> Self {
        Self {
            inner: Inner::new(None, None),
        }
    }

    /// A member of the group that this assumption is: it falls by itself, and whenever the group does.
    /// Members may have members. A member keeps its group; one that is dropped leaves nothing in it.
    pub fn member(&self) -> Self {
        Self {
            inner: Inner::new(Some(self.inner.clone()), None),
        }
    }

    /// An assumption that keeps what it is about.
    pub(crate) fn about(what: Arc<dyn Any + Send + Sync>) -> Self {
        Self {
            inner: Inner::new(None, Some(what)),
        }
    }

    pub(crate) fn downgrade(&self) -> WeakAssumption {
        WeakAssumption(Arc::downgrade(&self.inner))
    }

    /// How often it has fallen.
    pub fn version(&self) -> u64 {
        self.inner.version()
    }

    /// The assumption does not hold any more, nor do those of its members that are alive. (What it is
    /// about must have changed before: what is compiled from now on relies on it anew.)
    ///
    /// When this returns, every method that relied on one of them is unlinked, whoever unlinked it: no call
    /// *loads* its code any more. A call that had loaded it before may still start, and frames in it run
    /// to their end, unless they [compare the version](crate::Unit::holds); who must know that none does
    /// waits on the returned token.
    ///
    /// It may be called on any thread, pinned or not, in a front end's `emit` too. It takes about
    /// a microsecond a method, and a cache's lock for up to a thousand methods at a time. In a
    /// forked child it advances the versions, and unlinks nothing in caches of the parent's.
    pub fn invalidate(&self) -> Invalidation {
        let caches = Fallen::of(&self.inner).by_cache();
        let mut panic = None;
        for (cache, fallen) in &caches {
            // A policy's panic must not keep other methods linked.
            panic = cache.unlink(fallen).or(panic);
        }
        if let Some(panic) = panic {
            std::panic::resume_unwind(panic);
        }
        Invalidation::of(caches.iter().map(|(cache, _)| Arc::downgrade(cache)))
    }

    /// Has a cache in the list, and then reads the version.
    pub(crate) fn bind(&self, cache: &std::sync::Weak<dyn Relying>) -> (Bond, Assumed) {
        self.inner.register(cache);
        let version = self.inner.version();
        let assumed = Assumed {
            address: self.inner.address(),
            value: version,
        };
        let assumption = self.inner.clone();
        (
            Bond {
                assumption,
                version,
            },
            assumed,
        )
    }
}

/// An assumption, for as long as somebody else keeps it.
pub(crate) struct WeakAssumption(Weak<Inner>);

impl WeakAssumption {
    pub(crate) fn upgrade(&self) -> Option<Assumption> {
        let inner = self.0.upgrade()?;
        Some(Assumption { inner })
    }
}

impl Default for Assumption {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Assumption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Assumption")
            .field("version", &self.version())
            .finish_non_exhaustive()
    }
}

/// That a method relies on an assumption as it was when the method was emitted.
///
/// To be baked into the method's code, for frames that are inside when the assumption falls: these
/// compare after each call what is at the address with the value ([`Unit::holds`](crate::Unit::holds) emits
/// that).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Assumed {
    address: *const std::sync::atomic::AtomicU64,
    value: u64,
}

impl Assumed {
    /// Where the assumption's version is, for as long as the method's code: eight bytes, aligned. It is
    /// to be loaded atomically (monotonic will do).
    pub fn address(&self) -> *const std::sync::atomic::AtomicU64 {
        self.address
    }

    /// The version that the method relies on.
    pub fn value(&self) -> u64 {
        self.value
    }
}

/// What a method relies on.
#[derive(Clone)]
pub(crate) struct Bond {
    pub(crate) assumption: Arc<Inner>,
    pub(crate) version: u64,
}

impl Bond {
    /// Whether the assumption has not fallen since.
    pub(crate) fn is_current(&self) -> bool {
        self.assumption.version() == self.version
    }
}

/// Each assumption once, as it was when it was first relied on.
pub(crate) fn settle(bonds: &mut Vec<Bond>) {
    bonds.sort_unstable_by_key(|bond| (bond.assumption.address(), bond.version));
    bonds.dedup_by_key(|bond| bond.assumption.address());
    bonds.shrink_to_fit();
}

/// Each assumption once.
pub(crate) fn sort(assumptions: &mut Vec<Arc<Inner>>) {
    assumptions.sort_unstable_by_key(|assumption| assumption.address());
    assumptions.dedup_by_key(|assumption| assumption.address());
}

impl Inner {
    fn version(&self) -> u64 {
        self.version
            .load(order("assumption.read", Ordering::SeqCst))
    }

    /// As code has it; no two have the same.
    pub(crate) fn address(&self) -> *const std::sync::atomic::AtomicU64 {
        (&raw const self.version).cast()
    }
}

#[cfg(test)]
impl Assumption {
    /// A bond with the version of now.
    pub(crate) fn bond(&self) -> Bond {
        Bond {
            assumption: self.inner.clone(),
            version: self.version(),
        }
    }

    pub(crate) fn is(&self, inner: &Arc<Inner>) -> bool {
        Arc::ptr_eq(&self.inner, inner)
    }
}

#[cfg(test)]
mod tests;
