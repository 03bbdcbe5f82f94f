//! Policies at work in a cache: budgets hold, what is in use stays, and what is called by compiled
//! code alone counts as in use.

mod support;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use inkpot::evict::{Cost, Lru, MethodId, Policy, Sieve};
use inkpot::{Builder, Cache, Guard, Participant, Reclaimer};
use support::synthetic::{Code, How, Random, Synthetic, method};

const CODE_BUDGET: u64 = 1 << 20;

/// An embedder's policy: first come, first out, unless called meanwhile. It notes what the cache
/// tells it that makes no sense.
#[derive(Default)]
struct SecondChance {
    /// Oldest last.
    order: Vec<MethodId>,
    known: HashSet<MethodId>,
    nonsense: Arc<Mutex<Vec<String>>>,
}

impl SecondChance {
    fn expect(&self, holds: bool, what: &str, id: MethodId) {
        if !holds {
            self.nonsense.lock().unwrap().push(format!("{what} {id:?}"));
        }
    }
}

impl Policy for SecondChance {
    fn insert(&mut self, id: MethodId, cost: Cost) {
        self.expect(cost.bytes > 0, "no bytes of", id);
        if self.known.insert(id) {
            self.order.insert(0, id);
        }
    }

    fn hit(&mut self, id: MethodId) {
        self.expect(self.known.contains(&id), "hit of unknown", id);
        self.order.retain(|&other| other != id);
        self.order.insert(0, id);
    }

    fn remove(&mut self, id: MethodId) {
        self.known.remove(&id);
        self.order.retain(|&other| other != id);
    }

    fn victim(&mut self) -> Option<MethodId> {
        self.order.last().copied()
    }

    fn len(&self) -> usize {
        self.order.len()
    }

    fn name(&self) -> &'static str {
        "second-chance"
    }
}

fn policies() -> [Box<dyn Policy>; 3] {
    [
        Box::new(Lru::new()),
        Box::new(Sieve::new()),
        Box::new(SecondChance::default()),
    ]
}

fn builder(policy: impl Policy) -> Builder<Code> {
    let builder = Cache::with_backend(Synthetic::default()).policy(policy);
    builder
        .reclaimer(Reclaimer::Manual)
        .code_budget(CODE_BUDGET)
}

/// Four of these fill a slot: the budget holds about 250.
fn page(n: u32) -> Code {
    Code::leaf(n).padded(4_000)
}

/// Asks for the method, and calls it.
fn get(cache: &Cache<Code>, me: &Participant, code: Code) {
    let mut guard = me.pin();
    let handle = method(cache, code);
    let entry = handle.get(&mut guard).unwrap();
    // SAFETY: the type is right.
    assert_eq!(unsafe { entry.call(1) }, code.result(1));
}

/// Calls the method if it is resident.
fn call(cache: &Cache<Code>, me: &Participant, code: Code) -> bool {
    let guard = me.pin();
    let handle = method(cache, code);
    let Some(entry) = handle.entry(&guard) else {
        return false;
    };
    // SAFETY: the type is right.
    assert_eq!(unsafe { entry.call(1) }, code.result(1));
    true
}

/// Waits until what can be evicted is within the budgets: a worker may still have to seal.
fn within_budgets(cache: &Cache<Code>) {
    let started = Instant::now();
    loop {
        cache.maintain();
        let now = cache.statistics();
        let code = now.bytes.text + now.bytes.constants + now.bytes.data;
        if now.bytes.charged <= now.budget && code <= now.code_budget {
            return;
        }
        let waited = started.elapsed();
        assert!(waited < Duration::from_secs(10), "{now:#?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// Methods of 8 bytes to 64 KiB, some with constants and unwind tables.
fn any(n: u32) -> Code {
    match n % 5 {
        0 => Code::leaf(n).framed(),
        1 => Code::new(n, How::Host).framed(),
        2 => Code::new(n, How::Call).depth(2),
        3 => page(n),
        _ => Code::leaf(n).padded(((n * 65) % 65_000) as u16),
    }
}

/// Whether most of the memory is code or contexts.
#[test]
fn quiet_caches_are_within_their_budgets() {
    for (policy, context_per_method) in policies().into_iter().zip([10, 5_000, 40_000]) {
        let backend = Synthetic {
            context_per_method,
            ..Synthetic::default()
        };
        let builder = Cache::with_backend(backend).policy(policy).budget(2 << 20);
        let builder = builder
            .reclaimer(Reclaimer::Manual)
            .code_budget(CODE_BUDGET);
        let cache = builder.build().unwrap();
        let me = cache.participant("test");
        let mut random = Random::new(5);
        for round in 0..50 {
            for _ in 0..random.below(40) {
                get(&cache, &me, any(random.below(1000)));
            }
            for _ in 0..random.below(80) {
                let handle = method(&cache, any(random.below(1000)));
                handle.request().unwrap();
            }
            if round % 10 == 5 {
                cache.set_budget(256 << 10);
            } else if round % 10 == 8 {
                cache.set_budget(2 << 20);
            }
            within_budgets(&cache);
        }
        let end = cache.statistics();
        assert!(end.evictions > 1000, "{end:#?}");
    }
}

/// Methods that the host calls all the time, while thousands pass by that it calls once.
#[test]
fn what_is_called_survives_a_scan() {
    for policy in policies() {
        let name = policy.name();
        let cache = builder(policy).build().unwrap();
        let me = cache.participant("test");
        let hot: Vec<Code> = (0..16).map(page).collect();
        hot.iter().for_each(|&code| get(&cache, &me, code));
        cache.seal();
        for n in 1000..1800 {
            get(&cache, &me, page(n));
            cache.maintain();
            for &code in &hot {
                assert!(call(&cache, &me, code), "{name} evicted {code:?} at {n}");
            }
        }
        let end = cache.statistics();
        assert_eq!(end.compiles, 16 + 800);
        assert!(end.evictions > 400, "{name}: {end:#?}");
    }
}

/// The host never calls the leaf, its callers do: it is put on probation, and saved by them.
#[test]
fn a_leaf_called_by_compiled_code_alone_survives_a_scan() {
    for policy in policies() {
        let name = policy.name();
        let cache = builder(policy).build().unwrap();
        let me = cache.participant("test");
        let callers: Vec<Code> = (0..4)
            .map(|n| Code::new(100 + n % 2, [How::Call, How::Jump][n as usize / 2]))
            .collect();
        let leaf = callers[0].callee().unwrap();
        callers.iter().for_each(|&code| get(&cache, &me, code));
        cache.seal();
        for n in 1000..1800 {
            get(&cache, &me, page(n));
            cache.maintain();
            for &code in &callers {
                assert!(call(&cache, &me, code), "{name} evicted {code:?} at {n}");
            }
            assert!(cache.is_resident(&leaf));
        }
        let busy = cache.statistics();
        // Each was compiled once.
        assert_eq!(busy.compiles, 5 + 800, "{name}");
        assert!(busy.evictions > 400, "{name}: {busy:#?}");
        if name == "sieve" {
            // Its hand has passed the leaf once, and comes back only when it has gone round.
            continue;
        }
        assert!(busy.relinks > 0, "{name}: {busy:#?}");

        // When nobody calls it any more it goes.
        for n in 3000..3600 {
            get(&cache, &me, page(n));
        }
        assert!(!cache.is_resident(&leaf), "{name}");
    }
}

/// What is on probation and loses its code, or is kept, or called, is on probation no more; and
/// leaves no place behind in which it would be found when it has code again.
#[test]
fn probation_counts_what_is_on_probation() {
    for policy in policies() {
        let name = policy.name();
        let cache = builder(policy).build().unwrap();
        let me = cache.participant("test");
        let mut guard = me.pin();
        let linked = |guard: &Guard<'_>, n| method(&cache, page(n)).entry(guard).is_some();
        let mut n = 0;
        while cache.statistics().methods_on_probation < 12 {
            get(&cache, &me, page(n));
            n += 1;
        }
        guard.repin();
        let resident: Vec<u32> = (0..n).filter(|&n| cache.is_resident(&page(n))).collect();
        let warned: Vec<u32> = resident
            .into_iter()
            .filter(|&n| !linked(&guard, n))
            .collect();
        let on_probation = || cache.statistics().methods_on_probation as usize;
        assert_eq!(on_probation(), warned.len(), "{name}");
        let [called, evicted, invalidated, kept] = [0, 1, 2, 3].map(|i| warned[i]);
        method(&cache, page(called)).get(&mut guard).unwrap();
        assert_eq!(on_probation(), warned.len() - 1, "{name}");
        assert!(cache.evict(&page(evicted)));
        assert_eq!(on_probation(), warned.len() - 2, "{name}");
        drop(cache.invalidate(&page(invalidated)));
        assert_eq!(on_probation(), warned.len() - 3, "{name}");
        let keep = method(&cache, page(kept)).keep();
        assert_eq!(on_probation(), warned.len() - 4, "{name}");
        drop(keep);
        // Without that budget nothing else is put there.
        cache.set_code_budget(u64::MAX);
        for n in [called, evicted, invalidated, kept] {
            method(&cache, page(n)).get(&mut guard).unwrap();
            assert!(linked(&guard, n));
        }
        assert_eq!(on_probation(), warned.len() - 4, "{name}");
        cache.evict_all();
        assert_eq!(on_probation(), 0, "{name}");
    }
}

#[test]
fn what_is_kept_stays_whatever_comes() {
    for policy in policies() {
        let name = policy.name();
        let cache = builder(policy).build().unwrap();
        let me = cache.participant("test");
        get(&cache, &me, page(1));
        get(&cache, &me, page(2));
        let keep = method(&cache, page(1)).keep();
        let early = method(&cache, page(3)).keep();
        get(&cache, &me, page(3));
        cache.seal();
        for n in 1000..1600 {
            get(&cache, &me, page(n));
        }
        assert!(
            cache.is_resident(&page(1)) && cache.is_resident(&page(3)),
            "{name}"
        );
        assert!(!cache.is_resident(&page(2)), "{name}");
        within_budgets_but_for_kept(&cache);
        drop((keep, early));
        for n in 2000..2600 {
            get(&cache, &me, page(n));
        }
        assert!(
            !cache.is_resident(&page(1)) && !cache.is_resident(&page(3)),
            "{name}"
        );
        within_budgets(&cache);
    }
}

/// Kept generations are named, and go beyond the budget.
fn within_budgets_but_for_kept(cache: &Cache<Code>) {
    let now = cache.statistics();
    assert!(now.bytes.kept > 0);
    let code = now.bytes.text + now.bytes.constants + now.bytes.data;
    assert!(code <= now.code_budget + now.bytes.kept, "{now:#?}");
}

#[test]
fn a_policy_is_told_only_what_makes_sense() {
    let policy = SecondChance::default();
    let nonsense = policy.nonsense.clone();
    let cache = builder(policy).build().unwrap();
    let me = cache.participant("test");
    let mut random = Random::new(9);
    let mut keeps = Vec::new();
    for _ in 0..5_000 {
        let code = page(random.below(600));
        match random.below(20) {
            0 => drop(cache.invalidate(&code)),
            1 => {
                cache.evict(&code);
            }
            2 => keeps.push(method(&cache, code).keep()),
            3 if !keeps.is_empty() => {
                drop(keeps.swap_remove(random.below(keeps.len() as u32) as usize));
            }
            4..10 => {
                call(&cache, &me, code);
            }
            _ => get(&cache, &me, code),
        }
    }
    let nonsense = nonsense.lock().unwrap();
    assert!(
        nonsense.is_empty(),
        "{:?}",
        &nonsense[..nonsense.len().min(10)]
    );
    assert!(cache.statistics().evictions > 1000);
}

/// No generation takes less than two slots. Under a budget of one, those that call each other would
/// else be evicted and compiled again with every call.
#[test]
fn a_budget_below_the_smallest_generation_evicts_nothing_of_it() {
    let cache = Cache::builder(support::Calculator)
        .code_budget(16 << 10)
        .build()
        .unwrap();
    let me = cache.participant("test");
    let inner = support::Op::Add(1);
    let outer = support::Op::CallAdd(Box::new(inner.clone()), 10);
    for n in 0..50 {
        for (op, sum) in [(&outer, 11), (&inner, 1)] {
            let mut guard = me.pin();
            // SAFETY: the type is right.
            let result = unsafe { support::method(&cache, op).get(&mut guard).unwrap().call(n) };
            assert_eq!(result, n + sum);
        }
    }
    let s = cache.statistics();
    assert_eq!((s.compiles, s.evictions), (2, 0), "{s:#?}");
}

/// A policy that panics now and then, against its contract.
struct Unwell {
    order: Lru,
    calls: u32,
    well: Arc<AtomicBool>,
}

impl Unwell {
    fn perhaps(&mut self) {
        self.calls += 1;
        if self.calls.is_multiple_of(7) && !self.well.load(Ordering::Relaxed) {
            // Without the message that a panic prints.
            std::panic::resume_unwind(Box::new("a policy's panic on purpose"));
        }
    }
}

impl Policy for Unwell {
    fn insert(&mut self, id: MethodId, cost: Cost) {
        self.order.insert(id, cost);
        self.perhaps();
    }

    fn hit(&mut self, id: MethodId) {
        self.order.hit(id);
        self.perhaps();
    }

    fn remove(&mut self, id: MethodId) {
        self.order.remove(id);
        self.perhaps();
    }

    fn victim(&mut self) -> Option<MethodId> {
        self.order.victim()
    }

    fn len(&self) -> usize {
        self.order.len()
    }

    fn name(&self) -> &'static str {
        "unwell"
    }
}

/// Whatever a policy does, no generation is lost while its code is live, nor afterwards.
#[test]
fn a_policy_that_panics_loses_no_code() {
    let well = Arc::new(AtomicBool::new(false));
    let policy = Unwell {
        order: Lru::new(),
        calls: 0,
        well: well.clone(),
    };
    let cache = builder(policy).build().unwrap();
    let me = cache.participant("test");
    let mut random = Random::new(11);
    let code = |n: u32| Code::new(n, How::Call).framed().padded(3_000);
    for round in 0..3_000 {
        let handle = method(&cache, code(random.below(600)));
        let mut guard = me.pin();
        // Compiled or not: the policy may have panicked meanwhile.
        if let Ok(entry) = handle.get(&mut guard) {
            // A callee is there if it can be called without being compiled.
            if cache.is_resident(&handle.key().callee().unwrap()) {
                // SAFETY: the type is right.
                assert_eq!(unsafe { entry.call(5) }, handle.key().result(5));
            }
        }
        drop(guard);
        if round % 16 == 0 {
            cache.maintain();
        }
    }
    assert!(cache.statistics().evacuations > 0);
    well.store(true, Ordering::Relaxed);
    for n in 0..100 {
        get(&cache, &me, code(n));
    }
    cache.evict_all();
    cache.seal();
    let started = Instant::now();
    while cache.statistics().mapped_code_bytes > 0 {
        cache.maintain();
        assert!(
            started.elapsed() < Duration::from_secs(10),
            "{:#?}",
            cache.statistics()
        );
    }
}
