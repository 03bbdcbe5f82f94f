//! Every system call that the library makes fails, one after the other: the first, the second, and so on
//! until a whole run has so few that none fails any more. Each time the failure is a named error or costs
//! nothing, what was resident can be called, the next try succeeds when the fault is over, and when all
//! is dropped no mapping, descriptor, thread or process is left.

#[path = "../support/mod.rs"]
mod support;

mod engine;
mod helpers;
mod interpose;
mod llvm;
mod threads;

use std::time::{Duration, Instant};

use inkpot::{Error, MapStep};
use support::child;

/// Whether the long form runs.
fn soaks() -> bool {
    std::env::var_os("INKPOT_SOAK").is_some()
}

/// What a process has that must not grow.
#[derive(Debug, PartialEq, Eq)]
struct Possessions {
    mapped: std::collections::BTreeMap<usize, interpose::Mapping>,
    files: usize,
    threads: usize,
    children: usize,
}

impl Possessions {
    fn now() -> Self {
        let count = |path: &str| std::fs::read_dir(path).unwrap().count();
        let children = std::fs::read_dir("/proc/self/task").unwrap().flatten();
        let children = children.map(|thread| {
            let of_thread = thread.path().join("children");
            let listed = std::fs::read_to_string(of_thread).unwrap_or_default();
            listed.split_whitespace().count()
        });
        Self {
            mapped: interpose::mapped(),
            files: count("/proc/self/fd"),
            threads: count("/proc/self/task"),
            children: children.sum(),
        }
    }

    /// Waits until it is as before: a thread that was joined stands in the list for a moment more.
    #[track_caller]
    fn expect_again(&self, what: &str) {
        let started = Instant::now();
        loop {
            let now = Self::now();
            if now == *self {
                return;
            }
            let patient = started.elapsed() < Duration::from_secs(5);
            assert!(patient, "{what}: {now:#?} is left of {self:#?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Runs `scenario` again and again, in a process of its own. In the first run nothing fails; then
/// every `step`th call fails alone (`until_told` false), or that and all after it until an error is seen.
fn each_call_fails(test: &str, until_told: bool, step: u64, scenario: impl Fn() + Sync) {
    let patience = Duration::from_secs(if soaks() { 3600 } else { 240 });
    let ended = child::run(test, patience, || {
        let scenario = |first, last| {
            // A new thread each time, of which nothing is known.
            let run = || {
                interpose::plan(first, last);
                scenario();
            };
            let outcome = std::thread::scope(|threads| threads.spawn(run).join());
            assert!(outcome.is_ok(), "call {first}, {:?}", interpose::failed());
        };
        // What is made once in a process, and stays.
        scenario(u64::MAX, 0);
        let before = Possessions::now();
        scenario(u64::MAX, 0);
        let calls = interpose::seen();
        before.expect_again("without a fault");
        let (mut n, mut runs) = (1, 0);
        loop {
            scenario(n, if until_told { u64::MAX } else { n });
            let failed = interpose::failed();
            interpose::over();
            // What could not be unmapped at the very end is unmapped by the next cache.
            drop(engine::none());
            before.expect_again(&format!("call {n}, {failed:?}"));
            // Threads may have made fewer calls than before.
            if failed.is_empty() && n > calls {
                break;
            }
            runs += u64::from(!failed.is_empty());
            n += step;
        }
        println!("{test}: {calls} calls, {runs} runs in which some failed");
    });
    if let Some(ended) = ended {
        ended.expect_code(0);
        print!("{}", ended.output);
    }
}

/// An error that names what was refused. From here on nothing is.
#[track_caller]
fn named(error: &Error) {
    interpose::over();
    let failed = interpose::failed();
    assert!(!failed.is_empty(), "nothing was refused, and yet: {error}");
    match error {
        Error::Memory { step, message, .. } => {
            assert!(!message.is_empty());
            let fits = match step {
                MapStep::Reserve => failed.contains(&"a reservation"),
                MapStep::Thread => failed.contains(&"pthread_create"),
                _ => true,
            };
            assert!(fits, "{error}, and {failed:?} failed");
        }
        Error::NoHelper { problem, .. } => assert!(!problem.is_empty()),
        Error::Isolated { .. } => assert!(failed.contains(&"send") || failed.contains(&"recv")),
        other => panic!("{other}, where {failed:?} failed"),
    }
}
