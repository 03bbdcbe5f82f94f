//! With helper processes: what it takes to start them, and to talk to them.

use std::time::{Duration, Instant};

use inkpot::{Cache, Isolation, OptLevel};

use super::support::Unary;
use super::support::helpers::ADD;
use super::support::texts::{Texts, text};
use super::{each_call_fails, named, soaks};

fn life() {
    let build = || {
        Cache::builder(Texts::new([("add", ADD)]))
            .isolation(Isolation::binary(env!("CARGO_BIN_EXE_inkpot-helper")))
            .opt_level(OptLevel::O0)
            .workers(1)
            .build()
    };
    let cache = build().unwrap_or_else(|error| {
        named(&error);
        build().expect("nothing is refused any more")
    });
    let me = cache.participant("test");
    for n in 0..2 {
        let add = text::<Unary>(&cache, &format!("add#{n}"));
        let call = || {
            let mut guard = me.pin();
            // SAFETY: all texts here have this type.
            add.get(&mut guard).map(|f| unsafe { f.call(100) })
        };
        // A failure of the helper is remembered for a moment: the method may be its cause.
        let mut y = call();
        let refused_at = Instant::now();
        while let Err(error) = &y
            && refused_at.elapsed() < Duration::from_secs(5)
        {
            named(error);
            std::thread::sleep(Duration::from_millis(5));
            y = call();
        }
        assert_eq!(y.expect("nothing is refused any more"), 100 + n);
    }
}

#[test]
fn one_call_fails() {
    let step = if soaks() { 1 } else { 9 };
    each_call_fails("helpers::one_call_fails", false, step, life);
}
