//! The corpus: programs in C, C++ and IR, a construct each, through the example `run_ir` as natively.
//!
//! The short form runs a few combinations of settings for each program, others for the next; `INKPOT_SOAK=1` runs
//! all, and `INKPOT_TIMES=1` says how long each program took. `INKPOT_RECORD=1` writes what stands under
//! `tests/programs/bitcode` anew: bitcode and outcomes, for where clang is missing.

#[path = "corpus/check.rs"]
mod check;
#[path = "corpus/cpp.rs"]
mod cpp;
#[path = "run_ir/harness.rs"]
#[allow(dead_code)]
mod harness;
#[path = "corpus/ir.rs"]
mod ir;
#[path = "corpus/language.rs"]
mod language;
#[path = "corpus/recorded.rs"]
mod recorded;
#[path = "corpus/system.rs"]
mod system;
#[path = "corpus/table.rs"]
mod table;

use std::collections::BTreeSet;

/// A test for each part of the table, so that they run side by side.
macro_rules! parts {
    ($($name:ident: $programs:expr;)*) => {
        $(
            #[test]
            fn $name() {
                check::all($programs);
            }
        )*

        /// Every program of every part.
        fn programs() -> impl Iterator<Item = &'static table::Program> {
            [$($programs),*].into_iter().flatten()
        }
    };
}

parts! {
    basics: language::BASICS;
    values: language::VALUES;
    control: language::CONTROL;
    linking: language::LINKING;
    libc: system::LIBC;
    ends_and_signals: system::ENDS_AND_SIGNALS;
    threads: system::THREADS;
    cpp_language: cpp::LANGUAGE;
    cpp_exceptions: cpp::EXCEPTIONS;
    cpp_library: cpp::LIBRARY;
    by_hand: ir::BY_HAND;
}

#[test]
fn isolated() {
    check::isolated(programs());
}

#[test]
fn hardened() {
    check::hardened(programs());
}

/// No name stands in two places: scratch folders and recorded files have the programs' names.
#[test]
fn names_are_unique() {
    let mut seen = BTreeSet::new();
    for program in programs() {
        assert!(seen.insert(program.file), "{} stands twice", program.file);
        assert!(program.source().exists(), "{} is missing", program.file);
    }
}

/// Every program that runs where clang is missing has an outcome that was recorded, and nothing else is kept.
#[test]
fn everything_is_recorded() {
    let mut kept: BTreeSet<String> = std::fs::read_dir(recorded::folder())
        .expect("the recorded files")
        .map(|entry| {
            entry
                .expect("an entry")
                .file_name()
                .to_string_lossy()
                .into_owned()
        })
        .collect();
    for program in programs() {
        for path in recorded::files(program) {
            let name = path
                .file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            assert!(
                kept.remove(&name),
                "{name} is missing: INKPOT_RECORD=1 writes it"
            );
        }
    }
    assert!(kept.is_empty(), "of no program: {kept:?}");
}
