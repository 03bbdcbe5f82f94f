//! Pictures for `BENCHMARKS.md`: `cargo bench --bench ratios -- --plots DIR`.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicU64;

use inkpot::OptLevel;

use crate::measure::{build_example, quantile};
use crate::methods::{self, Bursts, Size};
use crate::svg::{Line, Picture};

/// The flag that asks for them.
pub const PLOTS: &str = "--plots";

pub fn draw(into: &Path) {
    std::fs::create_dir_all(into).expect("a directory for the pictures");
    let pictures = [("memory", memory as fn() -> Picture), ("latency", latency)];
    for (name, picture) in pictures {
        let file = into.join(name).with_extension("svg");
        std::fs::write(&file, picture().svg()).expect("the picture can be written");
        eprintln!("{}", file.display());
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
            (batch as f64, quantile(&each, 0.5))
        };
        Line {
            name: name.to_owned(),
            points: BATCHES.map(point).into(),
        }
    });
    Picture {
        title: "Compilation of a method of 700 bytes",
        x: "methods asked for together",
        y: "ms a method, from request to code",
        by_powers: true,
        lines: lines.into(),
    }
}
