//! Taking turns, and what is made of it.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The flag that makes this program measure one side of one pair, and print the figure.
pub const CHILD: &str = "--child";

/// As many, or those that fit into `ENOUGH`, or few.
const ROUNDS: usize = 15;
const FEW_ROUNDS: usize = 3;
const ENOUGH: Duration = Duration::from_secs(90);
/// A round that takes longer is too long to be thrown away.
const LONG: Duration = Duration::from_secs(20);

/// What is measured: a name, what its two sides are called, and their unit.
pub struct Pair {
    pub name: &'static str,
    pub ours: &'static str,
    pub theirs: &'static str,
    pub unit: &'static str,
}

impl Pair {
    /// Measures both sides in turns, after a round that does not count.
    pub fn in_turns(&self, mut ours: impl FnMut() -> f64, mut theirs: impl FnMut() -> f64) {
        self.rounds(|| (ours(), theirs()));
    }

    /// Measures both sides once: what takes minutes, and has nothing to do with time.
    pub fn once(&self, ours: impl FnOnce() -> f64, theirs: impl FnOnce() -> f64) {
        self.report(&[(ours(), theirs())]);
    }

    /// As `in_turns`, where one round gives both figures.
    pub fn rounds(&self, mut round: impl FnMut() -> (f64, f64)) {
        let started = Instant::now();
        let warm_up = round();
        let took = started.elapsed();
        let mut figures = Vec::new();
        if took > LONG {
            figures.push(warm_up);
        }
        let fit = ENOUGH.as_secs_f64() / took.as_secs_f64();
        let rounds = (fit as usize).clamp(FEW_ROUNDS, ROUNDS);
        while figures.len() < rounds {
            figures.push(round());
        }
        self.report(&figures);
    }

    fn report(&self, figures: &[(f64, f64)]) {
        let ratios: Vec<f64> = figures.iter().map(|(ours, theirs)| ours / theirs).collect();
        let side = |pick: fn(&(f64, f64)) -> f64| {
            let all: Vec<f64> = figures.iter().map(pick).collect();
            quantile(&all, 0.5)
        };
        eprintln!(
            "{}: {} {:.3} {unit}, {} {:.3} {unit} (medians of {} rounds)",
            self.name,
            self.ours,
            side(|f| f.0),
            self.theirs,
            side(|f| f.1),
            figures.len(),
            unit = self.unit,
        );
        println!(
            "RATIO {} {:.4} {:.4} {:.4}",
            self.name,
            quantile(&ratios, 0.5),
            quantile(&ratios, 0.1),
            quantile(&ratios, 0.9),
        );
    }
}

/// The quantile `q` of figures in any order.
pub fn quantile(figures: &[f64], q: f64) -> f64 {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[((sorted.len() - 1) as f64 * q).round() as usize]
}

/// Nanoseconds of the thread's processor time that one of `n` turns of each loop takes: the medians of many short runs in
/// turns, so that neither an interruption nor a change of the clock's speed meets one side alone.
pub fn nanoseconds(n: u64, mut ours: impl FnMut(u64), mut theirs: impl FnMut(u64)) -> (f64, f64) {
    const RUNS: usize = 31;
    let time = |run: &mut dyn FnMut(u64)| {
        let started = clock_seconds(libc::CLOCK_THREAD_CPUTIME_ID);
        run(n);
        (clock_seconds(libc::CLOCK_THREAD_CPUTIME_ID) - started) * 1e9 / n as f64
    };
    let (mut a, mut b) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        a.push(time(&mut ours));
        b.push(time(&mut theirs));
    }
    (quantile(&a, 0.5), quantile(&b, 0.5))
}

/// Seconds of processor time that all threads of this process have taken. On a machine that is
/// shared it says more than the clock on the wall.
pub fn processor_seconds() -> f64 {
    clock_seconds(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn clock_seconds(clock: libc::clockid_t) -> f64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` is written by the call.
    let failed = unsafe { libc::clock_gettime(clock, &mut time) };
    assert_eq!(failed, 0, "Linux has these clocks");
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}

/// The figure that a fresh process measures: memory that one has touched is not given back, so
/// no second measurement can be made in the same process.
pub fn in_a_child(what: &str) -> f64 {
    let program = std::env::current_exe().expect("this program has a path");
    let output = Command::new(program)
        .args([CHILD, what])
        .stderr(Stdio::inherit())
        .output()
        .expect("a child can be started");
    assert!(output.status.success(), "the child measuring {what} failed");
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().expect("the child prints a number")
}

/// Cargo builds no examples for a bench. Returns the path of the program.
pub fn build_example(name: &str) -> PathBuf {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--release", "--example", name])
        .arg("--manifest-path")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .status()
        .expect("cargo runs");
    assert!(status.success(), "the example builds");
    let bench = std::env::current_exe().expect("this program has a path");
    let profile = bench.ancestors().nth(2).expect("target/PROFILE/deps/BENCH");
    profile.join("examples").join(name)
}
