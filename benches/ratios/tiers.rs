//! What tiers gain: how fast a storm of methods gets its first code, how soon a runtime is warm, and how fast it is
//! then.

use std::process::{Command, Stdio};
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use inkpot::Tier;
use inkpot::inkwell::memory_buffer::MemoryBuffer;

use crate::batch::Bare;
use crate::lljit::Lljit;
use crate::measure::{self, Pair};
use crate::methods::{self, Bursts, Size};

/// Methods of the runtime that warms up.
const METHODS: &str = "600";

pub fn baseline() {
    storm("baseline_rate", Size::Medium, 192);
}

pub fn baseline_small() {
    storm("baseline_small_rate", Size::Tiny, 384);
}

/// The baseline tier in a storm, against LLJIT with a module for each method, at O1.
fn storm(name: &'static str, size: Size, burst: u64) {
    static EMITTING: AtomicU64 = AtomicU64::new(0);
    let builder = methods::builder(&EMITTING).tiers(Tier::defaults());
    let mut ours = Bursts::new(builder.build().expect("a cache"), size, burst);
    let mut theirs = Bare::new(size, burst);
    let lljit = Lljit::new().expect("LLJIT");
    for (name, address) in methods::imports() {
        lljit.define(name, address).expect("it is new");
    }
    let pair = Pair {
        name,
        ours: "the baseline tier",
        theirs: "LLJIT at O1, a module each",
        unit: "methods/s",
    };
    pair.in_turns(
        || burst as f64 / ours.run(),
        || {
            let started = Instant::now();
            theirs.each(|number, object| {
                let object = MemoryBuffer::create_from_memory_range_copy(&object, "method");
                lljit.add(object).expect("it is linked");
                let address = lljit.address(&format!("method.{number}"));
                assert!(!address.expect("it is there").is_null());
            });
            burst as f64 / started.elapsed().as_secs_f64()
        },
    );
}

/// How long until nine calls in ten run compiled code.
pub fn warm_up() {
    let pair = Pair {
        name: "warm_up",
        ours: "tiers",
        theirs: "O2 alone",
        unit: "seconds",
    };
    with_churn(pair, "seconds_until_warm");
}

/// How fast calls are when all is compiled that will be.
pub fn steady() {
    let pair = Pair {
        name: "steady_rate",
        ours: "tiers",
        theirs: "O2 alone",
        unit: "calls/s",
    };
    with_churn(pair, "calls_per_second");
}

fn with_churn(pair: Pair, what: &str) {
    let churn = measure::build_example("churn");
    let figure = |settings: &[&str]| {
        let output = Command::new(&churn)
            .args(["--warm-up", "--threads", "1", "--methods", METHODS])
            .args(settings)
            .stderr(Stdio::inherit())
            .output()
            .expect("the example starts");
        assert!(output.status.success(), "churn {settings:?} failed");
        let text = String::from_utf8_lossy(&output.stdout);
        let last = text.lines().last().unwrap_or_default();
        let outcome: serde_json::Value = serde_json::from_str(last).expect("JSON comes last");
        outcome[what].as_f64().expect("a number")
    };
    pair.in_turns(
        || figure(&["--tiers", "on"]),
        || figure(&["--tiers", "off", "--opt", "2"]),
    );
}
