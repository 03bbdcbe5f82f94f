//! Events for `tracing`, behind the feature of that name. Without it they are nothing.
//!
//! All have the target `inkpot` and the level DEBUG: `published`, `failed`, `unlinked` (a method
//! was evicted or invalidated), `dead` and `recycled` (a generation). Subscribers are called
//! while the cache holds its lock: they must not call the cache. One that panics is not told of
//! that event, and nothing else comes of it: events stand in the middle of what keeps accounts.

/// `tracing::debug!` with the target `inkpot`, if the feature is on. It does not panic: neither a
/// subscriber nor a key's `Debug` can end what it tells of.
macro_rules! event {
    ($message:literal $(, $($field:tt)*)?) => {{
        #[cfg(feature = "tracing")]
        crate::contain(|| {
            tracing::debug!(target: "inkpot", $($($field)*,)? $message);
        });
    }};
}

pub(crate) use event;
