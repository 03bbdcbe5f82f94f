//! Leases: code and constants that stay, for as long as somebody keeps a pointer into them.

use std::any::Any;
use std::marker::PhantomData;
use std::sync::Arc;

use crate::method::{Entry, MethodType};
use crate::reclaim::{Domain, Guard, Hold};

/// Keeps the code that a method had when it was made, and all of its generation: made by
/// [`Handle::lease`](crate::Handle::lease), for embedders that keep a pointer into a method's code
/// or constants beyond the guard.
///
/// The method itself can be evicted, invalidated and compiled anew; what was leased stays mapped
/// until the lease is dropped, goes beyond the budget, and is counted and named in the statistics.
/// It keeps a whole generation, so leases are for few. It keeps the cache alive too, and can be
/// used and dropped on any thread.
pub struct Lease<F: MethodType> {
    code: usize,
    /// Taken by `drop`.
    hold: Option<Hold>,
    number: u64,
    domain: Arc<Domain>,
    /// Dropped last: the domain, and the memory, are the cache's.
    _cache: Arc<dyn Any + Send + Sync>,
    signature: PhantomData<F>,
}

impl<F: MethodType> Lease<F> {
    pub(crate) fn new(
        code: usize,
        hold: Hold,
        name: String,
        domain: Arc<Domain>,
        cache: Arc<dyn Any + Send + Sync>,
    ) -> Self {
        Self {
            code,
            hold: Some(hold),
            number: domain.note_lease(name),
            domain,
            _cache: cache,
            signature: PhantomData,
        }
    }

    /// Where the leased code begins.
    pub fn address(&self) -> *const () {
        self.code as *const ()
    }

    /// The leased code, to be called: by a pinned thread, since what it calls may be freed.
    ///
    /// # Panics
    /// If the guard belongs to another cache.
    pub fn entry<'g>(&'g self, guard: &'g Guard<'_>) -> Entry<'g, F> {
        assert!(
            std::ptr::eq(guard.domain(), Arc::as_ptr(&self.domain)),
            "the guard belongs to another cache than the lease"
        );
        Entry::new(self.code, guard.leased())
    }
}

impl<F: MethodType> Drop for Lease<F> {
    fn drop(&mut self) {
        if let Some(hold) = self.hold.take() {
            self.domain.end_lease(self.number, hold);
        }
    }
}

impl<F: MethodType> std::fmt::Debug for Lease<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Lease({:#x})", self.code)
    }
}
