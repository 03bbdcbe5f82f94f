//! What happens to a cache when its process forks.
//!
//! The child has one thread, and a copy of everything private: its own cells, its own data. The
//! pages of text and constants are shared with the parent. So while the fork goes on, nothing is
//! linked or recycled; afterwards the parent leaves the pages of then alone (it unmaps what it
//! recycles, and punches nothing) and puts new code into a fresh file, and the child may call what
//! was resident, and nothing else.

use std::cell::UnsafeCell;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Once, PoisonError, RwLock, RwLockWriteGuard, Weak};

use crossbeam_epoch::Collector;

use super::core::Core;
use super::{exit, quiet};
use crate::invalidate::hold_for_fork;
use crate::method::{self, ASKED_BY_RECLAIMER, Key};
use crate::sync::plain::{Mutex, MutexGuard};

/// Shared while linking and recycling, exclusive while the process forks.
static FORKING: RwLock<()> = RwLock::new(());

/// Runs `f` at a time when the process does not fork.
pub(super) fn while_not_forking<R>(f: impl FnOnce() -> R) -> R {
    let _quiet = FORKING.read().unwrap_or_else(PoisonError::into_inner);
    f()
}

/// A cache, to the handlers.
trait Forks: Send + Sync {
    /// Takes the locks that the child must find free; they are given back by dropping.
    fn hold(&self) -> Box<dyn Guards + '_>;
    /// Whether this process made the cache, rather than inherited it: a child's copy is dead, and
    /// its locks may be held by nobody.
    fn is_ours(&self) -> bool;
    fn in_parent(&self);
    fn in_child(&self);
}

/// Anything: guards of locks, kept until after the fork.
trait Guards {}
impl<T> Guards for T {}

impl<K: Key> Forks for Core<K> {
    fn hold(&self) -> Box<dyn Guards + '_> {
        let mut ledger = self.ledger();
        // The child cannot link methods on probation again: that takes a lock that another
        // thread may hold now.
        ledger.end_probation();
        Box::new((ledger, self.domain.hold_for_fork()))
    }

    fn is_ours(&self) -> bool {
        self.check_fork().is_ok()
    }

    fn in_parent(&self) {
        self.space.forked();
    }

    fn in_child(&self) {
        self.forked.store(true, Ordering::Relaxed);
        // Nobody reclaims here, so nobody would lower it.
        self.table.cells().ask(ASKED_BY_RECLAIMER, false);
        self.table.abandon();
    }
}

static CACHES: Mutex<Vec<Weak<dyn Forks>>> = Mutex::new(Vec::new());

fn known() -> MutexGuard<'static, Vec<Weak<dyn Forks>>> {
    CACHES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From now on forks are handled.
pub(crate) fn handle() {
    static HANDLERS: Once = Once::new();
    // SAFETY: the handlers are functions of this crate, and go with it if it is unloaded.
    HANDLERS.call_once(|| unsafe {
        libc::pthread_atfork(Some(prepare), Some(parent), Some(child));
    });
}

/// Makes the handlers know a cache.
pub(super) fn register<K: Key>(core: &Arc<Core<K>>) {
    handle();
    let weak: Weak<Core<K>> = Arc::downgrade(core);
    let mut caches = known();
    caches.retain(|cache| cache.strong_count() > 0);
    caches.push(weak);
}

/// What `prepare` took, for `parent` and `child` to give back.
struct Held {
    // In the order in which they must be given back: guards of a cache before the cache.
    assumptions: RwLockWriteGuard<'static, ()>,
    guards: Vec<Box<dyn Guards>>,
    caches: Vec<Arc<dyn Forks>>,
    list: MutexGuard<'static, Vec<Weak<dyn Forks>>>,
    inside: MutexGuard<'static, quiet::State>,
    epochs: MutexGuard<'static, Option<Collector>>,
    quiet: RwLockWriteGuard<'static, ()>,
}

struct Slot(UnsafeCell<Option<Held>>);

// SAFETY: written by `prepare` and emptied by `parent` or `child`, on the thread that forks, while
// it holds `FORKING` exclusively.
unsafe impl Sync for Slot {}

static HELD: Slot = Slot(UnsafeCell::new(None));

unsafe extern "C" fn prepare() {
    let quiet = FORKING.write().unwrap_or_else(PoisonError::into_inner);
    let list = known();
    let caches: Vec<Arc<dyn Forks>> = list
        .iter()
        .filter_map(Weak::upgrade)
        .filter(|cache| cache.is_ours())
        .collect();
    let guards = caches
        .iter()
        .map(|cache| {
            let held = cache.hold();
            // SAFETY: the guards borrow the cache, which `Held` keeps and drops after them.
            unsafe { std::mem::transmute::<Box<dyn Guards + '_>, Box<dyn Guards>>(held) }
        })
        .collect();
    // SAFETY: `FORKING` is held exclusively.
    unsafe {
        *HELD.0.get() = Some(Held {
            // Last: a ledger's holder may want it.
            assumptions: hold_for_fork(),
            guards,
            caches,
            list,
            inside: quiet::hold_for_fork(),
            epochs: method::hold_for_fork(),
            quiet,
        })
    };
}

fn finish(
    tell: impl Fn(&dyn Forks),
    tell_inside: impl FnOnce(&mut quiet::State, &mut Option<Collector>),
) {
    // SAFETY: on the thread that ran `prepare`, which holds `FORKING` exclusively.
    let Some(held) = (unsafe { (*HELD.0.get()).take() }) else {
        return;
    };
    let Held {
        assumptions,
        guards,
        caches,
        list,
        mut inside,
        mut epochs,
        quiet,
    } = held;
    tell_inside(&mut inside, &mut epochs);
    caches.iter().for_each(|cache| tell(&**cache));
    drop((assumptions, guards, list, inside, epochs, quiet));
    // Last: if ours is the last hold on a cache it is torn down here, which needs the locks.
    drop(caches);
}

unsafe extern "C" fn parent() {
    finish(|cache| cache.in_parent(), |_, _| {});
}

unsafe extern "C" fn child() {
    exit::in_child();
    finish(
        |cache| cache.in_child(),
        |inside, epochs| {
            quiet::in_child(inside);
            method::in_child(epochs);
        },
    );
}
