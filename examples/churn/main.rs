//! Recompilation without end: the workload of a runtime with unstable types, over three ways to
//! keep compiled methods. `churn --help` says more.

#![deny(unsafe_op_in_unsafe_fn)]

mod again;
mod compare;
mod drive;
mod emit;
// The tests' own; it shows how fibres and participants go together.
#[allow(dead_code, reason = "tests use more of it")]
#[path = "../../tests/support/fibre.rs"]
mod fibre;
mod guest;
mod interpreter;
mod kept;
mod language;
mod lljit;
mod occupancy;
mod options;
mod outcome;
mod picture;
mod plot;
mod pooled;
mod prelude;
mod process;
mod report;
mod runtime;
mod sampler;
mod settings;
mod strategy;
mod table;
mod types;
mod warm;
mod world;

use std::fs::File;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::Ordering;

use indicatif::{ProgressBar, ProgressStyle};

use crate::drive::{Progress, Workload};
use crate::interpreter::Core;
use crate::kept::{Contexts, Kept};
use crate::options::{Options, Which};
use crate::outcome::Outcome;
use crate::pooled::Pooled;
use crate::sampler::Sampler;
use crate::strategy::{Fallible, Strategy};
use crate::world::{PARTS, Survivors, World};

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("churn: {error}; see --help");
            return ExitCode::from(2);
        }
    };
    if options.help {
        println!("{}", options::HELP);
        return ExitCode::SUCCESS;
    }
    match run(&options) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("churn: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs what the options say, and shows it. True if all results were right.
fn run(options: &Options) -> Fallible<bool> {
    if options.warm_up {
        let warmth = warm::run(options)?;
        println!("{}", serde_json::to_string(&warmth)?);
        return Ok(warmth.wrong_results == 0);
    }
    let named = |path: &Path, error| format!("--report {}: {error}", path.display());
    if let Some(path) = &options.report {
        // Before the run, which may take minutes.
        File::create(path).map_err(|error| named(path, error))?;
    }
    let seed = options.seed;
    let outcomes = match options.which {
        Which::All => compare::run_all(options)?,
        Which::Pooled => vec![measure(options, &Pooled::new(options)?)?],
        Which::Global => vec![measure(
            options,
            &Kept::new(Contexts::One, seed, options.opt)?,
        )?],
        Which::PerMethod => vec![measure(
            options,
            &Kept::new(Contexts::OneEach, seed, options.opt)?,
        )?],
    };
    if !options.follow {
        table::print(&outcomes);
    }
    if let Some(path) = &options.report {
        std::fs::write(path, report::page(options, &outcomes))
            .map_err(|error| named(path, error))?;
        println!("report: {}", path.display());
    }
    if options.json {
        println!("{}", json(options, &outcomes)?);
    }
    // That the others die of their memory is what they are here to show.
    Ok(outcomes
        .iter()
        .all(|o| o.wrong_results == 0 && (o.died.is_none() || o.strategy != "pooled")))
}

fn json(options: &Options, outcomes: &[Outcome]) -> Fallible<String> {
    Ok(match (options.which, outcomes) {
        (Which::All, _) => serde_json::json!({ "strategy": "all", "runs": outcomes }).to_string(),
        (_, [outcome]) => serde_json::to_string(outcome)?,
        _ => return Err("a strategy with no outcome".into()),
    })
}

/// Runs the workload over one strategy.
fn measure<S: Strategy>(options: &Options, strategy: &S) -> Fallible<Outcome> {
    let (families, survivors) = population(options);
    let world = World::new(options.seed, families, survivors, options.keep_all);
    let core = Core::new(options.seed);
    let progress = Progress::default();
    let load = &Workload {
        world: &world,
        strategy,
        core: &core,
        progress: &progress,
    };
    let bar = if options.follow {
        ProgressBar::hidden()
    } else {
        bar(options.methods(), options.which.name())
    };
    let sampler = Sampler {
        methods: options.methods(),
        follow: options.follow,
        progress: &progress,
        bar: &bar,
    };
    let stop = || progress.stop.store(true, Ordering::Relaxed);
    let (samples, moments) = std::thread::scope(|scope| {
        let callers: Vec<_> = (0..options.threads)
            .map(|n| scope.spawn(move || load.call_methods(n).inspect_err(|_| stop())))
            .collect();
        scope.spawn(move || load.change_types());
        let guest = scope.spawn(move || load.be_a_guest().inspect_err(|_| stop()));
        let samples = sampler.watch(strategy);
        stop();
        for caller in callers {
            caller.join().map_err(|_| "a caller panicked")??;
        }
        guest.join().map_err(|_| "the guest panicked")??;
        samples
    })?;
    bar.finish_and_clear();
    let mut outcome = Outcome::of(options.which.name(), options, &samples, strategy.figures());
    let [visits, calls, wrong] =
        [&progress.visits, &progress.calls, &progress.wrong].map(|n| n.load(Ordering::Relaxed));
    outcome.count(visits, calls, wrong);
    outcome.occupancy = moments;
    Ok(outcome)
}

/// How many families there are, and who survives besides: as many as fit into the code budget. There
/// are evictions all the same, besides invalidations: what was invalidated takes up room until its
/// generation goes.
fn population(options: &Options) -> (usize, Survivors) {
    let method_bytes = if options.opt == 0 { 1920 } else { 896 };
    let fit = (options.code_budget / method_bytes / u64::from(PARTS)).clamp(4, 1 << 20);
    let share = options.survivors;
    let born = (options.methods() as f64 * share / f64::from(PARTS)).ceil() as u64;
    let most = born.min(fit / 2);
    let survivors = Survivors {
        share,
        most: most as u32,
    };
    ((fit - most) as usize, survivors)
}

/// Shows how far a run is; hidden if standard error is no terminal.
fn bar(methods: u64, name: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:10} {bar:40} {pos}/{len}  {per_sec}  {msg}");
    let bar = ProgressBar::new(methods).with_prefix(name);
    match style {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
