//! Runs the models, each in a process of its own, and then each again with the faults that it is to find.
//!
//! Two numbers stand behind a model's name in the list: at most so many preemptions are tried in the short form, and in
//! the long one (`INKPOT_SOAK`). Within that bound all orders of events are, and all that the memory orders allow.

use std::panic::catch_unwind;
use std::process::{Command, ExitCode, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use loom::thread::JoinHandle;

use crate::faults::FAULTS;
use crate::models::MODELS;
use crate::sync::fault::{asked, seed};

/// A model that goes round in circles has done so much.
const MOST_STEPS: usize = 20_000;
/// In the long form no model takes longer.
const LONGEST: Duration = Duration::from_secs(30 * 60);

/// Executions of this process's model so far.
static TRIED: AtomicU64 = AtomicU64::new(0);

pub(crate) fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [one, model, bound, fault @ ..] = &args[..]
        && one == "--one"
    {
        let bound = bound.parse().expect("a number of preemptions");
        let checked = catch_unwind(|| check(model, bound, fault.first()));
        println!("asked: {:?}", asked());
        // At its end the process would take locks that are a model's.
        // SAFETY: no preconditions.
        unsafe { libc::_exit(i32::from(checked.is_err())) };
    }
    let wanted = args.iter().find(|arg| !arg.starts_with('-'));
    let is_wanted = |name: &str| wanted.is_none_or(|wanted| name.contains(wanted.as_str()));
    let long = std::env::var_os("INKPOT_SOAK").is_some();
    let mut jobs: Vec<Box<dyn Fn() -> Result<String, String> + Send + Sync>> = Vec::new();
    for model in MODELS.iter().filter(|model| is_wanted(model.name)) {
        let bound = if long { model.bounds.1 } else { model.bounds.0 };
        jobs.push(Box::new(move || holds(model.name, bound)));
    }
    for fault in FAULTS {
        if is_wanted(fault.model) || is_wanted(fault.name) {
            jobs.push(Box::new(move || {
                is_caught(fault.name, fault.model, fault.bound)
            }));
        }
    }
    let failures = run_all(&jobs);
    println!("{} models and seeded faults, {failures} failed", jobs.len());
    ExitCode::from(u8::from(failures > 0))
}

/// Runs jobs, as many at a time as there are processors. How many failed.
fn run_all(jobs: &[Box<dyn Fn() -> Result<String, String> + Send + Sync>]) -> usize {
    let (next, failures) = (Mutex::new(jobs.iter()), Mutex::new(0));
    let work = || {
        loop {
            let Some(job) = next.lock().expect("no job panics").next() else {
                return;
            };
            match job() {
                Ok(said) => println!("ok      {said}"),
                Err(said) => {
                    println!("FAILED  {said}");
                    *failures.lock().expect("no job panics") += 1;
                }
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        (0..threads).for_each(|_| {
            scope.spawn(work);
        });
    });
    failures.into_inner().expect("no job panics")
}

/// Checks a model in this process.
fn check(name: &str, bound: usize, fault: Option<&String>) {
    seed(fault.map(|fault| &*fault.clone().leak()));
    let model = MODELS
        .iter()
        .find(|model| model.name == name)
        .expect("a model");
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(bound);
    builder.max_branches = MOST_STEPS;
    builder.max_duration = Some(LONGEST);
    let began = Instant::now();
    let run = model.run;
    builder.check(move || {
        TRIED.fetch_add(1, Ordering::Relaxed);
        // Not on the first thread, whose stack is small.
        spawn(run).join().unwrap();
    });
    let (tried, took) = (TRIED.load(Ordering::Relaxed), began.elapsed());
    let rest = if took < LONGEST { "" } else { ", and not all" };
    println!("{name}: {tried} executions of {bound} preemptions{rest} in {took:.1?}");
}

fn one(model: &str, bound: usize, fault: Option<&str>) -> Output {
    let this = std::env::current_exe().expect("it was started");
    let mut command = Command::new(this);
    command
        .args(["--one", model, &bound.to_string()])
        .args(fault);
    command
        .env("RUST_BACKTRACE", "0")
        .output()
        .expect("it can be started again")
}

/// The model holds, within the bound.
fn holds(model: &str, bound: usize) -> Result<String, String> {
    let output = one(model, bound, None);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(said.lines().next().unwrap_or_default().to_owned());
    }
    let why = String::from_utf8_lossy(&output.stderr);
    Err(format!("{model}, {}: {said}{why}", output.status))
}

/// The model finds the fault, with so many preemptions or less.
fn is_caught(fault: &str, model: &str, bound: usize) -> Result<String, String> {
    for bound in 1..=bound {
        let output = one(model, bound, Some(fault));
        let said = String::from_utf8_lossy(&output.stdout);
        // Who ends before it can say so has come to it.
        let name = fault.trim_end_matches(" by acq-rel");
        let comes_to_it = said.is_empty() || said.contains(&format!("\"{name}\""));
        if !output.status.success() && comes_to_it {
            let why = String::from_utf8_lossy(&output.stderr);
            let mut why = why
                .lines()
                .filter(|line| !line.is_empty() && !line.contains("panicked at"));
            let why: String = why.next().unwrap_or_default().chars().take(80).collect();
            return Ok(format!("fault {fault}: caught by {model} ({why})"));
        }
    }
    Err(format!(
        "fault {fault}: {model} does not find it in {bound} preemptions"
    ))
}

/// As the standard library's.
pub(crate) fn spawn<R: Send + 'static>(f: impl FnOnce() -> R + Send + 'static) -> JoinHandle<R> {
    spawn_for_ever(move || {
        let result = f();
        crate::reclaim::thread_ends();
        result
    })
}

/// A thread that does not end: what it has for itself stays.
pub(crate) fn spawn_for_ever<R: Send + 'static>(
    f: impl FnOnce() -> R + Send + 'static,
) -> JoinHandle<R> {
    let thread = crate::sync::thread::Builder::new();
    thread.spawn(f).expect("no model refuses a thread")
}
