//! The epochs that grace periods are made of.
//!
//! What ships is crossbeam's. A checker sees the threads of this crate only, so under one these are epochs of our own,
//! which do the same accesses in the same order; that crossbeam's do what they promise is checked by crossbeam.

#[cfg(not(feature = "_checked"))]
pub(crate) use crossbeam_epoch::{Collector, Guard, LocalHandle};

#[cfg(feature = "_checked")]
pub(crate) use self::checked::{Collector, Guard, LocalHandle};

#[cfg(feature = "_checked")]
mod checked {
    use std::cell::{Cell, RefCell};
    use std::rc::Rc;
    use std::sync::{Arc, Mutex, PoisonError};

    use crate::sync::atomic::{AtomicUsize, Ordering, fence};

    type Deferred = Box<dyn FnOnce() + Send>;

    /// Epochs that lie between the one in which something was deferred and the one in which it is run.
    const GRACE: usize = 2;

    struct Global {
        epoch: AtomicUsize,
        // Locks of the standard library, held for a moment: they are no part of what is checked, and order nothing
        // that crossbeam's lists, which have none, would not.
        pins: Mutex<Vec<Arc<Pin>>>,
        garbage: Mutex<Vec<(usize, Vec<Deferred>)>>,
    }

    /// Twice the epoch that a participant is pinned in, and one; or 0.
    #[repr(align(128))]
    struct Pin(AtomicUsize);

    fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) struct Collector(Arc<Global>);

    impl Collector {
        pub(crate) fn new() -> Self {
            Self(Arc::new(Global {
                epoch: AtomicUsize::new(0),
                pins: Mutex::default(),
                garbage: Mutex::default(),
            }))
        }

        pub(crate) fn register(&self) -> LocalHandle {
            let pin = Arc::new(Pin(AtomicUsize::new(0)));
            lock(&self.0.pins).push(pin.clone());
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
            lock(&self.global.pins).retain(|pin| !Arc::ptr_eq(pin, &self.pin));
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
            lock(&self.global.garbage).push((epoch, bag));
        }

        /// Tries to advance the epoch, and runs what has been deferred for long enough.
        fn collect(&self) {
            let now = self.try_advance();
            let ripe: Vec<_> = {
                let mut garbage = lock(&self.global.garbage);
                garbage
                    .extract_if(.., |(epoch, _)| now.wrapping_sub(*epoch) >= GRACE)
                    .collect()
            };
            for (_, bag) in ripe {
                bag.into_iter().for_each(|deferred| deferred());
            }
        }

        fn try_advance(&self) -> usize {
            let now = self.global.epoch.load(Ordering::Relaxed);
            fence(Ordering::SeqCst);
            let pins = lock(&self.global.pins).clone();
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
}
