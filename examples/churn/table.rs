//! The table at the end of a run: a figure a line, a strategy a column.

use crate::outcome::Outcome;

type Figure = (&'static str, fn(&Outcome) -> String);

/// What the table and the report show.
pub const FIGURES: [Figure; 20] = [
    ("compilations", |o| thousands(o.methods)),
    ("seconds", |o| format!("{:.1}", o.seconds)),
    ("compilations a second", |o| {
        thousands(o.compiles_per_second as u64)
    }),
    ("resident memory, peak", |o| {
        mebibytes(o.rss_peak_kib * 1024)
    }),
    ("resident memory gained a compilation", slope),
    ("mapped code, peak", |o| mebibytes(o.mapped_code_bytes_peak)),
    ("mappings, peak", |o| thousands(o.maps_peak)),
    ("contexts, peak", |o| {
        thousands(o.contexts.iter().copied().max().unwrap_or(0))
    }),
    ("generations recycled", |o| told(o, o.generations_recycled)),
    ("evictions", |o| told(o, o.evictions)),
    ("linked again out of probation", |o| told(o, o.relinks)),
    ("compiled again, though nothing had changed", |o| {
        told(o, o.recompilations)
    }),
    ("the same for each 1,000 visits", |o| match o.died {
        Some(_) => "not known".to_owned(),
        None => format!("{:.1}", o.recompilations_per_1000_visits),
    }),
    ("methods moved", |o| told(o, o.moves)),
    ("generations evacuated", |o| told(o, o.evacuations)),
    ("kept to move methods, peak", |o| {
        mebibytes(o.recipe_bytes_peak)
    }),
    ("invalidations", |o| told(o, o.invalidations)),
    ("calls checked", |o| told(o, o.calls)),
    ("wrong results", |o| told(o, o.wrong_results)),
    ("end", |o| o.died.clone().unwrap_or("as planned".to_owned())),
];

/// A count that a run gives at its end, if it has one.
fn told(outcome: &Outcome, count: u64) -> String {
    match outcome.died {
        Some(_) => "not known".to_owned(),
        None => thousands(count),
    }
}

fn slope(outcome: &Outcome) -> String {
    match outcome.rss_slope_bytes_per_method {
        Some(bytes) => format!("{bytes:.1} B"),
        None => "run too short".to_owned(),
    }
}

pub fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

pub fn thousands(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

pub fn print(outcomes: &[Outcome]) {
    let names: Vec<&str> = outcomes.iter().map(|o| o.strategy.as_str()).collect();
    let rows: Vec<(&str, Vec<String>)> = FIGURES
        .iter()
        .map(|(name, of)| (*name, outcomes.iter().map(of).collect()))
        .collect();
    let first = FIGURES
        .iter()
        .map(|(name, _)| name.len())
        .max()
        .unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().map(|(_, cells)| cells[column].len());
        cells.chain([names[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..names.len()).map(width).collect();
    let line = |head: &str, cells: &[&str]| {
        let cells = cells
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("  {cell:>width$}"));
        println!("{head:<first$}{}", cells.collect::<String>());
    };
    line("", &names);
    for (name, cells) in &rows {
        line(name, &cells.iter().map(String::as_str).collect::<Vec<_>>());
    }
}
