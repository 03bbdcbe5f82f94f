//! A real program, and the whole of its life: the Lua interpreter, as bitcode of clang's, run by the
//! example `run_ir` and by LLVM's `lli`, both from the start of their processes.
//!
//! The ratios are of processor time, of all threads: in either program one thread works at a time and the
//! others wait for it, so on an idle machine that is the clock's time, and on a shared one it says more. What
//! the clock said stands on stderr.

use std::cell::RefCell;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::harness;
use crate::interpreter::{self, Interpreter};
use crate::measure::{self, Pair, quantile};

const CLANG: &str = "clang-22";
const LLI: &str = "lli-22";

/// How often the script does all that it does: about five seconds.
const TURNS: &str = "100";

/// From the start of the process to the first byte that the program prints, against `lli` as it comes:
/// ORC, eager, at level 2 of its code generator.
pub fn first() {
    let pair = Pair {
        name: "run_first",
        ours: "run_ir",
        theirs: "lli",
        unit: "s of processor time to the first output",
    };
    compare(&pair, &[], "0", |run| run.first);
}

/// The whole of a run of five seconds, against MCJIT at the same level.
pub fn whole() {
    let pair = Pair {
        name: "run_whole",
        ours: "run_ir",
        theirs: "lli -jit-kind=mcjit",
        unit: "s of processor time",
    };
    compare(&pair, &["-jit-kind=mcjit"], TURNS, |run| run.whole);
}

/// To the first byte that the program prints, with tiers against O2 alone.
pub fn tiers_first() {
    let pair = Pair {
        name: "run_tiers_first",
        ours: "run_ir --tiers",
        theirs: "run_ir --opt 2",
        unit: "s of processor time to the first output",
    };
    tiers(&pair, "0", |run| run.first);
}

/// From the first output on, with tiers against O2 alone: how fast it is once it runs.
pub fn tiers_steady() {
    let pair = Pair {
        name: "run_tiers_steady",
        ours: "run_ir --tiers",
        theirs: "run_ir --opt 2",
        unit: "s of processor time after the first output",
    };
    tiers(&pair, TURNS, |run| Took {
        processor: run.whole.processor - run.first.processor,
        elapsed: run.whole.elapsed - run.first.elapsed,
    });
}

fn tiers(pair: &Pair, turns: &str, figure: fn(&Run) -> Took) {
    let run_ir = harness::run_ir();
    let ours = (run_ir.as_path(), &["--tiers"][..], &["--"][..]);
    let theirs = (run_ir.as_path(), &["--opt", "2"][..], &["--"][..]);
    sides(pair, ours, theirs, turns, figure);
}

fn compare(pair: &Pair, kind: &[&str], turns: &str, figure: fn(&Run) -> Took) {
    let run_ir = harness::run_ir();
    let flags = [&["-O2"], kind].concat();
    let ours = (run_ir.as_path(), &["--opt", "2"][..], &["--"][..]);
    sides(
        pair,
        ours,
        (Path::new(LLI), &flags[..], &[][..]),
        turns,
        figure,
    );
}

/// A program, its flags, and what stands between the file and its arguments.
type Side<'s> = (&'s Path, &'s [&'s str], &'s [&'s str]);

fn sides(pair: &Pair, ours: Side<'_>, theirs: Side<'_>, turns: &str, figure: fn(&Run) -> Took) {
    if let Some(missing) = [CLANG, LLI].into_iter().find(|tool| !works(tool)) {
        eprintln!(
            "{}: left out, as there is no {missing}; `make deps` installs both",
            pair.name
        );
        return;
    }
    measure::build_example("run_ir");
    // The level that most programs are built at, and the default of `lli`.
    let Interpreter { bitcode, .. } = interpreter::build(CLANG, "-O2");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/ratios/work.lua");
    let command = |(program, flags, separator): Side<'_>| {
        let mut command = Command::new(program);
        command.args(flags).arg(&bitcode).args(separator);
        command.arg(turns).arg(&script);
        command
    };
    let elapsed = RefCell::new([Vec::new(), Vec::new()]);
    pair.rounds(|| {
        let ours = run(command(ours));
        let theirs = run(command(theirs));
        assert!(ours.printed == theirs.printed, "the same output");
        let [ours, theirs] = [ours, theirs].map(|run| figure(&run));
        let mut elapsed = elapsed.borrow_mut();
        elapsed[0].push(ours.elapsed);
        elapsed[1].push(theirs.elapsed);
        (ours.processor, theirs.processor)
    });
    let [ours, theirs] = elapsed.into_inner().map(|list| quantile(&list, 0.5));
    eprintln!(
        "{}: by the clock {ours:.3} s against {theirs:.3} s: {:.3}",
        pair.name,
        ours / theirs
    );
}

fn works(tool: &str) -> bool {
    let mut probe = Command::new(tool);
    probe.arg("--version").stdout(Stdio::null());
    probe.status().is_ok_and(|status| status.success())
}

/// What something took, in seconds.
#[derive(Clone, Copy)]
struct Took {
    processor: f64,
    elapsed: f64,
}

/// What became of a process.
struct Run {
    /// To the first byte of its output.
    first: Took,
    whole: Took,
    printed: Vec<u8>,
}

fn run(mut command: Command) -> Run {
    let started = Instant::now();
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut output = child.stdout.take().expect("a pipe");
    let mut printed = vec![0];
    output
        .read_exact(&mut printed)
        .expect("it prints something");
    let first = Took {
        elapsed: started.elapsed().as_secs_f64(),
        processor: harness::processor_seconds(child.id()),
    };
    output.read_to_end(&mut printed).expect("a pipe");
    // It ends, and is still there to be asked.
    let pid = child.id();
    let mut how = std::mem::MaybeUninit::<libc::siginfo_t>::uninit();
    // SAFETY: `how` is written by the call.
    let failed = unsafe {
        libc::waitid(
            libc::P_PID,
            pid,
            how.as_mut_ptr(),
            libc::WEXITED | libc::WNOWAIT,
        )
    };
    assert_eq!(failed, 0, "a child can be waited for");
    let whole = Took {
        elapsed: started.elapsed().as_secs_f64(),
        processor: harness::processor_seconds(pid),
    };
    let status = child.wait().expect("a child can be waited for");
    assert!(status.success(), "{command:?}: {status}");
    Run {
        first,
        whole,
        printed,
    }
}
