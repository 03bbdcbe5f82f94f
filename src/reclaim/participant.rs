//! Participants: the threads that may be inside code.

use std::any::Any;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use super::domain::Domain;
use super::guard::Guard;
use super::record::{Kept, Record};
use super::safepoint;
use super::stack::{Stack, StackHold, from_range};
use super::visit::give_up;

/// A thread that may run methods: made by [`Cache::participant`](crate::Cache::participant),
/// once per thread, and kept as long as the thread runs methods.
///
/// It is neither `Send` nor `Sync`: pins belong to a thread. Making one costs about a
/// microsecond.
pub struct Participant {
    record: Arc<Record>,
    domain: Arc<Domain>,
    /// Keeps the cache: what a guard's thread may be inside must not go with the last handle.
    cache: Arc<dyn Any + Send + Sync>,
    not_send: PhantomData<*mut ()>,
}

impl Participant {
    pub(crate) fn new(
        domain: &Arc<Domain>,
        name: String,
        cache: Arc<dyn Any + Send + Sync>,
    ) -> Self {
        #[cfg(not(feature = "_checked"))]
        crate::code::alternate::give();
        if domain.counts() {
            crate::tier::counts::give();
        }
        let record = Arc::new(Record::new(domain, name));
        domain.join(record.clone());
        record.list();
        Self {
            record,
            domain: domain.clone(),
            cache,
            not_send: PhantomData,
        }
    }

    /// The name it was given.
    pub fn name(&self) -> &str {
        &self.record.name
    }

    /// Pins the thread: while the guard lives, no code that it could have loaded is unmapped.
    ///
    /// Costs about 6 ns. Guards nest; a second one of the same participant is a counter. A
    /// thread that calls often keeps one guard and [re-pins](Guard::repin) it between pieces of
    /// work, which costs a fraction of a nanosecond. While a thread stays pinned, nothing that
    /// was retired after its pin can be freed, unless it comes to a
    /// [safepoint](Participant::safepoint): the statistics name whoever holds memory up.
    ///
    /// A guard belongs to the stack that it was made on: none may live on a stack that moves
    /// between threads.
    #[inline]
    pub fn pin(&self) -> Guard<'_> {
        let record = &*self.record;
        let pins = record.pins.get();
        if pins == 0 {
            // SAFETY: on the record's thread (`Participant` is not `Send`), and not pinned.
            unsafe { record.pin(&self.domain) };
        }
        record.pins.set(pins + 1);
        Guard::new(record, &self.domain)
    }

    /// Runs `body` with a guard. Safepoints inside scan the stack no further than to here, which
    /// is worth it where much lies above: an interpreter's frames, say. So entries, and bare
    /// pointers, are kept inside of it. (Where the thread is pinned already they scan as far as they
    /// did.)
    pub fn pinned<R>(&self, body: impl FnOnce(&mut Guard<'_>) -> R) -> R {
        /// Gives the base back, also when `body` panics.
        struct Based<'a>(&'a Record);
        impl Drop for Based<'_> {
            fn drop(&mut self) {
                self.0.base.set(0);
            }
        }
        /// A frame of its own: all of `body`'s, inlined or not, is below the caller's.
        #[inline(never)]
        fn run<R>(me: &Participant, body: impl FnOnce(&mut Guard<'_>) -> R) -> R {
            body(&mut me.pin())
        }
        let here = 0u8;
        let outermost = self.record.pins.get() == 0 && !self.record.is_blocked();
        let _based = outermost.then(|| {
            let here = std::hint::black_box(&raw const here);
            self.record.base.set(here as usize);
            Based(&self.record)
        });
        run(self, body)
    }

    /// A safepoint inside of code: for runtime functions that methods call, so that a method which
    /// runs for minutes does not stop reclamation.
    ///
    /// The thread's stack is scanned, conservatively, for addresses of code; the generations found
    /// are held until the next safepoint, or until the thread is unpinned. Everything else that was
    /// retired before may go from then on, also while the method runs on.
    ///
    /// Costs a load and a compare, unless something waits to be freed; then a scan of the stack (32
    /// KiB in 2 us). It does nothing while the thread is not pinned, nor on a stack that it was not
    /// [told of](Participant::switch_stack), such as a signal's alternate stack.
    ///
    /// # Safety
    /// Of what was loaded before, under any guard of this participant, nothing is used afterwards
    /// that is kept off the stack, in a collection on the heap say: bare pointers, and addresses of
    /// constants. (Variables, and all frames of methods, are found by the scan. An
    /// [`Entry`](crate::Entry) knows, and panics.)
    pub unsafe fn safepoint(&self) {
        // SAFETY: on the record's thread, as `Participant` is not `Send`; the caller's promise.
        unsafe { safepoint::safepoint(&self.record, &self.domain) };
    }

    /// Runs `wait`, which may take long, with the thread unpinned, inside of code: a
    /// [safepoint](Participant::safepoint) that lasts. For runtime functions that methods call.
    ///
    /// What the stack has frames in stays held meanwhile. `wait` may pin, call methods, and block
    /// again. On a stack that the cache was not [told of](Participant::switch_stack) it runs
    /// pinned.
    ///
    /// # Safety
    /// As for [`Participant::safepoint`]. And `wait`, and what it calls, loads and calls nothing
    /// under a guard that was made before: it pins anew. (Such a guard can be dropped in it.) It is
    /// left by returning or unwinding, not by `longjmp`, on the stack that it began on.
    pub unsafe fn blocking<R>(&self, wait: impl FnOnce() -> R) -> R {
        // SAFETY: on the record's thread, as `Participant` is not `Send`; the caller's promise.
        unsafe { safepoint::blocking(&self.record, &self.domain, wait) }
    }

    /// The stack that the system gave to this thread, for [`Participant::switch_stack`] back to it.
    /// `None` if the system cannot tell.
    pub fn thread_stack(&self) -> Option<Range<*const ()>> {
        let own = Stack::of_this_thread()?;
        Some(own.low as *const ()..own.high as *const ())
    }

    /// Says that the thread is about to run on another stack: a coroutine's, a fibre's, or its own
    /// again. To be called on the stack that is left (the thread's own too), as the last thing
    /// before it is left; `to` is where the other one lies.
    ///
    /// Scans the stack that is left, and returns what keeps alive the code that it has frames in.
    /// That value goes with the suspended stack, to whatever thread runs it next: see
    /// [`StackHold`]. From here on safepoints of this thread scan the other stack.
    ///
    /// # Safety
    /// - The calling thread runs on the stack that it last said (at first, its own).
    /// - The other stack lies in `to`, its frames begin at the high end, and it stays mapped while
    ///   the thread is said to be on it. If it was suspended with frames of methods on it, its
    ///   [`StackHold`] is alive.
    /// - Between this call and the switch no method is called.
    /// - A stack with frames of methods runs only on a thread that is pinned, by a guard that is
    ///   neither re-pinned nor dropped nor used for [`Handle::get`](crate::Handle::get) meanwhile.
    ///   Nothing that was loaded before is used afterwards if it is kept off the stack.
    /// - No guard, no entry, and no `blocking` lives on a stack that moves between threads; and
    ///   what runs while a `blocking` lasts, on whatever stack, loads and calls nothing under a
    ///   guard that was made before.
    ///
    /// # Panics
    /// If the thread is on a stack that it did not say.
    pub unsafe fn switch_stack(&self, to: Range<*const ()>) -> StackHold {
        let record = &*self.record;
        let inside = safepoint::may_be_inside(&self.domain);
        let holds = inside.then(|| {
            // SAFETY: on the record's thread; what it is inside of is protected by a pin of its
            // participants, or held by the `blocking` that one of them is inside of.
            unsafe { safepoint::hold_stack(record, &self.domain) }
                .expect("the thread is on the stack that it said, or on its own")
        });
        let holds = record.kept(holds.unwrap_or_default());
        // It is the thread's stack, whichever of its participants said so.
        safepoint::told_of_stack(&self.domain, from_range(&to));
        StackHold::new(holds, record, self.domain.clone(), self.cache.clone())
    }

    pub(super) fn domain(&self) -> &Arc<Domain> {
        &self.domain
    }

    pub(super) fn record(&self) -> Arc<Record> {
        self.record.clone()
    }

    /// Takes over holds of a stack that runs here from now on, until the next safepoint.
    pub(super) fn take_holds(&self, holds: &mut Vec<Kept>, left_by: *const Record) {
        assert!(
            holds.is_empty() || self.record.pins.get() != 0,
            "a stack with frames of methods runs on a pinned thread only"
        );
        let now = self.record.quantum.get();
        let ours = std::ptr::eq(left_by, &*self.record);
        for kept in holds.iter_mut() {
            // No entry of another participant's is on that stack: to that one they are new. (One
            // whose record lies where the other's did has not counted so far yet.)
            kept.since = if ours { kept.since.min(now) } else { now };
        }
        // SAFETY: the owner part, on its thread.
        let levels = unsafe { &mut *self.record.levels.get() };
        levels.innermost.append(holds);
        self.record.set_holding(!levels.innermost.is_empty());
    }
}

impl Drop for Participant {
    fn drop(&mut self) {
        if self.record.lent.get() != 0 {
            // It takes a guard that was leaked to come here.
            give_up("a participant was dropped inside of a callback that counts on its pin");
        }
        self.record.unlist();
        // SAFETY: on the owner's thread. Guards borrow the participant, so a pin that is still
        // counted belongs to a guard that was leaked, and its entries cannot be named any more.
        unsafe { self.record.give_up(self.domain.holds()) };
        self.domain.leave(&self.record);
        self.record.end();
    }
}

impl std::fmt::Debug for Participant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Participant")
            .field("name", &self.record.name)
            .field("pins", &self.record.pins.get())
            .finish()
    }
}
