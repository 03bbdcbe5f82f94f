//! What is unlinked, and what is not published.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use inkpot::{Assumption, Cache, Error, Invalidation};

use crate::support::child;
use crate::support::synthetic::{Code, Synthetic, method};
use crate::{compile, many, relying, relying_on_one, resident};

#[test]
fn dependents_are_unlinked_once_and_others_are_not() {
    let all = many(3);
    let of = all.clone();
    let cache = relying(move |n| vec![of[n as usize % 3].clone()])
        .build()
        .unwrap();
    compile(&cache, 0..30);
    assert_eq!(cache.statistics().bonds, 30);
    drop(all[1].invalidate());
    let left: Vec<u32> = (0..30).filter(|n| n % 3 != 1).collect();
    assert_eq!(resident(&cache, 0..30), left);
    let s = cache.statistics();
    assert_eq!(
        (s.unlinked_by_assumptions, s.assumptions_invalidated),
        (10, 1)
    );
    assert_eq!((s.evictions, s.invalidations, s.bonds), (0, 0, 20));
    drop(all[1].invalidate());
    let s = cache.statistics();
    assert_eq!(
        (s.unlinked_by_assumptions, s.bonds),
        (10, 20),
        "they are unlinked already"
    );
    compile(&cache, 0..30);
    let s = cache.statistics();
    assert_eq!((s.compiles, s.bonds), (40, 30));
    drop(all[1].invalidate());
    assert_eq!(cache.statistics().unlinked_by_assumptions, 20);
    assert_eq!(all[1].version(), 3);
}

#[test]
fn a_method_on_many_assumptions_falls_once_with_any() {
    let all = many(100);
    let of = all.clone();
    let cache = relying(move |_| of.to_vec()).build().unwrap();
    for (i, a) in all.iter().enumerate() {
        compile(&cache, [7]);
        assert_eq!(cache.statistics().bonds, 100);
        drop(a.invalidate());
        let s = cache.statistics();
        assert_eq!((s.unlinked_by_assumptions, s.bonds), (i as u64 + 1, 0));
    }
}

#[test]
fn a_group_unlinks_what_relies_on_its_members() {
    let class = Assumption::new();
    let fields: Vec<_> = (0..4).map(|_| class.member()).collect();
    let below = fields[0].member();
    let mut all = fields.clone();
    all.extend([below, class.clone(), Assumption::new()]);
    let of = all.clone();
    let cache = relying(move |n| vec![of[n as usize].clone()])
        .build()
        .unwrap();
    compile(&cache, 0..7);
    drop(fields[0].invalidate());
    assert_eq!(resident(&cache, 0..7), [1, 2, 3, 5, 6]);
    compile(&cache, 0..7);
    drop(class.invalidate());
    assert_eq!(resident(&cache, 0..7), [6]);
    assert_eq!(cache.statistics().unlinked_by_assumptions, 2 + 6);
}

#[test]
fn several_caches_rely_on_one() {
    let a = Assumption::new();
    let make = || {
        let a = a.clone();
        relying(move |_| vec![a.clone()]).build().unwrap()
    };
    let (one, two) = (make(), make());
    compile(&one, 0..10);
    compile(&two, 5..15);
    a.invalidate().wait().unwrap();
    assert_eq!(resident(&one, 0..20), []);
    assert_eq!(resident(&two, 0..20), []);
    compile(&two, 5..6);
    drop(one);
    a.invalidate().wait().unwrap();
    assert_eq!(resident(&two, 0..20), []);
}

#[test]
fn kept_methods_are_unlinked_too() {
    let (cache, a) = relying_on_one();
    compile(&cache, 0..2);
    let kept = method(&cache, Code::leaf(0));
    let _keep = kept.keep();
    drop(a.invalidate());
    assert_eq!(resident(&cache, 0..2), []);
    assert_eq!(cache.statistics().bytes.kept, 0);
    compile(&cache, 0..2);
    cache.evict_all();
    assert_eq!(resident(&cache, 0..2), [0], "it is kept still");
}

/// A cache whose assumption falls three times while methods are compiled, before
/// these have said that they rely on it, or after.
fn falls_while_compiled(after: bool) -> (Cache<Code>, Assumption) {
    let a = Assumption::new();
    let (of, left) = (a.clone(), AtomicU32::new(3));
    let backend = Synthetic {
        relies: Some(Arc::new(move |_, assume| {
            if after {
                assume(&of);
            }
            let less = |n: u32| n.checked_sub(1);
            if left
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less)
                .is_ok()
            {
                drop(of.invalidate());
            }
            if !after {
                assume(&of);
            }
        })),
        ..Synthetic::default()
    };
    (Cache::with_backend(backend).build().unwrap(), a)
}

#[test]
fn what_falls_before_it_is_relied_on_costs_nothing() {
    let (cache, a) = falls_while_compiled(false);
    compile(&cache, [1]);
    let s = cache.statistics();
    assert_eq!((a.version(), s.compiles, s.stale_compiles), (1, 1, 0));
}

#[test]
fn what_falls_after_it_was_relied_on_is_not_published() {
    let (cache, a) = falls_while_compiled(true);
    compile(&cache, [1]);
    let s = cache.statistics();
    assert_eq!((a.version(), s.compiles, s.stale_compiles), (3, 1, 3));
    assert_eq!((s.unlinked_by_assumptions, s.bonds), (0, 1));
}

#[test]
fn what_falls_afterwards_has_waiters_wait_for_what_is_compiled_then() {
    let a = Assumption::new();
    let times = Arc::new(AtomicU32::new(3));
    // It relies on `a`, and while it says so of the second, `a` falls.
    let (of, left) = (a.clone(), times.clone());
    let falls = Falls {
        a: of,
        left,
        gate: Arc::default(),
    };
    let cache = Cache::builder(falls).build().unwrap();
    let me = cache.participant("waits");
    // SAFETY: `Falls` gives all its methods this type.
    let handle = unsafe { cache.method::<unsafe extern "C" fn() -> u64>(&5) }.unwrap();
    let mut guard = me.pin();
    let entry = handle.get(&mut guard).unwrap();
    // SAFETY: it can be called at any time.
    let version = unsafe { entry.call() };
    assert_eq!(version, 3, "compiled when it had fallen three times");
    let s = cache.statistics();
    assert_eq!((s.compiles, s.stale_compiles, s.bonds), (1, 3, 1));
    assert_eq!(s.unlinked_by_assumptions, 0, "it was not published before");
    drop(guard);
    drop(a.invalidate());
    assert!(!cache.is_resident(&5));
}

/// Methods return the version that they rely on. Until `left` is 0 it falls when they have said so. The
/// method 9 cannot be compiled, and 100, which relies on something else, waits for the gate.
struct Falls {
    a: Assumption,
    left: Arc<AtomicU32>,
    gate: Arc<Mutex<()>>,
}

impl inkpot::Frontend for Falls {
    type Key = u32;

    fn emit<'ctx>(
        &self,
        key: &u32,
        unit: &mut inkpot::Unit<'_, 'ctx, u32>,
    ) -> Result<(), inkpot::BoxError> {
        let assumed = if *key == 100 {
            drop(self.gate.lock().unwrap());
            unit.assume(&Assumption::new())
        } else {
            unit.assume(&self.a)
        };
        let less = |n: u32| n.checked_sub(u32::from(*key != 100));
        let left = self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less);
        if *key != 100 && left.is_ok() {
            drop(self.a.invalidate());
        }
        if *key == 9 {
            return Err("it cannot be compiled".into());
        }
        let long = unit.context().i64_type();
        let function = unit.define(long.fn_type(&[], false));
        let build = unit.context().create_builder();
        build.position_at_end(unit.context().append_basic_block(function, "entry"));
        build.build_return(Some(&long.const_int(assumed.value(), false)))?;
        Ok(())
    }
}

#[test]
fn a_batch_that_is_emitted_anew_has_the_bonds_of_the_last_time() {
    let a = Assumption::new();
    let left = Arc::new(AtomicU32::new(3));
    let gate = Arc::<Mutex<()>>::default();
    let frontend = Falls {
        a: a.clone(),
        left,
        gate: gate.clone(),
    };
    // All in one batch: `a` falls after the first three were emitted, then 9 fails, and all others are emitted again.
    let cache = Cache::builder(frontend).build().unwrap();
    let keys = [100, 1, 2, 3, 9, 4];
    // SAFETY: as above.
    let method = |key: &u32| unsafe { cache.method::<unsafe extern "C" fn() -> u64>(key) };
    let handles: Vec<_> = keys.iter().map(|key| method(key).unwrap()).collect();
    let closed = gate.lock().unwrap();
    for (i, handle) in handles.iter().enumerate() {
        handle.request().unwrap();
        while i == 0 && cache.statistics().queued > 0 {
            std::thread::yield_now();
        }
    }
    drop(closed);
    let me = cache.participant("waits");
    for handle in &handles {
        let mut guard = me.pin();
        match handle.get(&mut guard) {
            // SAFETY: it can be called at any time.
            Ok(entry) if *handle.key() != 100 => assert_eq!(unsafe { entry.call() }, 3),
            Ok(_) => {}
            Err(error) => assert!(matches!(error, Error::Frontend { .. }), "{error}"),
        }
    }
    let s = cache.statistics();
    assert_eq!(
        (s.compiles, s.stale_compiles),
        (5, 0),
        "bonds of the first try were kept"
    );
}

#[test]
fn a_token_waits_for_all_who_may_be_inside() {
    let (cache, a) = relying_on_one();
    compile(&cache, [1]);
    let me = cache.participant("pinned");
    let guard = me.pin();
    let stalled = std::thread::scope(|scope| {
        let waits = scope.spawn(|| a.invalidate().wait_for(Duration::from_millis(20)));
        waits.join().unwrap()
    });
    assert!(matches!(stalled, Err(Error::Stalled { .. })), "{stalled:?}");
    assert!(matches!(a.invalidate().wait(), Err(Error::Pinned)));
    let token: Invalidation = a.invalidate();
    drop(guard);
    token.wait().unwrap();
    let token = a.invalidate();
    drop((me, cache));
    token.wait().unwrap(); // nobody is inside of what is gone
}

#[test]
fn a_forked_child_advances_the_version_and_nothing_else() {
    let test = "falling::a_forked_child_advances_the_version_and_nothing_else";
    let ended = child::run(test, Duration::from_secs(60), || {
        let (cache, a) = relying_on_one();
        let member = a.member();
        compile(&cache, 0..100);
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            // The lists are in use all the time: the child must find them free.
            for _ in 0..2 {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        drop(member.member());
                        drop(member.invalidate());
                    }
                });
            }
            for _ in 0..20 {
                let child = child::fork(false, || {
                    let (before, below) = (a.version(), member.version());
                    let new = a.member();
                    let outcome = a.invalidate().wait();
                    assert!(matches!(outcome, Err(Error::Forked)), "{outcome:?}");
                    assert_eq!(a.version(), before + 1);
                    assert!(member.version() > below);
                    assert_eq!(new.version(), 1);
                    assert_eq!(resident(&cache, 0..100).len(), 100);
                    0
                });
                child.expect_code(0);
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert_eq!(a.version(), 0);
        assert_eq!(resident(&cache, 0..100).len(), 100);
        drop(a.invalidate());
        assert_eq!(resident(&cache, 0..100).len(), 0);
    });
    if let Some(ended) = ended {
        ended.expect_code(0);
    }
}
