//! What others have done in the middle of the cache's own work: destructors of keys, of errors, and of whatever is
//! deferred under epochs, which want the cache themselves.

mod support;

use std::any::Any;
use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use inkpot::{BoxError, Cache, Error, Frontend, OptLevel, Unit};
use support::child;
use support::synthetic::{Code, How, Synthetic, method};

const PATIENCE: Duration = Duration::from_secs(120);

type Constant = unsafe extern "C" fn() -> i64;

/// A number, and something that is dropped with the last copy of the key.
#[derive(Clone)]
struct Loaded(
    u64,
    #[allow(dead_code, reason = "for its end")] Option<Arc<dyn Any + Send + Sync>>,
);

impl PartialEq for Loaded {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl Eq for Loaded {}

impl Hash for Loaded {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        self.0.hash(hasher);
    }
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Methods that return their number.
struct Numbers;

impl Frontend for Numbers {
    type Key = Loaded;

    fn emit<'ctx>(&self, key: &Loaded, unit: &mut Unit<'_, 'ctx, Loaded>) -> Result<(), BoxError> {
        let long = unit.context().i64_type();
        let function = unit.define(long.fn_type(&[], false));
        let builder = unit.context().create_builder();
        builder.position_at_end(unit.context().append_basic_block(function, "entry"));
        builder.build_return(Some(&long.const_int(key.0, false)))?;
        Ok(())
    }
}

fn numbers() -> Cache<Loaded> {
    let builder = Cache::builder(Numbers).code_budget(64 << 10);
    let builder = builder.opt_level(OptLevel::O0).batch_limit(1);
    builder.generation_methods(4).build().unwrap()
}

/// Asks for method after method, each of which nobody has a handle of when it is evicted. With each goes what
/// `load` makes, by the key or by way of the default epochs of the process.
fn churn(by_key: bool) {
    let cache = numbers();
    let me = cache.participant("test");
    // SAFETY: all methods are of this type.
    let handle = |key: &Loaded| unsafe { cache.method::<Constant>(key) }.unwrap();
    let kept = handle(&Loaded(0, None));
    for number in 1..1500 {
        let keep = kept.keep();
        let load: Option<Arc<dyn Any + Send + Sync>> = if by_key {
            Some(Arc::new(keep))
        } else {
            // What a map of the embedder's does with a value that is replaced.
            let guard = crossbeam_epoch::pin();
            guard.defer(move || drop(keep));
            guard.flush();
            None
        };
        let handle = handle(&Loaded(number, load));
        let mut guard = me.pin();
        let entry = handle.get(&mut guard).unwrap();
        // SAFETY: the type is right.
        assert_eq!(unsafe { entry.call() }, number as i64);
    }
    assert!(cache.statistics().evictions > 100);
}

#[test]
fn keys_whose_end_wants_the_cache() {
    if let Some(ended) = child::run("keys_whose_end_wants_the_cache", PATIENCE, || churn(true)) {
        ended.expect_code(0);
    }
}

#[test]
fn what_others_defer_wants_the_cache() {
    let test = "what_others_defer_wants_the_cache";
    if let Some(ended) = child::run(test, PATIENCE, || churn(false)) {
        ended.expect_code(0);
    }
}

/// An error that counts how many of it there are.
#[derive(Debug)]
struct Counted(Arc<AtomicUsize>);

impl std::fmt::Display for Counted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("refused on purpose")
    }
}

impl std::error::Error for Counted {}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

struct Refuses(Arc<AtomicUsize>);

impl Frontend for Refuses {
    type Key = u32;

    fn emit<'ctx>(&self, _: &u32, _: &mut Unit<'_, 'ctx, u32>) -> Result<(), BoxError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Err(Counted(self.0.clone()).into())
    }
}

/// Handles of methods that failed keep no errors, which may be long, and hold on to anything, if nothing is
/// to be remembered; and else until the methods are invalidated.
#[test]
fn failures_are_not_remembered() {
    for first in [Duration::ZERO, Duration::from_secs(3600)] {
        check_failures(first);
    }
}

fn check_failures(first: Duration) {
    let errors = Arc::<AtomicUsize>::default();
    let cache = Cache::builder(Refuses(errors.clone()))
        .retry_after(first, first)
        .build()
        .unwrap();
    let me = cache.participant("test");
    // SAFETY: never called.
    let handle = |key| unsafe { cache.method::<Constant>(&key) }.unwrap();
    let handles: Vec<_> = (0..50).map(handle).collect();
    // Some are waited for, some not.
    for handle in &handles[..25] {
        let error = handle.get(&mut me.pin()).unwrap_err();
        assert!(matches!(error, Error::Frontend { .. }), "{error}");
    }
    for handle in &handles[25..] {
        handle.request().unwrap();
    }
    support::wait_until("all have failed", || cache.statistics().failures >= 50);
    if !first.is_zero() {
        assert_eq!(errors.load(Ordering::SeqCst), 50);
        drop(cache.invalidate_all());
    }
    support::wait_until("nobody has an error", || errors.load(Ordering::SeqCst) == 0);
}

/// An object gets only the cells that it asked for: another's may be anybody's tomorrow.
#[test]
fn cells_that_were_not_asked_for_are_unknown() {
    let cache = Cache::with_backend(Synthetic::default()).build().unwrap();
    let me = cache.participant("test");
    let other = method(&cache, Code::new(1, How::Leaf));
    other.get(&mut me.pin()).unwrap();
    let error = method(&cache, Code::new(2, How::Stranger))
        .get(&mut me.pin())
        .map(|_| ());
    match error {
        Err(Error::Link { source, .. }) => {
            assert!(source.to_string().contains("inkpot.cell."), "{source}");
        }
        other => panic!("{other:?}"),
    }
}
