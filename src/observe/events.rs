//! Events for `tracing`, behind the feature of that name. Without it they are nothing.
//!
//! All have the target `inkpot` and the level DEBUG: `published`, `failed`, `unlinked` (a method
//! was evicted or invalidated), `dead` and `recycled` (a generation). Subscribers are called
//! while the cache holds its lock: they must not call the cache.

/// `tracing::debug!` with the target `inkpot`, if the feature is on.
macro_rules! event {
    ($message:literal $(, $($field:tt)*)?) => {{
        #[cfg(feature = "tracing")]
        tracing::debug!(target: "inkpot", $($($field)*,)? $message);
    }};
}

pub(crate) use event;
