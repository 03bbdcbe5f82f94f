//! Methods that end a helper, or keep it too long.

use std::time::{Duration, Instant};

use inkpot::{Error, HelperFailure};

use super::{adds, builder, call, helpers_of, isolation, signal, together};
use crate::support::helpers::{COLLECTED, ENDLESS};
use crate::support::wait_until;

/// LLVM's verifier lets these pass, and its code generator ends the process.
const ABORTING: [(&str, &str, &str); 2] = [
    ("collected", "unsupported GC", COLLECTED),
    (
        "instruction",
        "Cannot select",
        "declare i32 @llvm.x86.sse42.crc32.32.32(i32, i32)
         define i64 @self(i64 %x) \"target-features\"=\"-crc32,-sse4.2\" {
           %y = call i32 @llvm.x86.sse42.crc32.32.32(i32 1, i32 2)
           %z = zext i32 %y to i64
           ret i64 %z
         }",
    ),
];

#[test]
fn who_makes_llvm_abort_has_the_error() {
    for (name, says, text) in &ABORTING {
        let cache = builder("abort", [(*name, *text)]).build().unwrap();
        let mut names = adds(12);
        names.insert(5, (*name).to_owned());
        for (asked, outcome) in names.iter().zip(together(&cache, &names)) {
            match outcome {
                Ok(y) => assert_eq!(format!("add#{}", y - 100), *asked),
                Err(Error::Isolated {
                    method,
                    failure: HelperFailure::Died { status, said },
                }) => {
                    assert_eq!((asked.as_str(), method), (*name, format!("{name:?}")));
                    assert_eq!(
                        std::os::unix::process::ExitStatusExt::signal(&status.unwrap()),
                        Some(libc::SIGABRT)
                    );
                    assert!(said.contains(says), "{said}");
                }
                Err(other) => panic!("{asked}: {other}"),
            }
        }
        let after = cache.statistics();
        assert_eq!((after.failures, after.compiles), (1, 12));
        // And life goes on.
        assert_eq!(call(&cache, "add#1000").unwrap(), 1100);
    }
}

#[test]
fn who_takes_too_long_is_stopped() {
    let limit = Duration::from_secs(2);
    let cache = builder("long", [("endless", ENDLESS)])
        .isolation(isolation().time_limit(limit))
        .build()
        .unwrap();
    let mut names = adds(16);
    names.insert(3, "endless".to_owned());
    let started = Instant::now();
    let mut outcomes = together(&cache, &names);
    let endless = outcomes.remove(3);
    for (n, outcome) in outcomes.into_iter().enumerate() {
        assert_eq!(outcome.unwrap(), 100 + n as i64);
    }
    let Err(Error::Isolated { failure, .. }) = endless else {
        panic!("{endless:?}");
    };
    assert_eq!(failure, HelperFailure::TimedOut { limit });
    // Not as much for each half that it is in.
    assert!(started.elapsed() < 4 * limit, "{:?}", started.elapsed());
}

#[test]
fn who_takes_too_much_memory_is_stopped() {
    let limit = 100 << 20;
    let cache = builder("much", [("endless", ENDLESS)])
        .isolation(isolation().memory_limit(limit))
        .build()
        .unwrap();
    let names = ["add#1", "endless", "add#2"].map(str::to_owned);
    let [one, endless, two] = together(&cache, &names).try_into().unwrap();
    assert_eq!((one.unwrap(), two.unwrap()), (101, 102));
    let Err(Error::Isolated { failure, .. }) = endless else {
        panic!("{endless:?}");
    };
    let limit = Some(limit);
    assert_eq!(failure, HelperFailure::OutOfMemory { limit });
}

#[test]
fn a_helper_that_is_killed_between_batches_costs_nothing() {
    let cache = builder("between", []).build().unwrap();
    for n in 0..5 {
        assert_eq!(call(&cache, &format!("add#{n}")).unwrap(), 100 + n);
        let [helper] = helpers_of("between").try_into().unwrap();
        signal(helper, libc::SIGKILL);
    }
    assert_eq!(cache.statistics().failures, 0);
}

/// Ready or not: the others are not for a method alone to be blamed for, nor for a batch.
#[test]
fn helpers_that_were_never_used_may_die() {
    for round in 0..3 {
        let cache = builder("spare", []).workers(3).build().unwrap();
        std::thread::sleep(Duration::from_millis(30 * round));
        let helpers = helpers_of("spare");
        for helper in &helpers {
            signal(*helper, libc::SIGKILL);
        }
        assert_eq!(call(&cache, "add#100").unwrap(), 200);
        for (n, outcome) in together(&cache, &adds(8)).into_iter().enumerate() {
            assert_eq!(outcome.unwrap(), 100 + n as i64);
        }
        assert_eq!(cache.statistics().failures, 0);
    }
}

/// It takes its first job, and is killed by somebody else before it has read it.
#[test]
fn a_helper_that_is_killed_with_its_first_job_is_not_the_methods_fault() {
    let cache = builder("first job", []).workers(1).build().unwrap();
    let [helper] = helpers_of("first job").try_into().unwrap();
    signal(helper, libc::SIGSTOP);
    let y = std::thread::scope(|scope| {
        let waits = scope.spawn(|| call(&cache, "add#100"));
        // Longer than it takes to make the job; shorter, and the helper would be found dead, which is no failure either.
        std::thread::sleep(Duration::from_millis(300));
        signal(helper, libc::SIGKILL);
        waits.join().unwrap()
    });
    assert_eq!(y.unwrap(), 200);
    let s = cache.statistics();
    assert!(s.failures == 0 && s.helpers_failed <= 1, "{s:?}");
}

#[test]
fn a_helper_that_hangs_is_replaced() {
    let limit = Duration::from_secs(1);
    let cache = builder("hangs", [])
        .isolation(isolation().time_limit(limit))
        .build()
        .unwrap();
    let [helper] = helpers_of("hangs").try_into().unwrap();
    signal(helper, libc::SIGSTOP);
    // Nobody knows which of them it was: and it was none. (The first may be in a batch of its own.)
    let outcomes = together(&cache, &adds(8));
    for (n, outcome) in outcomes.iter().enumerate().skip(1) {
        assert_eq!(*outcome.as_ref().unwrap(), 100 + n as i64);
    }
    // Alone, a method is to blame for the time that it took.
    let [helper] = helpers_of("hangs").try_into().unwrap();
    signal(helper, libc::SIGSTOP);
    let failed = call(&cache, "add#100");
    assert!(
        matches!(
            failed,
            Err(Error::Isolated {
                failure: HelperFailure::TimedOut { .. },
                ..
            })
        ),
        "{failed:?}"
    );
    // That is remembered for a while, if nobody says that it is worth another try.
    let _ = cache.invalidate(&"add#100".to_owned());
    assert_eq!(call(&cache, "add#100").unwrap(), 200);
}

/// Killed at whatever it is doing: only a lone method that a fresh helper died of has an error.
#[test]
fn helpers_that_are_killed_at_any_time_leave_no_trace() {
    let cache = builder("any time", []).build().unwrap();
    let killing = std::sync::atomic::AtomicBool::new(true);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            let mut n = 0;
            while killing.load(std::sync::atomic::Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(20 + n * 7 % 31));
                n += 1;
                for helper in helpers_of("any time") {
                    // SAFETY: no preconditions.
                    unsafe { libc::kill(helper, libc::SIGKILL) };
                }
            }
        });
        let mut failed = 0;
        for round in 0..10 {
            let names: Vec<_> = (0..16).map(|n| format!("add#{}", 16 * round + n)).collect();
            for (n, outcome) in together(&cache, &names).into_iter().enumerate() {
                match outcome {
                    Ok(y) => assert_eq!(y, 100 + 16 * round + n as i64),
                    Err(Error::Isolated { .. } | Error::NoHelper { .. }) => failed += 1,
                    Err(other) => panic!("{other}"),
                }
            }
        }
        killing.store(false, std::sync::atomic::Ordering::Relaxed);
        assert!(failed < 160, "none was compiled");
    });
    assert_eq!(call(&cache, "add#1000").unwrap(), 1100);
    drop(cache);
    wait_until("all have ended", || helpers_of("any time").is_empty());
}
