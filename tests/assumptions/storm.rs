//! Many threads let assumptions fall while methods are compiled, called, and evicted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use inkpot::{Assumption, Cache};

use crate::support::synthetic::{Code, Random, Synthetic, method};

const METHODS: u32 = 200;
const CLASSES: u32 = 4;
const FIELDS: u32 = 3;

/// What method `n` relies on: a field of a class.
fn field(n: u32) -> usize {
    (n % (CLASSES * FIELDS)) as usize
}

struct World {
    top: Assumption,
    classes: Vec<Assumption>,
    fields: Vec<Assumption>,
    /// For each method the version that it relied on when it was compiled last.
    bound: Vec<AtomicU64>,
}

impl World {
    fn new() -> Self {
        let top = Assumption::new();
        let classes: Vec<_> = (0..CLASSES).map(|_| top.member()).collect();
        let of = |i: u32| classes[(i / FIELDS) as usize].member();
        let fields = (0..CLASSES * FIELDS).map(of).collect();
        Self {
            top,
            classes,
            fields,
            bound: (0..METHODS).map(|_| AtomicU64::new(u64::MAX)).collect(),
        }
    }

    fn cache(self: &Arc<Self>) -> Cache<Code> {
        let world = self.clone();
        let backend = Synthetic {
            relies: Some(Arc::new(move |code, assume| {
                let assumed = assume(&world.fields[field(code.n)]);
                world.bound[code.n as usize].store(assumed.value(), Ordering::SeqCst);
            })),
            ..Synthetic::default()
        };
        let builder = Cache::with_backend(backend);
        builder.workers(2).generation_methods(8).build().unwrap()
    }

    /// Lets something fall, and looks whether what relied on it is gone.
    fn fall(&self, cache: &Cache<Code>, random: &mut Random) {
        let which = random.below(CLASSES * FIELDS) as usize;
        let falls = match random.below(20) {
            0 => &self.top,
            1..5 => &self.classes[which / FIELDS as usize],
            _ => &self.fields[which],
        };
        // What is resident afterwards relies on a later version than this, whoever else lets it fall.
        let before = self.fields[which].version();
        drop(falls.invalidate());
        for n in (0..METHODS).filter(|&n| field(n) == which) {
            // Looked at first: a compilation notes its version before it is published.
            let resident = cache.is_resident(&Code::leaf(n));
            let version = self.bound[n as usize].load(Ordering::SeqCst);
            let stale = resident && version <= before;
            assert!(!stale, "method {n} relies on version {version} of {before}");
        }
    }
}

/// Calls methods, and evicts some.
fn call(cache: &Cache<Code>, seed: u64, calls: u32) {
    let me = cache.participant("calls");
    let mut random = Random::new(seed);
    for _ in 0..calls {
        let code = Code::leaf(random.below(METHODS));
        let handle = method(cache, code);
        if random.below(8) == 0 {
            cache.evict(&code);
        }
        let mut guard = me.pin();
        let entry = handle.get(&mut guard).unwrap();
        // SAFETY: the type is right.
        assert_eq!(unsafe { entry.call(1) }, code.result(1));
    }
}

#[test]
fn nothing_that_fell_is_resident_when_invalidate_returns() {
    let calls = match std::env::var_os("INKPOT_SOAK") {
        Some(_) => 200_000,
        None => 5_000,
    };
    let world = Arc::new(World::new());
    let cache = world.cache();
    let stop = AtomicBool::new(false);
    let ended = thread::scope(|scope| {
        let (world, cache, stop) = (&world, &cache, &stop);
        for seed in 10..13 {
            scope.spawn(move || {
                let mut random = Random::new(seed);
                while !stop.load(Ordering::Relaxed) {
                    world.fall(cache, &mut random);
                    // Slow enough for methods to be compiled meanwhile.
                    thread::sleep(Duration::from_micros(300));
                }
            });
        }
        let calling = [1, 2].map(|seed| scope.spawn(move || call(cache, seed, calls)));
        let ended = calling.map(|thread| thread.join());
        stop.store(true, Ordering::Relaxed);
        ended
    });
    assert!(ended.iter().all(Result::is_ok));
    drop(world.top.invalidate());
    let s = cache.statistics();
    assert_eq!((s.methods_resident, s.bonds), (0, 0));
    assert!(s.unlinked_by_assumptions > 0 && s.evictions > 0, "{s:?}");
    let unlinked = s.unlinked_by_assumptions + s.evictions;
    assert_eq!(s.compiles, unlinked, "each was unlinked once");
}
