//! Loom's primitives.

#![allow(dead_code, reason = "they are whole, whatever is used of them")]

pub(crate) mod atomic;
mod condvar;
pub(crate) mod life;
pub(crate) mod thread;

pub(crate) use loom::sync::{Mutex, MutexGuard};

pub(crate) use self::condvar::Condvar;
pub(crate) use super::local::{LocalKey, local as thread_local};

/// Time stands still: what depends on it takes the way that comes first, and waits that have an end have none.
pub(super) fn now() -> std::time::Duration {
    std::time::Duration::ZERO
}

/// One of each execution of a model.
macro_rules! global {
    ($(#[$meta:meta])* static $name:ident: $type:ty = $init:expr;) => {
        loom::lazy_static! {
            $(#[$meta])* static ref $name: $type = $init;
        }
    };
}
pub(crate) use global;
