//! The public face of a cache.

use std::sync::Arc;

use crate::compile::{Backend, ErasedBackend, Frontend, on_a_worker};
use crate::config::{Builder, Config};
use crate::engine::{Cause, Life};
use crate::error::Error;
use crate::evict::Policy;
use crate::handle::{Handle, no_guard};
use crate::invalidate::Invalidation;
use crate::method::{Entry, Key, MethodType};
use crate::observe::{Listener, Occupancy, Statistics, Symbol};
use crate::reclaim::{Guard, Participant};

/// A cache of compiled methods.
///
/// Cloning is cheap, and all clones are the same cache. It lives, with all of its code, for as
/// long as a clone of it, a [`Handle`] or a [`Participant`] does; in which order these are
/// dropped never matters. To drop the last waits for what is being compiled. All methods may be called from any thread.
pub struct Cache<K: Key> {
    life: Arc<Life<K>>,
}

#[cfg(feature = "_loom")]
#[allow(dead_code, reason = "for models")]
impl<K: Key> Cache<K> {
    pub(crate) fn core(&self) -> &Arc<crate::engine::Core<K>> {
        &self.life.core
    }
}

impl<K: Key> Clone for Cache<K> {
    fn clone(&self) -> Self {
        Self {
            life: self.life.clone(),
        }
    }
}

impl<K: Key> Cache<K> {
    /// A cache whose methods a front end emits as LLVM IR.
    pub fn builder<F: Frontend<Key = K>>(frontend: F) -> Builder<K> {
        Builder::for_frontend(frontend)
    }

    /// A cache whose methods come from a code generator other than LLVM.
    pub fn with_backend<B: Backend<K>>(backend: B) -> Builder<K> {
        Builder::for_backend(backend)
    }

    pub(crate) fn start(
        config: Config,
        policy: Box<dyn Policy>,
        backend: Arc<dyn ErasedBackend<K>>,
        listener: Option<Arc<dyn Listener<K>>>,
    ) -> Result<Self, Error> {
        Ok(Self {
            life: Life::start(config, policy, backend, listener)?,
        })
    }

    /// This cache, for the process that runs: in a forked child a new one, with the settings, the front end, the policy
    /// and the listener of this one, threads of its own, and nothing compiled; in the process that made it, itself.
    ///
    /// In the child this cache and its [`Handle`]s go on calling what was resident at the fork, and nothing else
    /// (see [`Error::Forked`]); its memory is shared with the parent, and goes when the child ends. So make handles and
    /// participants of the new one, and let go of the old ones. Each call makes another cache.
    ///
    /// A child has its parent's locks as they were. Those of this crate do not matter; LLVM's might be held by
    /// nobody if another thread was inside of LLVM, and the front end's likewise: then the child cannot compile. To be sure that nobody
    /// is, fork by [`Cache::quietly`]. Locks of the embedder's that are taken elsewhere are his own to look after.
    ///
    /// # Errors
    /// [`Error::Forked`] if a thread of the parent was compiling when the process was forked; otherwise as for
    /// [`build`](Builder::build).
    pub fn after_fork(&self) -> Result<Self, Error> {
        if self.life.core.check_fork().is_ok() {
            return Ok(self.clone());
        }
        let life = self.life.after_fork()?;
        Ok(Self { life })
    }

    /// Runs `f` while no thread of this process compiles, for this cache or any other; waits for those that do. To fork
    /// in: see [`Cache::after_fork`]. Calls of resident methods go on; in `f` do not wait for a compilation, and
    /// drop no cache.
    ///
    /// # Errors
    /// [`Error::WouldDeadlock`] on a thread that compiles; [`Error::Forked`] in a child that was forked while its parent did.
    pub fn quietly<R>(&self, f: impl FnOnce() -> R) -> Result<R, Error> {
        crate::engine::quietly(f)
    }

    /// Makes the calling thread a participant: it may pin, and run methods. Once per thread; the
    /// name stands in the statistics when the thread holds memory up.
    pub fn participant(&self, name: impl Into<String>) -> Participant {
        Participant::new(&self.life.core.domain, name.into(), self.life.erased())
    }

    /// A handle to the method of a key, resident or not, compiled before or not: to be made once
    /// per call site, and kept there. It takes no lock if the key is known.
    ///
    /// # Errors
    /// [`Error::OutOfSpace`] when there are no cells left (some four million methods can be
    /// referred to at a time), [`Error::Memory`] when the system refuses memory for them,
    /// [`Error::Forked`] in a forked child.
    ///
    /// # Safety
    /// `F` is the type with which the front end emits this key's function: what
    /// [`Entry::call`](crate::Entry::call) passes and expects.
    pub unsafe fn method<F: MethodType>(&self, key: &K) -> Result<Handle<K, F>, Error> {
        let core = &self.life.core;
        core.check_fork()?;
        Ok(Handle::new(self.life.clone(), core.table.intern(key)?))
    }

    /// The code of a key's method, if it is resident: for call sites that have a key, and no place to keep a [`Handle`]. A
    /// look into a hash table, which writes nothing that other threads read. Never waits, never compiles: without
    /// code make a handle, and [`get`](Handle::get) it.
    ///
    /// By a handle that is kept it takes a third of the time: [`Handle::entry`].
    ///
    /// # Panics
    /// If the guard belongs to another cache, or was made outside of a `blocking` that the thread is in.
    ///
    /// # Safety
    /// As for [`method`](Cache::method). And the key's `Hash`, `Eq` and `Drop` come to no
    /// [safepoint](Participant::safepoint), as a method that they call might: what they are given is there for as long as
    /// the thread stays pinned as it is.
    #[inline(always)]
    pub unsafe fn entry<'g, F: MethodType>(
        &self,
        key: &K,
        guard: &'g Guard<'_>,
    ) -> Option<Entry<'g, F>> {
        let core = &*self.life.core;
        let ours = std::ptr::eq(guard.domain(), &*core.domain);
        // One branch for what always holds.
        if !(ours & guard.is_pinned()) {
            no_guard(ours);
        }
        let code = match core.table.code_of(key, guard) {
            Some((code, true)) => code,
            seen => self.first_hit(key, seen.is_some(), guard)?,
        };
        guard.count_hit();
        Some(Entry::new(code, guard.quantum()))
    }

    /// What is not known to be in use: the method itself says whether it has code, and hears of this.
    #[cold]
    #[inline(never)]
    fn first_hit(&self, key: &K, known: bool, guard: &Guard<'_>) -> Option<usize> {
        let core = &self.life.core;
        let method = known.then(|| core.table.find(key)).flatten();
        let code = method.and_then(|method| core.code_now(&method));
        if code.is_none() {
            guard.count_miss();
        }
        code
    }

    /// Whether the key's method has code now. What it returns may be out of date at once.
    pub fn is_resident(&self, key: &K) -> bool {
        let core = &self.life.core;
        core.table
            .find(key)
            .is_some_and(|method| match core.check_fork() {
                Ok(()) => method.lock().resident.is_some(),
                // Another thread of the parent may have held the lock when the process forked.
                Err(_) => method.is_linked(),
            })
    }

    /// Unlinks a key's method because it is no longer valid, and sees to it that no compilation
    /// that has begun is published. First change what the front end emits, then invalidate; what it emits from then on has
    /// the same type, or is a method of another key.
    ///
    /// When this returns no call *loads* the old code any more. A call that had loaded it before
    /// may still start, and frames in it run to their end; who must know that none does waits on
    /// the returned token.
    pub fn invalidate(&self, key: &K) -> Invalidation {
        let core = &self.life.core;
        if core.check_fork().is_ok()
            && let Some(method) = core.table.find(key)
        {
            core.ledger().drop_code(&method, Cause::Invalidated);
            core.ring_if_dead();
        }
        Invalidation::of([core.relying.clone()])
    }

    /// [`Cache::invalidate`] for every key for which `stale` returns true. It is asked for all
    /// keys that are known when this is called, and holds no lock while it is.
    pub fn invalidate_if(&self, mut stale: impl FnMut(&K) -> bool) -> Invalidation {
        let core = &self.life.core;
        if core.check_fork().is_ok() {
            for method in core.table.all() {
                if stale(&method.key) {
                    core.ledger().drop_code(&method, Cause::Invalidated);
                }
            }
            core.ring_if_dead();
        }
        Invalidation::of([core.relying.clone()])
    }

    /// [`Cache::invalidate`] for all keys.
    pub fn invalidate_all(&self) -> Invalidation {
        self.invalidate_if(|_| true)
    }

    /// Evicts a key's method now, as if memory were short. False when it has no code, or is
    /// [kept](Handle::keep).
    pub fn evict(&self, key: &K) -> bool {
        let core = &self.life.core;
        if core.check_fork().is_err() {
            return false;
        }
        let Some(method) = core.table.find(key) else {
            return false;
        };
        let mut ledger = core.ledger();
        let evicted = !method.is_kept() && ledger.drop_code(&method, Cause::Evicted);
        drop(ledger);
        core.ring_if_dead();
        evicted
    }

    /// Evicts all methods that are not [kept](Handle::keep).
    pub fn evict_all(&self) {
        let core = &self.life.core;
        if core.check_fork().is_err() {
            return;
        }
        let mut ledger = core.ledger();
        let all: Vec<_> = ledger
            .resident()
            .filter(|m| !m.is_kept())
            .cloned()
            .collect();
        for method in all {
            ledger.drop_code(&method, Cause::Evicted);
        }
        drop(ledger);
        core.ring_if_dead();
    }

    /// Seals the open generations, so that they can go once their methods are gone. The cache
    /// does this by itself when they are full or old enough. Waits for batches that are being
    /// compiled; on a compile worker itself (in a front end's `emit`) it leaves these alone.
    pub fn seal(&self) {
        let core = &self.life.core;
        match core.check_fork() {
            Ok(()) if on_a_worker() => core.try_seal(),
            Ok(()) => core.seal_all(),
            Err(_) => {}
        }
    }

    /// Moves the survivors of sparse generations together now, as far as that pays: the compile workers
    /// do this by themselves if they [may](Builder::evacuate) when memory is short, and when they have
    /// nothing to do. Returns how many generations were left; their memory comes back after a grace
    /// period, or when methods without a recipe have been compiled again. May take milliseconds; on a
    /// compile worker itself, and in a forked child, it does nothing.
    pub fn evacuate(&self) -> u64 {
        let core = &self.life.core;
        match core.check_fork() {
            Ok(()) if !on_a_worker() => core.evacuate_now(),
            _ => 0,
        }
    }

    /// [`Cache::evacuate`] whether it pays or not: moves everything out of sealed generations that can
    /// be moved without being compiled again, so that nothing is between methods but what alignment
    /// takes. Returns how many generations were left.
    pub fn compact(&self) -> u64 {
        let core = &self.life.core;
        match core.check_fork() {
            Ok(()) if !on_a_worker() => core.compact(),
            _ => 0,
        }
    }

    /// Compiles, on the calling thread, what is to be compiled next: one batch, of `most` methods at most and no
    /// more than the [limit of a batch](Builder::batch_limit). Returns how many methods it took; 0 says that
    /// nothing was queued, and then it does what idle workers do, for a caller that has time: sealing, and moving
    /// survivors together. `while cache.compile_some(usize::MAX) > 0 {}` compiles all.
    ///
    /// For caches without [workers](Builder::workers), from any of the embedder's threads, several at once if it
    /// likes (eight get a turn at a time; with workers, one, besides them). Takes as long as the compilation. The
    /// thread may be pinned: then nothing that is retired meanwhile is freed until it is not. What runs here of a front
    /// end's must not wait for a compilation, as on a worker. Inside of such, in a forked child, and when the process
    /// exits it does nothing, and returns 0.
    pub fn compile_some(&self, most: usize) -> usize {
        let core = &self.life.core;
        match core.check_fork() {
            Ok(()) => core.compile_some(most),
            Err(_) => 0,
        }
    }

    /// One step of reclamation, for caches without a reclaimer's thread (with one it does no
    /// harm). True while something waits to be freed: call it again, a little later. May take
    /// milliseconds; on a thread that is pinned it does nothing, and returns true. (In a forked child
    /// false: nothing is ever freed there.)
    pub fn maintain(&self) -> bool {
        let core = &self.life.core;
        let cannot = || on_a_worker() || core.domain.this_thread_is_pinned();
        core.check_fork().is_ok() && (cannot() || core.maintain())
    }

    /// Changes the budget. A smaller one takes effect at once.
    pub fn set_budget(&self, bytes: u64) {
        self.set_limits(|limits| limits.budget = bytes.min(limits.hard_limit));
    }

    /// Changes the budget for text, constants and data. A smaller one takes effect at once.
    pub fn set_code_budget(&self, bytes: u64) {
        self.set_limits(|limits| limits.code_budget = bytes);
    }

    fn set_limits(&self, change: impl FnOnce(&mut crate::engine::Limits)) {
        let core = &self.life.core;
        if core.check_fork().is_err() {
            return;
        }
        let beside = core.beside_generations();
        let mut ledger = core.ledger();
        change(&mut ledger.limits);
        ledger.make_room(0, 0, beside);
        drop(ledger);
        core.ring_if_dead();
    }

    /// Whether an address lies in the cache's own memory: code, thunks, constants, cells, or where
    /// these may come to lie. Arithmetic alone: it may be asked in a signal handler.
    pub fn contains(&self, address: *const ()) -> bool {
        self.life.core.space.contains(address as u64)
    }

    /// Asks all code that [polls](Builder::polls) to come to a poll soon, and to call
    /// [`Builder::on_poll`]; or takes that back. Until it is taken back each poll calls it, on every
    /// thread. Two instructions; it may be called in a signal handler.
    pub fn ask_for_polls(&self, ask: bool) {
        let cells = self.life.core.table.cells();
        cells.ask(crate::method::ASKED_BY_EMBEDDER, ask);
    }

    /// Where in which method's code an address lies, evicted code included until its memory is used
    /// again (which a [quarantine](Builder::quarantine) puts off). `None` for addresses that are in
    /// no method's code: thunks, constants, functions of the host.
    ///
    /// Of a return address ask for the byte before it: the call may be the method's last
    /// instruction.
    pub fn symbol_at(&self, address: *const ()) -> Option<Symbol> {
        self.life.core.symbol_at(address as u64)
    }

    /// As [`Cache::symbol_at`], with the method's name in `buffer`, cut off where that ends. Takes no
    /// lock and allocates nothing: it may be asked in the handler of a signal, whatever that
    /// interrupted.
    pub fn symbol_into<'b>(
        &self,
        address: *const (),
        buffer: &'b mut [u8],
    ) -> Option<Symbol<&'b str>> {
        self.life.core.symbol_into(address as u64, buffer)
    }

    /// Everything a person needs to trust the promises. Takes the cache's lock for a moment.
    ///
    /// In a forked child it tells what was at the fork, and zero for what only the parent's threads
    /// know: memory as mapped, spare contexts, requests, grace periods.
    pub fn statistics(&self) -> Statistics {
        Statistics::of(&self.life.core)
    }

    /// Who lives in which generation, open and sealed, by age. Takes the cache's lock, for some
    /// hundred nanoseconds a method: to draw a picture, or to see why memory does not come back. (In a
    /// forked child nothing.)
    pub fn occupancy(&self) -> Vec<Occupancy> {
        let core = &self.life.core;
        match core.check_fork() {
            Ok(()) => core.ledger().occupancy(),
            Err(_) => Vec::new(),
        }
    }

    /// Makes the system refuse this cache memory (or grant it again), to test how a program
    /// bears that. What the cache has it goes on using, so methods are compiled until the open
    /// generations are full.
    pub fn refuse_memory(&self, refuse: bool) {
        self.life.core.space.refuse_mappings(refuse);
    }
}

impl<K: Key> std::fmt::Debug for Cache<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cache")
            .field("name", &self.life.core.config.name)
            .finish_non_exhaustive()
    }
}
