//! Settings whose effect no other test looks at by itself: each is set to something else than its
//! default, and what it changes is seen.

mod support;

use std::sync::Arc;
use std::time::Duration;

use inkpot::{Builder, Cache, ContextRelease, OptLevel, Statistics};
use support::synthetic::{CONTEXT, Code, Synthetic};
use support::texts::{Texts, text};
use support::{Gate, leaf, wait_until};

const SLOT: u64 = 16 << 10;

fn builder() -> Builder<Code> {
    Cache::with_backend(Synthetic::default())
}

/// Compiles leaves one by one, each in a batch of its own.
fn one_by_one(cache: &Cache<Code>, numbers: std::ops::Range<u32>, padding: u16) {
    let me = cache.participant("test");
    for n in numbers {
        let handle = support::synthetic::method(cache, Code::leaf(n).padded(padding));
        handle.get(&mut me.pin()).unwrap();
    }
}

/// Generations, once workers have sealed what they found full.
fn generations(cache: &Cache<Code>, expected: (u64, u64)) {
    let of = |s: &Statistics| (s.generations_sealed, s.generations_open);
    let seen = || of(&cache.statistics());
    wait_until("sealed and open as expected", || seen() == expected);
}

/// The names of this process's threads that begin like this.
fn threads(beginning: &str) -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| {
        // A thread may end meanwhile.
        std::fs::read_to_string(task.ok()?.path().join("comm")).ok()
    });
    let names = names.map(|name| name.trim().to_owned());
    let mut names: Vec<_> = names.filter(|name| name.starts_with(beginning)).collect();
    names.sort();
    names
}

#[test]
fn name_and_workers() {
    let cache = builder().name("kiln").workers(3).build().unwrap();
    one_by_one(&cache, 0..1, 0);
    let expected = [
        "kiln-compile-0",
        "kiln-compile-1",
        "kiln-compile-2",
        "kiln-reclaim",
    ];
    wait_until("all threads have their names", || {
        threads("kiln") == expected
    });
    assert!(format!("{cache:?}").contains("kiln"));
}

#[test]
fn batch_limit() {
    let batches = |limit: usize| {
        let cache = builder().batch_limit(limit).workers(0).build().unwrap();
        let handles: Vec<_> = (0..40).map(|n| leaf(&cache, n)).collect();
        handles.iter().for_each(|handle| handle.request().unwrap());
        while cache.compile_some(usize::MAX) > 0 {}
        cache.statistics().batches
    };
    assert_eq!((batches(4), batches(40)), (10, 1));
}

/// Who comes while a worker waits for others comes along. (A compilation takes half a second here, as far as the
/// worker knows.)
#[test]
fn batch_window() {
    const PLUG: u32 = 1000;
    let batches = |window: Duration| {
        let gate = Arc::new(Gate::default());
        let of_worker = gate.clone();
        let backend = Synthetic::relying(move |code| {
            if code.n == PLUG {
                of_worker.wait();
            }
            Vec::new()
        });
        let builder = Cache::with_backend(backend).batch_window(window);
        let cache = builder.build().unwrap();
        leaf(&cache, PLUG).request().unwrap();
        wait_until("the worker is held up", || gate.came() == 1);
        leaf(&cache, 1).request().unwrap();
        std::thread::sleep(Duration::from_millis(20));
        leaf(&cache, 2).request().unwrap();
        std::thread::sleep(Duration::from_millis(500));
        gate.open();
        wait_until("it is free", || cache.statistics().compiles > 0);
        std::thread::sleep(Duration::from_millis(2));
        leaf(&cache, 3).request().unwrap();
        wait_until("compiled", || cache.statistics().compiles == 4);
        cache.statistics().batches
    };
    assert_eq!(batches(Duration::ZERO), 3);
    // Where this thread is interrupted for long the third comes too late.
    assert!((0..10).any(|_| batches(Duration::from_secs(60)) == 2));
}

#[test]
fn generation_methods() {
    let cache = builder().generation_methods(5).build().unwrap();
    one_by_one(&cache, 0..23, 0);
    generations(&cache, (4, 1));
    let cache = builder().build().unwrap();
    one_by_one(&cache, 0..23, 0);
    generations(&cache, (0, 1));
}

#[test]
fn generation_code() {
    const PADDING: u16 = 8000;
    let cache = builder().build().unwrap();
    one_by_one(&cache, 0..20, PADDING);
    generations(&cache, (0, 1));
    let cache = builder().generation_code(4 * SLOT).build().unwrap();
    one_by_one(&cache, 0..20, PADDING);
    let s = cache.statistics();
    let all = s.generations_sealed + s.generations_open;
    assert!(
        (3..=5).contains(&all),
        "{all} for 160 KiB in parts of 64 KiB"
    );
}

#[test]
fn generation_context() {
    let build = || {
        Cache::with_backend(Synthetic {
            context_per_method: 1 << 20,
            ..Synthetic::default()
        })
    };
    let cache = build().build().unwrap();
    one_by_one(&cache, 0..10, 0);
    generations(&cache, (0, 1));
    let cache = build().generation_context(2 << 20).build().unwrap();
    one_by_one(&cache, 0..10, 0);
    generations(&cache, (5, 0));
}

#[test]
fn generation_age() {
    let age = Duration::from_millis(50);
    let cache = builder().generation_age(age).build().unwrap();
    let patient = builder().build().unwrap();
    one_by_one(&cache, 0..3, 0);
    one_by_one(&patient, 0..3, 0);
    generations(&cache, (1, 0));
    generations(&patient, (0, 1));
}

#[test]
fn release_context() {
    let contexts = |release| {
        let backend = Synthetic::default();
        let cache = Cache::with_backend(backend).release_context(release);
        let cache = cache.build().unwrap();
        one_by_one(&cache, 0..3, 0);
        cache.seal();
        // Code is there either way.
        let me = cache.participant("test");
        let guard = me.pin();
        let entry = leaf(&cache, 2).entry(&guard).unwrap();
        // SAFETY: the type is right.
        assert_eq!(unsafe { entry.call(40) }, 42);
        cache.statistics().bytes.contexts
    };
    assert!(contexts(ContextRelease::WithGeneration) >= CONTEXT);
    assert_eq!(contexts(ContextRelease::AtSealing), 0);
}

#[test]
fn opt_level() {
    const SUMS: &str = "
define i64 @self(i64 %n) {
  %a = alloca i64
  %b = alloca i64
  store i64 %n, ptr %a
  store i64 5, ptr %b
  %x = load i64, ptr %a
  %y = load i64, ptr %b
  %s = mul i64 %x, %y
  store i64 %s, ptr %a
  %r = load i64, ptr %a
  ret i64 %r
}";
    let sections = |level| {
        let texts = Texts::new([("sums", SUMS)]);
        let cache = Cache::builder(texts).opt_level(level).build().unwrap();
        let me = cache.participant("test");
        let mut guard = me.pin();
        let sums = text::<unsafe extern "C" fn(i64) -> i64>(&cache, "sums");
        // SAFETY: the type is right.
        assert_eq!(unsafe { sums.get(&mut guard).unwrap().call(8) }, 40);
        cache.seal();
        cache.statistics().sealed_sections
    };
    let (none, all) = (sections(OptLevel::O0), sections(OptLevel::O2));
    assert!(none > all, "{none} bytes, {all} bytes");
}

/// Code alive, after each of many methods of a generation each. (Those that move would be there twice for
/// a moment.)
fn levels(builder: Builder<Code>) -> Vec<u64> {
    let builder = builder.generation_methods(1).evacuate(false);
    let cache = builder.build().unwrap();
    let alive = |n| {
        one_by_one(&cache, n..n + 1, 0);
        let bytes = cache.statistics().bytes;
        bytes.text + bytes.constants + bytes.data
    };
    (0..150).map(alive).collect()
}

#[test]
fn water_marks() {
    const BUDGET: u64 = 64 * SLOT;
    let lowest_after_highest = |levels: &[u64]| {
        let highest = *levels.iter().max().unwrap();
        let after = levels.iter().skip_while(|&&level| level < highest);
        (highest, *after.min().unwrap())
    };
    let build = || builder().code_budget(BUDGET);
    let (high, low) = lowest_after_highest(&levels(build().water_marks(0.5, 0.25)));
    assert!(
        (BUDGET / 2 - 4 * SLOT..=BUDGET / 2).contains(&high),
        "{high}"
    );
    assert!(
        (BUDGET / 4 - 8 * SLOT..=BUDGET / 4 + SLOT).contains(&low),
        "{low}"
    );
    let (high, low) = lowest_after_highest(&levels(build()));
    assert!((BUDGET - 4 * SLOT..=BUDGET).contains(&high), "{high}");
    assert!((BUDGET * 3 / 4..BUDGET).contains(&low), "{low}");
}
