//! Times at which no thread of this process is inside LLVM, or an embedder's code generator.
//!
//! A forked child inherits LLVM's locks, and the front end's, as they are. If a thread compiled at that
//! moment, some may be held by nobody: who compiles in the child might then wait for ever. So it is
//! counted who is inside, and whether the child may compile is known.

use std::cell::Cell;
use std::sync::PoisonError;
use std::thread::ThreadId;

use crate::compile::on_a_worker;
use crate::error::Error;
use crate::sync::plain::{Condvar, Mutex, MutexGuard};

pub(super) struct State {
    /// Threads that are inside.
    inside: usize,
    /// Who keeps others from going in, or waits until it can.
    quiet: Option<ThreadId>,
    /// This process was forked while another thread was inside.
    spoilt: bool,
}

static STATE: Mutex<State> = Mutex::new(State {
    inside: 0,
    quiet: None,
    spoilt: false,
});
static CHANGED: Condvar = Condvar::new();

thread_local! {
    /// How deep this thread is inside.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

fn lock() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn me() -> ThreadId {
    std::thread::current().id()
}

/// The thread is inside while this lives.
pub(super) struct Inside(());

/// Goes inside; waits while [`quietly`] keeps others out.
pub(super) fn go_inside() -> Inside {
    let depth = DEPTH.replace(DEPTH.get() + 1);
    if depth == 0 {
        let mut state = lock();
        while state.quiet.is_some_and(|quiet| quiet != me()) {
            state = CHANGED.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.inside += 1;
    }
    Inside(())
}

impl Drop for Inside {
    fn drop(&mut self) {
        let depth = DEPTH.get() - 1;
        DEPTH.set(depth);
        if depth == 0 {
            lock().inside -= 1;
            CHANGED.notify_all();
        }
    }
}

/// Nobody else goes inside while this lives.
struct Quiet(Option<ThreadId>);

impl Drop for Quiet {
    fn drop(&mut self) {
        lock().quiet = self.0;
        CHANGED.notify_all();
    }
}

/// Runs `f` while nobody is inside but this thread.
pub(crate) fn quietly<R>(f: impl FnOnce() -> R) -> Result<R, Error> {
    if DEPTH.get() > 0 || on_a_worker() {
        return Err(Error::WouldDeadlock);
    }
    let mut state = lock();
    if state.spoilt {
        return Err(Error::Forked);
    }
    while state.quiet.is_some_and(|quiet| quiet != me()) {
        state = CHANGED.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
    let quiet = Quiet(state.quiet.replace(me()));
    while state.inside > 0 {
        state = CHANGED.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
    drop(state);
    let result = f();
    drop(quiet);
    Ok(result)
}

/// Whether this process was forked while another thread was inside.
pub(super) fn is_spoilt() -> bool {
    lock().spoilt
}

/// Called before a fork; what it returns is given back after it, in both processes.
pub(super) fn hold_for_fork() -> MutexGuard<'static, State> {
    lock()
}

/// Called in the child, which has none of the other threads.
pub(super) fn in_child(state: &mut State) {
    let mine = usize::from(DEPTH.get() > 0);
    state.spoilt |= state.inside > mine;
    state.inside = mine;
    // There is nobody to keep out.
    state.quiet = None;
}
