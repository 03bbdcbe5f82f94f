//! What the workload asks of a way to keep compiled methods.

use std::error::Error;
use std::sync::atomic::AtomicBool;

use inkpot::Occupancy;
use serde::{Deserialize, Serialize};

use crate::runtime::{Thread, Value};
use crate::world::Key;

pub type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// A way to keep compiled methods.
pub trait Strategy: Sync {
    /// What a call site holds on to.
    type Site;

    fn site(&self, key: &Key) -> Fallible<Self::Site>;

    /// Says that a method is about to be called; does not wait.
    fn request(&self, site: &Self::Site) -> Fallible<()>;

    /// These methods are no longer valid.
    fn invalidate(&self, keys: &[Key]);

    fn figures(&self) -> Figures;

    /// Who lives in which generation, where there are some.
    fn occupancy(&self) -> Vec<Occupancy> {
        Vec::new()
    }

    /// Registers the current thread as one that calls methods, and runs `body` on it.
    fn enter(&self, name: &str, body: &mut Body<'_, Self::Site>) -> Fallible<()>;

    /// Stays in a method of the guest's until it is told to stop, if there is to be one. Returns how
    /// many results were wrong.
    fn be_a_guest(&self, _stop: &AtomicBool) -> Fallible<u64> {
        Ok(0)
    }
}

/// What a calling thread does.
pub type Body<'a, Site> = dyn FnMut(&mut dyn Caller<Site>) -> Fallible<()> + 'a;

/// A thread that may call methods.
pub trait Caller<Site> {
    /// Calls a method, after it has been compiled if need be.
    fn call(
        &mut self,
        site: &Site,
        thread: &mut Thread,
        left: Value,
        right: Value,
    ) -> Fallible<Value>;

    /// Calls a method if that takes no waiting.
    fn call_resident(
        &mut self,
        site: &Site,
        thread: &mut Thread,
        left: Value,
        right: Value,
    ) -> Option<Value>;

    /// The end of a quantum: nothing that was loaded before is used again.
    fn rest(&mut self);
}

/// What a strategy knows of itself.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
pub struct Figures {
    pub compiles: u64,
    /// Of methods that had been compiled before, and of which nothing had changed since.
    pub recompilations: u64,
    /// Methods that were moved to another generation, and generations that were left.
    pub moves: u64,
    pub evacuations: u64,
    /// Moves that were compilations.
    pub moved_by_compiling: u64,
    /// Bytes of what is kept to move methods.
    pub recipes: u64,
    /// LLVM contexts alive.
    pub contexts: u64,
    /// Generations that have not been recycled.
    pub generations: u64,
    pub recycled: u64,
    pub evictions: u64,
    /// Evictions that a call took back in time.
    pub relinks: u64,
    pub invalidations: u64,
    pub mapped_code_peak: u64,
    /// From a generation's death to its recycling, but for those that were held: all but one in a
    /// hundred.
    pub grace_p99_us: u64,
    /// The longest.
    pub grace_max_us: u64,
    /// The longest wait for threads that are pinned that is not over.
    pub grace_oldest_us: u64,
    /// Generations that are gone but for frames on some stack.
    pub held: u64,
}
