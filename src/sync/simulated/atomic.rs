//! Atomics before each of whose accesses another thread may go on.
//!
//! Not shuttle's: these are laid out as the standard library's, so that they can lie where code expects them, and
//! come from memory that is filled with zeros. All accesses are sequentially consistent, as shuttle's are: what
//! weaker orders allow is loom's to find.

pub(crate) use std::sync::atomic::Ordering;
use std::sync::atomic::Ordering::SeqCst;

use super::world::{point, touched};

pub(crate) fn fence(_order: Ordering) {
    point();
}

macro_rules! atomic {
    ($name:ident $(<$param:ident>)?, $value:ty) => {
        #[derive(Default, Debug)]
        #[repr(transparent)]
        pub(crate) struct $name $(<$param>)? (std::sync::atomic::$name $(<$param>)?);

        #[allow(dead_code, reason = "some have no use for all of it")]
        impl $(<$param>)? $name $(<$param>)? {
            pub(crate) const fn new(value: $value) -> Self {
                Self(std::sync::atomic::$name::new(value))
            }

            pub(crate) fn load(&self, _order: Ordering) -> $value {
                point();
                touched(&raw const self.0, false);
                self.0.load(SeqCst)
            }

            pub(crate) fn store(&self, value: $value, _order: Ordering) {
                point();
                touched(&raw const self.0, true);
                self.0.store(value, SeqCst);
            }

            pub(crate) fn swap(&self, value: $value, _order: Ordering) -> $value {
                point();
                touched(&raw const self.0, true);
                self.0.swap(value, SeqCst)
            }

            pub(crate) fn compare_exchange(
                &self,
                old: $value,
                new: $value,
                _success: Ordering,
                _failure: Ordering,
            ) -> Result<$value, $value> {
                point();
                touched(&raw const self.0, true);
                self.0.compare_exchange(old, new, SeqCst, SeqCst)
            }

            pub(crate) fn compare_exchange_weak(
                &self,
                old: $value,
                new: $value,
                success: Ordering,
                failure: Ordering,
            ) -> Result<$value, $value> {
                self.compare_exchange(old, new, success, failure)
            }

            pub(crate) fn fetch_update(
                &self,
                _set: Ordering,
                _fetch: Ordering,
                f: impl FnMut($value) -> Option<$value>,
            ) -> Result<$value, $value> {
                point();
                touched(&raw const self.0, true);
                self.0.fetch_update(SeqCst, SeqCst, f)
            }
        }
    };
}

macro_rules! integer {
    ($name:ident, $value:ty) => {
        atomic!($name, $value);

        #[allow(dead_code, reason = "some have no use for all of it")]
        impl $name {
            pub(crate) fn fetch_add(&self, value: $value, _order: Ordering) -> $value {
                point();
                touched(&raw const self.0, true);
                self.0.fetch_add(value, SeqCst)
            }

            pub(crate) fn fetch_sub(&self, value: $value, _order: Ordering) -> $value {
                point();
                touched(&raw const self.0, true);
                self.0.fetch_sub(value, SeqCst)
            }

            pub(crate) fn fetch_or(&self, value: $value, _order: Ordering) -> $value {
                point();
                touched(&raw const self.0, true);
                self.0.fetch_or(value, SeqCst)
            }

            pub(crate) fn fetch_and(&self, value: $value, _order: Ordering) -> $value {
                point();
                touched(&raw const self.0, true);
                self.0.fetch_and(value, SeqCst)
            }

            pub(crate) fn fetch_max(&self, value: $value, _order: Ordering) -> $value {
                point();
                touched(&raw const self.0, true);
                self.0.fetch_max(value, SeqCst)
            }
        }
    };
}

atomic!(AtomicBool, bool);
atomic!(AtomicPtr<T>, *mut T);
integer!(AtomicU32, u32);
integer!(AtomicU64, u64);
integer!(AtomicUsize, usize);
