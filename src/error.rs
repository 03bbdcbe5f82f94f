//! The one error type. Every variant holds what a caller needs to act.

use std::sync::Arc;
use std::time::Duration;

use crate::isolate::HelperFailure;
pub use crate::link::LinkError;

/// What a front end returns when it cannot emit a method.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why there is no code for a method, or no cache.
///
/// Cheap to clone: all threads that wait for one compilation get the same error. A failure costs
/// its own method only; the cache, and the rest of the batch, go on.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The front end's `emit` returned an error.
    #[error("the front end could not emit {method}: {source}")]
    Frontend {
        /// The method's key, as `Debug` prints it.
        method: String,
        /// What the front end returned.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The front end's `emit` panicked. What it had emitted for the method was removed.
    #[error("the front end panicked while it emitted {method}: {message}")]
    FrontendPanicked {
        /// The method's key, as `Debug` prints it.
        method: String,
        /// The panic's message, if it was a string.
        message: String,
    },
    /// The front end's `prelude` failed: no context can be opened.
    #[error("the front end's prelude failed: {message}")]
    Prelude {
        /// What it returned, or its panic's message, or what the verifier said.
        message: String,
    },
    /// The method's IR is not valid.
    #[error("the IR of {method} is not valid: {message}")]
    Verification {
        /// The method's key, as `Debug` prints it.
        method: String,
        /// LLVM's verifier, in its own words.
        message: String,
    },
    /// LLVM's code generator reported an error (inline assembly that it cannot parse, say).
    #[error("code generation failed for {method}: {message}")]
    Codegen {
        /// The method's key, as `Debug` prints it.
        method: String,
        /// LLVM's diagnostic, in its own words.
        message: String,
    },
    /// The IR has something that a method which can be evicted must not have.
    #[error("{method} has {construct} ({name}), which a method of a cache cannot have: {advice}")]
    Refused {
        /// The method's key, as `Debug` prints it.
        method: String,
        /// What was found: "a mutable global", "a thread-local", ...
        construct: &'static str,
        /// Its name in the IR.
        name: String,
        /// What to do instead.
        advice: &'static str,
    },
    /// The method could be compiled, and the embedder does not want it.
    #[error("{method} is not compiled: {reason}")]
    Declined {
        /// The method's key, as `Debug` prints it.
        method: String,
        /// Why not.
        reason: Reason,
    },
    /// The object could not be linked.
    #[error("{method} could not be linked: {source}")]
    Link {
        /// The method's key, as `Debug` prints it.
        method: String,
        /// Which symbol, section and relocation.
        source: LinkError,
    },
    /// The method would take the cache over its hard limit.
    #[error(
        "{method} needs {needed} bytes, and {in_use} of the hard limit of {limit} bytes are in use"
    )]
    HardLimit {
        /// The method's key, as `Debug` prints it.
        method: String,
        /// Bytes that its batch would have added.
        needed: u64,
        /// Bytes in use that could not be freed at once.
        in_use: u64,
        /// The limit.
        limit: u64,
    },
    /// The operating system refused memory.
    #[error("{step} of {bytes} bytes was refused: {message}")]
    Memory {
        /// What was asked for.
        step: MapStep,
        /// How much.
        bytes: u64,
        /// The system's answer.
        message: String,
    },
    /// The reservation of address space has no room left in one of its stripes.
    #[error("no {bytes} bytes of address space are left for {stripe}")]
    OutOfSpace {
        /// `text`, `constants`, `unwind`, `data`, `cells`, `thunks`, `callbacks`, `fallbacks` or
        /// `fallbackpairs`.
        stripe: String,
        /// Bytes asked for.
        bytes: u64,
    },
    /// The method was invalidated again and again while this thread waited for it.
    #[error("{method} was invalidated {times} times while it was waited for")]
    Unstable {
        /// The method's key, as `Debug` prints it.
        method: String,
        /// Compilations that were in vain.
        times: u32,
    },
    /// There was no code yet when the time given to
    /// [`Handle::get_timeout`](crate::Handle::get_timeout) was over.
    #[error("{method} was not compiled within {patience:?}")]
    TimedOut {
        /// The method's key, as `Debug` prints it.
        method: String,
        /// How long the wait was to be.
        patience: Duration,
    },
    /// As many requests wait to be compiled as [may](crate::Builder::backlog).
    #[error("{limit} requests wait to be compiled, and no more may")]
    Backlog {
        /// How many may wait.
        limit: usize,
    },
    /// A guard of another cache was given.
    #[error("the guard belongs to another cache")]
    WrongCache,
    /// A wait was asked for on a thread that others wait for: a compile worker (a front end's
    /// `emit`), or the reclaimer.
    #[error(
        "a thread that serves a cache (in `emit`, or the reclaimer) cannot wait for it: ask with \
         `request`, or drop the token"
    )]
    WouldDeadlock,
    /// [`Invalidation::wait`](crate::Invalidation::wait) was called on a thread that is pinned:
    /// it would wait for itself.
    #[error("this thread is pinned, and would wait for itself: drop its guards first")]
    Pinned,
    /// [`Guard::blocking`](crate::Guard::blocking) was called while another guard of the thread was
    /// alive: the thread may be inside code under that one.
    #[error("another guard of this thread is alive, and the thread may be inside code under it")]
    AnotherGuard,
    /// The process is a forked child: it may call what was resident at the fork, and nothing else. To compile it needs
    /// a cache of its own: [`Cache::after_fork`](crate::Cache::after_fork), unless that gives this error.
    #[error("a forked child can call resident code, but cannot compile, evict or invalidate")]
    Forked,
    /// The cache, or the process, is shutting down.
    #[error("the cache is shutting down")]
    ShuttingDown,
    /// Compiling panicked outside of the front end. The method can be asked for again.
    #[error("compiling {method} panicked: {message}")]
    CompilePanicked {
        /// The method's key, as `Debug` prints it.
        method: String,
        /// The panic's message, if it was a string.
        message: String,
    },
    /// A [helper process](crate::Builder::isolation) failed while it compiled the method alone. The method
    /// can be asked for again.
    #[error("the helper process failed while it compiled {method}: {failure}")]
    Isolated {
        /// The method's key, as `Debug` prints it.
        method: String,
        /// How.
        failure: HelperFailure,
    },
    /// No [helper process](crate::Builder::isolation) can be started, or the program is none.
    #[error("{program} is of no use as a helper: {problem}")]
    NoHelper {
        /// Its path, or that it is the own executable.
        program: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A setting makes no sense.
    #[error("{setting}: {problem}")]
    Setting {
        /// The builder's method.
        setting: &'static str,
        /// What is wrong with the value.
        problem: String,
    },
    /// The wait for a grace period was given up.
    #[error("after {waited:?} {participant} has neither unpinned nor re-pinned")]
    Stalled {
        /// The participant that has been pinned longest.
        participant: String,
        /// How long the wait was.
        waited: Duration,
    },
    /// LLVM cannot generate code for this machine.
    #[error("LLVM has no target for this machine: {message}")]
    Target {
        /// LLVM's message.
        message: String,
    },
}

/// Why a method is not compiled that could be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// Its IR is [too long](crate::Builder::longest).
    #[error("it has {instructions} instructions, and {limit} is the most")]
    TooLong {
        /// Instructions of all functions that the front end emitted for it.
        instructions: u64,
        /// The most that it may have.
        limit: u64,
    },
    /// For a [backend](crate::Backend)'s own reasons.
    #[error("{0}")]
    Other(String),
}

/// A step that needs memory of the operating system.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum MapStep {
    /// Reserving address space.
    Reserve,
    /// Creating the memfd behind code.
    Backing,
    /// Mapping slots of a region.
    Map,
    /// Writing code, and getting pages for it.
    Write,
    /// Unmapping a region.
    Unmap,
    /// Starting a thread.
    Thread,
}

impl std::fmt::Display for MapStep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            MapStep::Reserve => "reserving address space",
            MapStep::Backing => "creating a memory file",
            MapStep::Map => "mapping code memory",
            MapStep::Write => "writing code",
            MapStep::Unmap => "unmapping code memory",
            MapStep::Thread => "starting a thread",
        })
    }
}

impl Error {
    /// Whether there may be room another time.
    pub(crate) fn is_for_want_of_memory(&self) -> bool {
        use Error::{HardLimit, Memory, OutOfSpace};
        matches!(self, HardLimit { .. } | Memory { .. } | OutOfSpace { .. })
    }

    /// Whether it is about the method itself, so that another try is likely to end as this one.
    pub(crate) fn is_of_the_method(&self) -> bool {
        use Error::{Forked, NoHelper, Prelude, ShuttingDown, Target};
        let of_the_cache = matches!(self, Forked | ShuttingDown | Prelude { .. });
        let of_llvm = matches!(self, Target { .. } | NoHelper { .. });
        !of_the_cache && !of_llvm && !self.is_for_want_of_memory()
    }

    /// Whether no other try can end in another way, as long as the method is what it is.
    pub(crate) fn is_for_good(&self) -> bool {
        matches!(self, Error::Declined { .. })
    }

    pub(crate) fn map(step: MapStep, bytes: u64, error: std::io::Error) -> Self {
        Error::Memory {
            step,
            bytes,
            message: error.to_string(),
        }
    }
}
