//! Visits: calls by callbacks, on threads that need not have registered.
//!
//! A **visit** is a call through a callback's address that has not returned. It pins the thread for
//! its time: by one more guard of a participant that is pinned already, or else by a participant of
//! its own, the thread's **visitor**, which is made at the first such call and stays until the
//! thread ends.
//!
//! # Ends
//!
//! A visit ends when its method returns, or when a panic, an exception or the end of the thread
//! unwinds through it (the assembly in [`crate::method`] and its personality see to both). A
//! `longjmp` tells nobody. On the thread's own stack it shows later: a visit whose return address
//! lies below the one of a new visit, or of one that ends, has no frame any more. On other stacks,
//! where nothing can be known from addresses, the thread stays pinned until it ends.
//!
//! # What keeps the cache
//!
//! A visitor must not keep a cache that nobody has any more, just because its thread lives on; but
//! a thread that is inside must. So a visitor notes in a word of its own that it is inside, and
//! when the last of the public handles is dropped, those that are not inside lose their hold on the
//! cache. Both sides write, and then read what the other wrote, all of it sequentially consistent,
//! so one of them sees it; and the hold is taken, or found to be there, under its lock.

use std::any::Any;
use std::cell::Cell;
use std::ptr;
use std::sync::{Arc, OnceLock, PoisonError, Weak};

use super::domain::Domain;
use super::guard::Guard;
use super::participant::Participant;
use super::record::{Record, of_this_thread};
use super::stack::Stack;
use crate::sync::atomic::{AtomicBool, Ordering};
use crate::sync::fault::order;
use crate::sync::{Mutex, MutexGuard, thread_local};

/// A hold on a cache.
type Keep = Arc<dyn Any + Send + Sync>;

/// The visitors of one cache.
#[derive(Default)]
pub(super) struct Visitors {
    /// What a visitor keeps.
    cache: OnceLock<Weak<dyn Any + Send + Sync>>,
    closed: AtomicBool,
    all: Mutex<Vec<Arc<Visitor>>>,
}

/// What a visitor's thread and its cache share.
struct Visitor {
    /// Written by its thread only.
    inside: AtomicBool,
    keep: Mutex<Option<Keep>>,
    record: Arc<Record>,
}

impl Visitor {
    fn let_go(&self) -> Option<Keep> {
        lock(&self.keep).take()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Visitors {
    /// Takes a dead thread's visitor out. What it kept is to be dropped when no lock is held.
    pub(super) fn bury(&self, record: &Arc<Record>) -> Option<Keep> {
        let mut all = lock(&self.all);
        let at = all.iter().position(|v| Arc::ptr_eq(&v.record, record))?;
        all.swap_remove(at).let_go()
    }

    /// For the time of a fork.
    pub(super) fn hold_for_fork(&self) -> impl Sized + '_ {
        lock(&self.all)
    }
}

impl Domain {
    /// Says what keeps the cache. Once, before there is a callback.
    pub(crate) fn set_keep(&self, cache: Weak<dyn Any + Send + Sync>) {
        // The first stays: it is called once.
        let _ = self.visitors.cache.set(cache);
    }

    /// Keeps the cache; `None` if nobody has it any more.
    pub(crate) fn keep(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        self.visitors.cache.get()?.upgrade()
    }

    /// Nobody has the cache any more, but for threads that are inside: they keep it until they
    /// leave. What the others kept is returned, to be dropped.
    pub(crate) fn close(&self) -> impl Sized + use<> {
        self.visitors
            .closed
            .store(true, order("close.closed", Ordering::SeqCst));
        let all = lock(&self.visitors.all);
        let outside = |v: &Arc<Visitor>| {
            // Locked before it is looked at: who goes in meanwhile finds either this gone, or is seen.
            let mut keep = lock(&v.keep);
            let inside = v.inside.load(order("close.inside", Ordering::SeqCst));
            (!inside).then(|| keep.take()).flatten()
        };
        all.iter().filter_map(outside).collect::<Vec<_>>()
    }
}

/// One visit. The assembly knows the first three fields, and refers to it by a register that calls
/// preserve: it stays where it is until the visit has ended.
#[repr(C)]
pub(crate) struct Visit {
    /// Where the visit's caller goes on.
    return_address: usize,
    /// The caller's rbx. Written by the assembly.
    rbx: usize,
    /// Where the call goes.
    target: usize,
    /// Where the return address was.
    slot: usize,
    guard: Option<Guard<'static>>,
    /// The visitor whose guard it is; null if it is a participant's.
    member: *mut Member,
    thread: *mut Thread,
    /// Its place in `Thread::elsewhere`, unless it is on the thread's own stack.
    place: Option<usize>,
}

/// A thread's visitor in one cache.
struct Member {
    visits: usize,
    visitor: Arc<Visitor>,
    participant: Participant,
    domain: Arc<Domain>,
}

/// What a thread that visits caches has.
struct Thread {
    #[allow(clippy::vec_box, reason = "visits refer to them")]
    members: Vec<Box<Member>>,
    /// Visits on the thread's own stack, newest, and so lowest, last.
    own: Vec<*mut Visit>,
    /// Visits on other stacks, in no order.
    elsewhere: Vec<*mut Visit>,
    spare: Vec<*mut Visit>,
    /// Visitors of caches that have ended, to be dropped when the thread's state is not in use.
    ended: Vec<Member>,
    stack: Option<Stack>,
    /// Its end is known: a destructor of the thread's will come. False for a thread whose
    /// destructors have run; it forgets everything as soon as it is outside.
    lasts: bool,
}

thread_local! {
    static HERE: Cell<*mut Thread> = const { Cell::new(ptr::null_mut()) };
    static END: End = const { End };
}

struct End;

/// The calling thread of a model ends: loom destroys what is its own all at once, so this comes before.
#[cfg(feature = "_loom")]
#[allow(dead_code, reason = "for models")]
pub(crate) fn thread_ends() {
    drop(End);
}

impl Drop for End {
    fn drop(&mut self) {
        let thread = HERE.get();
        // SAFETY: what `HERE` points to is this thread's, and alive.
        if let Some(state) = unsafe { thread.as_mut() } {
            state.lasts = false;
            // With a visit left the thread ended, or the process ends, inside of it. Its frames
            // may still be there; the reclaimer will find that the thread is gone.
            if state.own.is_empty() && state.elsewhere.is_empty() {
                // SAFETY: this thread's, and no visit refers to it.
                unsafe { Thread::end(thread, true) };
            }
        }
    }
}

/// Ends the process with a message: something went on in a place where nothing may unwind.
pub(crate) fn give_up(why: &str) -> ! {
    let message = format!("inkpot: {why}\n");
    // SAFETY: the buffer is valid for its length.
    unsafe { libc::write(2, message.as_ptr().cast(), message.len()) };
    std::process::abort();
}

/// Begins a visit: pins the thread. `slot` holds the address to which the caller wants it to
/// return.
///
/// # Safety
/// The calling thread has just called a callback of the domain's cache, whose return address is
/// at `slot`; the frame is left by [`end`] only, or unwound, or jumped out of.
pub(crate) unsafe fn begin(domain: &Arc<Domain>, slot: *const usize, target: usize) -> *mut Visit {
    let thread = here();
    // SAFETY: `here` returns this thread's; nothing below calls code of others before the last
    // statement, which no longer uses it.
    let (visit, ended) = unsafe {
        let state = &mut *thread;
        let on_own_stack = state.stack.is_some_and(|s| s.contains(slot as usize));
        let ended = if on_own_stack {
            end_all(state, slot as usize)
        } else {
            Vec::new()
        };
        // A visitor that is inside is pinned too, and must count.
        let inside = state.known(domain).filter(|&m| (*m).visits > 0);
        let participant = match inside {
            Some(_) => None,
            None => pinned(domain),
        };
        let (guard, member) = match participant {
            // It cannot be dropped before the guard (see its `drop`), and it has the domain.
            Some(record) => (again(&*record, &*Arc::as_ptr(domain)), ptr::null_mut()),
            None => {
                let member = inside.unwrap_or_else(|| state.member(domain));
                ((*member).enter(), member)
            }
        };
        let visit = state.spare.pop().unwrap_or_else(Visit::make);
        (*visit).return_address = *slot;
        (*visit).target = target;
        (*visit).slot = slot as usize;
        (*visit).guard = Some(guard);
        (*visit).member = member;
        (*visit).thread = thread;
        (*visit).place = (!on_own_stack).then_some(state.elsewhere.len());
        let list = if on_own_stack {
            &mut state.own
        } else {
            &mut state.elsewhere
        };
        list.push(visit);
        (visit, (ended, std::mem::take(&mut state.ended)))
    };
    let (kept, members) = ended;
    drop(kept);
    members.into_iter().for_each(|member| member.end());
    visit
}

/// A record of the calling thread that is pinned in this domain.
fn pinned(domain: &Arc<Domain>) -> Option<*const Record> {
    let mut found = None;
    of_this_thread(|record| {
        if ptr::eq(record.domain, Arc::as_ptr(domain)) && record.pins.get() != 0 {
            found = Some(ptr::from_ref(record));
        }
    });
    found
}

/// One more guard of a participant that is pinned.
fn again(record: &'static Record, domain: &'static Domain) -> Guard<'static> {
    record.pins.set(record.pins.get() + 1);
    record.lent.set(record.lent.get() + 1);
    Guard::new(record, domain)
}

/// Ends a visit: unpins the thread, if it was its only pin. What the visit says stays readable
/// until the next one begins, and for good if the thread `unwinds`.
///
/// # Safety
/// It began on this thread and has not ended, and its method has returned or was unwound.
pub(crate) unsafe fn end(visit: *mut Visit, unwinds: bool) {
    // SAFETY: the visit is alive, and its thread with it.
    let (thread, ended, over) = unsafe {
        let thread = (*visit).thread;
        if thread != HERE.get() {
            give_up("a callback returned on another thread than it was called on");
        }
        let state = &mut *thread;
        let ended = match (*visit).place {
            // With it all that were begun above it and jumped out of.
            None => end_all(state, (*visit).slot),
            Some(place) => {
                state.elsewhere.swap_remove(place);
                if let Some(&moved) = state.elsewhere.get(place) {
                    (*moved).place = Some(place);
                }
                finish(state, visit).into_iter().collect()
            }
        };
        let over = !state.lasts && state.own.is_empty() && state.elsewhere.is_empty();
        if unwinds {
            // It is read yet, and what is dropped below may begin another.
            state.spare.retain(|&spare| spare != visit);
        }
        (thread, ended, over)
    };
    if over {
        // SAFETY: this thread's, and no visit refers to it any more.
        unsafe { Thread::end(thread, !unwinds) };
    }
    drop(ended);
    // SAFETY: if it is still this thread's state it is alive, and nobody uses it now.
    if unwinds && let Some(state) = unsafe { HERE.get().as_mut() } {
        state.spare.push(visit);
    }
}

/// Ends the visits of the thread's own stack whose return addresses lie at `slot` or below.
/// Returns what they kept, to be dropped when the thread's state is not in use.
///
/// # Safety
/// None of these has a frame any more.
unsafe fn end_all(state: &mut Thread, slot: usize) -> Vec<Keep> {
    let mut ended = Vec::new();
    while let Some(&visit) = state.own.last() {
        // SAFETY: listed visits are alive; the caller's promise.
        unsafe {
            if (*visit).slot > slot {
                break;
            }
            state.own.pop();
            ended.extend(finish(state, visit));
        }
    }
    ended
}

/// Ends a visit that has been taken off its list.
///
/// # Safety
/// As for `end_all`.
unsafe fn finish(state: &mut Thread, visit: *mut Visit) -> Option<Keep> {
    // SAFETY: the visit is alive, and with it what it refers to.
    unsafe {
        let guard = (*visit).guard.take();
        if (*visit).member.is_null()
            && let Some(guard) = &guard
        {
            let lent = &guard.record().lent;
            lent.set(lent.get() - 1);
        }
        drop(guard);
        state.spare.push(visit);
        (*visit).member.as_mut().and_then(Member::leave)
    }
}

impl Visit {
    fn make() -> *mut Self {
        Box::into_raw(Box::new(Self {
            return_address: 0,
            rbx: 0,
            target: 0,
            slot: 0,
            guard: None,
            member: ptr::null_mut(),
            thread: ptr::null_mut(),
            place: None,
        }))
    }
}

/// The calling thread's state, made if need be.
fn here() -> *mut Thread {
    let thread = HERE.get();
    if thread.is_null() {
        Thread::begin()
    } else {
        thread
    }
}

impl Thread {
    #[cold]
    fn begin() -> *mut Self {
        let thread = Box::into_raw(Box::new(Self {
            members: Vec::new(),
            own: Vec::new(),
            elsewhere: Vec::new(),
            spare: Vec::new(),
            ended: Vec::new(),
            stack: Stack::of_this_thread(),
            // Registers the destructor; fails when it has run.
            lasts: END.try_with(|_| ()).is_ok(),
        }));
        HERE.set(thread);
        thread
    }

    /// Forgets the thread's visitors.
    ///
    /// # Safety
    /// It is the calling thread's, no visit is left, and nobody refers to it.
    unsafe fn end(thread: *mut Self, free_visits: bool) {
        HERE.set(ptr::null_mut());
        // SAFETY: it came from a box, as did the visits; the caller's promise.
        let state = unsafe { Box::from_raw(thread) };
        if free_visits {
            for visit in state.spare {
                // SAFETY: as above.
                drop(unsafe { Box::from_raw(visit) });
            }
        }
        // Last, as the end of a cache may be among it, and with that code of others.
        state.members.into_iter().for_each(|member| member.end());
    }

    /// The thread's visitor in a domain, if it has one.
    fn known(&mut self, domain: &Arc<Domain>) -> Option<*mut Member> {
        let of_domain = |m: &&mut Box<Member>| Arc::ptr_eq(&m.domain, domain);
        let member = self.members.iter_mut().find(of_domain)?;
        Some(&raw mut **member)
    }

    /// The thread's visitor in a domain, made if need be.
    fn member(&mut self, domain: &Arc<Domain>) -> *mut Member {
        self.known(domain).unwrap_or_else(|| self.join(domain))
    }

    #[cold]
    fn join(&mut self, domain: &Arc<Domain>) -> *mut Member {
        // Those of caches that have ended hold nothing any more.
        let ended = |m: &Member| m.visits == 0 && m.domain.visitors.closed.load(Ordering::Relaxed);
        let ended = self.members.extract_if(.., |m| ended(m));
        self.ended.extend(ended.map(|member| *member));
        let keep = domain.visitors.cache.get().and_then(Weak::upgrade);
        if keep.is_none() {
            give_up("a callback of a cache that has ended was called");
        }
        let participant = Participant::new(domain, "callback thread".to_owned(), Arc::new(()));
        let visitor = Arc::new(Visitor {
            inside: AtomicBool::new(false),
            keep: Mutex::new(keep),
            record: participant.record(),
        });
        lock(&domain.visitors.all).push(visitor.clone());
        self.members.push(Box::new(Member {
            visits: 0,
            visitor,
            participant,
            domain: domain.clone(),
        }));
        let member = self.members.last_mut().expect("pushed just now");
        &raw mut **member
    }
}

impl Member {
    /// Pins, for a visit.
    fn enter(&mut self) -> Guard<'static> {
        self.visits += 1;
        if self.visits == 1 {
            self.visitor.inside.store(true, Ordering::SeqCst);
            if self.domain.visitors.closed.load(Ordering::SeqCst)
                && lock(&self.visitor.keep).is_none()
            {
                give_up("a callback of a cache that has ended was called");
            }
        }
        let guard = self.participant.pin();
        // SAFETY: the member is in a box, and stays there while it has visits.
        unsafe { std::mem::transmute::<Guard<'_>, Guard<'static>>(guard) }
    }

    /// A visit has ended, its guard is gone. Returns the hold on a cache that nobody else has.
    fn leave(&mut self) -> Option<Keep> {
        self.visits -= 1;
        if self.visits > 0 {
            return None;
        }
        self.visitor
            .inside
            .store(false, order("leave.inside", Ordering::SeqCst));
        if self
            .domain
            .visitors
            .closed
            .load(order("leave.closed", Ordering::SeqCst))
        {
            return self.visitor.let_go();
        }
        None
    }

    fn end(self) {
        let keep = self.domain.visitors.bury(&self.visitor.record);
        drop(self.participant);
        drop(keep);
    }
}
