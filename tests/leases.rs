//! Leases: code that stays for as long as somebody keeps a pointer into it, and is named. What is
//! gone stays `PROT_NONE` for a while.

mod support;

use inkpot::{Cache, Error, Lease};
use support::held::{HOST, X, churn_until_gone, churn_while, resident};
use support::synthetic::{Code, How, Synthetic, Unary, inside, method, quarantined};
use support::{leaf, wait_until};

#[test]
fn leased_code_stays_and_is_named() {
    let cache = quarantined().build().unwrap();
    let me = cache.participant("test");
    let code = Code::new(7, How::Call).framed();
    let mut guard = me.pin();
    let lease = method(&cache, code).lease(&mut guard).unwrap();
    let first = cache.statistics();
    assert_eq!((first.leases, first.leased), (1, vec![format!("{code:?}")]));
    assert_eq!(first.bytes.held, 0, "it is not retired");
    drop(cache.invalidate(&code));
    churn_until_gone(&cache, &me, 1);
    let now = cache.statistics();
    assert!(now.bytes.held > 0 && now.bytes.held == now.bytes.retired);
    assert!(!cache.is_resident(&code));
    // It still runs, and calls what has no code yet; and what is compiled now is another.
    for _ in 0..3 {
        // SAFETY: the type is right.
        assert_eq!(unsafe { lease.entry(&guard).call(X) }, code.result(X));
        cache.evict_all();
    }
    let again = method(&cache, code).lease(&mut guard).unwrap();
    assert_ne!(lease.address(), again.address());
    assert_eq!(cache.statistics().leases, 2);
    assert!(cache.contains(lease.address()));
    drop((again, guard));
    cache.evict_all();
    churn_while(&cache, 1, || {});
    // It can be dropped on any thread.
    std::thread::scope(|scope| {
        scope.spawn(|| drop(lease));
    });
    churn_while(&cache, 0, || {});
    let end = cache.statistics();
    assert_eq!((end.leases, end.leased.len()), (0, 0));
}

/// Its entries are good over safepoints, wherever they are kept.
#[test]
fn leased_entries_are_kept_anywhere() {
    let cache = quarantined().build().unwrap();
    let me = cache.participant("test");
    let mut guard = me.pin();
    resident(&cache, &mut guard, &[HOST]);
    let lease = leaf(&cache, 1).lease(&mut guard).unwrap();
    let host = method(&cache, HOST).entry(&guard).unwrap();
    let heap = Box::new(lease.entry(&guard));
    let errand = || {
        cache.evict_all();
        churn_until_gone(&cache, &me, 2);
    };
    // SAFETY: the type is right.
    inside(errand, || unsafe { host.call(X) });
    // SAFETY: the type is right.
    assert_eq!(unsafe { heap.call(X) }, X + 1);
}

/// Several of one generation: it stays until the last is gone, and so does all of it.
#[test]
fn a_generation_stays_until_its_last_lease() {
    let cache = quarantined().generation_methods(3).build().unwrap();
    let me = cache.participant("test");
    let mut guard = me.pin();
    let mut leases: Vec<Lease<Unary>> = (0..3)
        .map(|n| leaf(&cache, n).lease(&mut guard).unwrap())
        .collect();
    leases.push(leaf(&cache, 0).lease(&mut guard).unwrap());
    cache.evict_all();
    drop(guard);
    while let Some(lease) = leases.pop() {
        churn_while(&cache, 1, || {});
        assert_eq!(cache.statistics().leases, leases.len() as u64 + 1);
        drop(lease);
    }
    churn_while(&cache, 0, || {});
}

#[test]
fn names_of_the_oldest_are_told() {
    let cache = quarantined().generation_methods(100).build().unwrap();
    let me = cache.participant("test");
    let mut guard = me.pin();
    let leases: Vec<_> = (0..40)
        .map(|n| leaf(&cache, n).lease(&mut guard).unwrap())
        .collect();
    let now = cache.statistics();
    let oldest: Vec<String> = (0..16).map(|n| format!("{:?}", Code::leaf(n))).collect();
    assert_eq!((now.leases, &now.leased), (40, &oldest));
    drop(leases);
    assert_eq!(cache.statistics().leases, 0);
}

#[test]
fn what_cannot_be_leased() {
    let cache = quarantined().build().unwrap();
    let other = quarantined().build().unwrap();
    let (me, elsewhere) = (cache.participant("test"), other.participant("test"));
    let refused = method(&cache, Code::new(1, How::Refuse)).lease(&mut me.pin());
    assert!(matches!(refused, Err(Error::Codegen { .. })));
    let wrong = leaf(&cache, 1).lease(&mut elsewhere.pin());
    assert!(matches!(wrong, Err(Error::WrongCache)));
    assert_eq!(cache.statistics().leases, 0);
    let lease = leaf(&cache, 1).lease(&mut me.pin()).unwrap();
    let guard = elsewhere.pin();
    let call = std::panic::AssertUnwindSafe(|| lease.entry(&guard));
    assert!(std::panic::catch_unwind(call).is_err());
}

/// It keeps the cache, and is the last to go.
#[test]
fn a_lease_outlives_all_else() {
    let cache = Cache::with_backend(Synthetic::default());
    let cache = cache.generation_methods(1).build().unwrap();
    let me = cache.participant("test");
    let lease = leaf(&cache, 1).lease(&mut me.pin()).unwrap();
    cache.evict_all();
    drop((me, cache));
    let address = lease.address() as usize;
    // SAFETY: leased code: `lea rax, [rdi + 1]`.
    let byte = || unsafe { *(address as *const u8) };
    assert_eq!(byte(), 0x48);
    // SAFETY: it calls nothing, so that no pin is needed.
    let f = unsafe { std::mem::transmute::<usize, Unary>(address) };
    // SAFETY: as above.
    assert_eq!(unsafe { f(X) }, X + 1);
    std::thread::spawn(move || drop(lease)).join().unwrap();
}

/// Threads lease and let go while others take away.
#[test]
fn leases_in_a_storm() {
    let cache = quarantined().workers(2).build().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let cache = &cache;
            scope.spawn(move || {
                let me = cache.participant("leases");
                let mut guard = me.pin();
                let mut leases: [Option<(i64, Lease<Unary>)>; 5] = [const { None }; 5];
                for i in 0..1_000 {
                    let n = (i * 7 + thread) % 20;
                    let lease = leaf(cache, n).lease(&mut guard).unwrap();
                    leases[i as usize % 5] = Some((i64::from(n), lease));
                    cache.evict(&Code::leaf((i * 11) % 20));
                    for (n, lease) in leases.iter().flatten() {
                        // SAFETY: the type is right.
                        assert_eq!(unsafe { lease.entry(&guard).call(X) }, X + n);
                    }
                    guard.repin();
                }
            });
        }
    });
    cache.evict_all();
    wait_until("all is gone", || {
        let now = cache.statistics();
        now.leases == 0 && now.generations_fallow == 0 && now.mapped_code_bytes == 0
    });
}
