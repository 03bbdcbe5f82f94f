//! An assumption's inside: its version, its members, and the caches that may rely on it.

use std::any::Any;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockWriteGuard, Weak};
use std::time::Duration;

use crate::error::Error;
use crate::sync::Mutex;
use crate::sync::atomic::{AtomicU64, Ordering};
use crate::sync::fault::order;

/// A cache, to an assumption.
pub(crate) trait Relying: Send + Sync {
    /// Unlinks all methods that rely on older versions than these. What a policy panicked with is returned
    /// when all are unlinked.
    fn unlink(&self, fallen: &[(Arc<Inner>, u64)]) -> Option<Box<dyn Any + Send>>;
    /// Waits for a grace period that begins now.
    fn wait(&self, patience: Option<Duration>) -> Result<(), Error>;
    /// Keeps the cache's threads; `None` if the cache is at its end, and nobody inside.
    fn keep_running(&self) -> Option<Arc<dyn Any + Send + Sync>>;
}

/// Held shared while a list of any assumption is in use, and exclusively while the process forks: so the
/// child finds all lists free. The last of all locks but the list's own: nothing is dropped under it that
/// would take another.
static LISTS: RwLock<()> = RwLock::new(());

/// For the fork handlers.
pub(crate) fn hold_for_fork() -> RwLockWriteGuard<'static, ()> {
    LISTS.write().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Default)]
struct Lists {
    /// By address.
    members: HashMap<usize, Weak<Inner>>,
    /// Caches that may have code which relies on it: each once.
    caches: Vec<Weak<dyn Relying>>,
}

/// What code and members of an assumption keep.
pub(crate) struct Inner {
    /// Its address is in code.
    pub(super) version: AtomicU64,
    lists: Mutex<Lists>,
    group: Option<Arc<Inner>>,
    /// What it is about, if that is to live as long.
    _about: Option<Arc<dyn Any + Send + Sync>>,
}

impl Inner {
    pub(super) fn new(
        group: Option<Arc<Self>>,
        about: Option<Arc<dyn Any + Send + Sync>>,
    ) -> Arc<Self> {
        crate::engine::handle_forks();
        let new = Arc::new(Self {
            version: AtomicU64::new(0),
            lists: Mutex::default(),
            group,
            _about: about,
        });
        if let Some(group) = &new.group {
            let member = Arc::downgrade(&new);
            group.with_lists(|lists| lists.members.insert(new.name(), member));
        }
        new
    }

    /// What its group knows it by.
    fn name(&self) -> usize {
        self.address() as usize
    }

    fn with_lists<R>(&self, look: impl FnOnce(&mut Lists) -> R) -> R {
        let _no_fork = LISTS.read().unwrap_or_else(PoisonError::into_inner);
        look(&mut self.lists.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A cache may rely on it from now on.
    pub(super) fn register(&self, cache: &Weak<dyn Relying>) {
        self.with_lists(|lists| {
            let caches = &mut lists.caches;
            if !caches.iter().any(|c| same(c, cache)) {
                caches.retain(|c| c.strong_count() > 0);
                caches.push(cache.clone());
            }
        });
    }

    /// A cache is at its end.
    pub(crate) fn forget(&self, cache: &Weak<dyn Relying>) {
        self.with_lists(|lists| lists.caches.retain(|c| !same(c, cache)));
    }

    fn caches(&self) -> Vec<Arc<dyn Relying>> {
        self.with_lists(|lists| {
            lists.caches.retain(|c| c.strong_count() > 0);
            lists.caches.iter().filter_map(Weak::upgrade).collect()
        })
    }

    fn members(&self) -> Vec<Arc<Self>> {
        self.with_lists(|lists| lists.members.values().filter_map(Weak::upgrade).collect())
    }

    /// Members in its list, and caches.
    #[cfg(test)]
    pub(super) fn listed(&self) -> (usize, usize) {
        self.with_lists(|lists| (lists.members.len(), lists.caches.len()))
    }

    fn leave(&self, member: usize) {
        self.with_lists(|lists| {
            let members = &mut lists.members;
            members.remove(&member);
            if members.capacity() > 4 * members.len() + 16 {
                members.shrink_to(2 * members.len());
            }
        });
    }
}

impl Drop for Inner {
    /// Without recursion: groups may be nested by the thousand. It may run under a ledger.
    fn drop(&mut self) {
        let (mut name, mut group) = (self.name(), self.group.take());
        while let Some(parent) = group {
            parent.leave(name);
            // If this was the last to keep the group, the next round takes it out of its own.
            name = parent.name();
            group = Arc::into_inner(parent).and_then(|mut last| last.group.take());
        }
    }
}

fn same(a: &Weak<dyn Relying>, b: &Weak<dyn Relying>) -> bool {
    std::ptr::addr_eq(a.as_ptr(), b.as_ptr())
}

/// Assumptions whose versions were advanced, and what they were advanced to.
type Advanced = Vec<(Arc<Inner>, u64)>;

pub(super) struct Fallen(Advanced);

impl Fallen {
    /// Advances an assumption's version, and its members'.
    pub(super) fn of(group: &Arc<Inner>) -> Self {
        let mut fallen = Vec::new();
        let mut coming = vec![group.clone()];
        while let Some(next) = coming.pop() {
            let version = next
                .version
                .fetch_add(1, order("assumption.advance", Ordering::SeqCst))
                + 1;
            coming.append(&mut next.members());
            fallen.push((next, version));
        }
        Self(fallen)
    }

    /// What fell for each of the caches that may rely on some of it.
    pub(super) fn by_cache(self) -> Vec<(Arc<dyn Relying>, Advanced)> {
        let mut places: HashMap<*const (), usize> = HashMap::new();
        let mut all: Vec<(Arc<dyn Relying>, Advanced)> = Vec::new();
        for (assumption, version) in self.0 {
            for cache in assumption.caches() {
                let name = Arc::as_ptr(&cache).cast::<()>();
                let place = *places.entry(name).or_insert_with(|| {
                    all.push((cache, Vec::new()));
                    all.len() - 1
                });
                all[place].1.push((assumption.clone(), version));
            }
        }
        all
    }
}
