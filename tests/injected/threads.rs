//! With all the threads that a cache has: which call is the nth is another one each time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use inkpot::{Cache, Error, Event, Participant};

use super::support::child;
use super::support::synthetic::{Code, Synthetic, method};
use super::support::wait_until;
use super::{each_call_fails, interpose, named, soaks};

const X: i64 = 5;

/// Gets methods, and calls what others got, while they come and go.
fn work(cache: &Cache<Code>, me: &Participant, first: u32) {
    let mut refused = 0;
    for n in first..first + 24 {
        // Leaves alone: a call from code that is refused has nowhere to go.
        let code = Code::leaf(n).framed().padded(2000);
        let handle = method(cache, code);
        loop {
            let mut guard = me.pin();
            // SAFETY: the type is right.
            match handle.get(&mut guard).map(|f| unsafe { f.call(X) }) {
                Ok(y) => {
                    assert_eq!(y, code.result(X));
                    break;
                }
                // Others may be told of the same failure, and of several while they are told.
                Err(error @ Error::Memory { .. }) => {
                    named(&error);
                    refused += 1;
                    assert!(refused < 100, "it is refused for ever: {error}");
                }
                Err(other) => panic!("{other}"),
            }
        }
        if n % 5 == 0 {
            cache.evict(&code);
        } else if n % 7 == 0 {
            drop(cache.invalidate(&code));
        }
    }
}

fn life() {
    let told = Arc::new(AtomicU64::new(0));
    let build = || {
        let told = told.clone();
        Cache::with_backend(Synthetic::default())
            .workers(2)
            .generation_methods(4)
            .listener(move |_: &Event<'_, Code>| {
                told.fetch_add(1, Ordering::Relaxed);
            })
            .build()
    };
    let cache = match build() {
        Ok(cache) => cache,
        Err(error) => {
            named(&error);
            build().expect("nothing is refused any more")
        }
    };
    thread::scope(|threads| {
        let other = thread::Builder::new().spawn_scoped(threads, || {
            work(&cache, &cache.participant("other"), 1000);
        });
        work(&cache, &cache.participant("test"), 0);
        match other {
            Ok(other) => other.join().unwrap(),
            Err(_) => interpose::over(),
        }
    });
    cache.seal();
    cache.evict_all();
    // Nobody is told of what cannot be unmapped: it is tried again.
    std::thread::sleep(std::time::Duration::from_millis(2));
    interpose::over();
    wait_until("all is recycled", || {
        let now = cache.statistics();
        now.mapped_code_bytes == 0 && now.generations_fallow == 0
    });
    wait_until("it is told", || told.load(Ordering::Relaxed) > 0);
}

#[test]
fn one_call_fails() {
    let step = if soaks() { 1 } else { 2 };
    each_call_fails("threads::one_call_fails", false, step, life);
}

#[test]
fn calls_fail_until_somebody_is_told() {
    let name = "threads::calls_fail_until_somebody_is_told";
    each_call_fails(name, true, if soaks() { 1 } else { 2 }, life);
}

/// Nothing depends on the time of day, which may be set at any time: nobody asks for it.
#[test]
fn the_time_of_day_steps() {
    let name = "threads::the_time_of_day_steps";
    let ended = child::run(name, std::time::Duration::from_secs(60), || {
        use std::time::SystemTime;
        let times: Vec<_> = (0..4).map(|_| SystemTime::now()).collect();
        assert!(!times.is_sorted(), "it does not step");
        // Once in a process a hash table may be seeded by it, if another crate asks for that (a feature of foldhash's).
        life();
        let before = interpose::asked_for_the_time();
        life();
        assert_eq!(interpose::asked_for_the_time(), before);
    });
    if let Some(ended) = ended {
        ended.expect_code(0);
    }
}
