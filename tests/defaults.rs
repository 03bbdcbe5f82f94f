//! The defaults that the builder documents are those in force, as far as they show from outside.
//! Those of times (the batch window, a generation's age) show too late or not at all.

mod support;

use std::sync::Arc;

use inkpot::{BoxError, Cache, Frontend, OptLevel, Statistics, Stress, Unit};
use support::synthetic::{self, Code, How, Synthetic};
use support::{Calculator, Gate, Hooked, Op, child, leaf, method, wait_until};

/// Compiles a method, alone, and says how things are then. The worker seals after it has published,
/// but before the next method.
fn get(cache: &Cache<Code>, code: Code) -> Statistics {
    let me = cache.participant("test");
    synthetic::method(cache, code).get(&mut me.pin()).unwrap();
    cache.statistics()
}

#[test]
fn the_policy_and_the_budgets() {
    let cache = Cache::builder(Calculator).build().unwrap();
    let s = cache.statistics();
    assert_eq!(s.policy, "lru");
    assert_eq!(s.budget, 256 << 20);
    assert_eq!(s.code_budget, u64::MAX);
    assert_eq!(s.hard_limit, u64::MAX);
    assert_eq!(s.participants, 0);
}

/// Names of the process's threads, as far as the kernel keeps them.
fn threads() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("there is a /proc");
    let name = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).ok();
    let mut names: Vec<_> = tasks.flatten().filter_map(name).collect();
    names.retain(|name| name.starts_with("inkpot"));
    names.sort();
    names
}

#[test]
fn one_worker_and_a_reclaimer_by_the_name_of_inkpot() {
    let test = "one_worker_and_a_reclaimer_by_the_name_of_inkpot";
    let ended = child::run(test, std::time::Duration::from_secs(60), || {
        let cache = Cache::builder(Calculator).build().unwrap();
        // The kernel keeps 15 bytes.
        let expected = ["inkpot-compile-\n", "inkpot-reclaim\n"];
        wait_until("there are threads", || threads() == expected);
        drop(cache);
        wait_until("the threads end", || threads().is_empty());
    });
    if let Some(ended) = ended {
        ended.expect_code(0);
    }
}

#[test]
fn a_generation_takes_512_methods() {
    let cache = Cache::with_backend(Synthetic::default()).build().unwrap();
    for n in 0..511 {
        let s = get(&cache, Code::leaf(n));
        assert_eq!((s.generations_open, s.generations_sealed), (1, 0), "{n}");
    }
    get(&cache, Code::leaf(511));
    let s = get(&cache, Code::leaf(512));
    assert_eq!((s.generations_open, s.generations_sealed), (1, 1));
}

#[test]
fn a_generation_takes_512_kib_of_code() {
    const SIZE: u64 = 20_000;
    let cache = Cache::with_backend(Synthetic::default()).build().unwrap();
    let mut sizes = Vec::new();
    for n in 0..100 {
        let s = get(&cache, Code::leaf(n).padded(SIZE as u16));
        if s.generations_open > 0 && s.generations_sealed > 0 {
            break; // the one before was full
        }
        sizes.push(s.mapped_code_bytes);
    }
    let [.., before, sealed] = sizes[..] else {
        panic!("{sizes:?}");
    };
    let full = 512 << 10;
    assert!(before < full, "{before} were not full");
    assert!(sealed >= full && sealed < full + 2 * SIZE, "{sealed}");
}

#[test]
fn a_generation_takes_16_mib_of_context() {
    let backend = Synthetic {
        context_per_method: 1 << 20,
        ..Synthetic::default()
    };
    let cache = Cache::with_backend(backend).build().unwrap();
    for n in 0..15 {
        let s = get(&cache, Code::leaf(n));
        assert_eq!((s.generations_open, s.generations_sealed), (1, 0), "{n}");
    }
    get(&cache, Code::leaf(15));
    let s = get(&cache, Code::leaf(16));
    assert_eq!((s.generations_open, s.generations_sealed), (1, 1));
}

/// Batches that so many requests make, all there when the first is taken.
fn batches_of(requests: i64) -> u64 {
    let gate = Arc::<Gate>::default();
    let of_frontend = gate.clone();
    let frontend = Hooked(move |key: &Op| {
        if *key == Op::Add(-1) {
            of_frontend.wait();
        }
    });
    let cache = Cache::builder(frontend).build().unwrap();
    let hold = method(&cache, &Op::Add(-1));
    hold.request().unwrap();
    wait_until("the worker is held up", || gate.came() > 0);
    let handles: Vec<_> = (0..requests).map(|n| method(&cache, &Op::Add(n))).collect();
    for handle in &handles {
        handle.request().unwrap();
    }
    gate.open();
    wait_until("all are compiled", || {
        cache.statistics().compiles == requests as u64 + 1
    });
    cache.statistics().batches - 1
}

#[test]
fn a_batch_takes_64_methods() {
    assert_eq!(batches_of(64), 1);
    assert_eq!(batches_of(65), 2);
    assert_eq!(batches_of(128), 2);
    assert_eq!(batches_of(129), 3);
}

#[test]
fn contexts_stay_with_their_generation() {
    let cache = Cache::with_backend(Synthetic::default()).build().unwrap();
    let open = get(&cache, Code::leaf(1)).bytes.contexts;
    assert!(open > 0);
    cache.seal();
    let s = cache.statistics();
    assert_eq!((s.generations_open, s.generations_sealed), (0, 1));
    assert_eq!(s.bytes.contexts, open);
}

/// Nothing goes until all of the budget is taken, and then a tenth does.
#[test]
fn eviction_begins_at_the_budget_and_stops_at_nine_tenths() {
    const BUDGET: u64 = 8 << 20;
    const SIZE: u64 = 17 << 10; // and with slots and unwinding less than four times that
    let cache = Cache::with_backend(Synthetic::default())
        .budget(BUDGET)
        .generation_methods(1)
        .build()
        .unwrap();
    let mut most = 0;
    let after = (0..1000).find_map(|n| {
        let s = get(&cache, Code::leaf(n).padded(SIZE as u16));
        if s.evictions > 0 {
            return Some(s.bytes.charged);
        }
        most = s.bytes.charged;
        None
    });
    let after = after.expect("the budget was reached");
    assert!(most <= BUDGET && most + 4 * SIZE > BUDGET, "{most}");
    let low = BUDGET / 10 * 9;
    assert!(after <= low + 4 * SIZE, "{after} of {low}");
    assert!(after + 4 * SIZE > low, "{after} of {low}");
}

#[test]
fn nothing_is_stressed_and_nothing_reclaimed_by_hand() {
    assert_eq!(Stress::default().evict_every, 0);
    let cache = Cache::with_backend(Synthetic::default()).build().unwrap();
    get(&cache, Code::leaf(1));
    let me = cache.participant("test");
    let add = leaf(&cache, 1);
    for _ in 0..1000 {
        assert!(add.entry(&me.pin()).is_some());
    }
    let s = cache.statistics();
    let rare = (s.evictions, s.invalidations, s.generations_sealed);
    assert_eq!(rare, (0, 0, 0));
    cache.evict_all();
    cache.seal();
    wait_until("the cache's own thread reclaims", || {
        cache.statistics().generations_recycled == 1
    });
}

#[test]
fn nothing_of_the_process_is_searched() {
    let code = Code::new(1, How::Unresolved);
    let cache = Cache::with_backend(Synthetic::default()).build().unwrap();
    let me = cache.participant("test");
    let refused = synthetic::method(&cache, code).get(&mut me.pin()).map(drop);
    assert!(refused.is_err(), "{refused:?}");
}

/// `4x` by way of a variable, which only O0 keeps.
struct Doubles;

impl Frontend for Doubles {
    type Key = u32;

    fn emit<'ctx>(&self, _: &u32, unit: &mut Unit<'_, 'ctx, u32>) -> Result<(), BoxError> {
        let long = unit.context().i64_type();
        let function = unit.define(long.fn_type(&[long.into()], false));
        let build = unit.context().create_builder();
        build.position_at_end(unit.context().append_basic_block(function, "entry"));
        let x = function.get_first_param().ok_or("x")?.into_int_value();
        let variable = build.build_alloca(long, "")?;
        build.build_store(variable, x)?;
        for _ in 0..2 {
            let value = build.build_load(long, variable, "")?.into_int_value();
            build.build_store(variable, build.build_int_add(value, value, "")?)?;
        }
        build.build_return(Some(&build.build_load(long, variable, "")?))?;
        Ok(())
    }
}

/// The first bytes of its code.
fn code(level: Option<OptLevel>) -> [u8; 16] {
    let mut builder = Cache::builder(Doubles);
    if let Some(level) = level {
        builder = builder.opt_level(level);
    }
    let cache = builder.build().unwrap();
    let me = cache.participant("test");
    // SAFETY: the front end gives every method this type.
    let handle = unsafe { cache.method::<support::Unary>(&0) }.unwrap();
    let mut guard = me.pin();
    let entry = handle.get(&mut guard).unwrap();
    // SAFETY: text is readable, mapped by the page, and there while the guard lives.
    unsafe { (entry.pointer() as *const [u8; 16]).read_unaligned() }
}

#[test]
fn code_is_optimised_a_little() {
    assert_eq!(OptLevel::default(), OptLevel::O1);
    assert_eq!(code(None), code(Some(OptLevel::O1)));
    assert_ne!(code(None), code(Some(OptLevel::O0)));
}
