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
    pub(crate) fn set(&'static self, value: T) {
        self.with(|cell| cell.set(value));
    }

    pub(crate) fn replace(&'static self, value: T) -> T {
        self.with(|cell| cell.replace(value))
    }
}

impl<T: Copy + 'static> LocalKey<Cell<T>> {
    pub(crate) fn get(&'static self) -> T {
        self.with(Cell::get)
    }
}

macro_rules! local {
    ($($(#[$meta:meta])* static $name:ident: $type:ty = const { $init:expr };)*) => {
        $($(#[$meta])* static $name: $crate::sync::LocalKey<$type> =
            $crate::sync::LocalKey::new(|| $init);)*
    };
}
pub(crate) use local;
