//! C programs through the example `run_ir`: output and exit code are those of the native build, under any budget.

#[path = "run_ir/generator.rs"]
mod generator;
#[path = "run_ir/harness.rs"]
mod harness;

use harness::{Run, clang, compile, processor_seconds, run, run_ir, run_through, scratch};
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How clang has optimised what `run_ir` is given.
const LEVELS: [&str; 2] = ["-O0", "-O2"];

/// How `run_ir` is told to run it, besides `--opt`.
const WAYS: [&str; 8] = [
    "",
    "--code-budget 256KiB --policy sieve",
    "--code-budget 64KiB",
    "--code-budget 16KiB",
    "--stress",
    "--stress --code-budget 16KiB --policy sieve",
    "--tiers",
    "--tiers --stress --code-budget 64KiB",
];

fn source(program: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/programs")
        .join(program)
        .with_extension("c")
}

/// A program's native build and bitcode, at one level of clang's.
struct Built {
    native: PathBuf,
    bitcode: PathBuf,
}

fn build(clang: &str, source: &Path, folder: &Path, level: &str) -> Built {
    let native = folder.join(format!("native{level}"));
    let bitcode = folder.join(format!("program{level}.bc"));
    compile(clang, source, &native, &[level]);
    compile(clang, source, &bitcode, &[level, "-c", "-emit-llvm"]);
    Built { native, bitcode }
}

/// Runs one program in all ways, with each list of arguments.
fn check(program: &str, runs: &[&[&str]], input: &str) {
    let Some(clang) = clang() else { return };
    let folder = scratch(program);
    for level in LEVELS {
        let built = build(clang, &source(program), &folder, level);
        for (index, arguments) in runs.iter().enumerate() {
            let name = folder.join(format!("native{level}-{index}"));
            let expected = run(&built.native, arguments, &name, input).outcome;
            for (way, flags) in WAYS.iter().enumerate() {
                for opt in [0, 2] {
                    let flags = format!("--opt {opt} {flags}");
                    let name = format!("run{level}-{index}-{way}-{opt}");
                    let got = run_through(&flags, &built.bitcode, arguments, &name, input);
                    assert_eq!(
                        got.outcome, expected,
                        "{program} {level} {arguments:?}, run_ir {flags}\n{}",
                        got.stderr
                    );
                }
            }
        }
    }
}

/// A test for each program that takes no arguments.
macro_rules! programs {
    ($($name:ident)*) => {$(
        #[test]
        fn $name() {
            check(stringify!($name), &[&[]], "");
        }
    )*};
}

programs! {
    arrays bit_fields callbacks computed_goto escaping_labels formats function_pointers heap jumps
    linked_globals literals main_with_labels numbers recursion statics structs switches varargs
}

#[test]
fn arguments() {
    check(
        "arguments",
        &[&[], &["one", "--opt", "", "a b"]],
        "some input",
    );
}

/// Words that are no text are given to the program as they are.
#[test]
fn arguments_that_are_not_text() {
    let Some(clang) = clang() else { return };
    let folder = scratch("odd_arguments");
    let built = build(clang, &source("arguments"), &folder, "-O1");
    let odd = OsStr::from_bytes(b"a\xff\xfeb").to_owned();
    let expected = run(&built.native, &[&odd], &folder.join("native-odd"), "").outcome;
    let words = [built.bitcode.as_os_str(), OsStr::new("--"), &odd];
    let got = run(&run_ir(), &words, &folder.join("run-odd"), "");
    assert_eq!(got.outcome, expected, "{}", got.stderr);
}

/// `segv` and `abort` end by a signal, natively and here.
#[test]
fn ends() {
    let ways = [
        "return", "exit", "deep", "large", "register", "again", "_exit", "quick", "abort", "segv",
    ];
    let Some(clang) = clang() else { return };
    let folder = scratch("ends");
    let built = build(clang, &source("ends"), &folder, "-O1");
    for way in ways {
        let expected = run(
            &built.native,
            &[way],
            &folder.join(format!("native-{way}")),
            "",
        )
        .outcome;
        for flags in ["", "--stress --code-budget 16KiB", "--stats"] {
            let name = format!("run-{way}-{}", flags.len());
            let got = run_through(flags, &built.bitcode, &[way], &name, "");
            assert_eq!(got.outcome, expected, "{way} {flags}\n{}", got.stderr);
        }
    }
}

/// All programs do without a native `main` of the usual form.
#[test]
fn forms_of_main() {
    let Some(clang) = clang() else { return };
    let folder = scratch("forms_of_main");
    for (index, (text, code)) in [
        ("int main(void) { return 7; }", 7),
        (
            "int puts(const char *); void main(void) { puts(\"void\"); }",
            0,
        ),
        ("int main(int c) { return c + 10; }", 11),
        (
            "int main(int c, char **v, char **e) { return v[1] == 0 && e != 0 ? -1 : 1; }",
            255,
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let (c, bitcode) = (
            folder.join(format!("{index}.c")),
            folder.join(format!("{index}.bc")),
        );
        fs::write(&c, text).unwrap();
        compile(clang, &c, &bitcode, &["-c", "-emit-llvm"]);
        let got = run_through("", &bitcode, &[], &format!("run{index}"), "");
        assert_eq!(got.outcome.code, code, "{text}\n{}", got.stderr);
    }
}

#[test]
fn text_is_as_good_as_bitcode() {
    let Some(clang) = clang() else { return };
    let folder = scratch("text");
    let text = folder.join("program.ll");
    compile(
        clang,
        &source("structs"),
        &text,
        &["-O1", "-S", "-emit-llvm"],
    );
    let native = folder.join("native");
    compile(clang, &source("structs"), &native, &[]);
    let expected = run::<&str>(&native, &[], &folder.join("expected"), "").outcome;
    assert_eq!(
        run_through("--opt 3", &text, &[], "run", "").outcome,
        expected
    );
}

/// 600 functions that jump, sort, print and call each other.
fn large(level: &str, ways: &[&str]) {
    let Some(clang) = clang() else { return };
    let folder = scratch(&format!("large{level}"));
    let c = folder.join("program.c");
    fs::write(&c, generator::program(20_260_101, 600, 3)).unwrap();
    let built = build(clang, &c, &folder, level);
    let expected = run::<&str>(&built.native, &[], &folder.join("native"), "").outcome;
    assert!(expected.stdout.lines().count() > 80, "{}", expected.stdout);
    for (index, flags) in ways.iter().enumerate() {
        let got = run_through(flags, &built.bitcode, &[], &format!("run{index}"), "");
        assert_eq!(
            got.outcome, expected,
            "{level}, run_ir {flags}\n{}",
            got.stderr
        );
    }
}

#[test]
fn large_at_level_0() {
    large("-O0", &["--opt 0", "--opt 2 --code-budget 64KiB"]);
}

#[test]
fn large_at_level_2() {
    large("-O2", &["--opt 2", "--opt 0 --code-budget 64KiB"]);
}

/// A large program is split so that its size does not delay its first call: it is made within a second of the processor,
/// whatever else the machine does meanwhile.
#[test]
fn first_call_of_600_functions() {
    let Some(clang) = clang() else { return };
    let folder = scratch("first_call");
    let (c, bitcode) = (folder.join("program.c"), folder.join("program.bc"));
    let begins = "int main(int argc, char **argv) {\n    write(1, \"!\", 1); read(0, &argc, 1);";
    let program = generator::program(20_260_101, 600, 3);
    let text = program.replace("int main(int argc, char **argv) {", begins);
    assert_ne!(text, program, "main is where it was");
    fs::write(&c, format!("#include <unistd.h>\n{text}")).unwrap();
    compile(clang, &c, &bitcode, &["-O0", "-c", "-emit-llvm"]);
    let mut program = Command::new(run_ir())
        .args(["--opt", "2"])
        .arg(&bitcode)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut byte = [0];
    let said = program.stdout.take().unwrap().read_exact(&mut byte);
    // It waits for input now.
    let seconds = processor_seconds(program.id());
    program.kill().unwrap();
    program.wait().unwrap();
    said.unwrap();
    assert!(seconds <= 1.0, "{seconds} s");
}

/// A budget smaller than the program makes it evict, and the statistics say so.
#[test]
fn statistics() {
    let Some(clang) = clang() else { return };
    let folder = scratch("statistics");
    let built = build(clang, &source("literals"), &folder, "-O1");
    let statistics = |flags: &str, name: &str| {
        let Run { outcome, stderr } = run_through(flags, &built.bitcode, &[], name, "");
        assert_eq!(outcome.code, 0, "{stderr}");
        let last = stderr.lines().last().expect("a last line").to_owned();
        serde_json::from_str::<serde_json::Value>(&last).expect(&last)
    };
    let free = statistics("--stats", "free");
    assert_eq!(free["evictions"], 0, "{free}");
    let pinned = free["longest_pinned"]
        .as_str()
        .expect("the program is pinned");
    assert!(pinned.starts_with("the program"), "{free}");
    assert_eq!(free["methods_resident"], free["compiles"], "{free}");
    let tight = statistics("--stats --code-budget 1KiB", "tight");
    assert!(tight["evictions"].as_u64() > Some(20), "{tight}");
    assert!(
        tight["compiles"].as_u64() > free["compiles"].as_u64(),
        "{tight}"
    );
    assert_eq!(tight["code_budget"], 1024, "{tight}");
    let stressed = statistics("--stats --stress", "stressed");
    for what in ["evictions", "invalidations"] {
        assert!(stressed[what].as_u64() > Some(0), "{what}: {stressed}");
    }
    assert_eq!(free["invalidations"], 0, "{free}");
}

/// Debug information goes along, or does not; the program is none the wiser.
#[test]
fn debug_information_may_be_kept() {
    let Some(clang) = clang() else { return };
    let folder = scratch("debug_info");
    let (native, bitcode) = (folder.join("native"), folder.join("program.bc"));
    for program in ["debug_info", "thread_local_many", "switches"] {
        for level in LEVELS {
            compile(clang, &source(program), &native, &[level, "-pthread"]);
            let flags = [level, "-g", "-c", "-emit-llvm"];
            compile(clang, &source(program), &bitcode, &flags);
            let expected = run::<&str>(&native, &[], &folder.join("expected"), "").outcome;
            for flags in ["--opt 0", "--opt 2", "--opt 1 --code-budget 16KiB --stress"] {
                let flags = format!("--debug-info {flags}");
                let got = run_through(&flags, &bitcode, &[], "run", "");
                assert_eq!(
                    got.outcome, expected,
                    "{program} {level} {flags}\n{}",
                    got.stderr
                );
            }
        }
    }
}

/// Functions whose labels outlive an activation stay, under any budget, and are named: by the cache, or, where labels
/// stand in the program's data, by `run_ir`.
#[test]
fn functions_that_stay_are_named() {
    let Some(clang) = clang() else { return };
    let folder = scratch("stay");
    let stay: [(&str, &[&str], &str); 5] = [
        ("escaping_labels", &["written", "next"], "threaded"),
        ("protothreads", &["produce", "consume"], ""),
        ("direct_threading", &["run"], ""),
        ("global_labels", &[], "machine"),
        ("computed_goto", &[], ""),
    ];
    for (program, staying, in_data) in stay {
        let built = build(clang, &source(program), &folder, "-O0");
        let expected = run::<&str>(&built.native, &[], &folder.join("native"), "").outcome;
        for flags in ["--code-budget 64KiB", "--code-budget 64KiB --stress"] {
            let flags = format!("--stats {flags}");
            let run = run_through(&flags, &built.bitcode, &[], "run", "");
            assert_eq!(run.outcome, expected, "{program} {flags}\n{}", run.stderr);
            let last = run.stderr.lines().last().expect("a last line");
            let statistics: serde_json::Value = serde_json::from_str(last).expect(last);
            let named = statistics["methods_staying"].as_array().expect("a list");
            let named: Vec<&str> = named.iter().filter_map(|m| m["method"].as_str()).collect();
            let expected: Vec<_> = staying.to_vec();
            assert_eq!(named[0], "the globals");
            assert_eq!(named[1..], expected, "{program} {flags}");
            assert!(statistics["bytes"]["staying"].as_u64() > Some(0), "{last}");
            let note = run.stderr.lines().find(|line| line.starts_with("note:"));
            assert_eq!(note.is_some(), !in_data.is_empty(), "{program}: {note:?}");
            assert!(note.is_none_or(|note| note.contains(in_data)), "{note:?}");
        }
    }
}
