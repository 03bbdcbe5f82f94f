//! Builds programs of the corpus, runs them in both ways, and compares.

use crate::harness::{self, Outcome, run, run_through, scratch};
use crate::recorded;
use crate::table::Program;
use std::path::{Path, PathBuf};

/// `run_ir`'s exit code for a program it cannot run.
const REFUSED: i32 = 3;

/// How clang optimises what `run_ir` is given.
const LEVELS: [&str; 3] = ["-O0", "-O1", "-O2"];

/// How many combinations the short form runs.
const FEW: usize = 2;

/// `run_ir`'s settings: each level with each budget, alone and as the last tier, calm and under stress.
fn settings() -> Vec<String> {
    let mut all = Vec::new();
    for stress in ["", " --stress"] {
        for budget in ["", " --code-budget 256KiB", " --code-budget 16KiB"] {
            for opt in 0..4 {
                for tiers in ["", " --tiers"] {
                    all.push(format!("--opt {opt}{budget}{stress}{tiers}"));
                }
            }
        }
    }
    for combination in 1..31 {
        all.push(format!(
            "--opt 1 --code-budget 64KiB{}",
            stress(combination)
        ));
    }
    all
}

/// Modes of stress in the combination of this number, as flags: 32 of them, none and all included.
fn stress(combination: usize) -> String {
    let modes = ["evict", "invalidate", "recycle", "move", "quarantine"];
    let chosen = modes
        .iter()
        .enumerate()
        .filter(|(i, _)| combination >> i & 1 == 1);
    let chosen: Vec<_> = chosen.map(|(_, mode)| *mode).collect();
    match chosen.is_empty() {
        true => String::new(),
        false => format!(" --stress-of {}", chosen.join(",")),
    }
}

/// The settings of the short form for the program at `index`: calm ones and stress by turns, all of them
/// in the course of 24 programs, with other modes of stress each time.
fn few(index: usize) -> Vec<String> {
    let all = settings();
    let half = 24;
    (0..FEW)
        .map(|turn| {
            let at = (index * 5 + turn * 7) % half;
            let all_modes = all[at + (index + turn) % 2 * half].clone();
            all_modes.replace(" --stress", &stress(index * 5 % 31 + 1))
        })
        .collect()
}

fn set(variable: &str) -> bool {
    std::env::var_os(variable).is_some_and(|value| value == "1")
}

/// Checks all programs of a part, and fails with all that went wrong.
pub fn all(programs: &[Program]) {
    let clang = harness::clang();
    let mut wrong = Vec::new();
    let mut waiting = Vec::new();
    for (index, program) in programs.iter().enumerate() {
        let waits = program.waits_for();
        if !waits.is_empty() {
            waiting.push(format!("{} for {waits:?}", program.file));
        }
        let start = std::time::Instant::now();
        match clang {
            Some(clang) => with_clang(clang, program, index, &mut wrong),
            None => without_clang(program, index, &mut wrong),
        }
        if set("INKPOT_TIMES") {
            eprintln!("{:6.2} s {}", start.elapsed().as_secs_f64(), program.file);
        }
    }
    if !waiting.is_empty() {
        eprintln!(
            "only run natively, as they wait:\n  {}",
            waiting.join("\n  ")
        );
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The native build is the measure, and so is what was recorded.
fn with_clang(clang: &str, program: &Program, index: usize, wrong: &mut Vec<String>) {
    let folder = scratch(&format!("corpus-{}", program.file));
    let soak = set("INKPOT_SOAK");
    let levels = match soak {
        true => LEVELS.to_vec(),
        false => vec![LEVELS[index % LEVELS.len()]],
    };
    let mut last = None;
    for level in levels {
        // IR is run as it is, optimised or not.
        let file = match program.is_ir() {
            true => copy(program, &folder),
            false => {
                let bitcode = folder.join(format!("program{level}.bc"));
                compile(clang, program, &bitcode, &[level]);
                bitcode
            }
        };
        let native = folder.join(format!("native{level}"));
        link(clang, program, &file, &native, level);
        let name = folder.join(format!("native{level}-run"));
        let expected = run(&native, program.arguments, &name, program.input).outcome;
        if !program.by_level && last.as_ref().is_some_and(|last| *last != expected) {
            wrong.push(format!("{} depends on clang's level", program.file));
        }
        let mut settings = if soak { settings() } else { few(index) };
        if !soak && program.is_cpp() {
            settings.truncate(1); // templates make each run a long one
        }
        through(program, &file, level, &settings, &expected, wrong);
        last = Some(expected);
    }
    let Some(expected) = last else { return };
    if set("INKPOT_RECORD") {
        let bitcode = folder.join("record.bc");
        if !program.is_ir() {
            compile(clang, program, &bitcode, &["-O1", "-g0"]);
        }
        recorded::record(program, &expected, &bitcode);
    }
    let kept = recorded::outcome(program);
    if kept != expected {
        wrong.push(format!(
            "{}: recorded {kept:?}, now {expected:?}: INKPOT_RECORD=1 writes it anew",
            program.file
        ));
    }
}

/// Has LLVM run in another process: every so many of the programs as they were recorded, or all of them.
pub fn isolated<'p>(programs: impl Iterator<Item = &'p Program>) {
    some("isolated", 0, "--isolate", programs);
}

/// The same for code that is hardened against its authors.
pub fn hardened<'p>(programs: impl Iterator<Item = &'p Program>) {
    some("hardened", 5, "--harden", programs);
}

fn some<'p>(what: &str, first: usize, flag: &str, programs: impl Iterator<Item = &'p Program>) {
    const FEW: usize = 11;
    let (first, step) = if set("INKPOT_SOAK") {
        (0, 1)
    } else {
        (first, FEW)
    };
    let mut wrong = Vec::new();
    for (index, program) in programs.enumerate().skip(first).step_by(step) {
        let folder = scratch(&format!("{what}-{}", program.file));
        let ending = if program.is_ir() { "ll" } else { "bc" };
        let file = folder.join("program").with_extension(ending);
        std::fs::copy(recorded::runnable(program), &file).expect("what was recorded");
        let budget = ["", " --code-budget 64KiB", " --stress"][index % 3];
        let tiers = ["", " --tiers"][index / 2 % 2];
        let settings = [format!("{flag} --opt {}{budget}{tiers}", index % 4)];
        let expected = recorded::outcome(program);
        through(program, &file, what, &settings, &expected, &mut wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What was recorded is the measure.
fn without_clang(program: &Program, index: usize, wrong: &mut Vec<String>) {
    let folder = scratch(&format!("corpus-{}", program.file));
    let file = folder
        .join("program")
        .with_extension(if program.is_ir() { "ll" } else { "bc" });
    std::fs::copy(recorded::runnable(program), &file).expect("what was recorded");
    let settings = match set("INKPOT_SOAK") {
        true => settings(),
        false => few(index),
    };
    let expected = recorded::outcome(program);
    through(program, &file, "recorded", &settings, &expected, wrong);
}

/// Runs a program under all of `settings`, if `run_ir` can do what it needs.
fn through(
    program: &Program,
    file: &Path,
    level: &str,
    settings: &[String],
    expected: &Outcome,
    wrong: &mut Vec<String>,
) {
    if !program.waits_for().is_empty() {
        return;
    }
    for setting in settings {
        let mut flags = setting.clone();
        for library in program.load {
            flags.push_str(" --load ");
            flags.push_str(library);
        }
        let name = format!("run{level}{}", flags.replace([' ', '/', '.'], "-"));
        let got = run_through(&flags, file, program.arguments, &name, program.input);
        let what = format!("{} {level}, run_ir {flags}", program.file);
        if !program.refused.is_empty() {
            let said = program.refused.iter().all(|word| got.stderr.contains(word));
            if got.outcome.code != REFUSED || !said {
                wrong.push(format!(
                    "{what}: not refused as it should be: {}",
                    got.stderr
                ));
            }
        } else if got.outcome != *expected {
            wrong.push(format!(
                "{what}: {:?} instead of {expected:?}\n{}",
                got.outcome, got.stderr
            ));
        }
    }
}

fn copy(program: &Program, folder: &Path) -> PathBuf {
    let file = folder.join("program.ll");
    std::fs::copy(program.source(), &file).expect("the program");
    file
}

fn compile(clang: &str, program: &Program, bitcode: &Path, flags: &[&str]) {
    let mut all = vec!["-c", "-emit-llvm"];
    all.extend(program.flags);
    all.extend(flags);
    if program.is_cpp() {
        all.extend(["-x", "c++", "-std=c++20"]);
    }
    // Tests run in the package's folder: bitcode has the path in it, and shall be the same everywhere.
    let source = Path::new("tests/programs").join(program.file);
    harness::compile(clang, &source, bitcode, &all);
}

/// The native build goes on from the same bitcode or IR: C++ is slow to parse.
fn link(clang: &str, program: &Program, file: &Path, native: &Path, level: &str) {
    // What is large was optimised before; `clang-22` links C++ only when told to.
    let mut all = vec![if program.is_cpp() { "-O0" } else { level }, "-pthread"];
    if !program.load.is_empty() {
        all.extend(["-Wl,--no-as-needed", "-lstdc++"]);
    }
    harness::compile(clang, file, native, &all);
}
