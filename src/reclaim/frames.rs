//! What the calling thread's stack has addresses of.

use super::holds::Holds;
use super::record::Record;
use super::scan::Found;

/// What a scan of the calling thread's stack, and of its registers, finds. `None` where its stack is not known, as on
/// the alternate stack of a signal, or one that nobody told of.
///
/// `standing`: how many addresses are to be told. On the record's thread.
#[cfg(not(feature = "_checked"))]
pub(super) fn found(record: &Record, holds: &Holds, standing: usize) -> Option<Found> {
    use super::scan::scan;
    use super::stack::Stack;
    use super::x86_64::with_registers_on_stack;

    with_registers_on_stack(|low| {
        let stack = match record.stack.get() {
            Some(stack) => stack,
            None => Stack::of_this_thread()?,
        };
        if !stack.contains(low) {
            return None;
        }
        let base = record.base.get();
        let high = if base > low && stack.contains(base) {
            base
        } else {
            stack.high
        };
        // SAFETY: the thread's own stack, from this frame on.
        Some(unsafe { scan(low, high, holds, standing) })
    })
}

/// A checker's threads run no code: a test says what a stack would have.
#[cfg(feature = "_checked")]
pub(super) fn found(_record: &Record, holds: &Holds, standing: usize) -> Option<Found> {
    simulated::all(|words| {
        let mut found = Found::default();
        for &word in words.iter().rev() {
            let Some(owner) = holds.owner(word) else {
                continue;
            };
            found.owners.push(owner);
            if found.standing.len() < standing {
                found.standing.push(word);
            }
        }
        found.owners.sort_unstable();
        found.owners.dedup();
        Some(found)
    })
}

/// The stacks of a checker's threads.
#[cfg(feature = "_checked")]
pub mod simulated {
    use std::cell::RefCell;

    use crate::sync::thread_local;

    thread_local! {
        static WORDS: RefCell<Vec<u64>> = const { RefCell::new(Vec::new()) };
    }

    /// The calling thread's stack grows by this word.
    #[cfg_attr(feature = "_loom", allow(dead_code))]
    pub fn push(word: u64) {
        WORDS.with(|words| words.borrow_mut().push(word));
    }

    /// Takes the last word off the calling thread's stack.
    #[cfg_attr(feature = "_loom", allow(dead_code))]
    pub fn pop() -> Option<u64> {
        WORDS.with(|words| words.borrow_mut().pop())
    }

    pub(super) fn all<R>(f: impl FnOnce(&[u64]) -> R) -> R {
        // Looking at words may let another thread go on, which has a stack of its own.
        let words = WORDS.with(|words| words.borrow().clone());
        f(&words)
    }
}
