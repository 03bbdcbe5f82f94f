//! Asking for a method: by a handle, and by a call of an empty cell.

use std::cell::RefCell;
use std::sync::Arc;

use super::core::Core;
use super::exit;
use super::ledger::{Cause, relink};
use super::tell::Told;
use super::wait::Deadline;
use crate::compile::{Class, Pushed, on_a_worker};
use crate::config::{Backlog, BacklogSettings};
use crate::error::Error;
use crate::method::{FULL, Key, Method, POLL, Phase, ResolveContext, State, errno};
use crate::reclaim::{Guard, safepoint_of_thread};
use crate::sync::atomic::Ordering;
use crate::sync::fault::kept;
use crate::sync::{thread, thread_local};

/// Who has a method queued.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Asker {
    /// Somebody who waits for it, and is counted in it.
    Waits,
    /// Somebody who does not.
    Wishes,
    /// As that, and it was let in before.
    Wished,
}

impl<K: Key> Core<K> {
    /// The method's entry, compiled if need be. The thread is pinned on return, and has been
    /// since before the entry was loaded.
    pub(crate) fn get(
        &self,
        method: &Arc<Method<K>>,
        guard: &mut Guard<'_>,
        deadline: Option<Deadline>,
    ) -> Result<usize, Error> {
        if !std::ptr::eq(guard.domain(), Arc::as_ptr(&self.domain)) {
            return Err(Error::WrongCache);
        }
        self.stress(method);
        let present = method.word().load();
        if present != method.resolve_entry() {
            guard.count_hit();
            method.note_call(present);
            return Ok(present);
        }
        guard.count_miss();
        self.check_fork()?;
        let waiting = self.wait(method, deadline);
        loop {
            if let Some(entry) = self.link_again(method) {
                return Ok(entry);
            }
            guard.while_unpinned(|| waiting.until_there())?;
        }
    }

    /// Whether what was loaded from the method's cell is code; notes that it is in use then.
    pub(crate) fn is_hit(&self, method: &Arc<Method<K>>, code: usize) -> bool {
        if code == method.resolve_entry() {
            return false;
        }
        if self.is_stressed() {
            self.stress(method);
        } else {
            method.note_call(code);
        }
        true
    }

    /// The code that the method has, for a thread that is pinned, and notes that it is in use.
    pub(crate) fn code_now(&self, method: &Arc<Method<K>>) -> Option<usize> {
        let code = method.word().load();
        self.is_hit(method, code).then_some(code)
    }

    /// As [`Core::wish`]; if the queue is full, and the embedder said so, waits for room.
    pub(crate) fn request(&self, method: &Arc<Method<K>>) -> Result<(), Error> {
        let BacklogSettings { limit, full } = self.config.backlog;
        loop {
            let asked = self.wish(method);
            if full != Backlog::Wait || !matches!(asked, Err(Error::Backlog { .. })) {
                return asked;
            }
            if on_a_worker() {
                self.queue.count_refused();
                return asked;
            }
            if self.config.workers > 0 {
                self.queue.wait_for_room(limit);
            } else if !self.compile_for_oneself(None) {
                thread::yield_now(); // somebody else has made room
            }
        }
    }

    /// Queues the method for somebody who does not wait, unless it has code; one that is queued already
    /// becomes more urgent.
    pub(crate) fn wish(&self, method: &Arc<Method<K>>) -> Result<(), Error> {
        self.check_fork()?;
        let mut state = method.lock();
        if state.resident.is_some() {
            return Ok(());
        }
        match state.phase {
            Phase::Idle => {
                if let Some(error) = self.refuses(&state) {
                    return Err(error);
                }
                if !self.grants(&mut state) {
                    return Ok(());
                }
            }
            Phase::Queued => {
                state.wished = true;
                self.queue.ask(method);
                return Ok(());
            }
            Phase::Compiling => {
                (state.wished, state.again) = (true, true);
                return Ok(());
            }
        }
        drop(state);
        let due = |state: &State| state.resident.is_none().then_some(0);
        self.enqueue(method, Asker::Wishes, due).map(drop)
    }

    /// Queues a method that is not on its way, if it is due still for a tier. False if it was not queued.
    pub(super) fn enqueue(
        &self,
        method: &Arc<Method<K>>,
        asker: Asker,
        due_for: impl FnOnce(&State) -> Option<u8>,
    ) -> Result<bool, Error> {
        // The embedder's, so before any lock is taken.
        let group = self.backend.group(&method.key) % self.config.groups as u64;
        let wished = asker != Asker::Waits;
        let mut state = method.lock();
        let Some(tier) = due_for(&state) else {
            return Ok(false);
        };
        match state.phase {
            _ if !kept("flight") => {}
            // It may have failed since the caller looked.
            Phase::Idle => {
                if let Some(error) = self.refuses(&state) {
                    return Err(error);
                }
            }
            // Meanwhile, by another.
            _ if !kept("enqueue.once") => {}
            Phase::Queued => {
                state.wished |= wished;
                return Ok(false);
            }
            Phase::Compiling => {
                state.wished |= wished;
                state.again |= wished;
                return Ok(false);
            }
        }
        let class = Class { tier, group };
        let backlog = self.config.backlog;
        let limit = (asker == Asker::Wishes).then_some(backlog);
        let instead = match self.queue.push(class, method.clone(), limit) {
            Pushed::In => None,
            Pushed::Instead(class, other) => Some((class, other)),
            Pushed::Dropped => return Ok(false),
            Pushed::Full => {
                let limit = backlog.limit;
                return Err(Error::Backlog { limit });
            }
            Pushed::Closed => return Err(Error::ShuttingDown),
        };
        state.phase = Phase::Queued;
        state.wished |= wished;
        self.put(|| Told::Queued(method.clone()));
        drop(state);
        if let Some((class, other)) = instead {
            self.squeeze_out(class, &other);
        }
        Ok(true)
    }

    /// A request came out of the queue because there was no room for it.
    fn squeeze_out(&self, class: Class, method: &Arc<Method<K>>) {
        let mut state = method.lock();
        // Whoever began to wait meanwhile found it queued, and relies on that.
        if method.is_waited_for()
            && matches!(self.queue.push(class, method.clone(), None), Pushed::In)
        {
            return;
        }
        state.end_request();
        (state.wished, state.again) = (false, false);
        let wakers = std::mem::take(&mut state.wakers);
        let has_code = state.resident.is_some();
        self.put(|| Told::Dropped(method.clone()));
        drop(state);
        method.notify();
        if has_code {
            self.ledger().came_to_nothing(method);
        }
        wakers.wake();
    }

    /// The entry of code that is there, taken off probation.
    pub(super) fn link_again(&self, method: &Method<K>) -> Option<usize> {
        let mut state = method.lock();
        let resident = state.resident.as_mut()?;
        if resident.probation {
            relink(method, resident);
        }
        Some(resident.entry)
    }

    /// Where a call of an empty cell goes on, on a pinned thread: to the fallback, or it waits. Frames of code lie below: while it
    /// waits the thread is unpinned, and what its stack has addresses of is held.
    fn resolve(&self, method: &Arc<Method<K>>) -> Result<usize, Error> {
        self.stress(method);
        if let Some(fallback) = method.fallback {
            return Ok(self.code_or(method, fallback));
        }
        let waiting = self.wait(method, None);
        loop {
            // First: in a forked child the method's lock may be held by nobody.
            self.check_fork()?;
            if let Some(entry) = self.link_again(method) {
                method.note_call(entry);
                return Ok(entry);
            }
            // SAFETY: the resolver was called by code, in a call by which the embedder promised that
            // no entry off the stack is used after it (`Entry::call`); the wait returns, or unwinds.
            unsafe { self.domain.while_blocking(|| waiting.until_there())? };
        }
    }

    /// Under stress: evicts, invalidates and seals far too often.
    pub(crate) fn stress(&self, method: &Arc<Method<K>>) {
        let stress = self.config.stress;
        if !self.is_stressed() || self.forked.load(Ordering::Relaxed) {
            return;
        }
        let n = self.look_ups.fetch_add(1, Ordering::Relaxed);
        let due = |every: u32| every != 0 && n % every == every - 1;
        if due(stress.evict_every) {
            let mut ledger = self.ledger();
            let among = ledger.residents().clamp(1, 61);
            let may_go = |m: &&Arc<Method<K>>| !m.is_kept() && !m.is_waited_for();
            let others = || ledger.resident().filter(may_go);
            let other = others().nth(n as usize % among).or_else(|| others().next());
            let other = other.cloned();
            for victim in other.iter().chain([method].into_iter().filter(may_go)) {
                ledger.drop_code(victim, Cause::Evicted);
            }
        }
        if due(stress.invalidate_every) {
            self.ledger().drop_code(method, Cause::Invalidated);
        }
        if due(stress.recycle_every) {
            self.try_seal();
        }
        if due(stress.move_every) {
            self.leave_any();
        }
        self.bell.ring();
    }
}

thread_local! {
    static LAST_FAILURE: RefCell<Option<Error>> = const { RefCell::new(None) };
}

/// Why the call that led to the [failure entry](crate::Builder::failure_entry) could not be
/// resolved. On the thread of that call; `None` if no call of this thread has failed.
pub fn last_failure() -> Option<Error> {
    LAST_FAILURE
        .try_with(|last| last.borrow().clone())
        .ok()
        .flatten()
}

/// The resolver of all thunks of a cache with keys of this type, and what its polls call: called by
/// [`crate::method`]'s assembly.
///
/// # Safety
/// `context` is a cache's; `number` is that of a cell whose thunk was called by a thread that is
/// pinned in it, or says that such a thread came to a poll: so the cache and the method are alive.
pub(super) unsafe extern "C" fn resolve_call<K: Key>(
    context: *const ResolveContext,
    number: u64,
) -> usize {
    let errno = errno::get();
    // SAFETY: the context belongs to the table, and its owner is the `Core` that was told to it.
    // A pinned thread's participant keeps the `Core`. The caller's code holds its callees, and a
    // canonical address its method, so the cell's owner is alive too.
    let core = unsafe { &*(*context).owner().cast::<Core<K>>() };
    if number == POLL {
        // SAFETY: the code was called by `Entry::call`, by which the embedder promised that no entry
        // off the stack is used afterwards.
        unsafe { safepoint_of_thread() };
        if let Some(hook) = core.config.on_poll {
            // SAFETY: as the builder was told: it returns, or leaves by `longjmp`, over frames in
            // which nothing waits to be dropped.
            unsafe { hook() };
        }
        errno::set(errno);
        return core.table.cells().poll_return();
    }
    if number & FULL != 0 {
        let counted = || core.counter_is_full(number & !FULL);
        // A front end's `group` may panic, and below lie frames of code.
        crate::contain(counted);
        errno::set(errno);
        return core.table.cells().poll_return();
    }
    #[cfg(feature = "_shuttle")]
    let Some(method) = core.table.owner_if_any(number as u32) else {
        crate::sync::simulated::world::broken("a method was called that nobody has".to_owned());
        return core.config.failure_entry.unwrap_or_default();
    };
    #[cfg(not(feature = "_shuttle"))]
    // SAFETY: as above.
    let method = unsafe { core.table.owner_of(number as u32) };
    let resolved = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| core.resolve(&method)));
    let resolved = resolved.unwrap_or_else(|panic| {
        let message = crate::panic_message(&*panic);
        Err(Error::CompilePanicked {
            method: method.describe(),
            message,
        })
    });
    let entry = resolved.unwrap_or_else(|error| {
        if matches!(error, Error::ShuttingDown) {
            exit::wait_for_the_end();
        }
        // Fails only on a thread that runs its last destructors.
        let _ = LAST_FAILURE.try_with(|last| last.replace(Some(error)));
        core.config
            .failure_entry
            .unwrap_or(fail_by_default as *const () as usize)
    });
    drop(method);
    errno::set(errno);
    entry
}

/// The failure entry that is used when the embedder gave none.
unsafe extern "C" fn fail_by_default() {
    let why = last_failure().map_or_else(String::new, |error| error.to_string());
    let message = format!("inkpot: a call from compiled code has nowhere to go: {why}\n");
    // Not by `eprintln`, which a test harness redirects into memory that is lost now.
    // SAFETY: the buffer is valid for its length.
    unsafe { libc::write(2, message.as_ptr().cast(), message.len()) };
    std::process::abort();
}
