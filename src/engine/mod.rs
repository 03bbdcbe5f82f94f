//! The parts of a cache at work together.
//!
//! Data flows one way: a request ([`ask`], [`wait`]) is compiled in a batch ([`work`]; on an embedder's thread, [`help`]), its object linked
//! into a region, its cell set ([`ledger`]); perhaps it is moved among other survivors ([`evacuate`]); later it is unlinked
//! (eviction, invalidation, a fallen assumption), its generation retired, and recycled after a grace period
//! ([`recycle`]).
//!
//! # Locks
//!
//! Taken in this order, never the other way round. While code of the embedder's runs only a worker's own
//! is held; but policies, and with the feature `tracing` subscribers and the `Debug` of keys, run
//! under the ledger. What the ledger lets go of is dropped when it is unlocked (`ledger::Locked`).
//!
//! 1. a worker's open generation (held while it compiles); then that of methods that stay; then one of
//!    survivors (held while methods move)
//! 2. the reclaimer's state
//! 3. the fork lock, shared (held while a batch is linked or a region is recycled)
//! 4. the ledger
//! 5. a method's state, and then the queue; the pool; slots of code memory; lists of assumptions
//!    (beside these, for a moment each and with none taken after it: who is inside of a backend, [`quiet`])
//! 6. the box of events, which are told when none of these is held ([`tell`])

mod ask;
mod assumptions;
mod core;
mod evacuate;
mod exit;
mod fork;
mod help;
mod ledger;
mod naming;
mod open;
mod overtime;
mod place;
mod promote;
mod quiet;
mod recycle;
mod stall;
mod tell;
mod wait;
mod wish;
mod work;

pub(crate) use self::core::{Core, Life};
pub use ask::last_failure;
pub(crate) use fork::handle as handle_forks;
pub(crate) use ledger::{Cause, Limits};
pub(crate) use quiet::quietly;
pub(crate) use recycle::Reclaim;
pub(crate) use wait::{Deadline, Progress, waiter_number};
