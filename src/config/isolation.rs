//! The setting of `crate::isolate`.

use super::Builder;
use crate::isolate::Isolation;
use crate::method::Key;

impl<K: Key> Builder<K> {
    /// LLVM's passes and code generator run in helper processes, one for each compile worker. Default: in this
    /// process.
    ///
    /// LLVM ends its process over errors inside of it, over some IR that its verifier lets pass, and when
    /// memory runs out. In a helper that costs the one method that it was about: who asked for
    /// it gets [`Error::Isolated`](crate::Error::Isolated), and the rest of its batch is compiled. So
    /// does a method that takes too much time or memory. Front ends still run in this process, and
    /// what they do to it by themselves is not contained; nor is what they make LLVM do while
    /// they emit.
    ///
    /// Objects are those that would come of the same bitcode in this process. Tiers with an
    /// [emitter](crate::Tier::emitter) of their own are compiled in this process, passes included.
    ///
    /// # Cost
    /// For each helper a process, of 6 MB at first that no other shares, and some 40 ms to start it. For each batch to
    /// write bitcode, send it and read it: a few hundredths of the time that 64 methods take, a fifth of that of one
    /// small method. And after a failure a new process. The helpers are started by
    /// [`build`](Builder::build), which waits until one is ready, and end with the cache, or with the
    /// process, however it ends.
    ///
    /// Helpers are children of this process. Where it ignores SIGCHLD or waits for children itself, it only is
    /// not known how they end; but a `wait` for *any* child may return one, or wait for as long as one lives.
    ///
    /// # Errors
    /// [`build`](Builder::build) returns [`Error::Setting`](crate::Error::Setting) if the own executable is to
    /// be the helper and has not called [`helper::run_if_helper`](crate::helper::run_if_helper), or with a
    /// [backend](crate::Backend) other than LLVM's; [`Error::NoHelper`](crate::Error::NoHelper) if the
    /// program is missing or no helper, or one of another version. If a helper cannot be started
    /// later, methods fail with that error.
    pub fn isolation(mut self, isolation: Isolation) -> Self {
        self.isolation = Some(isolation);
        self
    }
}
