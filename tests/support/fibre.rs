//! Fibres: stacks of corosensei's, and what a participant is told when it runs on them.

use std::cell::Cell;
use std::ops::Range;

use corosensei::stack::{DefaultStack, Stack};
use corosensei::{Coroutine, CoroutineResult, Yielder};
use inkpot::{Participant, StackHold};

const STACK: usize = 256 << 10;

/// Something that runs on a stack of its own, to the end or until it pauses.
pub struct Fibre {
    coroutine: Coroutine<*const Participant, StackHold, i64>,
    range: Range<*const ()>,
    /// What the suspended stack has frames in.
    hold: Option<StackHold>,
}

// SAFETY: bodies are `Send`, and what tests have on the stack when they pause is too: guards and
// entries are not there, which is what `switch_stack` demands.
unsafe impl Send for Fibre {}

/// What runs in a fibre has this.
pub struct Inside<'y> {
    yielder: &'y Yielder<*const Participant, StackHold>,
    me: Cell<*const Participant>,
}

impl Fibre {
    pub fn new(body: impl FnOnce(&Inside<'_>) -> i64 + Send + 'static) -> Self {
        let stack = DefaultStack::new(STACK).expect("there is memory for a stack");
        let range = stack.limit().get() as *const ()..stack.base().get() as *const ();
        let coroutine = Coroutine::with_stack(stack, move |yielder, me| {
            let inside = Inside {
                yielder,
                me: Cell::new(me),
            };
            let _leaves = Leaves(&inside);
            body(&inside)
        });
        Self {
            coroutine,
            range,
            hold: None,
        }
    }

    /// Runs it on this thread, which is pinned, until it pauses, or to the end: what it returned
    /// then.
    pub fn resume(&mut self, me: &Participant) -> Option<i64> {
        // SAFETY: the thread runs on its own stack, and switches to this one below. Its frames were
        // suspended by `pause`, with this hold.
        let ours = unsafe { me.switch_stack(self.range.clone()) };
        let _back = Back(Some(ours), me);
        if let Some(hold) = self.hold.take() {
            hold.hand_over(me);
        }
        match self.coroutine.resume(me) {
            CoroutineResult::Yield(hold) => {
                self.hold = Some(hold);
                None
            }
            CoroutineResult::Return(result) => Some(result),
        }
    }

    /// How many generations are held for it.
    pub fn generations(&self) -> usize {
        self.hold.as_ref().map_or(0, StackHold::generations)
    }
}

impl Inside<'_> {
    /// The participant of the thread that runs the fibre now.
    pub fn me(&self) -> &Participant {
        // SAFETY: who resumes it lends it until the fibre pauses, or ends.
        unsafe { &*self.me.get() }
    }

    /// Goes back to who resumed it. Goes on when it is resumed, on whatever thread.
    ///
    /// Never inlined: it ends on another thread than it began on, and must not keep the address of
    /// a thread-local.
    #[inline(never)]
    pub fn pause(&self) {
        let me = self.yielder.suspend(self.leave());
        self.me.set(me);
    }

    #[inline(never)]
    fn leave(&self) -> StackHold {
        let own = self.me().thread_stack().expect("the system can tell");
        // SAFETY: the thread is on the fibre's stack, and switches to its own next. No guard and no
        // entry is on a fibre's stack when it pauses: it has bare pointers.
        unsafe { self.me().switch_stack(own) }
    }
}

/// The fibre ends, by returning or by a panic.
struct Leaves<'a>(&'a Inside<'a>);

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        drop(self.0.leave());
    }
}

/// The thread is on its own stack again.
struct Back<'a>(Option<StackHold>, &'a Participant);

impl Drop for Back<'_> {
    fn drop(&mut self) {
        if let Some(hold) = self.0.take() {
            hold.hand_over(self.1);
        }
    }
}
