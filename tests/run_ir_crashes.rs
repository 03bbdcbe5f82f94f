//! Programs that crash in `run_ir` end as natively, and it says on standard error in which function that was, or which
//! function called what crashed.

#[path = "run_ir/harness.rs"]
mod harness;

use harness::{Run, clang, compile, run, run_through, scratch};
use std::path::{Path, PathBuf};

/// Ways to die, by the name of the function that is to be named, and what is said of it.
const WAYS: [(&str, &str); 9] = [
    (
        "calls_null",
        "SIGSEGV outside of the program's functions, called from",
    ),
    ("goes_down", "SIGSEGV in"),
    (
        "aborts",
        "SIGABRT outside of the program's functions, called from",
    ),
    ("divides", "SIGFPE in"),
    ("traps", "SIGILL in"),
    ("writes", "SIGSEGV in"),
    (
        "counts_letters",
        "SIGSEGV outside of the program's functions, called from",
    ),
    ("compares", "SIGFPE in"),
    (
        "sends_itself",
        "SIGSEGV outside of the program's functions, called from",
    ),
];

struct Built {
    native: PathBuf,
    bitcode: PathBuf,
}

fn build(clang: &str, name: &str, level: &str) -> Built {
    let folder = scratch(&format!("crashes{level}"));
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/run_ir")
        .join(format!("{name}.c"));
    let native = folder.join(name);
    let bitcode = folder.join(format!("{name}.bc"));
    compile(clang, &source, &native, &[level]);
    compile(clang, &source, &bitcode, &[level, "-c", "-emit-llvm"]);
    Built { native, bitcode }
}

/// What `run_ir` said of a crash.
fn report(run: &Run) -> &str {
    let mut lines = run
        .stderr
        .lines()
        .filter(|line| line.starts_with("run_ir: "));
    let line = lines.next().unwrap_or_default();
    assert_eq!(lines.next(), None, "one report");
    line
}

/// Each way, built at a level of clang's, on the first thread or another.
fn die(level: &str, flags: &str, on_thread: bool) {
    let Some(clang) = clang() else { return };
    let built = build(clang, "crashes", level);
    for (way, said) in WAYS {
        let arguments: &[&str] = if on_thread { &[way, "thread"] } else { &[way] };
        let name = format!("{way}{}{on_thread}", flags.replace(' ', "_"));
        let native = built.native.with_file_name(format!("native-{name}"));
        let expected = run(&built.native, arguments, &native, "").outcome;
        assert!(expected.code > 128, "{way} ends with {}", expected.code);
        let got = run_through(flags, &built.bitcode, arguments, &format!("run-{name}"), "");
        let context = format!("{level} {flags} {arguments:?}: {}", got.stderr);
        assert_eq!(got.outcome.code, expected.code, "{context}");
        // Side by side whoever is first ends the others, which may have printed nothing yet.
        assert_eq!(got.outcome.stdout, expected.stdout, "{context}");
        let report = report(&got);
        let function = report.strip_prefix(&format!("run_ir: {said} {way}"));
        let place = function.and_then(|rest| rest.split_once(" + "));
        let (instance, offset) = place.unwrap_or_else(|| panic!("{context}"));
        assert!(["", " of instance 1"].contains(&instance), "{context}");
        assert!(
            offset.parse::<u32>().is_ok_and(|offset| offset > 0),
            "{context}"
        );
    }
}

#[test]
fn on_the_first_thread() {
    die("-O0", "--opt 0", false);
    die("-O2", "--opt 2", false);
}

#[test]
fn on_another_thread() {
    die("-O1", "--opt 1", true);
}

#[test]
fn under_a_small_budget() {
    die("-O1", "--opt 3 --code-budget 16KiB", false);
}

#[test]
fn side_by_side() {
    die("-O1", "--threads 2", false);
    die("-O2", "--threads 2", true);
}

/// The program does not see the handler that reports; and it is out of the way where the program handles a signal
/// itself, or is killed by another process.
#[test]
fn the_programs_own_handlers() {
    let Some(clang) = clang() else { return };
    let built = build(clang, "crash_actions", "-O1");
    for (way, code, reports) in [
        ("not handled", 139, 1),
        ("handled", 7, 0),
        ("no longer handled", 139, 1),
        ("killed", 139, 0),
        ("ignored", 0, 0),
    ] {
        let native = built.native.with_file_name(format!("native-{way}"));
        let expected = run(&built.native, &[way], &native, "").outcome;
        assert_eq!(expected.code, code, "{way}");
        let got = run_through("", &built.bitcode, &[way], &format!("run-{way}"), "");
        assert_eq!(got.outcome, expected, "{way}: {}", got.stderr);
        let said = got.stderr.matches("run_ir: SIGSEGV in writes + ").count();
        let lines = got.stderr.lines().count();
        assert_eq!((said, lines), (reports, reports), "{way}: {}", got.stderr);
    }
}
