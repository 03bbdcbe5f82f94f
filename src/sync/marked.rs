//! The standard library's locks, for ThreadSanitizer. The standard library is compiled without it, so it does not see how a
//! lock is taken for which somebody has to wait, and takes all that is behind it for races. So each lock has a word
//! that is written when the lock is let go of, and read when it has been taken: by this crate, and so to be seen.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LockResult, PoisonError, TryLockError, TryLockResult, WaitTimeoutResult};
use std::time::Duration;

#[derive(Default)]
pub(crate) struct Mutex<T> {
    /// Written with release when it is unlocked, read with acquire when it is locked.
    left: AtomicU32,
    inner: std::sync::Mutex<T>,
}

pub(crate) struct MutexGuard<'a, T> {
    left: &'a AtomicU32,
    /// None once it has been handed on.
    inner: Option<std::sync::MutexGuard<'a, T>>,
}

impl<T> Mutex<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self {
            left: AtomicU32::new(0),
            inner: std::sync::Mutex::new(value),
        }
    }

    fn entered<'a>(&'a self, guard: std::sync::MutexGuard<'a, T>) -> MutexGuard<'a, T> {
        MutexGuard::entered(&self.left, guard)
    }

    pub(crate) fn lock(&self) -> LockResult<MutexGuard<'_, T>> {
        match self.inner.lock() {
            Ok(guard) => Ok(self.entered(guard)),
            Err(poisoned) => Err(PoisonError::new(self.entered(poisoned.into_inner()))),
        }
    }

    pub(crate) fn try_lock(&self) -> TryLockResult<MutexGuard<'_, T>> {
        match self.inner.try_lock() {
            Ok(guard) => Ok(self.entered(guard)),
            Err(TryLockError::WouldBlock) => Err(TryLockError::WouldBlock),
            Err(TryLockError::Poisoned(poisoned)) => Err(TryLockError::Poisoned(PoisonError::new(
                self.entered(poisoned.into_inner()),
            ))),
        }
    }

    pub(crate) fn get_mut(&mut self) -> LockResult<&mut T> {
        self.left.load(Ordering::Acquire);
        self.inner.get_mut()
    }
}

impl<'a, T> MutexGuard<'a, T> {
    fn entered(left: &'a AtomicU32, guard: std::sync::MutexGuard<'a, T>) -> Self {
        left.load(Ordering::Acquire);
        Self {
            left,
            inner: Some(guard),
        }
    }

    fn leave(&mut self) -> Option<std::sync::MutexGuard<'a, T>> {
        let inner = self.inner.take()?;
        self.left.fetch_add(1, Ordering::Release);
        Some(inner)
    }
}

impl<T> Drop for MutexGuard<'_, T> {
    fn drop(&mut self) {
        drop(self.leave());
    }
}

impl<T> Deref for MutexGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.inner.as_ref().expect("not handed on")
    }
}

impl<T> DerefMut for MutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.inner.as_mut().expect("not handed on")
    }
}

#[derive(Default)]
pub(crate) struct Condvar(std::sync::Condvar);

impl Condvar {
    pub(crate) const fn new() -> Self {
        Self(std::sync::Condvar::new())
    }

    pub(crate) fn wait<'a, T>(
        &self,
        mut guard: MutexGuard<'a, T>,
    ) -> LockResult<MutexGuard<'a, T>> {
        let left = guard.left;
        let inner = guard.leave().expect("not handed on");
        match self.0.wait(inner) {
            Ok(inner) => Ok(MutexGuard::entered(left, inner)),
            Err(poisoned) => {
                let inner = poisoned.into_inner();
                Err(PoisonError::new(MutexGuard::entered(left, inner)))
            }
        }
    }

    pub(crate) fn wait_timeout<'a, T>(
        &self,
        mut guard: MutexGuard<'a, T>,
        patience: Duration,
    ) -> LockResult<(MutexGuard<'a, T>, WaitTimeoutResult)> {
        let left = guard.left;
        let inner = guard.leave().expect("not handed on");
        match self.0.wait_timeout(inner, patience) {
            Ok((inner, over)) => Ok((MutexGuard::entered(left, inner), over)),
            Err(poisoned) => {
                let (inner, over) = poisoned.into_inner();
                Err(PoisonError::new((MutexGuard::entered(left, inner), over)))
            }
        }
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }
}
