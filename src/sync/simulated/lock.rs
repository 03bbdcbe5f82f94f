//! Locks: shuttle's mutex, and a condition variable whose waits can end by the world's clock.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LockResult, PoisonError, TryLockError, TryLockResult};
use std::time::Duration;

use shuttle::sync as checked;

use super::world::{Alarm, step};

#[derive(Default, Debug)]
pub(crate) struct Mutex<T: ?Sized>(checked::Mutex<T>);

#[derive(Debug)]
pub(crate) struct MutexGuard<'a, T: ?Sized> {
    mutex: &'a Mutex<T>,
    /// Until it is given up for a wait.
    guard: Option<checked::MutexGuard<'a, T>>,
}

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(checked::Mutex::new(value))
    }
}

impl<T: ?Sized> Mutex<T> {
    pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        step();
        let guard = |guard| MutexGuard {
            mutex: self,
            guard: Some(guard),
        };
        match self.0.lock() {
            Ok(locked) => Ok(guard(locked)),
            Err(poisoned) => Err(PoisonError::new(guard(poisoned.into_inner()))),
        }
    }

    #[allow(dead_code, reason = "part of what a mutex is")]
    pub(crate) fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
        step();
        let guard = |guard| MutexGuard {
            mutex: self,
            guard: Some(guard),
        };
        match self.0.try_lock() {
            Ok(locked) => Ok(guard(locked)),
            Err(TryLockError::WouldBlock) => Err(TryLockError::WouldBlock),
            Err(TryLockError::Poisoned(poisoned)) => {
                let locked = guard(poisoned.into_inner());
                Err(TryLockError::Poisoned(PoisonError::new(locked)))
            }
        }
    }

    pub(crate) fn get_mut(&mut self) -> LockResult<&mut T> {
        self.0.get_mut()
    }
}

impl<T: ?Sized> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.guard.as_ref().expect("given up only by a wait")
    }
}

impl<T: ?Sized> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.guard.as_mut().expect("given up only by a wait")
    }
}

/// A thread that waits.
struct Waiter {
    woken: AtomicBool,
    thread: shuttle::thread::Thread,
}

/// Not shuttle's, which knows no time.
#[derive(Default)]
pub(crate) struct Condvar(std::sync::Mutex<VecDeque<Arc<Waiter>>>);

pub(crate) struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    pub(crate) fn timed_out(&self) -> bool {
        self.0
    }
}

impl Condvar {
    pub(crate) const fn new() -> Self {
        Self(std::sync::Mutex::new(VecDeque::new()))
    }

    fn waiters(&self) -> std::sync::MutexGuard<'_, VecDeque<Arc<Waiter>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn wait<'a, T>(&self, guard: MutexGuard<'a, T>) -> LockResult<MutexGuard<'a, T>> {
        let (mutex, _) = self.wait_until(guard, None);
        mutex.lock()
    }

    pub(crate) fn wait_timeout<'a, T>(
        &self,
        guard: MutexGuard<'a, T>,
        patience: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let (mutex, over) = self.wait_until(guard, Some(patience));
        match mutex.lock() {
            Ok(guard) => Ok((guard, WaitTimeoutResult(over))),
            Err(poisoned) => {
                let guard = poisoned.into_inner();
                Err(PoisonError::new((guard, WaitTimeoutResult(over))))
            }
        }
    }

    /// Gives the lock up, and waits. True if the time was over first.
    fn wait_until<'a, T>(
        &self,
        mut guard: MutexGuard<'a, T>,
        patience: Option<Duration>,
    ) -> (&'a Mutex<T>, bool) {
        let me = Arc::new(Waiter {
            woken: AtomicBool::new(false),
            thread: shuttle::thread::current(),
        });
        self.waiters().push_back(me.clone());
        let alarm = patience.map(Alarm::after);
        drop(guard.guard.take());
        while !me.woken.load(Ordering::Relaxed) {
            if alarm.as_ref().is_some_and(Alarm::is_over) {
                self.waiters().retain(|waiter| !Arc::ptr_eq(waiter, &me));
                return (guard.mutex, true);
            }
            shuttle::thread::park();
        }
        (guard.mutex, false)
    }

    pub(crate) fn notify_one(&self) {
        step();
        let first = self.waiters().pop_front();
        first.into_iter().for_each(wake);
    }

    pub(crate) fn notify_all(&self) {
        step();
        let all = std::mem::take(&mut *self.waiters());
        all.into_iter().for_each(wake);
    }
}

fn wake(waiter: Arc<Waiter>) {
    waiter.woken.store(true, Ordering::Relaxed);
    waiter.thread.unpark();
}
