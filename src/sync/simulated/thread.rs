//! Threads: shuttle's, some of which the system refuses.

use std::io;

pub(crate) use shuttle::thread::{JoinHandle, current, yield_now};

use super::world::refuses;

#[derive(Debug)]
pub(crate) struct Builder(shuttle::thread::Builder);

impl Builder {
    pub(crate) fn new() -> Self {
        Self(shuttle::thread::Builder::new())
    }

    pub(crate) fn name(self, name: String) -> Self {
        Self(self.0.name(name))
    }

    pub(crate) fn spawn<R: Send + 'static>(
        self,
        run: impl FnOnce() -> R + Send + 'static,
    ) -> io::Result<JoinHandle<R>> {
        if refuses() {
            return Err(io::Error::from_raw_os_error(libc::EAGAIN));
        }
        self.0.spawn(run)
    }
}
