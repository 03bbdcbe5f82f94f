//! What it costs to compile in a helper process: a batch of 64 methods, one method by itself, and a helper.

use std::sync::atomic::AtomicU64;
use std::time::Instant;

use inkpot::{Cache, Isolation};

use crate::measure::{Pair, processor_seconds, quantile};
use crate::methods::{self, Bursts, Name, Size};

static EMITTING: AtomicU64 = AtomicU64::new(0);

fn cache(isolated: bool) -> Cache<Name> {
    let builder = methods::builder(&EMITTING);
    let builder = match isolated {
        true => builder.isolation(Isolation::own_executable()),
        false => builder,
    };
    builder.build().expect("a cache")
}

/// Milliseconds for each method of a burst.
fn run(name: &'static str, methods: u64, bursts: usize) {
    let [mut there, mut here] =
        [true, false].map(|isolated| Bursts::new(cache(isolated), Size::Medium, methods));
    let pair = Pair {
        name,
        ours: "in a helper",
        theirs: "in the process",
        unit: "ms a method",
    };
    let (mut there_work, mut here_work) = (Vec::new(), Vec::new());
    let time = |side: &mut Bursts, work: &mut Vec<f64>| {
        let before = processor_seconds() + of_helpers();
        let took: Vec<f64> = (0..bursts).map(|_| side.run()).collect();
        let worked = processor_seconds() + of_helpers() - before;
        work.push(worked * 1e3 / (methods * bursts as u64) as f64);
        quantile(&took, 0.5) * 1e3 / methods as f64
    };
    pair.in_turns(
        || time(&mut there, &mut there_work),
        || time(&mut here, &mut here_work),
    );
    let (there_work, here_work) = (quantile(&there_work, 0.5), quantile(&here_work, 0.5));
    eprintln!(
        "{name}: processor time {there_work:.3} and {here_work:.3} ms a method, {:.3}",
        there_work / here_work
    );
    for (what, side) in [("helper", &there), ("process", &here)] {
        let s = side.cache().statistics();
        let times = [
            s.compile_time.emit,
            s.compile_time.optimise,
            s.compile_time.generate,
        ];
        let [emit, optimise, generate] = times.map(|t| t.as_secs_f64() * 1e3 / s.compiles as f64);
        eprintln!(
            "{name}: by the {what}, a method: passes {optimise:.3} ms, code {generate:.3}, and all else of LLVM {emit:.3}"
        );
    }
}

pub fn batch() {
    run("isolation", 64, 3);
}

pub fn lone() {
    run("isolation_lone", 1, 40);
    let (mut starts, mut memory) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        let plain = Instant::now();
        drop(cache(false));
        let plain = plain.elapsed();
        let started = Instant::now();
        let cache = cache(true);
        starts.push((started.elapsed().as_secs_f64() - plain.as_secs_f64()) * 1e3);
        memory.extend(private_megabytes());
        drop(cache);
    }
    eprintln!(
        "isolation_lone: a helper is ready after {:.0} ms, and takes {:.1} MB that no other process shares",
        quantile(&starts, 0.5),
        quantile(&memory, 0.5),
    );
}

/// The numbers of the helpers that this process has, whichever thread has started them.
fn helpers() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten();
    let children = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("children"));
    let all: Vec<String> = tasks.flatten().flat_map(children).collect();
    let all = all.concat();
    all.split_whitespace().map(str::to_owned).collect()
}

/// Seconds of processor time that the helpers have had.
fn of_helpers() -> f64 {
    let nanoseconds = |pid: String| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?;
        status.split(' ').next()?.parse::<f64>().ok()
    };
    helpers().into_iter().filter_map(nanoseconds).sum::<f64>() / 1e9
}

/// Memory of each helper that no other process shares.
fn private_megabytes() -> Vec<f64> {
    let private = |pid: String| {
        let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let fields = rollup.lines().filter(|line| line.starts_with("Private_"));
        let kilobytes =
            fields.filter_map(|line| line.split_whitespace().nth(1)?.parse::<f64>().ok());
        Some(kilobytes.sum::<f64>() / 1024.0)
    };
    helpers().into_iter().filter_map(private).collect()
}
