//! The listener hears what happens, in the order in which it happens, while no lock is held; and can do no harm.

mod support;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use inkpot::{Cache, Error, Event, EvictedBy, Key, Reclaimer, Statistics};
use support::synthetic::{self, Code, How, Random, Synthetic};
use support::{Calculator, Gate, Hooked, Op, leaf, method, wait_until};

/// An event as a line of text, without what differs from run to run.
fn line<K: Key>(event: &Event<'_, K>) -> String {
    match event {
        Event::Queued { key, .. } => format!("queued {key:?}"),
        Event::Started { key, together, .. } => format!("started {key:?} of {together}"),
        Event::Finished {
            key,
            together,
            bytes,
            times,
            ..
        } => {
            assert!(*bytes > 0 && times.generate > Duration::ZERO && times.overhead >= times.link);
            format!("finished {key:?} of {together}")
        }
        Event::InVain { key, .. } => format!("in vain {key:?}"),
        Event::Failed { key, error, .. } => format!("failed {key:?}: {error}"),
        Event::Evicted { key, cause, .. } => format!("evicted {key:?} by {cause:?}"),
        Event::Recycled { bytes, .. } => format!("recycled {} KiB", bytes >> 10),
        other => format!("{other:?}"),
    }
}

type Heard = Arc<Mutex<Vec<String>>>;

fn listen<K: Key>() -> (Heard, impl Fn(&Event<'_, K>) + Send + Sync + 'static) {
    let heard = Heard::default();
    let hears = heard.clone();
    (heard, move |event: &Event<'_, K>| {
        hears.lock().unwrap().push(line(event))
    })
}

#[test]
fn everything_is_told_in_its_order() {
    let (heard, listener) = listen();
    let gate = Arc::new(Gate::default());
    let of_worker = gate.clone();
    let hook = move |key: &Op| {
        if *key == Op::Add(5) {
            of_worker.wait();
        }
    };
    let cache = Cache::builder(Hooked(hook))
        .listener(listener)
        .build()
        .unwrap();
    let me = cache.participant("test");
    method(&cache, &Op::Add(5)).request().unwrap();
    wait_until("it is being compiled", || gate.came() == 1);
    drop(cache.invalidate(&Op::Add(5)));
    gate.open();
    wait_until("it was in vain", || cache.statistics().stale_compiles == 1);
    method(&cache, &Op::Add(1)).get(&mut me.pin()).unwrap();
    assert!(method(&cache, &Op::Refuse).get(&mut me.pin()).is_err());
    cache.evict(&Op::Add(1));
    method(&cache, &Op::Add(1)).get(&mut me.pin()).unwrap();
    drop(cache.invalidate(&Op::Add(1)));
    cache.seal();
    wait_until("all is recycled", || {
        cache.statistics().generations_recycled == 1
    });
    drop((me, cache)); // waits until all is told
    let heard = heard.lock().unwrap();
    let expected = [
        "queued Add(5)",
        "started Add(5) of 1",
        "in vain Add(5)",
        "queued Add(1)",
        "started Add(1) of 1",
        "finished Add(1) of 1",
        "queued Refuse",
        "started Refuse of 1",
        "failed Refuse: the front end could not emit Refuse: refused by the front end",
        "evicted Add(1) by Eviction",
        "queued Add(1)",
        "started Add(1) of 1",
        "finished Add(1) of 1",
        "evicted Add(1) by Invalidation",
        "recycled",
    ];
    assert_eq!(heard.len(), expected.len(), "{heard:#?}");
    for (heard, expected) in heard.iter().zip(expected) {
        assert!(heard.starts_with(expected), "{heard}, {expected}");
    }
}

#[test]
fn assumptions_are_told_as_causes() {
    static FALLS: OnceLock<inkpot::Assumption> = OnceLock::new();
    let assumption = FALLS.get_or_init(inkpot::Assumption::new);
    let causes = Arc::new(Mutex::new(Vec::new()));
    let hears = causes.clone();
    let relying = Synthetic::relying(|_| FALLS.get().cloned().into_iter().collect());
    let listener = move |event: &Event<'_, Code>| {
        if let Event::Evicted { key, cause, .. } = event {
            hears.lock().unwrap().push((**key, *cause));
        }
    };
    let cache = Cache::with_backend(relying)
        .listener(listener)
        .build()
        .unwrap();
    let me = cache.participant("test");
    for n in 0..5 {
        leaf(&cache, n).get(&mut me.pin()).unwrap();
    }
    drop(assumption.invalidate());
    wait_until("all are told", || causes.lock().unwrap().len() == 5);
    let causes = causes.lock().unwrap();
    assert!(
        causes
            .iter()
            .all(|(_, cause)| *cause == EvictedBy::Assumption),
        "{causes:?}"
    );
}

/// What may follow what, for one method.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Now {
    Nothing,
    Queued,
    Started,
    Code,
    /// Queued, or started, while it has code: it moves.
    QueuedAgain,
    StartedAgain,
}

/// Threads ask, evict, invalidate and seal; what is told of each method is a possible story, and all of them
/// together are what the statistics say.
#[test]
fn the_story_of_each_method_is_a_possible_one() {
    let stories = Arc::new(Mutex::new(HashMap::<Code, Now>::new()));
    let counts: Arc<[AtomicU64; 4]> = Arc::default();
    let (tells, counted) = (stories.clone(), counts.clone());
    let listener = move |event: &Event<'_, Code>| {
        use Now::*;
        let count = |n: usize| counted[n].fetch_add(1, Ordering::SeqCst);
        let mut stories = tells.lock().unwrap();
        let mut step = |key: &synthetic::Code, steps: &[(Now, Now)]| {
            let now = stories.entry(*key).or_insert(Nothing);
            let next = steps.iter().find(|(from, _)| from == now);
            let Some((_, next)) = next else {
                eprintln!("{event:?} after {now:?}");
                std::process::abort();
            };
            *now = *next;
        };
        match event {
            Event::Queued { key, .. } => step(key, &[(Nothing, Queued), (Code, QueuedAgain)]),
            Event::Started { key, .. } => {
                step(key, &[(Queued, Started), (QueuedAgain, StartedAgain)])
            }
            Event::Finished { key, .. } => {
                count(0);
                step(key, &[(Started, Code), (StartedAgain, Code)]);
            }
            Event::InVain { key, .. } => {
                count(1);
                step(key, &[(Started, Nothing), (StartedAgain, Code)]);
            }
            Event::Failed { key, .. } => {
                count(2);
                step(key, &[(Queued, Nothing), (Started, Nothing)]);
            }
            Event::Dropped { key, .. } => step(
                key,
                &[
                    (Queued, Nothing),
                    (Started, Nothing),
                    (QueuedAgain, Code),
                    (StartedAgain, Code),
                ],
            ),
            Event::Evicted { key, .. } => {
                count(3);
                step(
                    key,
                    &[
                        (Code, Nothing),
                        (QueuedAgain, Queued),
                        (StartedAgain, Started),
                    ],
                );
            }
            _ => {}
        }
    };
    let cache = Cache::with_backend(Synthetic::default())
        .listener(listener)
        .workers(2)
        .generation_methods(7)
        .code_budget(256 << 10)
        .build()
        .unwrap();
    let before_unlinked = AtomicUsize::new(0);
    std::thread::scope(|threads| {
        for seed in 0..4 {
            let (cache, unlinked) = (&cache, &before_unlinked);
            threads.spawn(move || {
                let me = cache.participant("calls");
                let mut random = Random::new(seed);
                // Some meet at the same few methods.
                let methods = [60, 2, 2, 2][seed as usize];
                for _ in 0..4000 {
                    let n = random.below(methods);
                    let how = if n == 7 { How::Refuse } else { How::Leaf };
                    let code = Code::new(n, how).padded(2000);
                    let mut guard = me.pin();
                    let handle = synthetic::method(cache, code);
                    match random.below(12) {
                        0 => drop(cache.invalidate(&code)),
                        1 => drop(cache.evict(&code)),
                        2 => cache.seal(),
                        3..=6 => drop(handle.request()),
                        7 => drop(handle.compiled()),
                        _ => match handle.get(&mut guard) {
                            // SAFETY: the type is right.
                            Ok(f) => assert_eq!(unsafe { f.call(1) }, 1 + i64::from(n)),
                            Err(error) => assert!(how == How::Refuse, "{error}"),
                        },
                    }
                    unlinked.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    wait_until("nothing is on its way", || {
        let stories = stories.lock().unwrap();
        cache.statistics().queued == 0
            && stories
                .values()
                .all(|now| matches!(now, Now::Nothing | Now::Code))
    });
    let s: Statistics = cache.statistics();
    let resident = cache.statistics().methods_resident;
    wait_until("all is told", || {
        counts[0].load(Ordering::SeqCst) == s.compiles
            && counts[1].load(Ordering::SeqCst) == s.stale_compiles
    });
    assert_eq!(counts[2].load(Ordering::SeqCst), s.failures);
    let code = stories
        .lock()
        .unwrap()
        .values()
        .filter(|now| **now == Now::Code)
        .count();
    assert_eq!(code as u64, resident);
    assert_eq!(s.events_lost, 0);
}

/// Whatever can be asked of a cache, asked by its listener. None of it may hang.
#[test]
fn a_listener_may_use_its_cache_and_wait_for_it() {
    static CACHE: OnceLock<Cache<Op>> = OnceLock::new();
    static ROUNDS: AtomicUsize = AtomicUsize::new(0);
    let listener = |event: &Event<'_, Op>| {
        let round = ROUNDS.fetch_add(1, Ordering::SeqCst);
        if round > 60 {
            return;
        }
        let cache = CACHE.get().unwrap();
        let me = cache.participant("listener");
        let n = 1000 + round as i64;
        let add = method(cache, &Op::Add(n));
        // SAFETY: the type is right.
        let y = unsafe { add.get(&mut me.pin()).unwrap().call(1) };
        assert_eq!(y, n + 1);
        method(cache, &Op::Add(n + 1)).request().unwrap();
        if let Event::Finished { key, .. } = event {
            cache.evict(key);
            cache.invalidate(key).wait().unwrap();
        }
        cache.seal();
        cache.compact();
        cache.evacuate();
        cache.evict_all();
        cache.set_budget(64 << 20);
        cache.maintain();
        drop(cache.invalidate_all());
        let _ = (cache.statistics(), cache.occupancy());
    };
    let cache = Cache::builder(Calculator)
        .listener(listener)
        .build()
        .unwrap();
    assert!(CACHE.set(cache.clone()).is_ok());
    let me = cache.participant("test");
    for n in 0..10 {
        let add = method(&cache, &Op::Add(n));
        // SAFETY: the type is right.
        let y = unsafe { add.get(&mut me.pin()).unwrap().call(1) };
        assert_eq!(y, n + 1);
    }
    wait_until("it has had its say", || ROUNDS.load(Ordering::SeqCst) > 60);
}

/// Without threads of the cache's own the listener hears in `maintain`.
#[test]
fn maintain_tells_where_the_embedder_reclaims() {
    let (heard, listener) = listen();
    let here = std::thread::current().id();
    let checked = move |event: &Event<'_, Op>| {
        assert_eq!(std::thread::current().id(), here);
        listener(event);
    };
    let cache = Cache::builder(Calculator)
        .reclaimer(Reclaimer::Manual)
        .listener(checked)
        .build()
        .unwrap();
    let me = cache.participant("test");
    method(&cache, &Op::Add(1)).get(&mut me.pin()).unwrap();
    assert_eq!(heard.lock().unwrap().len(), 0);
    cache.maintain();
    assert_eq!(heard.lock().unwrap().len(), 3);
    cache.evict_all();
    drop((me, cache));
    assert_eq!(
        heard.lock().unwrap().last().unwrap(),
        "evicted Add(1) by Eviction"
    );
}

#[test]
fn a_listener_that_panics_breaks_nothing() {
    let told = Arc::new(AtomicUsize::new(0));
    let counts = told.clone();
    let listener = move |_: &Event<'_, Op>| {
        counts.fetch_add(1, Ordering::SeqCst);
        std::panic::resume_unwind(Box::new("a panic on purpose"));
    };
    let cache = Cache::builder(Calculator)
        .listener(listener)
        .build()
        .unwrap();
    let me = cache.participant("test");
    for n in 0..20 {
        method(&cache, &Op::Add(n)).get(&mut me.pin()).unwrap();
        assert!(method(&cache, &Op::Refuse).get(&mut me.pin()).is_err());
    }
    cache.evict_all();
    let s = cache.statistics();
    drop((me, cache));
    // Each method three events and its eviction, each failure three.
    let failures = s.failures as usize;
    assert!(failures >= 1);
    assert_eq!(told.load(Ordering::SeqCst), 20 * 4 + failures * 3);
}

/// A listener that is stuck costs events, and nothing else; how many it was not told is told in their place.
#[test]
fn a_slow_listener_loses_events_and_is_told_so() {
    let gate = Arc::new(Gate::default());
    let (of_listener, heard) = (gate.clone(), Arc::new([const { AtomicU64::new(0) }; 2]));
    let counts = heard.clone();
    let last = Arc::new(AtomicBool::new(false));
    let was_last = last.clone();
    let listener = move |event: &Event<'_, Code>| {
        of_listener.wait();
        match event {
            Event::Lost { events, .. } => {
                counts[1].fetch_add(*events, Ordering::SeqCst);
                was_last.store(true, Ordering::SeqCst);
            }
            _ => {
                counts[0].fetch_add(1, Ordering::SeqCst);
                was_last.store(false, Ordering::SeqCst);
            }
        }
    };
    let cache = Cache::with_backend(Synthetic::default())
        .listener(listener)
        .build()
        .unwrap();
    let me = cache.participant("test");
    let mut guard = me.pin();
    let all: Vec<_> = (0..30_000).map(|n| leaf(&cache, n)).collect();
    for leaf in &all {
        leaf.request().unwrap();
    }
    all.last().unwrap().get(&mut guard).unwrap();
    wait_until("all are compiled", || cache.statistics().compiles == 30_000);
    let lost = cache.statistics().events_lost;
    assert!(lost >= 3 * 30_000 - (1 << 16) - 1, "{lost}");
    gate.open();
    wait_until("all is told", || heard[1].load(Ordering::SeqCst) > 0);
    assert_eq!(heard[1].load(Ordering::SeqCst), lost);
    assert_eq!(heard[0].load(Ordering::SeqCst) + lost, 3 * 30_000);
    assert!(last.load(Ordering::SeqCst));
    cache.evict(all[0].key());
    wait_until("the next is told again", || !last.load(Ordering::SeqCst));
}

/// The end of a cache tells what waits, from whichever thread; also from the listener's own.
#[test]
fn a_listener_may_hold_the_last_handle() {
    let kept = Arc::new(Mutex::new(None::<Cache<Op>>));
    let told = Arc::new(AtomicUsize::new(0));
    let (of_listener, counts) = (kept.clone(), told.clone());
    let listener = move |event: &Event<'_, Op>| {
        counts.fetch_add(1, Ordering::SeqCst);
        if let Event::Finished { .. } = event {
            loop {
                let cache = of_listener.lock().unwrap().take();
                if cache.is_some() {
                    break drop(cache);
                }
                std::thread::yield_now();
            }
        }
    };
    let cache = Cache::builder(Calculator)
        .listener(listener)
        .build()
        .unwrap();
    let me = cache.participant("test");
    method(&cache, &Op::Add(1)).get(&mut me.pin()).unwrap();
    drop(me);
    *kept.lock().unwrap() = Some(cache);
    wait_until("the listener has dropped it", || {
        kept.lock().unwrap().is_none()
    });
    wait_until("its thread has ended", || Arc::strong_count(&told) == 1);
    assert_eq!(told.load(Ordering::SeqCst), 3);
}

/// Failures keep their values: what an event shows is what who waits gets.
#[test]
fn errors_are_told_as_they_are() {
    let heard = Arc::new(Mutex::new(None));
    let hears = heard.clone();
    let listener = move |event: &Event<'_, Op>| {
        if let Event::Failed { error, .. } = event {
            *hears.lock().unwrap() = Some((*error).clone());
        }
    };
    let cache = Cache::builder(Calculator)
        .listener(listener)
        .build()
        .unwrap();
    let me = cache.participant("test");
    let got = method(&cache, &Op::Unresolved)
        .get(&mut me.pin())
        .map(|_| ())
        .unwrap_err();
    wait_until("it is told", || heard.lock().unwrap().is_some());
    match (heard.lock().unwrap().take(), got) {
        (Some(Error::Link { method, .. }), Error::Link { method: other, .. }) => {
            assert_eq!(method, other)
        }
        other => panic!("{other:?}"),
    }
}
