//! Panics of the embedder's code.

/// Runs what may panic and is none of our business. What it panicked with is not dropped, as that may panic too.
pub(crate) fn contain(run: impl FnOnce()) {
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
    panic.unwrap_or_else(std::mem::forget);
}

/// What a panic said, if it said it in words.
pub(crate) fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|s| (*s).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a message".to_owned())
}
