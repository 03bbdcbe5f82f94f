//! Threads that wait: unpinned, also with frames of methods below, which stay. What is gone stays
//! `PROT_NONE` for a while: who returns into it crashes.

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use inkpot::{Cache, Error, Guard, Participant};
use support::held::{HOST, X, churn_until_gone, churn_while, resident, scrub};
use support::synthetic::{Code, How, inside, method, quarantined};
use support::{leaf, wait_until};

const HOSTS: [Code; 3] = [
    HOST,
    Code::new(6, How::Host).framed(),
    Code::new(8, How::Host).framed(),
];

fn is_pinned(cache: &Cache<Code>) -> bool {
    cache.statistics().longest_pinned.is_some()
}

#[test]
fn whoever_blocks_stops_nothing() {
    let cache = quarantined().build().unwrap();
    let me = cache.participant("test");
    let mut guard = me.pin();
    resident(&cache, &mut guard, &[Code::leaf(1)]);
    let answer = guard.blocking(|| {
        cache.evict_all();
        churn_while(&cache, 0, || assert!(!is_pinned(&cache)));
        42
    });
    assert_eq!(answer.unwrap(), 42);
    assert!(is_pinned(&cache));
    // SAFETY: the type is right.
    let y = unsafe { leaf(&cache, 1).get(&mut guard).unwrap().call(X) };
    assert_eq!(y, X + 1);
}

/// Inside of a method: that stays, all others go.
#[test]
fn frames_below_stay() {
    let cache = quarantined().build().unwrap();
    let me = cache.participant("test");
    let mut guard = me.pin();
    let others: Vec<Code> = (100..120).map(Code::leaf).collect();
    resident(&cache, &mut guard, &others);
    let entry = method(&cache, HOST).get(&mut guard).unwrap();
    let errand = || {
        // SAFETY: what is used afterwards is on the stack.
        unsafe {
            me.blocking(|| {
                cache.evict_all();
                churn_while(&cache, 1, || assert!(!is_pinned(&cache)));
            });
        }
        assert!(is_pinned(&cache));
        assert_eq!(cache.statistics().generations_held, 1);
    };
    // SAFETY: the type is right.
    let y = inside(errand, || unsafe { entry.call(X) });
    assert_eq!(y, HOST.result(X));
    // SAFETY: the type is right. It was on the stack all the time.
    assert_eq!(unsafe { entry.call(X) }, HOST.result(X));
    drop(guard);
    wait_until("it goes too", || cache.statistics().generations_fallow == 0);
}

/// A method that blocks, in which the thread pins and runs a method that blocks, and so on: each
/// level gives up only what it has held itself.
#[test]
fn a_pin_inside_a_blocking_inside_a_pin() {
    fn level(cache: &Cache<Code>, me: &Participant, depth: usize) {
        let host = HOSTS[depth];
        let held = depth as u64 + 1;
        let mut guard = me.pin();
        resident(cache, &mut guard, &[host, Code::leaf(50)]);
        let entry = method(cache, host).entry(&guard).unwrap();
        let errand = || {
            // SAFETY: what is used afterwards is on the stack.
            let block = |wait: &dyn Fn()| unsafe {
                scrub();
                me.blocking(wait);
            };
            block(&|| {
                cache.evict_all();
                churn_while(cache, held, || {});
                if depth + 1 < HOSTS.len() {
                    level(cache, me, depth + 1);
                }
                churn_while(cache, held, || {});
                // A pin, and safepoints, that hold what is outside once more, and give it up.
                drop(me.pin());
                let guard = me.pin();
                churn_until_gone(cache, me, held);
                drop(guard);
                churn_while(cache, held, || {});
            });
            churn_until_gone(cache, me, held);
            // Once more, from where the last one was made.
            block(&|| churn_while(cache, held, || {}));
        };
        // SAFETY: the type is right.
        let y = inside(errand, || unsafe { entry.call(X) });
        assert_eq!(y, host.result(X));
        // SAFETY: the type is right.
        assert_eq!(unsafe { entry.call(X) }, host.result(X));
    }
    let cache = quarantined().build().unwrap();
    let me = cache.participant("test");
    level(&cache, &me, 0);
    assert!(!is_pinned(&cache));
    wait_until("everything goes", || {
        cache.statistics().generations_fallow == 0
    });
}

#[test]
fn another_guard_of_the_thread_is_refused() {
    let cache = quarantined().build().unwrap();
    let other = quarantined().build().unwrap();
    let me = cache.participant("test");
    let (also_me, elsewhere) = (cache.participant("test too"), other.participant("test"));
    let mut guard = me.pin();
    let mut refused = |guards: &[Guard<'_>]| {
        let said = guard.blocking(|| panic!("it is not run"));
        assert!(matches!(said, Err(Error::AnotherGuard)), "{said:?}");
        assert_eq!(guards.len(), 1);
    };
    refused(&[me.pin()]);
    refused(&[also_me.pin()]);
    let _elsewhere = elsewhere.pin();
    guard.blocking(|| ()).unwrap();
    // Inside, in a guard that was made there.
    let inner = guard.blocking(|| me.pin().blocking(|| is_pinned(&cache)).unwrap());
    assert!(!inner.unwrap());
    std::mem::forget(me.pin());
    let said = guard.blocking(|| panic!("it is not run"));
    assert!(matches!(said, Err(Error::AnotherGuard)), "{said:?}");
}

#[test]
fn a_closure_that_panics() {
    let cache = quarantined().build().unwrap();
    let me = cache.participant("test");
    let mut guard = me.pin();
    resident(&cache, &mut guard, &[HOST]);
    let caught = catch_unwind(AssertUnwindSafe(|| {
        guard.blocking(|| {
            let _inner = me.pin();
            std::panic::resume_unwind(Box::new(1));
        })
    }));
    assert!(caught.is_err());
    assert!(is_pinned(&cache));
    let entry = method(&cache, HOST).entry(&guard).unwrap();
    // Out of a `blocking` inside of a method, through its frame.
    let errand = || {
        cache.evict_all();
        // SAFETY: what is used afterwards is on the stack.
        unsafe {
            me.blocking(|| {
                churn_while(&cache, 1, || {});
                std::panic::resume_unwind(Box::new(2));
            })
        }
    };
    // SAFETY: the type is right.
    let call = || inside(errand, || unsafe { entry.call(X) });
    assert!(catch_unwind(AssertUnwindSafe(call)).is_err());
    assert!(is_pinned(&cache));
    churn_until_gone(&cache, &me, 1);
    // SAFETY: the type is right.
    assert_eq!(unsafe { entry.call(X) }, HOST.result(X));
    drop(guard);
    wait_until("unpinned, it goes", || {
        cache.statistics().generations_fallow == 0
    });
}

/// Guards that were made outside of a `blocking` are dropped in it, or used for what ends entries:
/// the guard that was made inside still protects what it has loaded.
#[test]
fn guards_of_outside_count_for_nothing_inside() {
    let cache = quarantined().build().unwrap();
    let me = cache.participant("test");
    let mut first = me.pin();
    let mut second = me.pin();
    let third = me.pin();
    resident(&cache, &mut first, &[Code::leaf(1)]);
    let errand = || {
        let inner = me.pin();
        let entry = leaf(&cache, 1).entry(&inner).unwrap();
        // Off the stack, so that nothing but the pin protects it.
        let heap = vec![entry];
        cache.evict_all();
        drop(third);
        for _ in 0..20 {
            std::thread::sleep(std::time::Duration::from_millis(2));
            second.repin();
            second.safepoint();
            let said = second.blocking(|| panic!("it is not run"));
            assert!(matches!(said, Err(Error::AnotherGuard)), "{said:?}");
            assert!(is_pinned(&cache));
        }
        assert_eq!(cache.statistics().generations_recycled, 0);
        // SAFETY: the type is right.
        assert_eq!(unsafe { heap[0].call(X) }, X + 1);
        drop(second);
        assert!(is_pinned(&cache));
        // SAFETY: the type is right.
        assert_eq!(unsafe { heap[0].call(X) }, X + 1);
        drop(heap);
        drop(inner);
        assert!(!is_pinned(&cache));
    };
    // SAFETY: nothing that was loaded before is used.
    unsafe { me.blocking(errand) };
    assert!(is_pinned(&cache), "by the first, which is alone now");
    wait_until("it re-pins", || {
        first.repin();
        cache.statistics().generations_fallow == 0
    });
    drop(first);
    assert!(!is_pinned(&cache));
}

/// A guard that was made inside of a `blocking` outlives it, and is outside of the next.
#[test]
fn a_guard_comes_out_of_a_blocking() {
    let cache = quarantined().build().unwrap();
    let me = cache.participant("test");
    let mut guard = me.pin();
    let out = guard.blocking(|| me.pin()).unwrap();
    drop(guard);
    assert!(is_pinned(&cache));
    let errand = || {
        assert!(!is_pinned(&cache));
        let inner = me.pin();
        drop(out);
        assert!(is_pinned(&cache), "by the one inside");
        drop(inner);
        assert!(!is_pinned(&cache));
    };
    // SAFETY: nothing that was loaded before is used.
    unsafe { me.blocking(errand) };
    assert!(!is_pinned(&cache), "nobody has a guard any more");
    // One that is leaked inside keeps its pin.
    let mut guard = me.pin();
    guard.blocking(|| std::mem::forget(me.pin())).unwrap();
    drop(guard);
    assert!(is_pinned(&cache));
    drop(me);
    assert!(!is_pinned(&cache));
}

/// Who is not pinned must not call what it loaded outside: it would run code that may go.
#[test]
fn an_entry_of_outside_is_not_called_unpinned() {
    let cache = quarantined().build().unwrap();
    let me = cache.participant("test");
    let mut guard = me.pin();
    resident(&cache, &mut guard, &[Code::leaf(1)]);
    let lease = leaf(&cache, 1).lease(&mut guard).unwrap();
    let entries = [leaf(&cache, 1).entry(&guard).unwrap(), lease.entry(&guard)];
    let call = |i: usize| {
        // SAFETY: the type is right.
        let call = || unsafe { entries[i].call(X) };
        catch_unwind(AssertUnwindSafe(call))
    };
    let errand = || {
        for i in 0..entries.len() {
            let said = call(i).unwrap_err();
            let said = said.downcast_ref::<&str>().unwrap_or(&"").to_string();
            assert!(said.contains("not pinned there"), "{said}");
        }
        // It is held by the stack outside, and the thread is pinned.
        let _inner = me.pin();
        assert_eq!(call(0).unwrap(), X + 1);
        assert_eq!(call(1).unwrap(), X + 1);
    };
    // SAFETY: what is used afterwards is on the stack.
    unsafe { me.blocking(errand) };
    assert_eq!(call(0).unwrap(), X + 1);
}

/// Waits for code under a second guard are pinned, and those of a resolver are not.
#[test]
fn a_method_evicts_itself_and_its_callee_again_and_again() {
    let caller = Code::new(40, How::Call).depth(4).framed();
    let cache = quarantined().workers(2).build().unwrap();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                cache.evict_all();
                std::thread::yield_now();
            }
        });
        let me = cache.participant("test");
        let mut guard = me.pin();
        let handle = method(&cache, caller);
        for _ in 0..300 {
            let entry = handle.get(&mut guard).unwrap();
            // SAFETY: the type is right.
            assert_eq!(unsafe { entry.call(X) }, caller.result(X));
            // SAFETY: the type is right. It may be gone from the cache, and is on the stack.
            assert_eq!(unsafe { entry.call(X) }, caller.result(X));
        }
        stop.store(true, Ordering::Relaxed);
    });
    wait_until("everything goes", || {
        cache.evict_all();
        cache.seal();
        let now = cache.statistics();
        now.generations_fallow == 0 && now.mapped_code_bytes == 0
    });
}

/// A thread ends in the middle of a `blocking`, with guards and holds of every level.
#[test]
fn a_thread_ends_inside() {
    let cache = quarantined().build().unwrap();
    let of_thread = cache.clone();
    std::thread::spawn(move || {
        let cache = of_thread;
        let me = Box::leak(Box::new(cache.participant("ends inside")));
        let guard = Box::leak(Box::new(me.pin()));
        resident(&cache, guard, &[HOST]);
        let entry = method(&cache, HOST).entry(guard).unwrap();
        let errand = || {
            // SAFETY: nothing is used afterwards.
            unsafe {
                me.blocking(|| {
                    let guard = Box::leak(Box::new(me.pin()));
                    resident(&cache, guard, &[HOSTS[1]]);
                    cache.evict_all();
                    churn_until_gone(&cache, me, 1);
                    std::panic::resume_unwind(Box::new(()));
                });
            }
        };
        // SAFETY: the type is right.
        let call = || inside(errand, || unsafe { entry.call(X) });
        let _ = catch_unwind(AssertUnwindSafe(call));
    })
    .join()
    .unwrap();
    wait_until("all is given up", || {
        let now = cache.statistics();
        now.generations_fallow == 0 && now.participants == 0
    });
}
