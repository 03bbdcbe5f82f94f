//! Epochs for a checker.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, PoisonError};

use crate::sync::atomic::{AtomicUsize, Ordering, fence};
use crate::sync::{Mutex, MutexGuard};

type Deferred = Box<dyn FnOnce() + Send>;

/// Epochs that lie between the one in which something was deferred and the one in which it is run.
const GRACE: isize = 2;

struct Global {
    epoch: AtomicUsize,
    /// So many of `pins` are known: who knows them knows what was done before they were added.
    known: AtomicUsize,
    /// For loom those of participants that are gone stay: what these did last is seen there.
    pins: std::sync::Mutex<Vec<Arc<Pin>>>,
    garbage: Mutex<Vec<Bag>>,
}

type Bag = (usize, Vec<Deferred>);

impl Global {
    fn pins(&self) -> std::sync::MutexGuard<'_, Vec<Arc<Pin>>> {
        self.pins.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn garbage(&self) -> MutexGuard<'_, Vec<Bag>> {
        self.garbage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Twice the epoch that a participant is pinned in, and one; or 0.
#[repr(align(128))]
struct Pin(AtomicUsize);

#[derive(Clone)]
pub(crate) struct Collector(Arc<Global>);

impl Collector {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Global {
            epoch: AtomicUsize::new(0),
            known: AtomicUsize::new(0),
            pins: std::sync::Mutex::default(),
            garbage: Mutex::new(Vec::new()),
        }))
    }

    pub(crate) fn register(&self) -> LocalHandle {
        let pin = Arc::new(Pin(AtomicUsize::new(0)));
        // No other thread goes on between the two.
        self.0.known.fetch_add(1, Ordering::Release);
        self.0.pins().push(pin.clone());
        LocalHandle(Rc::new(Local {
            global: self.0.clone(),
            pin,
            guards: Cell::new(0),
            bag: RefCell::default(),
        }))
    }
}

struct Local {
    global: Arc<Global>,
    pin: Arc<Pin>,
    guards: Cell<usize>,
    bag: RefCell<Vec<Deferred>>,
}

impl Drop for Local {
    fn drop(&mut self) {
        self.push();
        #[cfg(feature = "_shuttle")]
        {
            self.global.known.fetch_sub(1, Ordering::Release);
            // No other thread goes on between the two.
            let is_other = |pin: &Arc<Pin>| !Arc::ptr_eq(pin, &self.pin);
            self.global.pins().retain(is_other);
        }
    }
}

pub(crate) struct LocalHandle(Rc<Local>);

impl LocalHandle {
    pub(crate) fn pin(&self) -> Guard {
        let local = &self.0;
        local.guards.set(local.guards.get() + 1);
        if local.guards.get() == 1 {
            let epoch = local.global.epoch.load(Ordering::Relaxed);
            local.pin.0.store(2 * epoch + 1, Ordering::Relaxed);
            fence(Ordering::SeqCst);
            // Whoever pins may be the one that collects.
            #[cfg(feature = "_shuttle")]
            if crate::sync::simulated::world::random().is_multiple_of(8) {
                local.collect();
            }
        }
        Guard(local.clone())
    }
}

pub(crate) struct Guard(Rc<Local>);

impl Guard {
    pub(crate) fn repin(&mut self) {
        let local = &self.0;
        if local.guards.get() != 1 {
            return;
        }
        let epoch = local.global.epoch.load(Ordering::Relaxed);
        if local.pin.0.load(Ordering::Relaxed) != 2 * epoch + 1 {
            local.pin.0.store(2 * epoch + 1, Ordering::Release);
        }
    }

    pub(crate) fn defer(&self, f: impl FnOnce() + Send + 'static) {
        self.0.bag.borrow_mut().push(Box::new(f));
    }

    pub(crate) fn flush(&self) {
        self.0.push();
        self.0.collect();
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let local = &self.0;
        local.guards.set(local.guards.get() - 1);
        if local.guards.get() == 0 {
            local.pin.0.store(0, Ordering::Release);
        }
    }
}

impl Local {
    /// Out of the local bag.
    fn push(&self) {
        let bag = self.bag.take();
        if bag.is_empty() {
            return;
        }
        fence(Ordering::SeqCst);
        let epoch = self.global.epoch.load(Ordering::Relaxed);
        self.global.garbage().push((epoch, bag));
    }

    /// Tries to advance the epoch, and runs what has been deferred for long enough.
    fn collect(&self) {
        let now = self.try_advance();
        let ripe: Vec<_> = {
            let mut garbage = self.global.garbage();
            // Who was slow may have an epoch that is over already, and something may have been deferred since.
            let ripe = |(epoch, _): &mut Bag| now.wrapping_sub(*epoch) as isize >= GRACE;
            garbage.extract_if(.., ripe).collect()
        };
        for (_, bag) in ripe {
            bag.into_iter().for_each(|deferred| deferred());
        }
    }

    fn try_advance(&self) -> usize {
        let now = self.global.epoch.load(Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let known = self.global.known.load(Ordering::Acquire);
        let pins = self.global.pins()[..known].to_vec();
        for pin in pins {
            let pinned = pin.0.load(Ordering::Relaxed);
            if pinned != 0 && pinned != 2 * now + 1 {
                return now;
            }
        }
        fence(Ordering::Acquire);
        self.global.epoch.store(now + 1, Ordering::Release);
        now + 1
    }
}
