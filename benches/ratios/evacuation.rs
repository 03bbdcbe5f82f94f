//! What it saves to evict with generations in mind, and to move what survives in them: methods that have
//! to be compiled again, though nothing of them has changed, in the example `churn`.

use std::process::{Command, Stdio};

use crate::measure::{self, Pair};

const METHODS: &str = "60000";
/// Methods that stay hot for ever, of all that come to be.
const SURVIVORS: &str = "0.02";

pub fn run() {
    let churn = measure::build_example("churn");
    let recompilations = |settings: &[&str]| {
        let output = Command::new(&churn)
            .args(["--methods", METHODS, "--survivors", SURVIVORS, "--json"])
            .args(settings)
            .stderr(Stdio::inherit())
            .output()
            .expect("the example starts");
        assert!(output.status.success(), "churn {settings:?} failed");
        let text = String::from_utf8_lossy(&output.stdout);
        let last = text.lines().last().unwrap_or_default();
        let outcome: serde_json::Value = serde_json::from_str(last).expect("JSON comes last");
        let rate = &outcome["recompilations_per_1000_visits"];
        rate.as_f64().expect("a number") / 1e3
    };
    let pair = Pair {
        name: "evacuation_recompiles",
        ours: "generations and evacuation",
        theirs: "plain",
        unit: "recompilations a visit",
    };
    pair.in_turns(
        || recompilations(&["--victims", "generation", "--evacuate", "on"]),
        || recompilations(&["--victims", "plain", "--evacuate", "off"]),
    );
}
