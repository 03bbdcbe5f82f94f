//! Stacks of one's own: suspended with frames of methods on them, resumed on other threads. What is
//! gone stays `PROT_NONE` for a while: who returns into it crashes.

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use corosensei::{Coroutine, CoroutineResult, Yielder};
use inkpot::{Cache, Entry, Participant, StackHold};
use support::fibre::{self, Fibre};
use support::held::{HOST, X, churn_until_gone, churn_while, resident, scrub};
use support::synthetic::{Code, How, Random, Unary, inside, method, quarantined};
use support::{leaf, wait_until};

/// A fibre that calls a method, and in it does something.
fn in_a_method(
    entry: Entry<'_, Unary>,
    code: Code,
    errand: impl FnOnce(&fibre::Inside<'_>) + Send + 'static,
) -> Fibre {
    // SAFETY: called before anything else happens, on the thread that is pinned.
    let pointer = unsafe { entry.pointer() };
    Fibre::new(move |fibre| {
        // SAFETY: the type is right, and who resumes it is pinned.
        let y = inside(|| errand(fibre), || unsafe { pointer(X) });
        assert_eq!(y, code.result(X));
        y
    })
}

/// The same, suspended in the method.
fn suspended(cache: &Cache<Code>, me: &Participant, code: Code) -> Fibre {
    let mut guard = me.pin();
    let entry = method(cache, code).get(&mut guard).unwrap();
    let mut fibre = in_a_method(entry, code, |fibre| fibre.pause());
    assert!(fibre.resume(me).is_none());
    fibre
}

#[test]
fn suspended_here_and_resumed_there() {
    let cache = quarantined().build().unwrap();
    let me = cache.participant("here");
    let mut fibre = suspended(&cache, &me, HOST);
    assert_eq!(fibre.generations(), 1);
    cache.evict_all();
    churn_while(&cache, 1, || {});
    let of_thread = cache.clone();
    let there = std::thread::spawn(move || {
        let me = of_thread.participant("there");
        let guard = me.pin();
        let result = fibre.resume(&me);
        scrub();
        churn_until_gone(&of_thread, &me, 0);
        drop(guard);
        result
    });
    assert_eq!(there.join().unwrap(), Some(HOST.result(X)));
}

/// It wanders from thread to thread, with safepoints, calls that find nothing resident, and waits
/// on each.
#[test]
fn from_thread_to_thread() {
    const THREADS: usize = 6;
    let callee = Code::new(12, How::Call).framed();
    let cache = quarantined().build().unwrap();
    let me = cache.participant("first");
    let mut guard = me.pin();
    let address = method(&cache, callee).address() as usize;
    let entry = method(&cache, HOST).get(&mut guard).unwrap();
    let in_fibre = cache.clone();
    let mut fibre = in_a_method(entry, HOST, move |fibre| {
        for _ in 0..THREADS {
            fibre.pause();
            // SAFETY: who resumes it is pinned; nothing is used afterwards but frames.
            unsafe { fibre.me().safepoint() };
            // SAFETY: the canonical address of a method of this type.
            let call = || unsafe { std::mem::transmute::<usize, Unary>(address)(X) };
            assert_eq!(call(), callee.result(X));
            let wait = || churn_while(&in_fibre, 1, || {});
            // SAFETY: as above; in it nothing is called.
            unsafe { fibre.me().blocking(wait) };
        }
    });
    assert!(fibre.resume(&me).is_none());
    drop(guard);
    for i in 1..=THREADS {
        cache.evict_all();
        let of_thread = cache.clone();
        let next = std::thread::spawn(move || {
            let me = of_thread.participant("next");
            let _guard = me.pin();
            let result = fibre.resume(&me);
            assert_eq!(result, (i == THREADS).then(|| HOST.result(X)));
            fibre
        });
        fibre = next.join().unwrap();
    }
    cache.evict_all();
    wait_until("all is gone", || cache.statistics().generations_fallow == 0);
}

#[test]
fn a_hundred_are_suspended_while_others_churn() {
    const FIBRES: u32 = 100;
    let cache = quarantined().workers(2).build().unwrap();
    let me = cache.participant("test");
    let codes = (0..FIBRES).map(|n| Code::new(n, How::Host).framed());
    let mut fibres: Vec<_> = codes
        .map(|code| (code, suspended(&cache, &me, code)))
        .collect();
    cache.evict_all();
    let over = AtomicBool::new(false);
    let calls = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for seed in 0..2 {
            let (cache, over, calls) = (&cache, &over, &calls);
            scope.spawn(move || churn(cache, seed, over, calls));
        }
        wait_until("they have churned", || {
            cache.statistics().generations_recycled > 1_000
        });
        let held = cache.statistics();
        assert!(held.generations_held >= u64::from(FIBRES), "{held:#?}");
        // Half of them go on while the others churn.
        let mut random = Random::new(5);
        while fibres.len() > FIBRES as usize / 2 {
            let (code, mut fibre) = fibres.swap_remove(random.below(fibres.len() as u32) as usize);
            let _guard = me.pin();
            assert_eq!(fibre.resume(&me), Some(code.result(X)));
        }
        over.store(true, Ordering::Relaxed);
    });
    assert!(calls.load(Ordering::Relaxed) > 0);
    cache.evict_all();
    let rest = fibres.len() as u64;
    churn_while(&cache, rest, || {});
    for (code, mut fibre) in fibres {
        let _guard = me.pin();
        assert_eq!(fibre.resume(&me), Some(code.result(X)));
    }
    churn_while(&cache, 0, || {});
}

/// Calls methods, and takes them away.
fn churn(cache: &Cache<Code>, seed: u64, over: &AtomicBool, calls: &AtomicU64) {
    let me = cache.participant("churns");
    let mut guard = me.pin();
    let mut random = Random::new(seed);
    while !over.load(Ordering::Relaxed) {
        let code = Code::leaf(200 + random.below(50));
        let entry = method(cache, code).get(&mut guard).unwrap();
        // SAFETY: the type is right.
        assert_eq!(unsafe { entry.call(X) }, code.result(X));
        cache.evict(&Code::leaf(200 + random.below(50)));
        calls.fetch_add(1, Ordering::Relaxed);
        guard.repin();
    }
}

/// A method's frame on the thread's own stack, which is left; and safepoints on the other.
#[test]
fn the_stack_that_was_left_is_held() {
    let outer = Code::new(6, How::Host).framed();
    let cache = quarantined().build().unwrap();
    let me = cache.participant("test");
    let mut guard = me.pin();
    resident(&cache, &mut guard, &[HOST, outer, Code::leaf(1)]);
    let one = leaf(&cache, 1).entry(&guard).unwrap();
    let [host, outer_entry] = [HOST, outer].map(|c| method(&cache, c).entry(&guard).unwrap());
    let in_fibre = cache.clone();
    let mut fibre = in_a_method(host, HOST, move |fibre| {
        in_fibre.evict_all();
        churn_until_gone(&in_fibre, fibre.me(), 3);
        fibre.pause();
        churn_until_gone(&in_fibre, fibre.me(), 3);
    });
    let errand = || {
        assert!(fibre.resume(&me).is_none());
        churn_until_gone(&cache, &me, 3);
        assert!(fibre.resume(&me).is_some());
        churn_until_gone(&cache, &me, 3);
    };
    // SAFETY: the type is right.
    let y = inside(errand, || unsafe { outer_entry.call(X) });
    assert_eq!(y, outer.result(X));
    // SAFETY: the type is right. It was on this thread's stack all the time.
    assert_eq!(unsafe { one.call(X) }, X + 1);
}

/// A library of fibres that knows nothing of the cache: the thread stays pinned, which is safe.
#[test]
fn a_stack_that_nobody_told_of() {
    let cache = quarantined().build().unwrap();
    let me = cache.participant("test");
    let mut guard = me.pin();
    resident(&cache, &mut guard, &[HOST, Code::leaf(1)]);
    let entry = leaf(&cache, 1).entry(&guard).unwrap();
    // SAFETY: called below, while the guard's pin lasts.
    let pointer = unsafe { entry.pointer() };
    let (in_fibre, in_me) = (cache.clone(), &raw const me as usize);
    let mut coroutine = Coroutine::new(move |_: &Yielder<(), ()>, ()| {
        // SAFETY: the participant lives until the coroutine has ended, on its own thread.
        let me = unsafe { &*(in_me as *const Participant) };
        in_fibre.evict_all();
        for _ in 0..20 {
            std::thread::sleep(Duration::from_millis(2));
            // SAFETY: nothing is used afterwards that is kept off the thread's stacks.
            unsafe { me.safepoint() };
            // SAFETY: as above.
            unsafe { me.blocking(|| std::thread::sleep(Duration::from_millis(2))) };
        }
        let now = in_fibre.statistics();
        assert_eq!(now.generations_recycled, 0);
        assert!(now.longest_pinned.is_some());
        // SAFETY: the type is right, and the pin lasts.
        assert_eq!(unsafe { pointer(X) }, X + 1);
    });
    assert_eq!(coroutine.resume(()), CoroutineResult::Return(()));
    scrub();
    churn_until_gone(&cache, &me, 1);
    // SAFETY: the type is right.
    assert_eq!(unsafe { entry.call(X) }, X + 1);
}

/// One participant says where the thread is, another is pinned: what that one is inside of is held.
#[test]
fn two_participants_of_one_thread() {
    let cache = quarantined().build().unwrap();
    let (me, also_me) = (cache.participant("tells"), cache.participant("is pinned"));
    let mut guard = also_me.pin();
    let entry = method(&cache, HOST).get(&mut guard).unwrap();
    let errand = || {
        cache.evict_all();
        let own = me.thread_stack().unwrap();
        // SAFETY: to the stack that it is on: nothing is switched.
        let hold = unsafe { me.switch_stack(own) };
        assert_eq!(hold.generations(), 1);
        hold.hand_over(&also_me);
        churn_until_gone(&cache, &also_me, 1);
    };
    // SAFETY: the type is right.
    let y = inside(errand, || unsafe { entry.call(X) });
    assert_eq!(y, HOST.result(X));
    drop(guard);
    // Nobody is pinned: there is nothing to be held.
    let own = me.thread_stack().unwrap();
    // SAFETY: as above.
    assert_eq!(unsafe { me.switch_stack(own) }.generations(), 0);
}

#[test]
fn a_stack_that_never_runs_again() {
    let cache = quarantined().build().unwrap();
    let me = cache.participant("test");
    let mut guard = me.pin();
    let entry = method(&cache, HOST).get(&mut guard).unwrap();
    let mut hold: Option<StackHold> = None;
    let errand = || {
        let own = me.thread_stack().unwrap();
        // SAFETY: to the stack that it is on: nothing is switched.
        hold = Some(unsafe { me.switch_stack(own) });
    };
    // SAFETY: the type is right.
    inside(errand, || unsafe { entry.call(X) });
    drop(guard);
    let hold = hold.unwrap();
    assert_eq!(hold.generations(), 1);
    assert!(format!("{hold:?}").contains("generations: 1"));
    cache.evict_all();
    churn_while(&cache, 1, || {});
    drop(me);
    churn_while(&cache, 1, || {});
    // It keeps the cache, and can be dropped anywhere.
    let of_thread = cache.clone();
    std::thread::spawn(move || drop((hold, of_thread)))
        .join()
        .unwrap();
    churn_while(&cache, 0, || {});
}

#[test]
fn a_hold_is_handed_to_who_can_run_the_stack() {
    let cache = quarantined().build().unwrap();
    let other = quarantined().build().unwrap();
    let me = cache.participant("test");
    let (elsewhere, also_me) = (other.participant("test"), cache.participant("test too"));
    let mut guard = me.pin();
    let entry = method(&cache, HOST).get(&mut guard).unwrap();
    let own = me.thread_stack().unwrap();
    // SAFETY: to the stack that it is on: nothing is switched.
    let hold = || unsafe { me.switch_stack(own.clone()) };
    let hand_over = |to: &Participant| {
        let hold = hold();
        assert!(hold.generations() > 0);
        catch_unwind(AssertUnwindSafe(|| hold.hand_over(to)))
    };
    assert!(hand_over(&elsewhere).is_err(), "of another cache");
    assert!(hand_over(&also_me).is_err(), "not pinned");
    // Two at once: given up at the next safepoint but for what is still needed.
    assert!(hand_over(&me).is_ok() && hand_over(&me).is_ok());
    cache.evict_all();
    scrub();
    churn_until_gone(&cache, &me, 1);
    // SAFETY: the type is right.
    assert_eq!(unsafe { entry.call(X) }, HOST.result(X));
}

#[test]
fn a_fibre_that_panics() {
    let cache = quarantined().build().unwrap();
    let me = cache.participant("test");
    let guard = me.pin();
    let mut fibre = suspended(&cache, &me, HOST);
    let mut inner = me.pin();
    let entry = method(&cache, HOST).get(&mut inner).unwrap();
    let mut panics = in_a_method(entry, HOST, |fibre| {
        fibre.pause();
        std::panic::resume_unwind(Box::new(()));
    });
    assert!(panics.resume(&me).is_none());
    cache.evict_all();
    let caught = catch_unwind(AssertUnwindSafe(|| panics.resume(&me)));
    assert!(caught.is_err());
    // The thread is on its own stack again, and the cache knows.
    assert_eq!(fibre.resume(&me), Some(HOST.result(X)));
    churn_until_gone(&cache, &me, 1);
    // SAFETY: the type is right.
    assert_eq!(unsafe { entry.call(X) }, HOST.result(X));
    drop((inner, guard));
    churn_while(&cache, 0, || {});
}

/// Stacks were switched inside of two `blocking`s, which do not end in the order of their
/// beginning: that is noticed before guards are counted against others.
#[test]
fn blockings_that_do_not_nest() {
    let ended = support::child::run(
        "blockings_that_do_not_nest",
        Duration::from_secs(20),
        || {
            let cache = quarantined().build().unwrap();
            let me = cache.participant("test");
            let _guard = me.pin();
            let body = |fibre: &fibre::Inside<'_>| {
                // SAFETY: none: it pauses inside, which is what must be noticed.
                unsafe { fibre.me().blocking(|| fibre.pause()) };
                0
            };
            let mut first = Fibre::new(body);
            let mut second = Fibre::new(body);
            first.resume(&me);
            let _again = me.pin();
            second.resume(&me);
            first.resume(&me);
        },
    );
    if let Some(ended) = ended {
        assert!(!ended.status.success(), "{ended:?}");
        assert!(
            ended.output.contains("stacks were switched"),
            "{}",
            ended.output
        );
    }
}
