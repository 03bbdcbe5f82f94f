//! Everything of the embedder's that a cache calls panics, one call after the other: the first that is made in a
//! scenario, the second, and so on until a run has fewer. Keys, backends, front ends, policies, listeners, wakers,
//! closures. It costs the call that ran into it; the cache goes on, and ends as it should.

#[path = "../support/mod.rs"]
mod support;

mod llvm;
mod scenario;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use support::child;

/// Calls of the embedder's code, and the one that panics.
static CALLS: AtomicU64 = AtomicU64::new(0);
static PANICS: AtomicU64 = AtomicU64::new(0);
static PANICKED: Mutex<Option<&str>> = Mutex::new(None);

/// Called by all of it.
fn trip(what: &'static str) {
    let number = CALLS.fetch_add(1, Ordering::SeqCst) + 1;
    // A second one while a panic unwinds would end the process, as Rust has it.
    if number == PANICS.load(Ordering::SeqCst) && !std::thread::panicking() {
        *PANICKED.lock().unwrap_or_else(PoisonError::into_inner) = Some(what);
        // Without the message that a panic prints.
        resume_unwind(Box::new(what));
    }
}

/// Runs something of the cache's, again if it panicked. It may fail in other ways once for that.
#[track_caller]
fn persist<R, E: std::fmt::Debug>(mut what: impl FnMut() -> Result<R, E>) -> R {
    let mut outcomes = Vec::new();
    for _ in 0..3 {
        match catch_unwind(AssertUnwindSafe(&mut what)) {
            Ok(Ok(done)) => return done,
            Ok(Err(error)) => outcomes.push(format!("{error:?}")),
            Err(panic) => outcomes.push(format!("a panic: {:?}", panic.downcast_ref::<&str>())),
        }
    }
    panic!("again and again: {outcomes:?}")
}

/// As [`persist`], of what is done once: it is over, panic or not.
fn endure<R>(what: impl FnOnce() -> R) -> Option<R> {
    catch_unwind(AssertUnwindSafe(what)).ok()
}

/// In a process of its own, since the counter is for all threads.
fn each_call_panics(test: &str, scenario: impl Fn()) {
    let ended = child::run(test, std::time::Duration::from_secs(200), || {
        scenario();
        let mut met = std::collections::BTreeMap::<&str, u64>::new();
        let mut n = 1;
        loop {
            CALLS.store(0, Ordering::SeqCst);
            PANICS.store(n, Ordering::SeqCst);
            if let Err(panic) = catch_unwind(AssertUnwindSafe(&scenario)) {
                eprintln!("call {n}: {PANICKED:?}");
                resume_unwind(panic);
            }
            let panicked = PANICKED
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take();
            match panicked {
                Some(what) => *met.entry(what).or_default() += 1,
                None if CALLS.load(Ordering::SeqCst) < n => break,
                None => {}
            }
            n += 1;
        }
        println!("{test}: {met:?}");
    });
    if let Some(ended) = ended {
        ended.expect_code(0);
        print!("{}", ended.output);
    }
}
