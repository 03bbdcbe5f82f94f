//! **Inkpot** is a JIT code cache over LLVM for multithreaded processes that run for long. Give it
//! a key and a way to emit IR, get back something to call, and leave memory to it: machine code
//! *and* LLVM contexts stay within a budget of bytes, and no code is unmapped while a thread may
//! still be inside.
//!
//! ```
//! use inkpot::{BoxError, Cache, Frontend, Unit};
//!
//! struct Adders;
//!
//! impl Frontend for Adders {
//!     type Key = i64; // the method of key n adds n
//!
//!     fn emit<'ctx>(&self, n: &i64, unit: &mut Unit<'_, 'ctx, i64>) -> Result<(), BoxError> {
//!         let long = unit.context().i64_type();
//!         let function = unit.define(long.fn_type(&[long.into()], false));
//!         let build = unit.context().create_builder();
//!         build.position_at_end(unit.context().append_basic_block(function, "entry"));
//!         let x = function.get_first_param().ok_or("x")?.into_int_value();
//!         let sum = build.build_int_add(x, long.const_int(*n as u64, true), "sum")?;
//!         build.build_return(Some(&sum))?;
//!         Ok(())
//!     }
//! }
//!
//! fn main() -> Result<(), BoxError> {
//!     let cache = Cache::builder(Adders).budget(16 << 20).build()?;
//!     let me = cache.participant("main"); // once per thread
//!     let mut guard = me.pin(); // entries may be called while it lives
//!     // SAFETY: `Adders` emits every method with this type.
//!     let add = unsafe { cache.method::<unsafe extern "C" fn(i64) -> i64>(&5) }?;
//!     let entry = add.get(&mut guard)?; // compiles, if it has no code
//!     // SAFETY: the method takes any number.
//!     assert_eq!(unsafe { entry.call(37) }, 42);
//!     Ok(())
//! }
//! ```
//!
//! # How it works
//!
//! Methods are compiled in **generations**: an LLVM context, the batches compiled in it, and a
//! region of code memory that the cache owns. Every call goes through the method's **cell**, one
//! word that holds its entry; evicting or invalidating a method is one store to it. A generation
//! without a live method is retired, and after a **grace period** (no thread that was pinned at
//! that time is pinned any more) it is recycled as a whole: the region unmapped, its pages given
//! back, the context disposed of.
//!
//! # Threads
//!
//! A thread that calls methods is a [`Participant`], and calls under a [`Guard`]. While a thread
//! stays pinned, nothing retired since can be freed, so a loop that serves requests re-pins its
//! guard between two of them ([`Guard::repin`], a compare when nothing waits). The names of
//! participants stand in the [`Statistics`], with the time that the slowest has been pinned.
//!
//! # The map of modules
//!
//! | module | holds |
//! | --- | --- |
//! | `cache`, `handle`, `future`, `config` | the public face |
//! | `engine` | asking, compile workers, the ledger of who is where, recycling, fork and exit |
//! | `compile` | from requests to object bytes; LLVM is known here only |
//! | `isolate` | compiling in helper processes |
//! | `generation` | contexts, and the regions that hold a generation's code |
//! | `invalidate` | what code relies on, and how it falls |
//! | `method` | keys, cells, thunks, entries, fallbacks |
//! | `link` | from object bytes and a place to linked code |
//! | `reclaim` | participants, guards, grace periods |
//! | `code` | executable memory |
//! | `tier` | how well methods are compiled, and what makes them worth more |
//! | [`evict`] | policies |
//! | `observe` | statistics and events |
//!
//! # Platforms
//!
//! Linux on x86-64 with glibc; LLVM 19 to 22 through [`inkwell`], which is re-exported.

#[cfg(not(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu")))]
compile_error!("inkpot supports Linux on x86-64 with glibc, for now");

mod cache;
mod code;
mod compile;
mod config;
mod engine;
mod error;
pub mod evict;
mod future;
mod generation;
mod handle;
pub mod helper;
mod invalidate;
mod isolate;
mod lease;
mod link;
mod loaded;
mod method;
mod observe;
mod panics;
mod reclaim;
mod sync;
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
#[doc(hidden)]
pub use method::{
    fallback_convention as __fallback_convention, fallback_move as __fallback_move,
    fallback_result as __fallback_result,
};
pub use observe::{
    Bytes, CompileTime, Event, EvictedBy, Listener, MethodIs, Occupancy, Overdue, Stall,
    Statistics, Staying, Symbol,
};
pub use reclaim::{Guard, Participant, StackHold, safepoint_of_thread};
pub use tier::Tier;

pub(crate) use panics::{contain, panic_message};

/// What the simulations of this repository's tests need, and nobody else.
#[cfg(feature = "_shuttle")]
#[doc(hidden)]
#[path = "sync/simulated/face.rs"]
pub mod __simulation;

/// What the fuzzer of this repository needs, and nobody else.
#[cfg(feature = "_fuzz")]
#[doc(hidden)]
pub use link::attempt::link_bytes as __link_bytes;
