//! Who may be inside code, and when a region may go.
//!
//! # The protocol
//!
//! A **participant** is a thread that may run methods. It **pins** before it loads an entry and
//! unpins after the last call returned. Unlinking a method stores its thunk into its cell; from
//! then on no thread that pins can find the code, but threads that were pinned already may still
//! have the old entry in a register, or a frame in the code.
//!
//! A generation whose methods are all unlinked is therefore **retired**, not freed: the reclaimer
//! defers a mark to the epoch collector (crossbeam-epoch, a collector of the cache's own) *after*
//! the last unlink, and the collector runs it once every participant that was pinned at that time
//! has been seen unpinned or has re-pinned: a **grace period**. The fence in crossbeam's `pin`
//! orders the pin before the loads of cells that follow it, so a thread that the collector did
//! not wait for sees the thunk.
//!
//! crossbeam runs deferred functions on whichever thread happens to collect, participants
//! included (every 128th pin). So what is deferred only marks a grace period as over, by one
//! store. All that costs time or frees memory is done by the one [`Reclaimer`].
//!
//! # Ticks
//!
//! Reading a clock in `pin` would double its cost. The reclaimer advances a **tick** instead, as
//! long as anything waits for a grace period, or is held; `pin`, `repin` and safepoints note the
//! tick that they saw. A re-pin of a guard that saw the current tick is a compare and nothing else:
//! staying pinned a little longer is always safe, and if something waits, the tick moves and the
//! next re-pin is a real one. The noted ticks also tell how long a thread has been pinned.
//!
//! # Holds
//!
//! A thread that stays inside a method for minutes would stop all reclamation with its pin. At a
//! **safepoint** ([`safepoint`]) it scans its own stack for addresses of code, adds a **hold**
//! ([`holds`]) for each generation found, re-pins, and gives up the holds of its last safepoint.
//! `blocking` is a safepoint that lasts: the thread is unpinned in it. The resolver, which waits
//! for a callee's code with frames of code below, blocks.
//!
//! So a generation is recycled when its methods are unlinked, a grace period has passed since, and
//! the reclaimer has **closed** it: no hold is left, and none can be added.
//!
//! The scan is conservative: what looks like an address holds. It sees the thread's stack, to its
//! base, and its registers; it does not see the heap. Therefore safepoints inside of code are
//! `unsafe`, and an [`Entry`](crate::Entry) knows the quantum that it was loaded in: one that was
//! kept elsewhere panics when it is called.
//!
//! A stack that is not the thread's own ([`stack`]) must be told of before the thread runs on it.
//! On any other, such as a signal's alternate stack, safepoints do nothing: the thread stays pinned
//! a little longer, which is always safe.
//!
//! # Threads that end while pinned
//!
//! A guard that was leaked (`mem::forget`) before its participant is dropped is given up by the
//! participant's drop: the borrow checker knows that no entry is left. A *participant* that was
//! leaked by a thread which then ended is found by the reclaimer: each record holds a robust
//! mutex locked by its thread, and the kernel marks that when the thread is gone.
//!
//! # Threads that never registered
//!
//! A call by a callback pins its thread by itself: see [`visit`].

mod domain;
pub(crate) mod epoch;
mod frames;
mod guard;
mod holds;
#[cfg_attr(feature = "_checked", path = "liveness/checked.rs")]
mod liveness;
mod participant;
mod reclaimer;
mod record;
mod safepoint;
#[cfg_attr(feature = "_checked", allow(dead_code))]
mod scan;
mod stack;
mod visit;
#[cfg(not(feature = "_checked"))]
mod x86_64;

pub(crate) use domain::Domain;
#[cfg(feature = "_checked")]
#[allow(unused_imports, reason = "for tests that play the processor")]
pub use frames::simulated as stack_of_thread;
pub use guard::Guard;
pub(crate) use guard::Quantum;
pub(crate) use holds::{Hold, Holds, Owner};
#[cfg(feature = "_shuttle")]
pub use liveness::dies as thread_dies;
pub use participant::Participant;
pub(crate) use reclaimer::{Grace, Reclaimer};
pub use safepoint::safepoint_of_thread;
pub use stack::StackHold;
#[cfg(feature = "_loom")]
#[allow(unused_imports, reason = "for models")]
pub(crate) use visit::thread_ends;
pub(crate) use visit::{Visit, begin, end, give_up};
