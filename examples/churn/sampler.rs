//! Watches a run: takes samples, shows how far it is, and ends it.

use std::io::Write;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;

use crate::drive::Progress;
use crate::occupancy::{MOMENTS, Moment, Moments};
use crate::outcome::Sample;
use crate::process::Process;
use crate::strategy::{Fallible, Figures, Strategy};

/// Samples in a run, about.
const SAMPLES: u64 = 1200;
const POLL: Duration = Duration::from_millis(3);
/// A run in which nothing is compiled for so long is stuck.
const PATIENCE: Duration = Duration::from_secs(120);

pub struct Sampler<'a> {
    pub methods: u64,
    /// Each sample also as a line of JSON on standard output.
    pub follow: bool,
    pub progress: &'a Progress,
    pub bar: &'a ProgressBar,
}

impl Sampler<'_> {
    /// Watches until enough has been compiled or the threads have stopped.
    pub fn watch<S: Strategy>(&self, strategy: &S) -> Fallible<(Vec<Sample>, Vec<Moment>)> {
        let mut samples = room();
        let mut moments = Moments::new();
        let mut next_moment = self.methods.div_ceil(MOMENTS);
        let mut process = Process::open()?;
        let start = Instant::now();
        let mut moved = start;
        let mut next = 0;
        let mut last_compiles = 0;
        loop {
            let now = strategy.figures();
            let ended = now.compiles >= self.methods || self.progress.stop.load(Ordering::Relaxed);
            if now.compiles > last_compiles {
                (last_compiles, moved) = (now.compiles, Instant::now());
            } else if moved.elapsed() > PATIENCE {
                // No thread will come back to be told to stop.
                eprintln!("churn: nothing compiled for {} s", PATIENCE.as_secs());
                std::process::exit(1);
            }
            if now.compiles >= next || ended {
                let seconds = start.elapsed().as_secs_f64();
                let sample = sample(now, seconds, &mut process, ended)?;
                samples.push(sample);
                next = now.compiles + (self.methods / SAMPLES).max(1);
                self.show(&sample)?;
            }
            if now.compiles >= next_moment || ended {
                moments.take(now.compiles, &strategy.occupancy());
                let number = now.compiles * MOMENTS / self.methods + 1;
                next_moment = (number * self.methods).div_ceil(MOMENTS);
            }
            if ended {
                return Ok((samples, moments.finish()));
            }
            std::thread::sleep(POLL);
        }
    }

    fn show(&self, sample: &Sample) -> Fallible<()> {
        self.bar.set_position(sample.compiles.min(self.methods));
        self.bar
            .set_message(format!("{} MiB resident", sample.rss_kib / 1024));
        if self.follow {
            let mut out = std::io::stdout().lock();
            writeln!(out, "{}", serde_json::to_string(sample)?)?;
            out.flush()?;
        }
        Ok(())
    }
}

/// Room for all samples, touched now: the list must not grow resident memory while it is measured.
fn room() -> Vec<Sample> {
    let mut samples = vec![
        Sample {
            seconds: 1.0,
            ..Sample::default()
        };
        SAMPLES as usize * 2
    ];
    samples.clear();
    samples
}

fn sample(now: Figures, seconds: f64, process: &mut Process, last: bool) -> Fallible<Sample> {
    let maps = process.mappings(last)?;
    Ok(Sample {
        compiles: now.compiles,
        seconds,
        rss_kib: process.resident_kib()?,
        mapped_code_kib: maps.code_kib,
        contexts: now.contexts,
        generations: now.generations,
        maps: maps.lines,
        held: now.held,
        recipes: now.recipes,
        grace_oldest_us: now.grace_oldest_us,
    })
}
