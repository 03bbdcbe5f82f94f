//! Compiling in helper processes: what ends LLVM, or takes too much, costs its own method.

#[path = "../support/mod.rs"]
mod support;

mod failing;
mod helpers;

use std::time::Duration;

use inkpot::{Builder, Cache, Error, Isolation};
use support::texts::{Name, Texts, text};
use support::{Unary, wait_until};

/// The package's helper.
fn isolation() -> Isolation {
    Isolation::binary(env!("CARGO_BIN_EXE_inkpot-helper"))
}

const ADD: &str = "define i64 @self(i64 %x) { %y = add i64 %x, $N  ret i64 %y }";

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

/// The processes that were started for caches of this name by this process.
fn helpers_of(name: &str) -> Vec<i32> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse() else {
            continue;
        };
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let is_ours = parent_and_state(pid).is_some_and(|(parent, _)| parent == std::process::id());
        if is_ours && line == format!("inkpot-helper: {name}\0").as_bytes() {
            found.push(pid);
        }
    }
    found
}

fn parent_and_state(pid: i32) -> Option<(u32, char)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = status.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    let state = fields.next()?.chars().next()?;
    Some((fields.next()?.parse().ok()?, state))
}

/// Children that have ended, and that nobody has waited for.
fn zombies() -> usize {
    let mine = Some((std::process::id(), 'Z'));
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries
        .filter_map(|entry| entry.file_name().to_string_lossy().parse().ok())
        .filter(|pid| parent_and_state(*pid) == mine)
        .count()
}

fn signal(pid: i32, signal: i32) {
    // SAFETY: a helper's number, which is not reused before it is waited for.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
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
