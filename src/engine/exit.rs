//! At the exit of the process compile workers stop before LLVM's static destructors run.
//!
//! `exit` runs handlers in the reverse order of their registration. Many of LLVM's destructors are
//! registered when its library is loaded, before any cache exists; but those of variables inside
//! functions only when the function first runs, which is while a worker compiles. A handler that
//! was registered before that runs too late. So [`register`] comes after a first small compilation
//! (the backend's, when it is made), and [`again`] puts the handler on top of what has come since,
//! often at first and ever more seldom: each registration takes memory for good.
//!
//! What of the embedder's must still run methods at the exit of the process would come too late in a
//! handler of its own: ours tells it before it stops the workers.

use std::cell::Cell;
use std::ffi::{c_int, c_void};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::core::Core;
use super::fork;
use crate::compile::on_a_worker;
use crate::loaded;
use crate::method::Key;
use crate::sync::plain::{Mutex, MutexGuard};

/// All caches together are waited for this long at most: a front end may be stuck, or wait for
/// the very thread that exits.
const PATIENCE: Duration = Duration::from_secs(10);

unsafe extern "C" {
    /// `atexit`, for a handler that is told the exit's status.
    fn on_exit(handler: extern "C" fn(c_int, *mut c_void), argument: *mut c_void) -> c_int;
}

/// A cache, to the handler.
trait Stops: Send + Sync {
    /// Everything still runs.
    fn announce(&self, status: c_int);
    fn stop(&self);
}

impl<K: Key> Stops for Core<K> {
    fn announce(&self, status: c_int) {
        if let (Ok(()), Some(listener)) = (self.check_fork(), &self.config.before_exit) {
            // A panic has nowhere to go from here, and the others are to be told too.
            crate::contain(|| listener(status));
        }
    }

    fn stop(&self) {
        if self.check_fork().is_ok() {
            self.close();
        }
    }
}

/// Threads that serve caches, and may be inside LLVM until they end: compile workers, reclaimers.
static THREADS: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The thread exits the process, and is not counted any more.
    static EXITS: Cell<bool> = const { Cell::new(false) };
}

/// A thread that serves a cache, counted until this is dropped on it.
pub(super) struct Serving(());

impl Serving {
    /// To be called before the thread is started.
    pub(super) fn begins() -> Self {
        THREADS.fetch_add(1, Ordering::AcqRel);
        Self(())
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        one_less();
    }
}

/// In a forked child the thread may not have been counted.
fn one_less() {
    let less = |n: usize| n.checked_sub(1);
    let _ = THREADS.fetch_update(Ordering::AcqRel, Ordering::Acquire, less);
}

/// In a forked child there are none of them; nor does it exit because its parent did.
pub(super) fn in_child() {
    THREADS.store(0, Ordering::Relaxed);
    EXITING.store(0, Ordering::Relaxed);
}

static CACHES: Mutex<Vec<Weak<dyn Stops>>> = Mutex::new(Vec::new());

/// The thread on which the process exits, once it does.
static EXITING: AtomicI32 = AtomicI32::new(0);

/// Makes the handler know a cache.
pub(super) fn register<K: Key>(core: &Arc<Core<K>>) {
    let weak: Weak<Core<K>> = Arc::downgrade(core);
    fork::while_not_forking(|| {
        let mut caches = CACHES.lock().unwrap_or_else(PoisonError::into_inner);
        caches.retain(|cache| cache.strong_count() > 0);
        caches.push(weak);
    });
    loaded::for_good();
    again();
}

/// To be called after each compilation.
pub(super) fn again() {
    static TIMES: AtomicU64 = AtomicU64::new(0);
    if cfg!(feature = "_checked") {
        return; // what is left of a checker's run that fails is not waited for
    }
    let n = TIMES.fetch_add(1, Ordering::Relaxed);
    let due = n < 16 || n.is_power_of_two() || (n < 4096 && n.is_multiple_of(64));
    // At first one for each thread that may call `exit` at the same time as another.
    let times = if n == 0 { 8 } else { usize::from(due) };
    if times == 0 {
        return;
    }
    // libc has a lock for its handlers, which a forked child finds as it is, and wants to register and to exit.
    fork::while_not_forking(|| {
        for _ in 0..times {
            // SAFETY: the handler is a function of this crate, which stays loaded, and takes no argument.
            unsafe { on_exit(at_exit, std::ptr::null_mut()) };
        }
    });
}

/// If the process exits, the calling thread goes no further, and ends with it; but for the very
/// thread that exits. So does a call that finds nobody to compile its callee: it is no failure.
pub(super) fn wait_for_the_end() {
    let exiting = EXITING.load(Ordering::Acquire);
    // SAFETY: neither call has preconditions.
    unsafe {
        if exiting != 0 && exiting != libc::gettid() {
            loop {
                libc::pause();
            }
        }
    }
}

/// Waits until no thread serves a cache.
fn wait_for_threads(until: Instant) {
    while THREADS.load(Ordering::Acquire) > 0 && Instant::now() < until {
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// Runs once for each registration; the second time there is nothing left to wait for.
///
/// Threads that call `exit` at the same time share out its handlers, and would run destructors of
/// LLVM's while this one waits here: the first thread goes on, and the others no further.
extern "C" fn at_exit(status: c_int, _argument: *mut c_void) {
    static ANNOUNCED: AtomicBool = AtomicBool::new(false);
    static SINCE: OnceLock<Instant> = OnceLock::new();
    if on_a_worker() && !EXITS.replace(true) {
        one_less();
    }
    // SAFETY: no preconditions.
    let me = unsafe { libc::gettid() };
    let _ = EXITING.compare_exchange(0, me, Ordering::AcqRel, Ordering::Relaxed);
    wait_for_the_end();
    let Some(known) = known() else { return };
    let caches: Vec<Arc<dyn Stops>> = known.iter().filter_map(Weak::upgrade).collect();
    drop(known);
    // Once: what is told may itself call `exit`, which comes here again.
    if !on_a_worker() && !ANNOUNCED.swap(true, Ordering::AcqRel) {
        caches.iter().for_each(|cache| cache.announce(status));
    }
    let since = SINCE.get_or_init(Instant::now);
    caches.iter().for_each(|cache| cache.stop());
    wait_for_threads(*since + PATIENCE);
    // The process ends: there is no time to take caches apart, and no need.
    std::mem::forget(caches);
}

/// The list, unless this is a forked child in which nobody is left to unlock it.
fn known() -> Option<MutexGuard<'static, Vec<Weak<dyn Stops>>>> {
    for _ in 0..100 {
        if let Ok(known) = CACHES.try_lock() {
            return Some(known);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    None
}
