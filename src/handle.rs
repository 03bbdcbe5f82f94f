//! Handles: how a call site holds a method.

use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::{Deadline, Life};
use crate::error::Error;
use crate::future::Compiled;
use crate::lease::Lease;
use crate::method::{CellWord, Entry, Key, Method, MethodType};
use crate::reclaim::{Domain, Guard};

/// A method, at a call site: `Send + Sync + Clone + 'static`, and independent of where the
/// method's code is, or whether there is any.
pub struct Handle<K: Key, F: MethodType> {
    /// The two that a call needs. They point into what `life` keeps.
    word: NonNull<CellWord>,
    domain: NonNull<Domain>,
    method: Arc<Method<K>>,
    life: Arc<Life<K>>,
    signature: PhantomData<F>,
}

// SAFETY: the pointers are to parts of the cache that `life` keeps: the cell is made of atomics,
// and of the domain only the address is used.
unsafe impl<K: Key, F: MethodType> Send for Handle<K, F> {}
// SAFETY: as above.
unsafe impl<K: Key, F: MethodType> Sync for Handle<K, F> {}

impl<K: Key, F: MethodType> Clone for Handle<K, F> {
    fn clone(&self) -> Self {
        Self::new(self.life.clone(), self.method.clone())
    }
}

impl<K: Key, F: MethodType> Handle<K, F> {
    pub(crate) fn new(life: Arc<Life<K>>, method: Arc<Method<K>>) -> Self {
        Self {
            word: NonNull::from(method.word()),
            domain: NonNull::from(&*life.core.domain),
            method,
            life,
            signature: PhantomData,
        }
    }

    #[cfg(feature = "_loom")]
    #[allow(dead_code, reason = "for models")]
    pub(crate) fn method(&self) -> &Arc<Method<K>> {
        &self.method
    }

    /// The method's key.
    pub fn key(&self) -> &K {
        &self.method.key
    }

    /// The method's code, if it is resident: a load and a compare. Never waits, never compiles.
    ///
    /// # Panics
    /// If the guard belongs to another cache.
    #[inline(always)]
    pub fn entry<'g>(&self, guard: &'g Guard<'_>) -> Option<Entry<'g, F>> {
        // SAFETY: the cell is mapped for as long as the cache, which `life` keeps.
        let word = unsafe { self.word.as_ref() };
        let code = word.load();
        // Without short cuts: one branch for what nearly always holds.
        let ours = std::ptr::eq(guard.domain(), self.domain.as_ptr());
        if !(ours & word.is_code_in_use(code)) {
            if !ours {
                wrong_cache();
            }
            if !self.first_hit(code) {
                guard.count_miss();
                return None;
            }
        }
        guard.count_hit();
        Some(Entry::new(code, guard.quantum()))
    }

    /// Whether what was loaded from the cell is code; notes that it is in use then. Not again until
    /// the policy was told, so the line of a hot method's cell is only read.
    #[cold]
    #[inline(never)]
    fn first_hit(&self, code: usize) -> bool {
        self.life.core.is_hit(&self.method, code)
    }

    /// The method's code if it is resident, or else its [fallback](crate::Builder::fallback). Never
    /// waits, and never fails: without code it asks for it, as by [`request`](Handle::request), and
    /// what becomes of that shows at a later call.
    ///
    /// A fallback takes the same arguments as the method. What is returned is bound to the handle
    /// besides, as the way to the fallback is the method's own. In a forked child nothing is
    /// compiled, and calls of what was not resident go to the fallback for ever.
    ///
    /// # Cost
    /// With code that of [`entry`](Handle::entry); without, some 50 ns.
    ///
    /// # Panics
    /// If the guard belongs to another cache; if the method has no code, and neither
    /// [`Builder::fallback`](crate::Builder::fallback) nor
    /// [`Frontend::fallback`](crate::Frontend::fallback) has said where calls of it go.
    #[inline]
    pub fn entry_or_fallback<'g>(&'g self, guard: &'g Guard<'_>) -> Entry<'g, F> {
        match self.entry(guard) {
            Some(entry) => entry,
            None => self.fallback(guard),
        }
    }

    #[cold]
    #[inline(never)]
    fn fallback<'g>(&'g self, guard: &'g Guard<'_>) -> Entry<'g, F> {
        let Some(fallback) = self.method.fallback else {
            let key = self.method.describe();
            panic!(
                "{key} has no fallback: none was set for all, and the front end named none (or panicked)"
            );
        };
        let code = self.life.core.code_or(&self.method, fallback);
        if code == fallback.get() {
            // No safepoint ends it: the handle keeps it.
            return Entry::new(code, guard.leased());
        }
        Entry::new(code, guard.quantum())
    }

    /// The method's code, compiled first if need be. Entries loaded before under this guard end
    /// here: the thread is unpinned while it waits, unless it has another guard of the cache.
    ///
    /// A failure is [remembered](crate::Builder::retry_after) for a while, and is the answer meanwhile. A look-up by
    /// [`entry`](Handle::entry) and the one here count as one miss each.
    ///
    /// # Errors
    /// Whatever the compilation ended with, shared by all who waited for it;
    /// [`Error::WrongCache`]; [`Error::WouldDeadlock`] on a compile worker; [`Error::Forked`] in
    /// a forked child; [`Error::ShuttingDown`].
    pub fn get<'g>(&self, guard: &'g mut Guard<'_>) -> Result<Entry<'g, F>, Error> {
        let code = self.life.core.get(&self.method, guard, None)?;
        Ok(Entry::new(code, guard.quantum()))
    }

    /// As [`get`](Handle::get), and waits no longer than that. When nobody waits for the method any more,
    /// and nobody [requested](Handle::request) it, it is not compiled, unless that has begun: who wants it
    /// later, and not wait again, requests it first. Without [workers](crate::Builder::workers) the caller compiles, and
    /// a batch that has begun is finished: the time may be exceeded by that.
    ///
    /// # Errors
    /// [`Error::TimedOut`] when the time is over; else as [`get`](Handle::get).
    pub fn get_timeout<'g>(
        &self,
        guard: &'g mut Guard<'_>,
        patience: Duration,
    ) -> Result<Entry<'g, F>, Error> {
        let deadline = Some(Deadline::after(patience));
        let code = self.life.core.get(&self.method, guard, deadline)?;
        Ok(Entry::new(code, guard.quantum()))
    }

    /// Waits for the method's code without a thread: asks for it at once, and returns a future, for any
    /// executor. Dropped, it gives up. Without [workers](crate::Builder::workers) something has to call
    /// [`compile_some`](crate::Cache::compile_some), or it waits for ever.
    ///
    /// ```no_run
    /// # async fn example<K: inkpot::Key, F: inkpot::MethodType>(
    /// #     handle: inkpot::Handle<K, F>, me: inkpot::Participant) -> Result<(), inkpot::Error> {
    /// loop {
    ///     let ready = handle.compiled().await?;
    ///     let guard = me.pin();
    ///     let Some(entry) = handle.entry(&guard) else {
    ///         continue; // invalidated in between
    ///     };
    ///     drop(ready);
    ///     // ... call it ...
    /// #   let _ = entry; return Ok(());
    /// }
    /// # }
    /// ```
    pub fn compiled(&self) -> Compiled<K> {
        Compiled::new(&self.life.core, &self.method)
    }

    /// Asks for the method to be compiled, and does not wait. Requests that come together are
    /// compiled together, which is cheaper. It may be put off ([`admit_after`](crate::Builder::admit_after),
    /// [`damping`](crate::Builder::damping)), to be asked again. What becomes of it shows at the next
    /// [`entry`](Handle::entry) or [`get`](Handle::get).
    ///
    /// # Errors
    /// [`Error::Forked`], [`Error::ShuttingDown`]; [`Error::Backlog`] if [too much](crate::Builder::backlog) waits; and
    /// how the method failed before, while that is [remembered](crate::Builder::retry_after) and it is not tried again.
    pub fn request(&self) -> Result<(), Error> {
        self.life.core.request(&self.method)
    }

    /// Asks for the method to be compiled for the [tier](crate::Tier) that follows the one that it has code of, and does not
    /// wait: the code that it has is called until then. False if there is nothing to do: it has no code, or that
    /// of the last tier; it is on its way already; or it cannot be promoted, since it [stays](crate::Unit::stay) or has
    /// failed there before. From any thread; some microseconds.
    ///
    /// # Errors
    /// [`Error::Forked`], [`Error::ShuttingDown`].
    pub fn promote(&self) -> Result<bool, Error> {
        self.life.core.promote(&self.method)
    }

    /// The [tier](crate::Tier) of the code that the method has now, counted from 0. Takes the method's lock for a
    /// moment; not for each call. (In a forked child `None`.)
    pub fn tier(&self) -> Option<usize> {
        self.life.core.check_fork().ok()?;
        self.method.lock().resident.map(|r| r.tier.into())
    }

    /// How the method's last compilation failed, if it did, has no code since, and that is
    /// [remembered](crate::Builder::retry_after): until it has been compiled, or is invalidated. Whether it is being tried
    /// again just now does not show. Takes a lock for a moment.
    pub fn failure(&self) -> Option<Error> {
        let core = &self.life.core;
        core.check_fork().ok().and_then(|()| self.method.failure())
    }

    /// Makes the method no victim of eviction while the returned value lives. Its generation
    /// stays, and goes beyond the budget; invalidation still unlinks it.
    pub fn keep(&self) -> Keep<K> {
        // First, so that it is given back if the policy panics when it is told.
        let keep = Keep {
            method: self.method.clone(),
            life: self.life.clone(),
        };
        if self.life.core.check_fork().is_ok() {
            self.life.core.ledger().keep(&self.method);
        }
        keep
    }

    /// Keeps the code that the method has now, compiled first if need be, for as long as the
    /// returned value lives, and all of its generation: for who keeps a pointer into it. Eviction
    /// and invalidation go on. Entries loaded before under this guard end here, as in
    /// [`get`](Handle::get).
    ///
    /// # Errors
    /// As for [`get`](Handle::get).
    pub fn lease(&self, guard: &mut Guard<'_>) -> Result<Lease<F>, Error> {
        let core = &self.life.core;
        let code = core.get(&self.method, guard, None)?;
        let holds = core.domain.holds();
        // The thread has been pinned since before it loaded the code, so that is not closed.
        let hold = holds.owner(code as u64).and_then(|owner| holds.hold(owner));
        let hold = hold.expect("code that a pinned thread loaded is in a generation");
        Ok(Lease::new(
            code,
            hold,
            self.method.describe(),
            core.domain.clone(),
            self.life.erased(),
        ))
    }

    /// The method's canonical address: the same for as long as the cache lives, whether the
    /// method has code or not. A call of it costs one jump more than a call through the cell;
    /// without code it compiles first.
    ///
    /// It does not pin: only a thread with a guard may call it, while it has it; for other threads
    /// there is [`callback`](Handle::callback). Once taken, the method's record, its cell and its
    /// thunk stay until [`release_address`](Handle::release_address), or until the cache ends; the
    /// statistics count these.
    pub fn address(&self) -> *const () {
        self.method.take_address() as *const ()
    }

    /// Gives the canonical address back: the statistics no longer count it, and the method's record
    /// may go, with cell and thunk, when nothing else mentions the method. Does nothing if it was
    /// not taken. Taken again, it is the same only if the record was still there.
    ///
    /// # Safety
    /// Whoever got the address has no use for it any more: from [`address`](Handle::address), or
    /// from compiled code that takes it (in which it stays valid while that code lives, but not
    /// where the code stored it). No thread calls it, or compares it, from now on.
    pub unsafe fn release_address(&self) {
        self.method.release_address();
    }

    /// An address for threads that are not registered: a host that calls back on threads of its
    /// own. The same at every call, by the method's own prototype, whatever its arguments and
    /// result; with a C convention, as all methods have.
    ///
    /// A call makes the thread a participant (named `callback thread`, once for each thread and
    /// cache, until the thread ends), pins it, and unpins it when the method has returned; without
    /// code it compiles first. On a thread that is pinned already it adds one pin to that. Panics,
    /// exceptions and the end of the thread pass through it as through a function of C++, and unpin.
    /// The callback stays valid, and keeps the method's record, until
    /// [`release_callback`](Handle::release_callback), or until the cache ends; the statistics count
    /// these.
    ///
    /// # Cost
    /// The registers that a call may use are saved and restored twice: some 100 ns a call more than
    /// by the canonical address, and some microseconds at the first on each thread.
    ///
    /// # Who calls it must know
    /// - A cache does not end while a thread is inside by a callback, even if nobody has it any
    ///   more. A call that *begins* when the last [`Cache`](crate::Cache), handle and participant
    ///   are gone is a call of nothing.
    /// - It must return on the thread and stack where it was called: a coroutine that is inside of
    ///   one must not move to another thread.
    /// - Who jumps out of it by `longjmp` leaves the thread pinned: on the thread's own stack until
    ///   it next calls a callback, or one that it is still inside of returns; on another stack until
    ///   the thread ends. (Stacks that a program cuts out of the thread's own must not be jumped
    ///   out of, nor left for one at a higher address, in the middle of a callback.)
    /// - It must not be called by an asynchronous signal handler.
    ///
    /// # Errors
    /// [`Error::OutOfSpace`] when there are no more (a million), [`Error::Memory`],
    /// [`Error::Forked`].
    pub fn callback(&self) -> Result<*const (), Error> {
        let core = &self.life.core;
        core.check_fork()?;
        let address = core.table.take_callback(&self.method)?;
        Ok(address as *const ())
    }

    /// Gives the callback back. Does nothing if none was taken. Another one of the method may
    /// have another address.
    ///
    /// # Safety
    /// No thread calls it from now on, and each call that was made has reached the method, or has
    /// returned. What is inside the method may go on.
    pub unsafe fn release_callback(&self) {
        if self.life.core.check_fork().is_ok() {
            self.life.core.table.release_callback(&self.method);
        }
    }
}

#[cold]
#[inline(never)]
fn wrong_cache() -> ! {
    panic!("the guard belongs to another cache");
}

/// A guard that does not stand for a pin in this cache.
#[cold]
#[inline(never)]
pub(crate) fn no_guard(ours: bool) -> ! {
    if !ours {
        wrong_cache();
    }
    panic!("the guard was made outside of a `blocking` that the thread is in: pin again");
}

impl<K: Key, F: MethodType> std::fmt::Debug for Handle<K, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Handle")
            .field("key", &self.method.key)
            .finish_non_exhaustive()
    }
}

/// While it lives its method is no victim of eviction. Keeps add up.
#[must_use = "the method can be evicted again as soon as this is dropped"]
pub struct Keep<K: Key> {
    method: Arc<Method<K>>,
    life: Arc<Life<K>>,
}

impl<K: Key> Drop for Keep<K> {
    fn drop(&mut self) {
        if self.life.core.check_fork().is_ok() {
            self.life.core.ledger().unkeep(&self.method);
        }
    }
}

impl<K: Key> std::fmt::Debug for Keep<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keep")
            .field("key", &self.method.key)
            .finish_non_exhaustive()
    }
}
