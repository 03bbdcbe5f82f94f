//! Who keeps memory from coming back is seen, named, and told once; nothing else happens to it.

mod support;

use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use inkpot::{Builder, Cache, Reclaimer, Stall};
use support::held::{HOST, X, churn_until_gone, resident};
use support::synthetic::{Code, inside, method, quarantined};
use support::{leaf, wait_until};

const SOON: Duration = Duration::from_millis(20);

/// A cache whose stalls are noted.
fn noted(builder: Builder<Code>) -> (Cache<Code>, Arc<Mutex<Vec<Stall>>>) {
    let told = Arc::<Mutex<Vec<Stall>>>::default();
    let listener = told.clone();
    let builder = builder.on_stall(move |stall| listener.lock().unwrap().push(stall.clone()));
    (builder.build().unwrap(), told)
}

/// A thread that stays pinned until it is told to go on, and again until it is told to end.
struct Sleeper {
    go_on: Option<mpsc::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Sleeper {
    fn new(cache: &Cache<Code>, name: &'static str) -> Self {
        let (go_on, wait) = mpsc::channel();
        let (ready, pinned) = mpsc::channel();
        let cache = cache.clone();
        let thread = std::thread::spawn(move || {
            let me = cache.participant(name);
            let mut guard = me.pin();
            ready.send(()).unwrap();
            while wait.recv().is_ok() {
                guard.repin();
            }
        });
        pinned.recv().unwrap();
        Self {
            go_on: Some(go_on),
            thread: Some(thread),
        }
    }

    fn repin(&self) {
        self.go_on.as_ref().unwrap().send(()).unwrap();
    }
}

impl Drop for Sleeper {
    fn drop(&mut self) {
        self.go_on = None;
        self.thread.take().unwrap().join().unwrap();
    }
}

/// Something dies that all who are pinned now keep.
fn something_dies(cache: &Cache<Code>, n: u32) {
    leaf(cache, n).request().unwrap();
    wait_until("it is compiled", || cache.is_resident(&Code::leaf(n)));
    cache.evict(&Code::leaf(n));
}

#[test]
fn a_pin_that_is_too_old_is_told_once() {
    let (cache, told) = noted(quarantined().stall_after(SOON));
    let sleeper = Sleeper::new(&cache, "sleeper");
    something_dies(&cache, 1);
    wait_until("the stall is seen", || cache.statistics().stall.is_some());
    let stall = cache.statistics().stall.unwrap();
    assert_eq!(stall.participant, "sleeper");
    assert!(!stall.blocked && stall.thread > 0);
    assert!(stall.pinned_for > Duration::ZERO);
    assert_eq!(stall.waiting_bytes, cache.statistics().bytes.retired);
    std::thread::sleep(5 * SOON);
    {
        let told = told.lock().unwrap();
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0].participant, "sleeper");
    }
    wait_until("it re-pins, and it is over", || {
        sleeper.repin();
        cache.statistics().stall.is_none()
    });
    wait_until("and all is free", || {
        cache.statistics().generations_fallow == 0
    });
    // A second time it is told again.
    something_dies(&cache, 2);
    wait_until("the second stall is told", || {
        told.lock().unwrap().len() == 2
    });
}

#[test]
fn a_stall_passes_to_another() {
    let (cache, told) = noted(quarantined().stall_after(SOON));
    let first = Sleeper::new(&cache, "first");
    something_dies(&cache, 1);
    wait_until("the first is told of", || told.lock().unwrap().len() == 1);
    let second = Sleeper::new(&cache, "second");
    something_dies(&cache, 2);
    drop(first);
    wait_until("the second is told of", || {
        told.lock().unwrap().last().unwrap().participant == "second"
    });
    assert_eq!(cache.statistics().stall.unwrap().participant, "second");
    drop(second);
    wait_until("it is over", || cache.statistics().stall.is_none());
    assert_eq!(told.lock().unwrap().len(), 2);
}

/// Too much that is held by a thread that blocks inside of a method.
#[test]
fn bytes_over_a_limit_that_a_stack_holds() {
    let (cache, told) = noted(quarantined().stall_bytes(1));
    let me = cache.participant("blocks");
    let mut guard = me.pin();
    let entry = method(&cache, HOST).get(&mut guard).unwrap();
    let errand = || {
        cache.evict_all();
        let wait = || {
            wait_until("the stall is seen", || {
                let stall = cache.statistics().stall;
                stall.is_some_and(|stall| stall.blocked)
            });
            let stall = cache.statistics().stall.unwrap();
            assert_eq!(stall.participant, "blocks");
            assert_eq!(stall.pinned_for, Duration::ZERO);
        };
        // SAFETY: what is used afterwards is on the stack.
        unsafe { me.blocking(wait) };
    };
    // SAFETY: the type is right.
    let y = inside(errand, || unsafe { entry.call(X) });
    assert_eq!(y, HOST.result(X));
    drop(guard);
    wait_until("it is over", || cache.statistics().stall.is_none());
    assert!(told.lock().unwrap().iter().any(|stall| stall.blocked));
}

/// One that is pinned, and comes to safepoints: it holds.
#[test]
fn bytes_over_a_limit_that_safepoints_hold() {
    let (cache, told) = noted(quarantined().stall_bytes(1));
    let me = cache.participant("inside");
    let mut guard = me.pin();
    resident(&cache, &mut guard, &[HOST]);
    let entry = method(&cache, HOST).entry(&guard).unwrap();
    let errand = || {
        cache.evict_all();
        churn_until_gone(&cache, &me, 1);
        wait_until("the stall is seen", || cache.statistics().stall.is_some());
    };
    // SAFETY: the type is right.
    inside(errand, || unsafe { entry.call(X) });
    drop(guard);
    wait_until("it is over", || cache.statistics().stall.is_none());
    let told = told.lock().unwrap();
    assert!(told.iter().all(|stall| stall.participant == "inside"));
    assert!(!told.is_empty());
}

/// What the listener does is its own business, and reclamation goes on.
#[test]
fn a_listener_that_panics_and_asks() {
    let slot = Arc::<Mutex<Option<Cache<Code>>>>::default();
    let asked = slot.clone();
    let builder = quarantined().stall_after(SOON).on_stall(move |_| {
        let cache = asked.lock().unwrap().take().unwrap();
        assert!(cache.statistics().stall.is_some());
        std::panic::resume_unwind(Box::new(()));
    });
    let cache = builder.build().unwrap();
    *slot.lock().unwrap() = Some(cache.clone());
    let sleeper = Sleeper::new(&cache, "sleeper");
    something_dies(&cache, 1);
    wait_until("it was told", || slot.lock().is_ok_and(|s| s.is_none()));
    drop(sleeper);
    wait_until("all is free", || cache.statistics().generations_fallow == 0);
}

/// By hand: it is told where the embedder reclaims.
#[test]
fn told_in_maintain() {
    let builder = quarantined().reclaimer(Reclaimer::Manual);
    let (cache, told) = noted(builder.stall_after(SOON));
    let _sleeper = Sleeper::new(&cache, "sleeper");
    something_dies(&cache, 1);
    cache.maintain();
    assert!(told.lock().unwrap().is_empty(), "not yet");
    std::thread::sleep(2 * SOON);
    cache.maintain();
    cache.maintain();
    assert_eq!(told.lock().unwrap().len(), 1);
}

/// What a lease holds is named among the leases: no participant is to blame.
#[test]
fn a_lease_is_no_stall() {
    let (cache, told) = noted(quarantined().stall_bytes(1));
    let me = cache.participant("test");
    let lease = leaf(&cache, 1).lease(&mut me.pin()).unwrap();
    cache.evict_all();
    wait_until("it is held", || cache.statistics().generations_held == 1);
    std::thread::sleep(5 * SOON);
    assert_eq!(cache.statistics().stall, None);
    assert!(told.lock().unwrap().is_empty());
    drop(lease);
}
