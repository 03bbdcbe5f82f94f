//! Thread-locals of threads that a checker makes.

use std::cell::Cell;

#[cfg(feature = "_loom")]
use loom::thread::{AccessError, LocalKey as Key};
#[cfg(feature = "_shuttle")]
use shuttle::thread::{AccessError, LocalKey as Key};

/// As the standard library's, with what is used of it.
pub(crate) struct LocalKey<T: 'static>(Key<T>);

impl<T: 'static> LocalKey<T> {
    pub(crate) const fn new(init: fn() -> T) -> Self {
        Self(Key {
            init,
            _p: std::marker::PhantomData,
        })
    }

    pub(crate) fn with<R>(&'static self, f: impl FnOnce(&T) -> R) -> R {
        self.0.with(f)
    }

    pub(crate) fn try_with<R>(&'static self, f: impl FnOnce(&T) -> R) -> Result<R, AccessError> {
        self.0.try_with(f)
    }
}

impl<T: 'static> LocalKey<Cell<T>> {
    /// Nothing, once the thread's are destroyed.
    pub(crate) fn set(&'static self, value: T) {
        let _ = self.try_with(|cell| cell.set(value));
    }

    pub(crate) fn replace(&'static self, value: T) -> T {
        self.try_with(|cell| cell.as_ptr()).map_or_else(
            |_| (self.0.init)().into_inner(),
            |cell| {
                // SAFETY: the calling thread's own, which nobody refers to.
                unsafe { cell.replace(value) }
            },
        )
    }
}

impl<T: Copy + 'static> LocalKey<Cell<T>> {
    /// What it was made with, once the thread's are destroyed.
    pub(crate) fn get(&'static self) -> T {
        self.try_with(Cell::get)
            .unwrap_or_else(|_| (self.0.init)().get())
    }
}

macro_rules! local {
    ($($(#[$meta:meta])* static $name:ident: $type:ty = const { $init:expr };)*) => {
        $($(#[$meta])* static $name: $crate::sync::LocalKey<$type> =
            $crate::sync::LocalKey::new(|| $init);)*
    };
}
pub(crate) use local;
