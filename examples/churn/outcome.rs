//! What a run came to.

use serde::{Deserialize, Serialize};

use crate::occupancy::Moment;
use crate::options::Options;
use crate::settings::Settings;
use crate::strategy::Figures;

/// The run at one moment.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
pub struct Sample {
    pub compiles: u64,
    pub seconds: f64,
    pub rss_kib: u64,
    pub mapped_code_kib: u64,
    pub contexts: u64,
    pub generations: u64,
    pub maps: u64,
    pub held: u64,
    pub recipes: u64,
    pub grace_oldest_us: u64,
}

/// A run's figures; `--json` prints them.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Outcome {
    pub strategy: String,
    /// Compilations made.
    pub methods: u64,
    pub threads: u64,
    pub opt: u8,
    pub seed: u64,
    pub keep_all: bool,
    pub survivors: f64,
    pub guest: String,
    pub settings: Settings,
    /// Of `pooled` only.
    pub code_budget: Option<u64>,
    pub seconds: f64,
    pub compiles_per_second: f64,
    /// One for each sample, as is every list here.
    pub rss_kib: Vec<u64>,
    pub sample_compiles: Vec<u64>,
    pub sample_seconds: Vec<f64>,
    pub mapped_code_kib: Vec<u64>,
    pub contexts: Vec<u64>,
    pub generations: Vec<u64>,
    pub maps: Vec<u64>,
    pub rss_peak_kib: u64,
    /// Bytes of resident memory gained by a compilation, over the second half of the run. `null`
    /// where the run was too short to tell.
    pub rss_slope_bytes_per_method: Option<f64>,
    /// Compilations in each window whose minimum the slope is fitted to.
    pub slope_window: u64,
    pub mapped_code_bytes_peak: u64,
    pub generations_recycled: u64,
    pub evictions: u64,
    pub relinks: u64,
    pub invalidations: u64,
    /// Of methods that had been compiled before, and of which nothing had changed since.
    pub recompilations: u64,
    pub recompilations_per_1000_visits: f64,
    /// Methods that were moved to another generation, and generations that were left.
    pub moves: u64,
    pub evacuations: u64,
    /// Moves that were compilations.
    pub moved_by_compiling: u64,
    /// What is kept to move methods.
    pub recipe_bytes_peak: u64,
    pub visits: u64,
    pub calls: u64,
    pub wrong_results: u64,
    pub maps_peak: u64,
    /// Milliseconds from a generation's death to its recycling, but for those that were held: what
    /// all but one in a hundred took at most, of the last 256.
    pub grace_p99_ms: f64,
    pub grace_max_ms: f64,
    /// The longest that any was seen to wait, recycled in the end or not.
    pub grace_oldest_ms_peak: f64,
    pub generations_held_peak: u64,
    /// The generations at a few moments.
    pub occupancy: Vec<Moment>,
    /// How the run ended, if not as it should.
    pub died: Option<String>,
}

impl Outcome {
    /// An outcome with all that follows from the options and the samples.
    pub fn of(name: &str, options: &Options, samples: &[Sample], figures: Figures) -> Self {
        let last = samples.last().copied().unwrap_or_default();
        let window = slope_window(last.compiles, figures);
        let mapped_peak = peak(samples, |s| s.mapped_code_kib) * 1024;
        Self {
            strategy: name.to_owned(),
            // Evictions and the like are as late.
            methods: figures.compiles.max(last.compiles),
            threads: options.threads,
            opt: options.opt,
            seed: options.seed,
            keep_all: options.keep_all,
            survivors: options.survivors,
            settings: options.settings,
            guest: options.guest.name().to_owned(),
            code_budget: (name == "pooled" && !options.keep_all).then_some(options.code_budget),
            seconds: last.seconds,
            compiles_per_second: last.compiles as f64 / last.seconds.max(1e-9),
            rss_kib: list(samples, |s| s.rss_kib),
            sample_compiles: list(samples, |s| s.compiles),
            sample_seconds: samples
                .iter()
                .map(|s| (s.seconds * 1e3).round() / 1e3)
                .collect(),
            mapped_code_kib: list(samples, |s| s.mapped_code_kib),
            contexts: list(samples, |s| s.contexts),
            generations: list(samples, |s| s.generations),
            maps: list(samples, |s| s.maps),
            rss_peak_kib: peak(samples, |s| s.rss_kib),
            rss_slope_bytes_per_method: slope(samples, window),
            slope_window: window,
            mapped_code_bytes_peak: mapped_peak.max(figures.mapped_code_peak),
            generations_recycled: figures.recycled,
            evictions: figures.evictions,
            relinks: figures.relinks,
            invalidations: figures.invalidations,
            recompilations: figures.recompilations,
            moves: figures.moves,
            evacuations: figures.evacuations,
            moved_by_compiling: figures.moved_by_compiling,
            recipe_bytes_peak: peak(samples, |s| s.recipes),
            maps_peak: peak(samples, |s| s.maps),
            grace_p99_ms: figures.grace_p99_us as f64 / 1e3,
            grace_max_ms: figures.grace_max_us as f64 / 1e3,
            grace_oldest_ms_peak: peak(samples, |s| s.grace_oldest_us) as f64 / 1e3,
            generations_held_peak: peak(samples, |s| s.held),
            ..Self::default()
        }
    }
}

impl Outcome {
    /// What the workload knows.
    pub fn count(&mut self, visits: u64, calls: u64, wrong: u64) {
        self.visits = visits;
        self.calls = calls;
        self.wrong_results = wrong;
        let rate = self.recompilations as f64 * 1e3 / visits.max(1) as f64;
        self.recompilations_per_1000_visits = (rate * 1e3).round() / 1e3;
    }
}

fn list(samples: &[Sample], of: impl Fn(&Sample) -> u64) -> Vec<u64> {
    samples.iter().map(of).collect()
}

fn peak(samples: &[Sample], of: impl Fn(&Sample) -> u64) -> u64 {
    samples.iter().map(of).max().unwrap_or(0)
}

/// Windows in the second half of a run, if they can be as small as that.
const WINDOWS: u64 = 12;
/// What a window holds at least where there are no generations.
const LEAST_WINDOW: u64 = 512;

/// Two generations' compilations or more: recycling makes a sawtooth as long as a generation.
fn slope_window(compiles: u64, figures: Figures) -> u64 {
    let generations = figures.recycled + figures.generations;
    let generation = compiles.checked_div(generations).unwrap_or(0);
    (compiles / 2 / WINDOWS)
        .max(2 * generation)
        .max(LEAST_WINDOW)
}

/// The line through the minima of the windows of the second half, by least squares.
pub fn slope(samples: &[Sample], window: u64) -> Option<f64> {
    let half = samples.last()?.compiles / 2;
    let mut minima: Vec<(u64, Sample)> = Vec::new();
    for sample in samples.iter().filter(|sample| sample.compiles >= half) {
        let number = (sample.compiles - half) / window;
        match minima.last_mut() {
            Some((n, least)) if *n == number => {
                if sample.rss_kib < least.rss_kib {
                    *least = *sample;
                }
            }
            _ => minima.push((number, *sample)),
        }
    }
    // The last window has seldom ended.
    if minima.len() > 3 {
        minima.pop();
    }
    let points: Vec<(f64, f64)> = minima
        .iter()
        .map(|(_, s)| (s.compiles as f64, s.rss_kib as f64 * 1024.0))
        .collect();
    least_squares(&points)
}

fn least_squares(points: &[(f64, f64)]) -> Option<f64> {
    let n = points.len() as f64;
    if points.len() < 3 {
        return None;
    }
    let mean_x = points.iter().map(|p| p.0).sum::<f64>() / n;
    let mean_y = points.iter().map(|p| p.1).sum::<f64>() / n;
    let over: f64 = points.iter().map(|p| (p.0 - mean_x) * (p.1 - mean_y)).sum();
    let under: f64 = points.iter().map(|p| (p.0 - mean_x).powi(2)).sum();
    (under > 0.0).then(|| over / under)
}
