//! Stacks: where a scan begins and ends, and stacks of an embedder's own.

use std::any::Any;
use std::cell::Cell;
use std::ops::Range;
use std::sync::Arc;

use super::domain::Domain;
use super::participant::Participant;
use super::record::{Kept, Record, release};

/// A span of addresses that a stack lies in, the high end being where it begins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stack {
    pub(super) low: usize,
    pub(super) high: usize,
}

impl Stack {
    pub(super) fn contains(self, address: usize) -> bool {
        (self.low..self.high).contains(&address)
    }

    /// The stack that the system gave to the calling thread.
    pub(super) fn of_this_thread() -> Option<Self> {
        thread_local! {
            static OWN: Cell<Option<Stack>> = const { Cell::new(None) };
        }
        if OWN.get().is_none() {
            OWN.set(ask_the_system());
        }
        OWN.get()
    }
}

fn ask_the_system() -> Option<Stack> {
    // SAFETY: plain old data; the attributes are initialised by the first call, read by the
    // second, and destroyed once.
    unsafe {
        let mut attributes = std::mem::zeroed::<libc::pthread_attr_t>();
        if libc::pthread_getattr_np(libc::pthread_self(), &mut attributes) != 0 {
            return None;
        }
        let (mut low, mut size) = (std::ptr::null_mut(), 0);
        let failed = libc::pthread_attr_getstack(&attributes, &mut low, &mut size);
        libc::pthread_attr_destroy(&mut attributes);
        (failed == 0).then(|| Stack {
            low: low as usize,
            high: low as usize + size,
        })
    }
}

/// What keeps the code alive that a suspended stack has frames in: made by
/// [`Participant::switch_stack`] when the stack is left.
///
/// To be kept until that stack has run again and reached a safepoint; the simple way is to
/// [hand it over](StackHold::hand_over) to the participant that runs the stack next. Dropped
/// earlier, the stack must never run again. It can be sent to, and dropped on, any thread, and
/// keeps the cache alive.
#[must_use = "dropped, the frames of the stack that was left are in code that may be unmapped"]
pub struct StackHold {
    holds: Vec<Kept>,
    /// Whose entries may be on the stack. Never followed.
    left_by: *const Record,
    domain: Arc<Domain>,
    /// Dropped last: the domain is the cache's.
    cache: Arc<dyn Any + Send + Sync>,
}

// SAFETY: `left_by` is only compared; the rest can be sent.
unsafe impl Send for StackHold {}
// SAFETY: as above; there is nothing to be shared but a number.
unsafe impl Sync for StackHold {}

impl StackHold {
    pub(super) fn new(
        holds: Vec<Kept>,
        left_by: *const Record,
        domain: Arc<Domain>,
        cache: Arc<dyn Any + Send + Sync>,
    ) -> Self {
        Self {
            holds,
            left_by,
            domain,
            cache,
        }
    }

    /// How many generations it keeps.
    pub fn generations(&self) -> usize {
        self.holds.len()
    }

    /// Gives it to the participant that is about to run the stack (after
    /// [`Participant::switch_stack`] to it): its next safepoint gives up what is not needed then.
    ///
    /// # Panics
    /// If the participant is of another cache, or not pinned: the stack cannot run then.
    pub fn hand_over(mut self, to: &Participant) {
        assert!(
            Arc::ptr_eq(&self.domain, to.domain()),
            "the stack has frames in another cache's code"
        );
        to.take_holds(&mut self.holds, self.left_by);
    }
}

impl Drop for StackHold {
    fn drop(&mut self) {
        release(std::mem::take(&mut self.holds), self.domain.holds());
    }
}

impl std::fmt::Debug for StackHold {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let _ = &self.cache;
        f.debug_struct("StackHold")
            .field("generations", &self.holds.len())
            .finish()
    }
}

/// A span of memory as a stack.
pub(super) fn from_range(range: &Range<*const ()>) -> Stack {
    Stack {
        low: range.start as usize,
        high: range.end as usize,
    }
}
