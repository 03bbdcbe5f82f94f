//! Programs larger than `--code-budget` through the example `run_ir`: their output is right, and the
//! statistics say that mapped code stayed near the budget, although `main` is on the stack from the
//! first instruction to the last.

#[path = "run_ir/harness.rs"]
#[allow(dead_code)]
mod harness;
#[path = "lua/interpreter.rs"]
mod interpreter;

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use harness::{clang, compile, run, run_through, scratch};
use serde_json::Value;

const KIB: u64 = 1 << 10;

/// A generation's text, constants and data take a slot each, at least.
const LEAST_GENERATION: u64 = 3 * 16 * KIB;

/// A program, as clang made it.
struct Built {
    native: PathBuf,
    bitcode: PathBuf,
}

/// One way to run it.
struct Way {
    arguments: &'static [&'static str],
    budget: u64,
    flags: &'static str,
}

fn way(arguments: &'static [&'static str], kib: u64, flags: &'static str) -> Way {
    Way {
        arguments,
        budget: kib * KIB,
        flags,
    }
}

fn build(clang: &str, source: &Path, name: &str) -> Built {
    let folder = scratch(&format!("budget-{name}"));
    let (native, bitcode) = (folder.join("native"), folder.join("program.bc"));
    compile(clang, source, &native, &["-O0", "-pthread"]);
    compile(clang, source, &bitcode, &["-O0", "-c", "-emit-llvm"]);
    Built { native, bitcode }
}

/// Runs it, compares it with the native build, and looks at the figures.
fn check(built: &Built, name: &str, way: &Way) {
    let native = built.native.with_file_name(format!("native-{name}"));
    let expected = run(&built.native, way.arguments, &native, "").outcome;
    assert!(!expected.stdout.is_empty(), "{name}");
    let flags = format!("--stats --opt 0 --code-budget {} {}", way.budget, way.flags);
    let got = run_through(
        &flags,
        &built.bitcode,
        way.arguments,
        &format!("run-{name}"),
        "",
    );
    assert_eq!(got.outcome, expected, "{name} {flags}\n{}", got.stderr);
    let last = got.stderr.lines().last().expect("a last line");
    let statistics: Value = serde_json::from_str(last).expect(last);
    let figure = |field: &str| {
        let figure = statistics[field].as_u64();
        figure.unwrap_or_else(|| panic!("{field} in {last}"))
    };
    let peak = figure("mapped_code_bytes_peak");
    let (held, pinned) = (figure("held_bytes_peak"), figure("pinned_bytes_peak"));
    let (compiles, evictions) = (figure("compiles"), figure("evictions"));
    let recycled = figure("generations_recycled");
    let staying = statistics["bytes"]["staying"].as_u64().expect(last);
    let budget = way.budget;
    println!(
        "{name}: budget {budget}, peak {peak}, held {held}, pinned {pinned}, {recycled} recycled, \
         {compiles} compiles, {evictions} evictions: {:.2}",
        peak.saturating_sub(held + pinned) as f64 / budget as f64
    );
    assert_eq!(figure("code_budget"), budget);
    // A budget of one slot counts as the smallest generation, into which a small program fits. And what
    // a short run retired may be held to its end, by frames that are in it.
    let exceeded = evictions > 0 && (recycled > 0 || held > 0);
    assert!(exceeded || budget == 16 * KIB, "{last}");
    assert!(compiles > evictions, "{last}");
    let most = match budget {
        ..1_048_576 => budget + 2 * LEAST_GENERATION.max(budget / 8),
        _ => budget + budget / 2,
    };
    assert!(
        peak <= most + held + pinned + staying,
        "{name} {flags}: {last}"
    );
    // What is held and pinned is little, or it would say nothing.
    assert!(
        held + pinned <= budget + 16 * LEAST_GENERATION,
        "{name} {flags}: {last}"
    );
}

/// A program of so many functions of some 3 KiB. It is told how many to call, and how often.
fn many(functions: u32) -> String {
    const LINES: u32 = 60;
    let mut text = "#include <stdint.h>\n#include <stdio.h>\n#include <stdlib.h>\n\
        typedef uint64_t function(uint64_t, int);\nextern function *const all[];\nstatic int count;\n"
        .to_owned();
    for n in 0..functions {
        writeln!(text, "static uint64_t f{n}(uint64_t x, int depth) {{").unwrap();
        for line in 0..LINES {
            let (a, b) = (n * 1009 + line * 2 + 1, n * 31 + line * 7 + 3);
            let (shift, bit) = (line % 31 + 1, line % 13);
            writeln!(
                text,
                "x = x * {a}u ^ x >> {shift}; if (x >> {bit} & 1) x += {b}u;"
            )
            .unwrap();
        }
        let next = n * 7 + 3;
        writeln!(
            text,
            "return depth ? all[{next} % count](x, depth - 1) + {n} : x; }}"
        )
        .unwrap();
    }
    text += "function *const all[] = {";
    (0..functions).for_each(|n| write!(text, "f{n},").unwrap());
    text += "};\nint main(int argc, char **argv) {
        count = atoi(argv[1]);
        uint64_t x = 1;
        for (int round = 0; round < atoi(argv[2]); round++) {
            for (int n = 0; n < count; n++) x = all[n](x, n % 4);
            printf(\"%d %llx\\n\", round, (unsigned long long)x);
        }
        return 0;
    }\n";
    text
}

#[test]
fn many_functions() {
    let Some(clang) = clang() else { return };
    let source = scratch("budget-many").join("many.c");
    fs::write(&source, many(520)).expect("the source");
    let built = build(clang, &source, "many");
    let ways = [
        ("1MiB", way(&["520", "2"], 1024, "")),
        ("256KiB", way(&["150", "2"], 256, "")),
        ("64KiB", way(&["60", "3"], 64, "")),
        ("32KiB", way(&["40", "3"], 32, "--policy sieve")),
        ("4x1MiB", way(&["140", "2"], 1024, "--threads 4")),
        ("4x64KiB", way(&["30", "2"], 64, "--threads 4")),
    ];
    for (name, way) in &ways {
        check(&built, name, way);
    }
}

/// It makes threads itself, which wait for each other.
#[test]
fn threads_of_its_own() {
    let Some(clang) = clang() else { return };
    let programs = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs");
    let built = build(clang, &programs.join("large_workers.c"), "workers");
    check(&built, "workers", &way(&[], 16, ""));
    check(&built, "4xworkers", &way(&[], 64, "--threads 4"));
}

#[test]
fn lua() {
    let Some(clang) = clang() else { return };
    let interpreter::Interpreter { native, bitcode } = interpreter::build(clang, "-O0");
    let script = interpreter::scripts()
        .into_iter()
        .find(|path| path.ends_with("closures.lua"));
    let script = script.expect("it is there").into_os_string().into_string();
    let script: &'static str = script.expect("a path in UTF-8").leak();
    let arguments: &'static [&'static str] = vec!["1", script].leak();
    check(&Built { native, bitcode }, "lua", &way(arguments, 192, ""));
}
