//! Loom's threads, with stacks that a cache gets along with.

use std::io;

pub(crate) use loom::thread::{JoinHandle, current, yield_now};

/// Words of a thread's stack.
const STACK: usize = 1 << 17;

pub(crate) struct Builder(loom::thread::Builder);

impl Builder {
    pub(crate) fn new() -> Self {
        Self(loom::thread::Builder::new().stack_size(STACK))
    }

    pub(crate) fn name(self, name: String) -> Self {
        Self(self.0.name(name))
    }

    #[track_caller]
    pub(crate) fn spawn<R: Send + 'static>(
        self,
        f: impl FnOnce() -> R + Send + 'static,
    ) -> io::Result<JoinHandle<R>> {
        self.0.spawn(f)
    }
}
