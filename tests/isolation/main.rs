//! Compiling in helper processes: what ends LLVM, or takes too much, costs its own method.

#[path = "../support/mod.rs"]
mod support;

mod failing;
mod helpers;

use std::time::Duration;

use inkpot::{Builder, Cache, Error, Isolation, Tier};
use support::helpers::{helpers_of, zombies};
use support::texts::{Name, Texts, text};
use support::{Unary, wait_until};

/// The package's helper.
fn isolation() -> Isolation {
    Isolation::binary(env!("CARGO_BIN_EXE_inkpot-helper"))
}

use support::helpers::ADD;

/// A cache with the methods `add#N`, and more; of a name that tells its helpers from those of others.
fn builder<const N: usize>(name: &str, more: [(&'static str, &str); N]) -> Builder<Name> {
    let mut all = Texts::new(more);
    all.insert("add", ADD);
    Cache::builder(all)
        .name(name)
        .isolation(isolation())
        .batch_window(Duration::from_millis(300))
}

/// What comes of methods that are asked for together, each called with 100.
fn together(cache: &Cache<Name>, names: &[String]) -> Vec<Result<i64, Error>> {
    // A worker that finds more than one waits for others.
    for name in names {
        text::<Unary>(cache, name).request().unwrap();
    }
    names.iter().map(|name| call(cache, name)).collect()
}

fn call(cache: &Cache<Name>, name: &str) -> Result<i64, Error> {
    let me = cache.participant("test");
    let mut guard = me.pin();
    let method = text::<Unary>(cache, name);
    // SAFETY: all texts here have this type.
    method.get(&mut guard).map(|f| unsafe { f.call(100) })
}

fn adds(many: usize) -> Vec<String> {
    (0..many).map(|n| format!("add#{n}")).collect()
}

fn signal(pid: i32, signal: i32) {
    // SAFETY: a helper's number, which is not reused before it is waited for.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
}

/// Counters, passes given as text, bodies of other methods: all that a tier has goes over.
#[test]
fn tiers_are_compiled_elsewhere() {
    const SUM: &str = "declare i64 @\"part#$N\"(i64)
        define i64 @self(i64 %n) {
        entry: br label %head
        head: %i = phi i64 [ 0, %entry ], [ %next, %head ]
              %sum = phi i64 [ 0, %entry ], [ %more, %head ]
              %more = call i64 @\"part#$N\"(i64 %sum)
              %next = add i64 %i, 1
              %again = icmp ult i64 %next, %n
              br i1 %again, label %head, label %done
        done: ret i64 %more }";
    let part = format!("; inlinable\n{ADD}");
    let cache = builder("tiers", [("part", &part), ("sum", SUM)])
        .tiers(Tier::defaults().map(|tier| tier.promote_after(50)))
        .polls(true)
        .build()
        .unwrap();
    let me = cache.participant("test");
    let sum = text::<Unary>(&cache, "sum#7");
    wait_until("it is promoted", || {
        // SAFETY: all texts here have this type.
        let y = sum.get(&mut me.pin()).map(|f| unsafe { f.call(100) });
        assert_eq!(y.unwrap(), 700);
        sum.tier() == Some(1)
    });
    let after = cache.statistics();
    assert_eq!((after.helpers_started, after.failures), (1, 0));
}

#[test]
fn methods_are_compiled_elsewhere() {
    let cache = builder("elsewhere", []).build().unwrap();
    assert_eq!(helpers_of("elsewhere").len(), 1);
    let outcomes = together(&cache, &adds(20));
    for (n, outcome) in outcomes.into_iter().enumerate() {
        assert_eq!(outcome.unwrap(), 100 + n as i64);
    }
    assert_eq!(helpers_of("elsewhere").len(), 1);
    drop(cache);
    wait_until("the helper has ended", || {
        helpers_of("elsewhere").is_empty()
    });
    wait_until("no zombie is left", || zombies() == 0);
}

/// What a context takes is measured here, where only the IR is.
#[test]
fn contexts_are_charged_for_what_is_here() {
    let contexts = [true, false].map(|isolated| {
        let mut texts = Texts::new([]);
        texts.insert("add", ADD);
        let builder = Cache::builder(texts).name("charged");
        let builder = match isolated {
            true => builder.isolation(isolation()),
            false => builder,
        };
        let cache = builder.build().unwrap();
        for n in 0..10 {
            let names: Vec<_> = (0..40).map(|i| format!("add#{}", 40 * n + i)).collect();
            assert!(together(&cache, &names).iter().all(Result::is_ok));
        }
        cache.statistics().bytes.contexts
    });
    // Other tests here allocate at the same time, so it is the size that counts.
    let [there, here] = contexts;
    assert!(there < 4 * here && here < 4 * there, "{contexts:?}");
}
