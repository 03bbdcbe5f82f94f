//! Waiting without a thread.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Wake, Waker};
use std::time::Duration;

use inkpot::{Cache, Compiled, Error, Key, Ready};

use crate::executor::Executor;
use crate::support::child::{self, fork};
use crate::support::synthetic::{Code, Synthetic, method};
use crate::support::{leaf, wait_until};
use crate::{Plugged, at_rest, bad};

fn poll<K: Key>(future: &mut Compiled<K>) -> Poll<Result<Ready<K>, Error>> {
    std::pin::Pin::new(future).poll(&mut Context::from_waker(Waker::noop()))
}

fn is_send<T: Send + 'static>(_: &T) {}

#[test]
fn many_on_one_thread() {
    const KEYS: u32 = 100;
    let (plugged, builder) = Plugged::builder();
    let cache = builder.workers(2).build().unwrap();
    let results = Arc::new(Mutex::new(Vec::new()));
    let mut executor = Executor::default();
    for i in 0..1000 {
        let (cache, results) = (cache.clone(), results.clone());
        executor.spawn(async move {
            let handle = leaf(&cache, i % KEYS);
            let ready = handle.compiled().await.unwrap();
            assert_eq!(*ready.key(), Code::leaf(i % KEYS));
            let me = cache.participant("task");
            let guard = me.pin();
            // SAFETY: the type is right.
            let y = unsafe { handle.entry(&guard).unwrap().call(1) };
            results.lock().unwrap().push((i, y));
        });
    }
    executor.run();
    let results = results.lock().unwrap();
    assert_eq!(results.len(), 1000);
    let right = |&(i, y): &(u32, i64)| y == 1 + i64::from(i % KEYS);
    assert!(results.iter().all(right));
    assert_eq!(plugged.emitted().len(), KEYS as usize);
    // Nobody is polled for nothing.
    assert!(executor.polls <= 2000, "{}", executor.polls);
}

/// It is asked for when the future is made, and dropped with the last who wants it.
#[test]
fn dropped_it_gives_up() {
    let (plugged, builder) = Plugged::builder();
    let cache = builder.build().unwrap();
    plugged.plug(&cache);
    let handles: Vec<_> = (0..4).map(|n| leaf(&cache, n)).collect();
    let mut first = handles[0].compiled();
    is_send(&first);
    let never_polled = handles[1].compiled();
    let both = [handles[2].compiled(), handles[2].compiled()];
    let wished = handles[3].compiled();
    handles[3].request().unwrap();
    assert!(poll(&mut first).is_pending());
    assert_eq!(cache.statistics().queued, 4);
    drop((first, never_polled, wished));
    let [one, mut other] = both;
    drop(one);
    let s = cache.statistics();
    assert_eq!((s.queued, s.dropped), (2, 2));
    plugged.gate.open();
    at_rest(&cache, 3);
    assert_eq!(plugged.emitted(), [2, 3]);
    assert!(matches!(poll(&mut other), Poll::Ready(Ok(_))));
}

#[test]
fn failures_and_invalidations() {
    let (plugged, builder) = Plugged::builder();
    let cache = builder.build().unwrap();
    plugged.plug(&cache);
    let mut fails = method(&cache, bad(1)).compiled();
    let mut waits = leaf(&cache, 2).compiled();
    assert!(poll(&mut fails).is_pending() && poll(&mut waits).is_pending());
    drop(cache.invalidate_all());
    plugged.gate.open();
    let mut result = Poll::Pending;
    wait_until("it has failed", || {
        result = poll(&mut fails);
        result.is_ready()
    });
    assert!(matches!(result, Poll::Ready(Err(Error::Codegen { .. }))));
    wait_until("the other is ready", || cache.is_resident(&Code::leaf(2)));
    // Lost again before anybody looks: it is asked for anew.
    drop(cache.invalidate_all());
    let mut result = poll(&mut waits);
    assert!(result.is_pending());
    wait_until("it is ready", || {
        result = poll(&mut waits);
        result.is_ready()
    });
}

/// While the token lives the method is no victim, however small the budget is.
#[test]
fn what_is_ready_is_not_evicted() {
    let cache = Cache::with_backend(Synthetic::default())
        .code_budget(1)
        .generation_methods(1)
        .build()
        .unwrap();
    let me = cache.participant("test");
    let mut executor = Executor::default();
    let done = Arc::<AtomicUsize>::default();
    let handle = leaf(&cache, 1);
    let (of_task, counted) = (handle.clone(), done.clone());
    let ready = Arc::new(Mutex::new(None));
    let token = ready.clone();
    executor.spawn(async move {
        *token.lock().unwrap() = Some(of_task.compiled().await.unwrap());
        counted.fetch_add(1, Ordering::SeqCst);
    });
    executor.run();
    for n in 2..50 {
        leaf(&cache, n).get(&mut me.pin()).map(|_| ()).unwrap();
    }
    assert!(cache.statistics().evictions > 10);
    assert!(handle.entry(&me.pin()).is_some());
    drop(ready.lock().unwrap().take());
    for n in 50..100 {
        leaf(&cache, n).get(&mut me.pin()).map(|_| ()).unwrap();
    }
    assert!(handle.entry(&me.pin()).is_none());
    assert_eq!(done.load(Ordering::SeqCst), 1);
}

/// Wants everything of the cache while it is woken, and then panics.
struct Demanding {
    cache: Cache<Code>,
    woken: AtomicUsize,
}

impl Wake for Demanding {
    fn wake(self: Arc<Self>) {
        let cache = &self.cache;
        cache.statistics();
        leaf(cache, 77).request().unwrap();
        drop(cache.invalidate_all());
        cache.evict_all();
        cache.seal();
        cache.occupancy();
        self.woken.fetch_add(1, Ordering::SeqCst);
        std::panic::resume_unwind(Box::new("a panic on purpose"));
    }
}

#[test]
fn wakers_are_woken_without_a_lock() {
    let (plugged, builder) = Plugged::builder();
    let cache = builder.build().unwrap();
    let demanding = Arc::new(Demanding {
        cache: cache.clone(),
        woken: AtomicUsize::new(0),
    });
    let waker = Waker::from(demanding.clone());
    let mut context = Context::from_waker(&waker);
    plugged.plug(&cache);
    let keys = [Code::leaf(1), bad(2), Code::leaf(3)];
    let mut waiting: Vec<_> = keys
        .iter()
        .map(|key| method(&cache, *key).compiled())
        .collect();
    for future in &mut waiting {
        assert!(std::pin::Pin::new(future).poll(&mut context).is_pending());
    }
    plugged.gate.open();
    wait_until("all are woken", || {
        demanding.woken.load(Ordering::SeqCst) == 3
    });
    // The worker goes on.
    let me = cache.participant("test");
    leaf(&cache, 9).get(&mut me.pin()).map(|_| ()).unwrap();
}

/// Asks the cache for the method that it waits for, whenever it is cloned.
struct Curious {
    cache: Cache<Code>,
    clones: AtomicUsize,
}

impl Curious {
    /// A waker that is cloned, but never woken.
    fn waker(this: &Arc<Self>) -> Waker {
        /// # Safety
        /// `data` is of an `Arc` of this type, whose count this is in.
        unsafe fn clone(data: *const ()) -> RawWaker {
            let data = data.cast::<Curious>();
            // SAFETY: the caller's `Arc` lives.
            unsafe {
                (*data).clones.fetch_add(1, Ordering::SeqCst);
                assert!(!(*data).cache.is_resident(&Code::leaf(1)));
                leaf(&(*data).cache, 1).request().unwrap();
                Arc::increment_strong_count(data);
            }
            RawWaker::new(data.cast(), &TABLE)
        }
        /// # Safety
        /// As for `clone`; it is in the count no more.
        unsafe fn end(data: *const ()) {
            // SAFETY: it was in the count.
            drop(unsafe { Arc::from_raw(data.cast::<Curious>()) });
        }
        static TABLE: RawWakerVTable = RawWakerVTable::new(clone, end, |_| {}, end);
        let data = Arc::into_raw(this.clone()).cast();
        // SAFETY: the functions do what they should with an `Arc` that is in its count.
        unsafe { Waker::from_raw(RawWaker::new(data, &TABLE)) }
    }
}

#[test]
fn wakers_are_cloned_without_a_lock() {
    let (plugged, builder) = Plugged::builder();
    let cache = builder.build().unwrap();
    plugged.plug(&cache);
    let curious = Arc::new(Curious {
        cache: cache.clone(),
        clones: AtomicUsize::new(0),
    });
    let waker = Curious::waker(&curious);
    let mut future = leaf(&cache, 1).compiled();
    for _ in 0..3 {
        let polled = std::pin::Pin::new(&mut future).poll(&mut Context::from_waker(&waker));
        assert!(polled.is_pending());
    }
    // By the same waker it is woken already.
    assert_eq!(curious.clones.load(Ordering::SeqCst), 1);
    plugged.gate.open();
    drop(future);
    wait_until("it is compiled", || cache.is_resident(&Code::leaf(1)));
}

/// Ten thousand wait for one method, and each is polled, woken and heard in little time.
#[test]
fn many_wait_for_one_method() {
    const MANY: usize = 10_000;
    let (plugged, builder) = Plugged::builder();
    let cache = builder.build().unwrap();
    plugged.plug(&cache);
    let mut executor = Executor::default();
    let order = Arc::new(Mutex::new(Vec::new()));
    for n in 0..MANY {
        let waits = leaf(&cache, 1).compiled();
        let order = order.clone();
        executor.spawn(async move {
            let ready = waits.await.map(drop);
            order.lock().unwrap().push((n, ready.is_ok()));
        });
    }
    assert!(!executor.poll());
    plugged.gate.open();
    executor.run();
    let expected: Vec<_> = (0..MANY).map(|n| (n, true)).collect();
    assert_eq!(*order.lock().unwrap(), expected, "who came first is first");
}

#[test]
fn it_does_not_keep_the_cache() {
    let (plugged, builder) = Plugged::builder();
    let cache = builder.build().unwrap();
    plugged.plug(&cache);
    let mut executor = Executor::default();
    let ended = Arc::<AtomicUsize>::default();
    for n in 0..10 {
        let waits = leaf(&cache, n).compiled();
        let ended = ended.clone();
        executor.spawn(async move {
            let error = waits.await.map(|_| ()).unwrap_err();
            assert!(matches!(error, Error::ShuttingDown), "{error:?}");
            ended.fetch_add(1, Ordering::SeqCst);
        });
    }
    assert!(!executor.poll());
    std::thread::scope(|threads| {
        threads.spawn(|| {
            // The cache waits for its worker when it ends.
            std::thread::sleep(Duration::from_millis(50));
            plugged.gate.open();
        });
        drop(cache);
    });
    executor.run();
    assert_eq!(ended.load(Ordering::SeqCst), 10);
    assert_eq!(plugged.emitted(), []);
}

#[test]
fn in_a_forked_child() {
    let test = "futures::in_a_forked_child";
    let body = || {
        let (plugged, builder) = Plugged::builder();
        let cache = builder.build().unwrap();
        plugged.plug(&cache);
        let mut queued = leaf(&cache, 1).compiled();
        let dropped = leaf(&cache, 2).compiled();
        assert!(poll(&mut queued).is_pending());
        let third = leaf(&cache, 3);
        let child = fork(false, || {
            let is_forked = |result| matches!(result, Poll::Ready(Err(Error::Forked)));
            assert!(is_forked(poll(&mut queued)));
            drop(dropped);
            assert!(is_forked(poll(&mut third.compiled())));
            0
        });
        child.expect_code(0);
        plugged.gate.open();
    };
    if let Some(ended) = child::run(test, Duration::from_secs(60), body) {
        ended.expect_code(0);
    }
}
