//! With LLVM: what its modules bring, data that can be written, unwind tables, all of it.

use inkpot::{Cache, Handle, OptLevel, Reclaimer};

use super::support::Unary;
use super::support::texts::{Name, Texts};
use super::{each_call_fails, interpose, named};

const TABLE: &str = "
    @table = private unnamed_addr constant [4 x i64] [i64 1, i64 10, i64 100, i64 $N]
    define i64 @self(i64 %x) {
      %i = and i64 %x, 3
      %p = getelementptr [4 x i64], ptr @table, i64 0, i64 %i
      %y = load i64, ptr %p
      ret i64 %y
    }";
const CALLS: &str = "
    declare i64 @\"table#$N\"(i64)
    define i64 @self(i64 %x) { %y = call i64 @\"table#$N\"(i64 %x)  %z = add i64 %y, 1  ret i64 %z }";

#[track_caller]
fn insist<R>(mut what: impl FnMut() -> Result<R, inkpot::Error>) -> R {
    what().unwrap_or_else(|error| {
        named(&error);
        what().expect("nothing is refused any more")
    })
}

fn life() {
    let cache = insist(|| {
        Cache::builder(Texts::new([("table", TABLE), ("calls", CALLS)]))
            .workers(0)
            .reclaimer(Reclaimer::Manual)
            .opt_level(OptLevel::O0)
            .generation_methods(3)
            .build()
    });
    let me = cache.participant("test");
    let mut resident: Vec<(Handle<Name, Unary>, i64)> = Vec::new();
    for n in 0..3 {
        for (name, more) in [("table", 0), ("calls", 1)] {
            // SAFETY: all texts here have this type.
            let handle: Handle<Name, Unary> =
                insist(|| unsafe { cache.method(&format!("{name}#{n}")) });
            // SAFETY: as above.
            let y = insist(|| handle.get(&mut me.pin()).map(|f| unsafe { f.call(3) }));
            assert_eq!(y, n + more);
            resident.push((handle, n + more));
            let guard = me.pin();
            for (handle, y) in &resident {
                // SAFETY: as above.
                let now = handle.entry(&guard).map(|f| unsafe { f.call(3) });
                assert_eq!(now, Some(*y));
            }
        }
    }
    cache.seal();
    cache.evict_all();
    for _ in 0..100 {
        cache.maintain();
    }
    interpose::over();
    while cache.maintain() {}
    assert_eq!(cache.statistics().mapped_code_bytes, 0);
}

#[test]
fn one_call_fails() {
    each_call_fails("llvm::one_call_fails", false, 1, life);
}

#[test]
fn calls_fail_until_somebody_is_told() {
    let name = "llvm::calls_fail_until_somebody_is_told";
    each_call_fails(name, true, 1, life);
}
