//! `--strategy all`: each strategy in a process of its own, so that none pays for another's memory.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use indicatif::ProgressBar;

use crate::options::{Options, Which};
use crate::outcome::{Outcome, Sample};
use crate::strategy::{Fallible, Figures};

/// Runs all strategies, one after the other.
pub fn run_all(options: &Options) -> Fallible<Vec<Outcome>> {
    Which::EACH
        .iter()
        .map(|which| run_one(options, *which))
        .collect()
}

fn run_one(options: &Options, which: Which) -> Fallible<Outcome> {
    let bar = crate::bar(options.methods(), which.name());
    let mut child = Command::new(std::env::current_exe()?)
        .args(options.child_flags(which))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let (samples, outcome) = follow(&mut child, &bar)?;
    let status = child.wait()?;
    bar.finish_and_clear();
    if let Some(mut outcome) = outcome {
        // That results were wrong it has said, and ends with 1. All else went wrong at its end.
        let as_said = status.success() || status.code() == Some(1) && outcome.wrong_results > 0;
        outcome.died = (!as_said).then(|| format!("{status} at the end"));
        return Ok(outcome);
    }
    // It did not live to say how it went, but what it had said until then is known.
    let compiles = samples.last().map_or(0, |s| s.compiles);
    let mut outcome = Outcome::of(which.name(), options, &samples, Figures::default());
    outcome.died = Some(format!("{status} at {compiles}"));
    Ok(outcome)
}

/// Reads a line for each sample, and the outcome as the last.
fn follow(child: &mut Child, bar: &ProgressBar) -> Fallible<(Vec<Sample>, Option<Outcome>)> {
    let out = child.stdout.take().ok_or("no pipe to the child")?;
    let mut samples = Vec::new();
    for line in BufReader::new(out).lines() {
        let line = line?;
        if let Ok(sample) = serde_json::from_str::<Sample>(&line) {
            bar.set_position(sample.compiles);
            bar.set_message(format!("{} MiB resident", sample.rss_kib / 1024));
            samples.push(sample);
        } else if let Ok(outcome) = serde_json::from_str::<Outcome>(&line) {
            return Ok((samples, Some(outcome)));
        }
    }
    Ok((samples, None))
}
