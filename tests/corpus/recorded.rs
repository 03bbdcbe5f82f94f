//! Bitcode and outcomes that are kept beside the programs, for where clang is missing.

use crate::harness::Outcome;
use crate::table::Program;
use std::fs;
use std::path::{Path, PathBuf};

/// Where they are kept.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/bitcode")
}

/// What `run_ir` is given where clang is missing: IR as it is, else bitcode.
pub fn runnable(program: &Program) -> PathBuf {
    match program.is_ir() {
        true => program.source(),
        false => folder().join(format!("{}.bc", program.file)),
    }
}

fn outcome_file(program: &Program) -> PathBuf {
    folder().join(format!("{}.expected", program.file))
}

/// All that is kept for a program.
pub fn files(program: &Program) -> Vec<PathBuf> {
    let bitcode = (!program.is_ir()).then(|| runnable(program));
    bitcode.into_iter().chain([outcome_file(program)]).collect()
}

/// The outcome: the first line is the exit code, all else the output.
pub fn outcome(program: &Program) -> Outcome {
    let path = outcome_file(program);
    let text = fs::read_to_string(&path)
        .unwrap_or_else(|error| panic!("{}: {error}: INKPOT_RECORD=1 writes it", path.display()));
    let (code, stdout) = text
        .split_once('\n')
        .expect("a line of its own for the code");
    Outcome {
        code: code.parse().expect("an exit code"),
        stdout: stdout.to_owned(),
    }
}

/// Keeps an outcome, and bitcode that was made at `-O1`.
pub fn record(program: &Program, outcome: &Outcome, bitcode: &Path) {
    fs::create_dir_all(folder()).expect("a folder");
    let text = format!("{}\n{}", outcome.code, outcome.stdout);
    fs::write(outcome_file(program), text).expect("the outcome");
    if !program.is_ir() {
        fs::copy(bitcode, runnable(program)).expect("the bitcode");
    }
}
