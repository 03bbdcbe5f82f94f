//! Compiling in another process, so that what ends LLVM does not end this one.
//!
//! LLVM ends its process over errors inside of it, and when memory runs out. Front ends run here, their
//! modules are verified and lowered here, and the object is linked here. What is between, passes and code
//! generation, needs a module and gives an object: both are bytes, and go over a socket to a helper
//! process and back. One helper serves one compile worker at a time, and goes on from batch to batch.
//!
//! ```text
//! worker: emit, verify, lower ─ bitcode ──> helper: read, passes, polls, code
//!    link, publish <──────────── object ───────┘
//! ```
//!
//! # What can go wrong
//!
//! The helper dies (LLVM aborts, runs out of memory or of stack; somebody kills it), takes too long, or says
//! nonsense: it is killed and waited for, and the batch fails as one whose guilty method nobody
//! knows. The engine then tries its halves, down to the guilty one, in a fresh helper after each failure.
//! A lone method is blamed for the deaths of two helpers, the second of which had compiled nothing before.
//!
//! # How a helper ends
//!
//! With the cache, by a signal; it is waited for. With the process, whatever ends that: a thread of the
//! helper's sees the socket close, and the process of its host vanish (a forked child of the host may
//! have a copy of the socket). A forked child leaves the helpers alone: all that would end one compares
//! the process that it is in with the one that started it.
//!
//! `design/15-isolation.md` has what it costs.

mod channel;
mod child;
mod pool;
mod process;
mod serve;
mod watch;
mod wire;

use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

pub(crate) use pool::Pool;
pub use serve::run_if_helper;
pub(crate) use wire::Identity;

/// By this variable of the environment a process learns that it is a helper.
const VARIABLE: &str = "INKPOT_HELPER";

/// What a helper writes when its memory has run out: itself, LLVM, the library of C++, and that of Rust.
const OUT_OF_MEMORY: [&str; 4] = [
    watch::NO_MEMORY,
    "out of memory",
    "std::bad_alloc",
    "memory allocation of",
];

/// Compiling in helper processes: [`Builder::isolation`](crate::Builder::isolation).
///
/// ```no_run
/// use std::time::Duration;
/// use inkpot::{Isolation, helper};
///
/// fn main() {
///     helper::run_if_helper(); // first of all
///     let isolation = Isolation::own_executable()
///         .time_limit(Duration::from_secs(20))
///         .memory_limit(1 << 30);
///     // ... Cache::builder(frontend).isolation(isolation)
/// }
/// ```
#[derive(Clone, Debug)]
#[must_use = "it is to be given to `Builder::isolation`"]
pub struct Isolation {
    helper: Helper,
    time_limit: Duration,
    memory_limit: u64,
}

/// Whose module a helper is given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    /// One method's, which is to blame for what happens.
    Alone,
    /// A batch's, or what is left of one that was halved so many times since it took too long.
    Batch(u8),
}

/// The shortest time that a part of a batch is given (if the limit is longer).
const SHORTEST: Duration = Duration::from_millis(100);

/// Which program is the helper.
#[derive(Clone, Debug)]
enum Helper {
    OwnExecutable,
    Binary(PathBuf),
}

impl Isolation {
    /// Helpers are further processes of this one's own executable, which has to call
    /// [`helper::run_if_helper`](crate::helper::run_if_helper) first of all in `main`. It does not matter
    /// if the file has been replaced or deleted since this process was started.
    pub fn own_executable() -> Self {
        Self::with(Helper::OwnExecutable)
    }

    /// Helpers are processes of this program. It must be of the same version of inkpot, with the same LLVM;
    /// the package's `inkpot-helper` is one, and any program that calls
    /// [`helper::run_if_helper`](crate::helper::run_if_helper) first.
    pub fn binary(path: impl Into<PathBuf>) -> Self {
        Self::with(Helper::Binary(path.into()))
    }

    fn with(helper: Helper) -> Self {
        Self {
            helper,
            time_limit: Duration::from_secs(60),
            memory_limit: u64::MAX,
        }
    }

    /// How long a helper may take for a batch; then it is killed, and the batch is tried in halves, down to the
    /// method that takes so long by itself. Each half is given half the time, and a method by itself all of it: a
    /// method that hangs costs its worker about three times the limit, and each further one in the same batch at
    /// most twice the limit more. Time for which this process is stopped does not count. Default: 60 seconds.
    /// `Duration::MAX` is for ever.
    pub fn time_limit(mut self, limit: Duration) -> Self {
        self.time_limit = limit;
        self
    }

    /// Bytes of memory that a helper may take for itself (`RLIMIT_DATA`: writable, private, whether used or
    /// not). LLVM takes some 30 MB before it has compiled anything. Default: no limit.
    pub fn memory_limit(mut self, bytes: u64) -> Self {
        self.memory_limit = bytes;
        self
    }

    /// How long a helper may take for this. Both halves of a batch together get what that had: what is stopped too
    /// early is halved again, and nothing is blamed but what is alone.
    fn limit_for(&self, part: Part) -> Duration {
        match part {
            Part::Batch(halvings @ 1..) if self.time_limit > SHORTEST => {
                let parts = 1_u32.checked_shl(halvings.into()).unwrap_or(u32::MAX);
                (self.time_limit / parts).max(SHORTEST)
            }
            _ => self.time_limit,
        }
    }

    /// The helper's program, in words.
    fn program(&self) -> String {
        match &self.helper {
            Helper::OwnExecutable => "the own executable".to_owned(),
            Helper::Binary(path) => path.display().to_string(),
        }
    }
}

/// How a helper process failed, while it compiled a method by itself.
#[derive(Clone, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum HelperFailure {
    /// It ended: mostly because LLVM aborted it.
    Died {
        /// With what; `None` if that is not known, because this process ignores SIGCHLD, or waits for all
        /// children itself.
        status: Option<ExitStatus>,
        /// The end of what it wrote to its standard error.
        said: String,
    },
    /// It took longer than its time limit, and was killed.
    TimedOut {
        /// The [limit](Isolation::time_limit).
        limit: Duration,
    },
    /// Its memory ran out.
    OutOfMemory {
        /// The [limit](Isolation::memory_limit), if it had one.
        limit: Option<u64>,
    },
    /// It answered what is no answer, and was killed.
    Garbled {
        /// What was wrong with it.
        problem: String,
    },
}

impl std::fmt::Display for HelperFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            HelperFailure::Died { status, said } => {
                match status {
                    Some(status) => write!(f, "it ended ({status})")?,
                    None => f.write_str("it ended")?,
                }
                if said.is_empty() {
                    return Ok(());
                }
                write!(f, ": {said}")
            }
            HelperFailure::TimedOut { limit } => write!(f, "it took longer than {limit:?}"),
            HelperFailure::OutOfMemory { limit: Some(limit) } => {
                write!(f, "its memory ran out, by its limit of {limit} bytes")
            }
            HelperFailure::OutOfMemory { limit: None } => f.write_str("its memory ran out"),
            HelperFailure::Garbled { problem } => write!(f, "it spoke nonsense: {problem}"),
        }
    }
}

#[cfg(test)]
mod tests;
