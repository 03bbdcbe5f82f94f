//! An interpreter of 30,000 lines of C through the example `run_ir`: Lua runs scripts of ours, and prints what the
//! native build prints, whatever the level and the budget.
//!
//! The short form runs a few combinations of scripts and settings, `INKPOT_SOAK=1` (`make long`) runs all.

#[path = "../run_ir/harness.rs"]
mod harness;
mod interpreter;

use harness::{clang, run, run_through};
use interpreter::{Interpreter, build, scripts};
use std::path::PathBuf;
use std::time::Instant;

/// All budgets, and how many scripts are run in one process under each: what is evicted is compiled again, and no
/// run shall take minutes.
const BUDGETS: [(&str, usize); 3] = [
    ("", usize::MAX),
    (" --code-budget 256KiB", 2),
    (" --code-budget 64KiB", 1),
];

/// Scripts to be run in one process, and `run_ir`'s settings.
struct Run {
    scripts: Vec<PathBuf>,
    flags: String,
}

/// Every script with every setting.
fn all() -> Vec<Run> {
    let mut runs = Vec::new();
    for (budget, together) in BUDGETS {
        let scripts = scripts();
        for scripts in scripts.chunks(together.min(scripts.len())) {
            let flags = (0..4).map(|opt| format!("--opt {opt}{budget}"));
            let tiers = ["", " --stress"].map(|more| format!("--tiers{budget}{more}"));
            let isolated = std::iter::once(format!("--isolate{budget}"));
            runs.extend(flags.chain(tiers).chain(isolated).map(|flags| Run {
                scripts: scripts.to_vec(),
                flags,
            }));
        }
    }
    runs
}

/// Runs the interpreter built at one of clang's levels: with these scripts (by name, none for all) and settings,
/// or with all there are.
fn check(level: &str, few: &[(&[&str], &str)]) {
    let Some(clang) = clang() else { return };
    let built = build(clang, level);
    let chosen = |names: &[&str]| {
        let mut scripts = scripts();
        scripts.retain(|path| {
            names.is_empty() || names.iter().any(|n| path.ends_with(format!("{n}.lua")))
        });
        scripts
    };
    let few = few.iter().map(|(names, flags)| Run {
        scripts: chosen(names),
        flags: flags.to_string(),
    });
    let soak = std::env::var_os("INKPOT_SOAK").is_some_and(|value| value != "0");
    let runs = if soak { all() } else { few.collect() };
    for (index, run) in runs.iter().enumerate() {
        compare(&built, run, &format!("{level}-{index}"));
    }
}

/// Runs both builds, and compares.
fn compare(built: &Interpreter, wanted: &Run, name: &str) {
    let scripts = wanted
        .scripts
        .iter()
        .map(|path| path.to_str().expect("a path in UTF-8"));
    // The scale comes first: how much the scripts are to do.
    let arguments: Vec<&str> = std::iter::once("1").chain(scripts).collect();
    let native = built.native.with_file_name(format!("native{name}"));
    let expected = run(&built.native, &arguments, &native, "").outcome;
    assert_eq!(expected.code, 0, "{}", expected.stdout);
    assert!(expected.stdout.lines().count() > 6, "{}", expected.stdout);
    let started = Instant::now();
    let flags = &wanted.flags;
    let got = run_through(flags, &built.bitcode, &arguments, &format!("run{name}"), "");
    assert_eq!(
        got.outcome, expected,
        "{arguments:?}, run_ir {flags}\n{}",
        got.stderr
    );
    println!(
        "{name}: {} scripts, {flags}, {:.1?}",
        wanted.scripts.len(),
        started.elapsed()
    );
}

#[test]
fn built_at_level_0() {
    check(
        "-O0",
        &[
            (&["metatables"], "--opt 2"),
            (&["closures"], "--opt 0 --code-budget 64KiB"),
        ],
    );
}

#[test]
fn built_at_level_1() {
    check(
        "-O1",
        &[
            (&[], "--opt 1"),
            (&["closures"], "--opt 0 --code-budget 256KiB"),
            (&["strings"], "--isolate --opt 2"),
        ],
    );
}

#[test]
fn built_at_level_2() {
    check(
        "-O2",
        &[
            (&["coroutines", "errors"], "--opt 3 --code-budget 256KiB"),
            (&["loops"], "--opt 0"),
            (&["closures", "metatables"], "--tiers --code-budget 256KiB"),
        ],
    );
}
