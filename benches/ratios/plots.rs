//! Pictures for `BENCHMARKS.md`: `cargo bench --bench ratios -- --plots DIR`.

use std::hint::black_box;
use std::path::Path;
use std::process::Command;
use std::sync::Barrier;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use inkpot::OptLevel;

use crate::many::{self, MANY, Often};
use crate::measure::{build_example, quantile};
use crate::methods::{self, Bursts, Size};
use crate::peers::{Ours, PEERS, Table, peer};
use crate::svg::{Line, Picture};

/// The flag that asks for them.
pub const PLOTS: &str = "--plots";

pub fn draw(into: &Path) {
    std::fs::create_dir_all(into).expect("a directory for the pictures");
    let pictures = [
        ("lookups", lookups as fn() -> Picture),
        ("memory", memory),
        ("latency", latency),
    ];
    for (name, picture) in pictures {
        let file = into.join(name).with_extension("svg");
        std::fs::write(&file, picture().svg()).expect("the picture can be written");
        eprintln!("{}", file.display());
    }
}

const THREADS: [usize; 4] = [1, 2, 3, 4];
const KEYS: usize = 1 << 20;
const TIMES: usize = 5;

/// Millions of look-ups a second, of so many threads together.
fn rate(threads: usize, keys: &[u64], walk: &(dyn Fn(&[u64]) -> u64 + Sync)) -> f64 {
    let share = keys.len() / threads;
    let start = Barrier::new(threads);
    let times: Vec<(Instant, Instant)> = std::thread::scope(|scope| {
        let start = &start;
        let walks = keys.chunks(share).take(threads).map(|keys| {
            scope.spawn(move || {
                start.wait();
                let began = Instant::now();
                black_box(walk(keys));
                (began, Instant::now())
            })
        });
        let walks: Vec<_> = walks.collect();
        let joined = walks.into_iter().map(|thread| thread.join());
        joined
            .map(|times| times.expect("it only looks up"))
            .collect()
    });
    // From the first to the last of them: with more threads than processors some begin late.
    let first = times.iter().map(|(began, _)| *began).min();
    let last = times.iter().map(|(_, ended)| *ended).max();
    let took = last.expect("there are some") - first.expect("there are some");
    let seconds = took.as_secs_f64();
    (share * threads) as f64 / seconds / 1e6
}

fn lookups() -> Picture {
    let cache = many::cache_of(MANY);
    let entries = many::entries(cache, &cache.participant("prepares"), MANY);
    let keys = many::keys(Often::Zipf, MANY, KEYS);
    let line = |name: &str, walk: &(dyn Fn(&[u64]) -> u64 + Sync)| {
        let point = |threads| {
            let rates: Vec<f64> = (0..TIMES).map(|_| rate(threads, &keys, walk)).collect();
            (threads as f64, quantile(&rates, 1.0)) // what else runs only takes from it
        };
        Line {
            name: name.to_owned(),
            points: THREADS.map(point).into(),
        }
    };
    let ours = |keys: &[u64]| {
        let me = cache.participant("looks up");
        Ours::new(cache, &me).look_up(keys)
    };
    let mut lines = vec![line("inkpot", &ours)];
    for name in PEERS {
        let table = peer(name, &entries);
        lines.push(line(table.name(), &|keys| table.look_up(keys)));
    }
    Picture {
        title: "Look-ups of a million methods, zipf, on two cores",
        x: "threads",
        y: "million look-ups a second, the best of five",
        by_powers: false,
        lines,
    }
}

/// Compilations of each strategy.
const COMPILATIONS: &str = "8000";

fn memory() -> Picture {
    let churn = build_example("churn");
    let strategies = [
        ("inkpot", "pooled"),
        ("a context each, kept", "per-method"),
        ("one context for ever", "global"),
    ];
    let lines = strategies.map(|(name, strategy)| {
        let arguments = ["--json", "--methods", COMPILATIONS, "--strategy", strategy];
        let output = Command::new(&churn).args(arguments).output();
        let output = output.expect("the example runs");
        let text = String::from_utf8_lossy(&output.stdout);
        let figures: serde_json::Value = text
            .lines()
            .last()
            .and_then(|line| serde_json::from_str(line).ok())
            .expect("the example prints figures");
        let list = |name: &str| {
            let values = figures[name].as_array().expect("a list");
            values
                .iter()
                .map(|v| v.as_f64().expect("a number"))
                .collect::<Vec<_>>()
        };
        let mib = list("rss_kib").into_iter().map(|kib| kib / 1024.0);
        let points = list("sample_compiles").into_iter().zip(mib);
        Line {
            name: name.to_owned(),
            points: points.collect(),
        }
    });
    Picture {
        title: "Resident memory of a program whose types keep changing",
        x: "compilations",
        y: "MiB resident",
        by_powers: false,
        lines: lines.into(),
    }
}

const BATCHES: [u64; 9] = [1, 2, 4, 8, 16, 32, 64, 128, 256];

/// Methods of 700 bytes, asked for at once and compiled together; each in ms, by how many they are.
fn latency() -> Picture {
    static EMITTING: AtomicU64 = AtomicU64::new(0);
    let tiers = [
        ("O2", OptLevel::O2),
        ("O1", OptLevel::O1),
        ("O0", OptLevel::O0),
    ];
    let lines = tiers.map(|(name, level)| {
        let point = |batch| {
            let builder = methods::builder(&EMITTING).opt_level(level);
            let cache = builder.batch_limit(batch as usize).build();
            let mut bursts = Bursts::new(cache.expect("a cache"), Size::Medium, batch);
            bursts.run();
            let each: Vec<f64> = (0..7).map(|_| bursts.run() * 1e3 / batch as f64).collect();
            (batch as f64, quantile(&each, 0.0)) // what else runs only adds to it
        };
        Line {
            name: name.to_owned(),
            points: BATCHES.map(point).into(),
        }
    });
    Picture {
        title: "Compilation of a method of 700 bytes",
        x: "methods asked for together",
        y: "ms a method, from request to code, the least of seven",
        by_powers: true,
        lines: lines.into(),
    }
}
