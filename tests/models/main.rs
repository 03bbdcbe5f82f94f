//! The protocols, model-checked by loom from the source that ships: `design/18-models.md`.
//!
//! The library is part of this program, with loom's primitives in the place of the standard library's
//! (`crate::sync`), so that models see its inside: `cargo test --features _loom --test models`. A name, or a part of
//! one, runs some of them; `INKPOT_SOAK=1` the long form.

#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "models need a part of the library"
)]

#[path = "../../src/cache.rs"]
mod cache;
#[path = "../../src/code/mod.rs"]
mod code;
#[path = "../../src/compile/mod.rs"]
mod compile;
#[path = "../../src"]
mod source {
    // Where the language looks for its parts.
    pub(crate) mod config;
}
use source::config;
#[path = "../../src/engine/mod.rs"]
mod engine;
#[path = "../../src/error.rs"]
mod error;
#[path = "../../src/evict/mod.rs"]
pub mod evict;
#[path = "../../src/future.rs"]
mod future;
#[path = "../../src/generation/mod.rs"]
mod generation;
#[path = "../../src/handle.rs"]
mod handle;
#[path = "../../src/helper.rs"]
pub mod helper;
#[path = "../../src/invalidate/mod.rs"]
mod invalidate;
#[path = "../../src/isolate/mod.rs"]
mod isolate;
#[path = "../../src/lease.rs"]
mod lease;
#[path = "../../src/link/mod.rs"]
mod link;
#[path = "../../src/loaded.rs"]
mod loaded;
#[path = "../../src/method/mod.rs"]
mod method;
#[path = "../../src/observe/mod.rs"]
mod observe;
#[path = "../../src/panics.rs"]
mod panics;
#[path = "../../src/reclaim/mod.rs"]
mod reclaim;
#[path = "../../src/sync/mod.rs"]
mod sync;
#[path = "../../src/tier/mod.rs"]
mod tier;
pub use inkwell;

pub use cache::Cache;
pub use code::{Quarantine, install_fault_handler};
pub use compile::{
    Backend, Batch, Callee, DebugInfo, Emitter, Frontend, OptLevel, Poll, Refused, Unit,
};
pub use config::{Backlog, Builder, ContextRelease, Reclaimer, Stress, TooLong, Victims};
pub use engine::last_failure;
pub use error::{BoxError, Error, LinkError, MapStep, Reason};
pub use future::{Compiled, Ready};
pub use handle::{Handle, Keep};
pub use invalidate::{Assumed, Assumption, Invalidation};
pub use isolate::{HelperFailure, Isolation};
pub use lease::Lease;
pub use method::{Entry, Fallback, FallbackArgument, FallbackResult, Key, MethodType};
pub use observe::{
    Bytes, CompileTime, Event, EvictedBy, Listener, MethodIs, Occupancy, Overdue, Stall,
    Statistics, Staying, Symbol,
};
pub use reclaim::{Guard, Participant, StackHold, safepoint_of_thread};
pub use tier::Tier;

pub(crate) use panics::{contain, panic_message};

mod faults;
mod models;
mod run;
mod stub;

fn main() -> std::process::ExitCode {
    run::main()
}
