//! The primitives by which threads agree: atomics, locks, threads, time.
//!
//! The source that ships is the source that is checked. What is a protocol between threads takes these from
//! here, and nothing else; here one switch says whose they are:
//!
//! | feature | whose | for |
//! | --- | --- | --- |
//! | none | the standard library's, re-exported | what ships: it costs nothing, as there is nothing |
//! | `_shuttle` | [`simulated`]: one thread at a time goes on, and a seed says which; a clock that is advanced; memory that is made up | whole caches |
//! | `_loom` | loom's: all orders, and all that memory orders allow | protocols in small configurations |
//!
//! What stays the standard library's everywhere, and may: `Arc` and `Weak`; `OnceLock` of what never changes;
//! statics (neither checker has any between two runs), and so all that belongs to the process rather than to a
//! cache: exit, fork, helpers, tables that a fault's handler reads.
//!
//! Under a checker a lock of the standard library must not be held while anything of here is used: all
//! simulated threads are one thread to it.
//!
//! [`fault`] is how a check is shown to be able to fail.

#[cfg(all(feature = "_shuttle", feature = "_loom"))]
compile_error!("one checker at a time");

#[cfg(all(inkpot_thread_sanitizer, feature = "_checked"))]
compile_error!("a checker sees all by itself");

#[cfg(feature = "_loom")]
mod exhaustive;
pub(crate) mod fault;
#[cfg(feature = "_checked")]
mod local;
#[cfg(inkpot_thread_sanitizer)]
mod marked;
#[cfg(feature = "_shuttle")]
pub(crate) mod simulated;
#[cfg(feature = "_checked")]
pub(crate) mod time;

#[cfg(feature = "_loom")]
pub(crate) use self::exhaustive::*;
#[cfg(feature = "_shuttle")]
pub(crate) use self::simulated::*;
#[cfg(not(feature = "_checked"))]
pub(crate) use self::standard::*;

/// How maps hash keys, and numbers of ours: under a checker always the same, as a run must go on in the same order when
/// it is repeated.
#[cfg(feature = "_checked")]
pub(crate) type KeyHash = std::hash::BuildHasherDefault<std::hash::DefaultHasher>;
#[cfg(feature = "_checked")]
pub(crate) type QuickHash = KeyHash;

/// What ships.
#[cfg(not(feature = "_checked"))]
mod standard {
    pub(crate) use super::plain::{Condvar, Mutex, MutexGuard};
    pub(crate) use ::lru::DefaultHasher as QuickHash;
    pub(crate) use std::hash::RandomState as KeyHash;
    pub(crate) use std::sync::atomic;
    pub(crate) use std::{thread, thread_local, time};
}

/// For what belongs to the process, as handlers of signals read it: a simulation leaves it alone, since it has a past
/// there.
pub(crate) mod of_process {
    #[cfg(not(feature = "_loom"))]
    pub(crate) use super::plain::Mutex;
    #[cfg(feature = "_loom")]
    pub(crate) use super::{Mutex, atomic::*};
    #[cfg(not(feature = "_loom"))]
    pub(crate) use std::sync::atomic::*;
}

/// Locks that are no protocol's.
pub(crate) mod plain {
    #[cfg(inkpot_thread_sanitizer)]
    pub(crate) use super::marked::{Condvar, Mutex, MutexGuard};
    #[cfg(not(inkpot_thread_sanitizer))]
    pub(crate) use std::sync::{Condvar, Mutex, MutexGuard};
}

/// One of the process.
#[cfg(not(feature = "_loom"))]
macro_rules! global {
    ($(#[$meta:meta])* static $name:ident: $type:ty = $init:expr;) => {
        $(#[$meta])*
        static $name: $type = $init;
    };
}
#[cfg(not(feature = "_loom"))]
pub(crate) use global;

/// Memory that is looked at without a lock, and freed by somebody else: a model looks after it.
#[cfg(not(feature = "_loom"))]
pub(crate) mod life {
    #[inline(always)]
    pub(crate) fn begins<T: ?Sized>(_what: *const T) {}
    #[inline(always)]
    pub(crate) fn goes_on<T: ?Sized>(_what: *const T) {}
    #[inline(always)]
    pub(crate) fn ends<T: ?Sized>(_what: *const T) {}
}
