//! Methods whose code went through LLVM's passes before: it is generated as it is, if that is so of a whole
//! batch.
//!
//! Whether passes ran shows by what becomes of a call of `strlen`, which they know and the code generator leaves
//! alone: the host's function of that name is none.

mod support;

use std::ffi::c_char;
use std::sync::Arc;

use inkpot::{BoxError, Cache, Frontend, OptLevel, Unit};
use support::texts::{Name, Texts, text};
use support::{Gate, wait_until};

type Code = unsafe extern "C" fn() -> i64;

/// What the host answers: the passes know better.
const ASKED: i64 = 77;

extern "C" fn strlen(_: *const c_char) -> i64 {
    ASKED
}

extern "C" fn host_local(_: u64) -> *mut u8 {
    static HERE: u64 = 0;
    (&raw const HERE).cast_mut().cast()
}

const RAW: &str = r#"
    @text = private constant [4 x i8] c"abc\00"
    declare i64 @strlen(ptr)
    define i64 @self() {
      %length = call i64 @strlen(ptr @text)
      ret i64 %length
    }"#;

/// The worker waits where it is told to, so that requests come together.
struct Gated(Texts, Arc<Gate>);

impl Frontend for Gated {
    type Key = Name;

    fn emit<'ctx>(&self, key: &Name, unit: &mut Unit<'_, 'ctx, Name>) -> Result<(), BoxError> {
        if key == "raw#gate" {
            self.1.wait();
        }
        self.0.emit(key, unit)
    }
}

/// A cache whose worker waits until the gate is open.
fn cache() -> (Cache<Name>, Arc<Gate>) {
    let optimised = format!("; optimised\n{RAW}");
    let local = format!(
        "{}\n@local.1 = external thread_local global i64",
        optimised.replace(
            "ret i64 %length",
            "%zero = load i64, ptr @local.1\n %sum = add i64 %length, %zero\n ret i64 %sum"
        )
    );
    let bad = "; optimised\ndefine i64 @self() {\n %y = call i64 @nobody()\n ret i64 %y\n}\ndeclare i64 @nobody()";
    let texts = [
        ("raw", RAW),
        ("optimised", &*optimised),
        ("local", &*local),
        ("bad", bad),
    ];
    let gate = Arc::new(Gate::new());
    let cache = Cache::builder(Gated(Texts::new(texts), gate.clone()))
        .opt_level(OptLevel::O2)
        .import("strlen", strlen as *const ())
        .import("host_local", host_local as *const ())
        .build()
        .unwrap();
    text::<Code>(&cache, "raw#gate").request().unwrap();
    wait_until("the worker waits", || gate.came() == 1);
    (cache, gate)
}

/// What methods return that are compiled in one batch; none for those that fail.
fn results<const N: usize>(names: [&str; N]) -> [Option<i64>; N] {
    let (cache, gate) = cache();
    let handles = names.map(|name| text::<Code>(&cache, name));
    for handle in &handles {
        handle.request().unwrap();
    }
    gate.open();
    let me = cache.participant("test");
    let mut guard = me.pin();
    let results = handles.each_ref().map(|handle| {
        let entry = handle.get(&mut guard).ok()?;
        // SAFETY: all texts have this type.
        Some(unsafe { entry.call() })
    });
    if results.iter().all(Option::is_some) {
        assert_eq!(cache.statistics().batches, 2, "the gate, and one batch");
    }
    results
}

const KNOWN: Option<i64> = Some(3);
const UNKNOWN: Option<i64> = Some(ASKED);

#[test]
fn passes_are_left_out_if_nobody_needs_them() {
    assert_eq!(results(["optimised"]), [UNKNOWN]);
    assert_eq!(results(["optimised#1", "optimised#2"]), [UNKNOWN, UNKNOWN]);
}

#[test]
fn they_run_over_the_batch_of_one_who_does() {
    assert_eq!(results(["raw"]), [KNOWN]);
    assert_eq!(results(["optimised", "raw"]), [KNOWN, KNOWN]);
    assert_eq!(results(["raw", "optimised"]), [KNOWN, KNOWN]);
}

#[test]
fn thread_locals_are_something_to_do_for_them() {
    assert_eq!(results(["local"]), [KNOWN]);
    assert_eq!(results(["optimised", "local"]), [KNOWN, KNOWN]);
}

/// The batch is tried again in parts.
#[test]
fn a_neighbour_that_fails_changes_nothing() {
    assert_eq!(results(["optimised", "bad"]), [UNKNOWN, None]);
    assert_eq!(results(["bad", "raw"]), [None, KNOWN]);
}
