//! Promise 7: each key is compiled once at a time, however many threads ask, and whatever fails.

mod support;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

use inkpot::evict::{Cost, Lru, MethodId, Policy};
use inkpot::{Cache, Error};
use support::{Gate, Hooked, Op, method, wait_until};

#[test]
fn two_hundred_threads_and_one_compilation() {
    let emissions = Arc::new(AtomicUsize::new(0));
    let counted = emissions.clone();
    let cache = Cache::builder(Hooked(move |_: &Op| {
        counted.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(Duration::from_millis(20));
    }))
    .workers(2)
    .build()
    .unwrap();
    let barrier = Barrier::new(200);
    std::thread::scope(|threads| {
        for _ in 0..200 {
            threads.spawn(|| {
                let me = cache.participant("caller");
                let add = method(&cache, &Op::Add(5));
                barrier.wait();
                // SAFETY: the type is right.
                assert_eq!(unsafe { add.get(&mut me.pin()).unwrap().call(1) }, 6);
            });
        }
    });
    assert_eq!(emissions.load(Ordering::Relaxed), 1);
    assert_eq!(cache.statistics().compiles, 1);
}

#[test]
fn two_hundred_threads_and_one_error() {
    let gate = Arc::new(Gate::default());
    let emissions = Arc::new(AtomicUsize::new(0));
    let (of_worker, counted) = (gate.clone(), emissions.clone());
    let cache = Cache::builder(Hooked(move |_: &Op| {
        counted.fetch_add(1, Ordering::Relaxed);
        of_worker.wait();
    }))
    .build()
    .unwrap();
    let mut sources = HashSet::new();
    std::thread::scope(|threads| {
        let callers: Vec<_> = (0..200)
            .map(|_| {
                threads.spawn(|| {
                    let me = cache.participant("caller");
                    match method(&cache, &Op::Refuse).get(&mut me.pin()) {
                        Err(Error::Frontend { source, .. }) => {
                            Arc::as_ptr(&source).cast::<()>() as usize
                        }
                        other => panic!("{other:?}"),
                    }
                })
            })
            .collect();
        wait_until("all have asked", || cache.statistics().misses == 200);
        // From there to the wait it is not far.
        std::thread::sleep(Duration::from_millis(100));
        gate.open();
        sources.extend(callers.into_iter().map(|c| c.join().unwrap()));
    });
    // Who came too late for the first compilation shares the next one.
    assert!(sources.len() <= emissions.load(Ordering::Relaxed));
    assert!(sources.len() < 100, "{}", sources.len());
}

/// What was begun before an invalidation is thrown away, and who waits gets what was begun after it.
#[test]
fn a_compilation_that_an_invalidation_overtakes_is_not_published() {
    let gate = Arc::<Gate>::default();
    let emissions = Arc::<AtomicUsize>::default();
    let (of_worker, counted) = (gate.clone(), emissions.clone());
    let cache = Cache::builder(Hooked(move |_: &Op| {
        counted.fetch_add(1, Ordering::SeqCst);
        of_worker.wait();
    }))
    .build()
    .unwrap();
    let add = method(&cache, &Op::Add(5));
    std::thread::scope(|threads| {
        let waits = threads.spawn(|| {
            let me = cache.participant("caller");
            // SAFETY: the type is right.
            unsafe { add.get(&mut me.pin()).unwrap().call(1) }
        });
        wait_until("it is being compiled", || gate.came() == 1);
        drop(cache.invalidate(&Op::Add(5)));
        gate.open();
        assert_eq!(waits.join().unwrap(), 6);
    });
    assert_eq!(emissions.load(Ordering::SeqCst), 2);
    let s = cache.statistics();
    assert_eq!((s.stale_compiles, s.compiles, s.failures), (1, 1, 0));
}

/// `Lru`, but that it panics where it is told of a method while it shall.
struct Fragile {
    lru: Lru,
    breaks: Arc<AtomicBool>,
}

impl Policy for Fragile {
    fn insert(&mut self, id: MethodId, cost: Cost) {
        if self.breaks.swap(false, Ordering::Relaxed) {
            std::panic::resume_unwind(Box::new("a panic on purpose"));
        }
        self.lru.insert(id, cost);
    }

    fn hit(&mut self, id: MethodId) {
        self.lru.hit(id);
    }

    fn remove(&mut self, id: MethodId) {
        self.lru.remove(id);
    }

    fn victim(&mut self) -> Option<MethodId> {
        self.lru.victim()
    }

    fn len(&self) -> usize {
        self.lru.len()
    }

    fn name(&self) -> &'static str {
        "fragile"
    }
}

struct Opens<'a>(&'a Gate);

impl Drop for Opens<'_> {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// A batch is compiled in parts, since one of its methods fails. The first part is published, and
/// its method evicted and asked for again, before the last one runs into a panic that ends the
/// batch: the worker that it ends must leave the method to the one that has it now.
#[test]
fn a_worker_gives_up_only_what_is_still_its_own() {
    const PLUGS: [Op; 2] = [Op::Add(-1), Op::Add(-2)];
    const FIRST: Op = Op::Add(1);
    const LAST: Op = Op::Add(3);
    let [plug, again, last] = [(); 3].map(|()| Arc::<Gate>::default());
    let [firsts, lasts] = [(); 2].map(|()| Arc::<AtomicUsize>::default());
    let breaks = Arc::<AtomicBool>::default();
    let hook = {
        let [plug, again, last] = [&plug, &again, &last].map(Arc::clone);
        let [firsts, lasts] = [&firsts, &lasts].map(Arc::clone);
        move |key: &Op| match *key {
            Op::Add(..=-1) => plug.wait(),
            // In the whole batch; in the first part of it; when it is asked for again.
            FIRST if firsts.fetch_add(1, Ordering::SeqCst) == 2 => again.wait(),
            // In the whole batch; in the second part of it.
            LAST if lasts.fetch_add(1, Ordering::SeqCst) == 1 => last.wait(),
            _ => {}
        }
    };
    let cache = Cache::builder(Hooked(hook))
        .policy(Fragile {
            lru: Lru::new(),
            breaks: breaks.clone(),
        })
        .workers(2)
        .build()
        .unwrap();
    for (n, op) in PLUGS.iter().enumerate() {
        method(&cache, op).request().unwrap();
        wait_until("a worker is held up", || plug.came() == n + 1);
    }
    let batch = [FIRST, Op::BadAssembly, LAST].map(|op| method(&cache, &op));
    batch.iter().for_each(|handle| handle.request().unwrap());
    plug.open();
    wait_until("the first part is published", || last.came() == 1);
    assert!(cache.evict(&FIRST));
    batch[0].request().unwrap();
    wait_until("the other worker has it", || again.came() == 1);
    // A test that fails ends, and with it the cache, which waits for its workers.
    let _opened_at_the_end = Opens(&again);
    breaks.store(true, Ordering::SeqCst);
    last.open();

    let me = cache.participant("test");
    let mut guard = me.pin();
    let mut compiles = |n| {
        // SAFETY: the type is right.
        let y = unsafe { method(&cache, &Op::Add(n)).get(&mut guard).unwrap().call(1) };
        assert_eq!(y, n + 1);
    };
    wait_until("the policy panics", || !breaks.load(Ordering::SeqCst));
    compiles(10); // by the first worker: its batch is over
    batch[0].request().unwrap();
    compiles(11); // and behind what that may have brought into the queue
    assert_eq!(firsts.load(Ordering::SeqCst), 3);
    again.open();
    compiles(1);
    compiles(3);
    assert_eq!(firsts.load(Ordering::SeqCst), 3);
}
