//! crossbeam's pointers, for loom: who looks at what is behind one, and who destroys it, is checked.

use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::{Mutex, PoisonError};

use loom::cell::UnsafeCell;

use super::checked::Guard;
use crate::sync::atomic::{AtomicPtr, Ordering};

/// Memory of what was destroyed, until the execution of the model is over: where it is, and how to free it.
struct Graves(Mutex<Vec<Grave>>);

struct Grave(*mut (), unsafe fn(*mut ()));

impl Drop for Grave {
    fn drop(&mut self) {
        // SAFETY: as `bury` was promised.
        unsafe { (self.1)(self.0) }
    }
}

/// # Safety
/// What is there was destroyed, and its memory is a box's.
unsafe fn bury<T>(memory: *mut Kept<T>) {
    /// # Safety
    /// As for `bury`; the execution is over.
    unsafe fn free<T>(memory: *mut ()) {
        // SAFETY: the caller's promise. Nothing is dropped with it.
        drop(unsafe { Box::from_raw(memory.cast::<ManuallyDrop<Kept<T>>>()) });
    }
    let mut graves = GRAVES.0.lock().unwrap_or_else(PoisonError::into_inner);
    graves.push(Grave(memory.cast(), free::<T>));
}

crate::sync::global! {
    static GRAVES: Graves = Graves(Mutex::default());
}

// SAFETY: nothing is done with what is in it but to free its memory.
unsafe impl Send for Graves {}
// SAFETY: as above.
unsafe impl Sync for Graves {}

/// What is behind pointers: loom sees who looks at it and who destroys it.
pub(crate) struct Kept<T> {
    there: UnsafeCell<bool>,
    value: ManuallyDrop<T>,
}

impl<T> Kept<T> {
    fn new(value: T) -> *mut Self {
        Box::into_raw(Box::new(Self {
            there: UnsafeCell::new(true),
            value: ManuallyDrop::new(value),
        }))
    }

    #[track_caller]
    fn look(&self) -> &T {
        // SAFETY: what loom hands out for the time of the call.
        let there = self.there.with(|there| unsafe { *there });
        assert!(there, "looked at after it was destroyed");
        &self.value
    }

    /// Destroys it. Its memory stays, so that who looks at it is found out.
    ///
    /// # Safety
    /// It came from `new`, and its memory is there. (That nobody looks at it is what is checked.)
    #[track_caller]
    unsafe fn destroy(this: *mut Self) -> T {
        // SAFETY: the caller's promise, and what loom hands out is good for the time of the call.
        unsafe {
            (*this).there.with_mut(|there| {
                assert!(*there, "destroyed twice");
                *there = false;
            });
            ManuallyDrop::take(&mut (*this).value)
        }
    }
}

/// A guard that protects nothing.
///
/// # Safety
/// Nobody else has what is looked at.
pub(crate) unsafe fn unprotected() -> &'static Guard {
    struct Unprotected(Guard);
    // SAFETY: it protects nothing, and has nothing.
    unsafe impl Sync for Unprotected {}
    static UNPROTECTED: Unprotected = Unprotected(Guard::none());
    &UNPROTECTED.0
}

impl Guard {
    /// # Safety
    /// Nobody can find it any more, and nobody else destroys it.
    #[track_caller]
    pub(crate) unsafe fn defer_destroy<T>(&self, shared: Shared<'_, T>) {
        struct Raw<T>(*mut Kept<T>);
        // SAFETY: threads take turns, and that they see what was done before is what is checked.
        unsafe impl<T> Send for Raw<T> {}
        impl<T> Raw<T> {
            fn destroy(self) {
                // SAFETY: the caller's promise; its memory stays.
                unsafe {
                    drop(Kept::destroy(self.0));
                    bury(self.0);
                }
            }
        }
        let raw = Raw(shared.raw);
        let deferred: Box<dyn FnOnce() + Send + '_> = Box::new(move || raw.destroy());
        // SAFETY: as with crossbeam's, what it refers to lives until it is run, or for as long as the epochs.
        let deferred = unsafe {
            std::mem::transmute::<Box<dyn FnOnce() + Send + '_>, Box<dyn FnOnce() + Send>>(deferred)
        };
        self.defer(deferred);
    }
}

pub(crate) struct Atomic<T>(AtomicPtr<Kept<T>>);

impl<T> Atomic<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(AtomicPtr::new(Kept::new(value)))
    }

    pub(crate) fn null() -> Self {
        Self(AtomicPtr::new(std::ptr::null_mut()))
    }

    pub(crate) fn load<'g>(&self, order: Ordering, _: &'g Guard) -> Shared<'g, T> {
        Shared {
            raw: self.0.load(order),
            guard: PhantomData,
        }
    }

    pub(crate) fn store(&self, value: impl Into<Raw<T>>, order: Ordering) {
        self.0.store(value.into().0, order);
    }
}

impl<T> From<Shared<'_, T>> for Atomic<T> {
    fn from(shared: Shared<'_, T>) -> Self {
        Self(AtomicPtr::new(shared.raw))
    }
}

pub(crate) struct Raw<T>(*mut Kept<T>);

impl<T> From<Owned<T>> for Raw<T> {
    fn from(owned: Owned<T>) -> Self {
        Self(Kept::new(owned.0))
    }
}

impl<T> From<Shared<'_, T>> for Raw<T> {
    fn from(shared: Shared<'_, T>) -> Self {
        Self(shared.raw)
    }
}

pub(crate) struct Owned<T>(T);

impl<T> Owned<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(value)
    }
}

impl<T> Deref for Owned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

pub(crate) struct Shared<'g, T> {
    raw: *mut Kept<T>,
    guard: PhantomData<&'g ()>,
}

impl<T> Clone for Shared<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<'_, T> {}

impl<'g, T> Shared<'g, T> {
    pub(crate) fn is_null(&self) -> bool {
        self.raw.is_null()
    }

    /// # Safety
    /// It is not null. (That it is protected is what is checked.)
    #[track_caller]
    pub(crate) unsafe fn deref(&self) -> &'g T {
        // SAFETY: the caller's promise; memory of what was destroyed stays.
        unsafe { (*self.raw).look() }
    }

    /// # Safety
    /// As above.
    #[track_caller]
    pub(crate) unsafe fn as_ref(&self) -> Option<&'g T> {
        // SAFETY: as above.
        unsafe { self.raw.as_ref().map(Kept::look) }
    }

    /// # Safety
    /// Nobody else has it.
    pub(crate) unsafe fn into_owned(self) -> Owned<T> {
        // SAFETY: the caller's promise; it came from a box.
        unsafe {
            let value = Kept::destroy(self.raw);
            drop(Box::from_raw(self.raw));
            Owned(value)
        }
    }
}
