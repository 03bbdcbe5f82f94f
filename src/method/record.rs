//! One method, from the first mention of its key until nobody can mention it.

use std::fmt;
use std::mem::ManuallyDrop;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::table::Table;
use super::wakers::Wakers;
use super::{Asks, CellWord, Failure, Key, Thrash};
use crate::error::Error;
use crate::evict::MethodId;
use crate::invalidate::{Assumption, WeakAssumption};
use crate::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use crate::sync::fault::kept;
use crate::sync::{Condvar, Mutex, MutexGuard};

/// Bytes of names that are kept, at most.
const LONGEST_NAME: usize = 256;
const PANICS_IN_DEBUG: &str = "a method whose key panics in Debug";

/// A key's one live record. It lives as long as a handle, code that calls it, code of its own, a
/// request in the queue, or a canonical address given out.
pub(crate) struct Method<K: Key> {
    pub(crate) key: Contained<K>,
    /// The key's, in the table.
    pub(super) hash: u32,
    pub(crate) id: MethodId,
    /// The number of its cell.
    pub(crate) cell: u32,
    /// The thunk that leads to its fallback, if it has one.
    pub(crate) fallback: Option<NonZeroUsize>,
    state: Mutex<State>,
    changed: Condvar,
    /// Who waits for its code, threads and futures: until they have it the method is no victim. Whoever begins or ends,
    /// or relies on what he reads, locks the state besides, which orders it.
    waiting: AtomicU32,
    /// `keep`s. Changed under the ledger's lock only.
    keeps: AtomicU32,
    /// Its canonical address is given out: the record stays. Changed under the table's lock.
    address_taken: AtomicBool,
    pub(super) table: Arc<Table<K>>,
}

/// A value of the embedder's whose drop does not panic. Records go in many places, several at a time: a second panic on
/// the way would end the process.
pub(crate) struct Contained<T>(ManuallyDrop<T>);

impl<T> Deref for Contained<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: fmt::Debug> fmt::Debug for Contained<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.deref().fmt(f)
    }
}

impl<T> Drop for Contained<T> {
    fn drop(&mut self) {
        // SAFETY: nobody can refer to it any more, and this is done once.
        crate::contain(|| unsafe {
            ManuallyDrop::drop(&mut self.0);
        });
    }
}

/// What changes in a method. Its lock is taken after the ledger's, never before.
#[derive(Default)]
pub(crate) struct State {
    /// Advances with every invalidation: what was begun before is not published.
    pub(crate) version: u64,
    pub(crate) phase: Phase,
    /// Compilations ended, well or not: what waiters watch.
    pub(crate) attempts: u64,
    /// It was asked for by somebody who does not wait, and has not been invalidated since.
    pub(crate) wished: bool,
    /// So again since its compilation began.
    pub(crate) again: bool,
    /// Who is to be woken when it changes, and does not wait on a thread of its own.
    pub(crate) wakers: Wakers,
    /// How the last one ended, if it failed: while somebody waits to hear it, or while it is remembered.
    pub(crate) failure: Option<Box<Failure>>,
    /// Wishes that were not granted yet.
    pub(crate) asks: Asks,
    pub(crate) thrash: Thrash,
    pub(crate) resident: Option<Resident>,
    /// It could not be promoted, as it is in this version, and since it last had code of the first tier.
    pub(crate) tried: bool,
    /// Falls when the method is invalidated, for those that have its body in theirs: they keep it, and it keeps the
    /// method.
    body: Option<WeakAssumption>,
}

impl State {
    /// A request is answered, or dropped.
    pub(crate) fn end_request(&mut self) {
        self.phase = Phase::Idle;
        self.attempts += 1;
    }

    /// What falls when the method is invalidated, if anybody relies on it.
    pub(crate) fn relied_on(&self) -> Option<Assumption> {
        self.body.as_ref().and_then(WeakAssumption::upgrade)
    }

    /// What was begun before is not published.
    pub(crate) fn invalidate(&mut self) {
        self.version += u64::from(kept("invalidate.version"));
        self.tried = false;
    }
}

/// Where a request stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Phase {
    /// Nobody asked, or it was answered.
    #[default]
    Idle,
    /// In the queue.
    Queued,
    /// A compile worker has it.
    Compiling,
}

/// Code that is published, or in probation.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resident {
    pub(crate) entry: usize,
    pub(crate) generation: u64,
    pub(crate) tier: u8,
    /// The cell is at its thunk, the code still there: a call re-links it.
    pub(crate) probation: bool,
    /// It came back from probation, and the policy has not been told yet.
    pub(crate) relinked: bool,
    /// It is kept because the code says so.
    pub(crate) stays: bool,
    /// Its place in the ledger's list while one of these is true.
    pub(crate) place: u64,
}

impl Resident {
    pub(crate) fn new(entry: usize, generation: u64, tier: u8, stays: bool) -> Self {
        Self {
            entry,
            generation,
            tier,
            probation: false,
            relinked: false,
            stays,
            place: 0,
        }
    }

    /// Whether the ledger has it on its list of those on probation.
    pub(crate) fn is_listed(&self) -> bool {
        self.probation || self.relinked
    }
}

impl<K: Key> Method<K> {
    pub(super) fn new(
        key: K,
        hash: u32,
        id: MethodId,
        cell: u32,
        fallback: Option<NonZeroUsize>,
        table: Arc<Table<K>>,
    ) -> Self {
        Self {
            fallback,
            key: Contained(ManuallyDrop::new(key)),
            hash,
            id,
            cell,
            state: Mutex::default(),
            changed: Condvar::new(),
            waiting: AtomicU32::new(0),
            keeps: AtomicU32::new(0),
            address_taken: AtomicBool::new(false),
            table,
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the next change, which [`Method::notify`] announces.
    pub(crate) fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.changed
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// As [`Method::wait`], not for longer than that.
    pub(crate) fn wait_timeout<'a>(
        &self,
        state: MutexGuard<'a, State>,
        patience: Duration,
    ) -> MutexGuard<'a, State> {
        self.changed
            .wait_timeout(state, patience)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    /// Tells threads that wait of a change. (The state's wakers are told when no lock is held.)
    pub(crate) fn notify(&self) {
        // The system is not asked for nobody. Who waits was counted before he locked the state: either before it
        // was changed, and is seen here, or after that, and has seen the change.
        if self.is_waited_for() {
            self.changed.notify_all();
        }
    }

    /// Ends a request that came to nothing, if it `is_ours` still, and tells who waits; but for the wakers,
    /// which it returns.
    pub(crate) fn give_up(
        &self,
        is_ours: impl FnOnce(&State) -> bool,
        error: impl FnOnce() -> Error,
    ) -> Wakers {
        let mut gone = None;
        let mut wakers = Wakers::default();
        let mut state = self.lock();
        if is_ours(&state) {
            state.end_request();
            (state.wished, state.again) = (false, false);
            wakers = std::mem::take(&mut state.wakers);
            if self.is_waited_for() {
                let failure = Failure::to_be_heard(error());
                gone = state.failure.replace(Box::new(failure));
            }
        }
        drop(state);
        if kept("give_up.notify") {
            self.notify();
        }
        drop(gone);
        wakers
    }

    pub(crate) fn word(&self) -> &CellWord {
        self.table.cells().word(self.cell)
    }

    pub(crate) fn resolve_entry(&self) -> usize {
        self.table.cells().resolve_entry(self.cell)
    }

    /// Whether calls go to code now.
    pub(crate) fn is_linked(&self) -> bool {
        self.word().load() != self.resolve_entry()
    }

    /// Sends calls to `entry` from now on. What was written there happens before.
    pub(crate) fn link(&self, entry: usize) {
        self.word().store(entry);
    }

    /// Its code stands elsewhere now; `linked`: calls go there. It is in use as it was before.
    pub(crate) fn moved(&self, from: usize, to: usize, linked: bool) {
        if linked {
            self.link(to);
        }
        self.word().move_calls(from, to);
    }

    /// Sends calls to the thunk from now on.
    pub(crate) fn unlink(&self) {
        self.word().store(self.resolve_entry());
    }

    /// Sends calls to the thunk, and leaves the code where it is.
    pub(crate) fn begin_probation(&self, resident: &mut Resident, place: u64) {
        resident.probation = true;
        resident.place = place;
        self.table.on_probation.fetch_add(1, Ordering::Relaxed);
        self.unlink();
    }

    /// The probation is over, because of a call or because the code goes.
    pub(crate) fn end_probation(&self, resident: &mut Resident) {
        if std::mem::take(&mut resident.probation) {
            self.table.on_probation.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Notes that the method is in use by this code of it.
    pub(crate) fn note_call(&self, code: usize) {
        self.word().note_call(code);
    }

    /// Whether the host called it since this was last asked.
    pub(crate) fn was_called(&self) -> bool {
        self.word().take_calls()
    }

    /// Somebody waits, until [`Method::end_waiting`].
    pub(crate) fn begin_waiting(&self) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
    }

    /// True for the last.
    pub(crate) fn end_waiting(&self) -> bool {
        self.waiting.fetch_sub(1, Ordering::Relaxed) == 1
    }

    /// Whether anybody has a use for its code once it is compiled.
    pub(crate) fn is_wanted(&self, state: &State) -> bool {
        state.wished || self.is_waited_for()
    }

    /// How the last compilation failed, if that is remembered.
    pub(crate) fn failure(&self) -> Option<Error> {
        let state = self.lock();
        let remembered = state.failure.as_ref().filter(|f| f.is_remembered());
        remembered.map(|failure| failure.error.clone())
    }

    pub(crate) fn is_waited_for(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) != 0
    }

    /// What falls when the method is invalidated. Keeps the method.
    pub(crate) fn as_it_is(self: &Arc<Self>) -> Assumption {
        let mut state = self.lock();
        state.relied_on().unwrap_or_else(|| {
            let new = Assumption::about(self.clone());
            state.body = Some(new.downgrade());
            new
        })
    }

    /// One more `keep`; true for the first. Under the ledger's lock.
    pub(crate) fn keep(&self) -> bool {
        self.keeps.fetch_add(1, Ordering::Relaxed) == 0
    }

    /// One `keep` less; true for the last. Under the ledger's lock.
    pub(crate) fn unkeep(&self) -> bool {
        self.keeps.fetch_sub(1, Ordering::Relaxed) == 1
    }

    /// Under the ledger's lock.
    pub(crate) fn is_kept(&self) -> bool {
        self.keeps.load(Ordering::Relaxed) != 0 && kept("keep")
    }

    /// The canonical address. From the first call on the record, its cell and its thunk stay until
    /// [`Method::release_address`], or for as long as the cache.
    pub(crate) fn take_address(self: &Arc<Self>) -> usize {
        if !self.address_taken.load(Ordering::Acquire) {
            self.table.hold(self);
        }
        self.table.cells().canonical(self.cell)
    }

    /// Nobody uses the canonical address any more.
    pub(crate) fn release_address(&self) {
        self.table.let_go(self);
    }

    pub(super) fn note_address_taken(&self, taken: bool) {
        self.address_taken.store(taken, Ordering::Release);
    }

    /// The beginning of the key as messages show it, for names that are kept.
    pub(crate) fn short_name(&self) -> String {
        let mut name = String::new();
        self.append_short_name(&mut name);
        name
    }

    /// Appends that.
    pub(crate) fn append_short_name(&self, to: &mut String) {
        /// Takes so many bytes, and then refuses, so that the rest is not even made.
        struct Short<'s>(&'s mut String, usize);
        impl std::fmt::Write for Short<'_> {
            fn write_str(&mut self, text: &str) -> std::fmt::Result {
                let room = self.1 - self.0.len();
                if text.len() <= room {
                    self.0.push_str(text);
                    return Ok(());
                }
                let end = (0..=room).rev().find(|&end| text.is_char_boundary(end));
                self.0.push_str(&text[..end.unwrap_or(0)]);
                Err(std::fmt::Error)
            }
        }
        let begin = to.len();
        let mut name = Short(to, begin + LONGEST_NAME);
        let written = catch_unwind(AssertUnwindSafe(|| {
            // An error is ours, and the name is long enough.
            let _ = std::fmt::write(&mut name, format_args!("{:?}", self.key));
        }));
        if written.is_err() {
            to.truncate(begin);
            to.push_str(PANICS_IN_DEBUG);
        }
    }

    /// The key as messages show it.
    pub(crate) fn describe(&self) -> String {
        let text = catch_unwind(AssertUnwindSafe(|| format!("{:?}", self.key)));
        text.unwrap_or_else(|_| PANICS_IN_DEBUG.to_owned())
    }
}

impl<K: Key> Drop for Method<K> {
    fn drop(&mut self) {
        self.table.forget(self);
    }
}
