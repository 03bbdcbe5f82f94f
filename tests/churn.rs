//! The example `churn`: memory that does not grow, results that are right, and a command line that
//! says what is wrong with it.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

// The parts of the example that can be tested without running it.
#[allow(dead_code)]
#[path = "../examples/churn/interpreter.rs"]
mod interpreter;
#[allow(dead_code)]
#[path = "../examples/churn/language.rs"]
mod language;
#[allow(dead_code)]
#[path = "../examples/churn/occupancy.rs"]
mod occupancy;
#[allow(dead_code)]
#[path = "../examples/churn/options.rs"]
mod options;
#[allow(dead_code)]
#[path = "../examples/churn/outcome.rs"]
mod outcome;
#[allow(dead_code)]
#[path = "../examples/churn/runtime.rs"]
mod runtime;
#[allow(dead_code)]
#[path = "../examples/churn/settings.rs"]
mod settings;
#[allow(dead_code)]
#[path = "../examples/churn/strategy.rs"]
mod strategy;
#[allow(dead_code)]
#[path = "../examples/churn/world.rs"]
mod world;

/// The binary that cargo builds along with the tests.
fn example() -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let profile = test
        .ancestors()
        .nth(2)
        .expect("a test lies in the target directory");
    let example = profile.join("examples").join("churn");
    assert!(
        example.exists(),
        "{} is missing: cargo build --examples",
        example.display()
    );
    example
}

/// Runs churn, which has a thread for each core: one at a time.
fn churn(flags: &str) -> Output {
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    Command::new(example())
        .args(flags.split_whitespace())
        .output()
        .expect("churn starts")
}

/// Runs churn, which must succeed, and returns the object on its last line.
fn outcome_of(flags: &str) -> Value {
    let output = churn(&format!("{flags} --json"));
    let out = String::from_utf8_lossy(&output.stdout);
    let err = String::from_utf8_lossy(&output.stderr);
    let short: Vec<String> = out
        .lines()
        .map(|l| l.chars().take(1000).collect())
        .collect();
    assert!(
        output.status.success(),
        "{}: {short:#?}{err}",
        output.status
    );
    assert_eq!(
        err, "",
        "no progress bar and no complaint where standard error is no terminal"
    );
    serde_json::from_str(out.lines().last().unwrap_or_default()).expect("the last line is JSON")
}

fn number(outcome: &Value, field: &str) -> f64 {
    outcome[field]
        .as_f64()
        .unwrap_or_else(|| panic!("{field} in {}", brief(outcome)))
}

/// The outcome without its lists of samples, which are long.
fn brief(outcome: &Value) -> String {
    let mut brief = outcome.clone();
    for value in brief.as_object_mut().into_iter().flatten() {
        if let Value::Array(list) = value.1 {
            *value.1 = Value::from(format!("a list of {}", list.len()));
        }
    }
    brief.to_string()
}

/// So short a run tells the slope to within some 200 bytes, and now and then to within more; what a
/// context keeps of each method for ever is 1,900. So it is looked at again before it is believed.
#[test]
fn memory_does_not_grow() {
    let mut slopes = Vec::new();
    for _ in 0..3 {
        let outcome = outcome_of("--methods 8000 --opt 0 --threads 2 --code-budget 1MiB");
        figures_are_sound(&outcome);
        let slope = number(&outcome, "rss_slope_bytes_per_method");
        if slope < 500.0 {
            return;
        }
        slopes.push(slope);
    }
    panic!("{slopes:?} bytes a method");
}

fn is_soak() -> bool {
    std::env::var_os("INKPOT_SOAK").is_some_and(|v| v != "0")
}

/// The figures that are promised, with `INKPOT_SOAK=1` (`make long`): minutes.
#[test]
fn the_long_run() {
    if !is_soak() {
        return;
    }
    // The least of three: a context more or less at the end is a few bytes a method. With evacuation few
    // contexts are alive, and one more or less is more. What grows goes on growing.
    let slope = |_| {
        let outcome = outcome_of("--strategy pooled --methods 60000 --opt 0 --threads 2");
        figures_are_sound(&outcome);
        number(&outcome, "rss_slope_bytes_per_method")
    };
    let slopes: Vec<f64> = (0..3).map(slope).collect();
    println!("the long run: {slopes:?} bytes a method");
    if !slopes.iter().any(|&s| s < 20.0) {
        let outcome = outcome_of("--methods 160000 --opt 0 --threads 2");
        let longer = number(&outcome, "rss_slope_bytes_per_method");
        assert!(
            longer < 20.0,
            "{slopes:?} bytes a method, {longer} in a longer run"
        );
    }
    let kept = outcome_of("--keep-all --methods 100000 --opt 0");
    assert!(number(&kept, "maps_peak") < 600.0, "{}", brief(&kept));
}

/// A thread that stays in one method keeps what it is inside of, and holds up nothing else. In the
/// long form as it is promised: memory that does not grow, and 50 ms from a generation's death to
/// its recycling.
fn a_guest_holds_up_nothing(guest: &str) {
    const BUDGET: f64 = (1 << 20) as f64;
    let flags = format!("--methods 1700 --opt 0 --threads 2 --code-budget 1MiB --guest {guest}");
    let outcome = outcome_of(&flags);
    assert_eq!(outcome["guest"], guest);
    assert_eq!(number(&outcome, "wrong_results"), 0.0);
    let about = brief(&outcome);
    assert!(number(&outcome, "generations_recycled") > 10.0, "{about}");
    // In it all the time; and what a caller is inside of while a callee is compiled.
    let held = number(&outcome, "generations_held_peak");
    assert!((1.0..12.0).contains(&held), "{about}");
    // Were nothing recycled it would be three times the budget.
    let peak = number(&outcome, "mapped_code_bytes_peak");
    assert!(peak < 2.5 * BUDGET, "{about}");
    assert!(number(&outcome, "grace_p99_ms") > 0.0, "{about}");
    // A busy machine may let the guest wait for its turn.
    assert!(number(&outcome, "grace_p99_ms") < 3000.0, "{about}");
    assert!(number(&outcome, "grace_oldest_ms_peak") < 3000.0, "{about}");
    if !is_soak() {
        return;
    }
    let run = |methods: u32, guest: &str| {
        let flags = format!("--methods {methods} --opt 0 --threads 2 --guest {guest}");
        outcome_of(&flags)
    };
    let outcomes: Vec<Value> = (0..3).map(|_| run(50_000, guest)).collect();
    outcomes.iter().for_each(figures_are_sound);
    let median = |field| {
        let mut all: Vec<f64> = outcomes.iter().map(|o| number(o, field)).collect();
        all.sort_by(f64::total_cmp);
        println!("{guest}: {field}: {all:?}");
        all[1]
    };
    let (slope, grace) = (median("rss_slope_bytes_per_method"), median("grace_p99_ms"));
    if slope >= 20.0 {
        // On a busy machine it is known to within some twenty bytes: memory takes longer to come to
        // rest there. What grows goes on growing.
        let long = number(&run(160_000, guest), "rss_slope_bytes_per_method");
        assert!(
            long < 20.0,
            "{slope} bytes a method, {long} in the long run"
        );
    }
    if grace > 50.0 {
        // Where threads wait for their turn, grace periods take long without a guest too.
        let without = number(&run(50_000, "none"), "grace_p99_ms");
        assert!(
            grace <= 2.0 * without,
            "{grace} ms, and {without} without a guest"
        );
    }
}

#[test]
fn a_guest_at_safepoints_holds_up_nothing() {
    a_guest_holds_up_nothing("safepoint");
}

#[test]
fn a_guest_that_blocks_holds_up_nothing() {
    a_guest_holds_up_nothing("blocking");
}

#[test]
fn a_guest_in_a_loop_with_polls_holds_up_nothing() {
    a_guest_holds_up_nothing("poll");
}

#[test]
fn a_guest_with_suspended_fibres_holds_up_nothing() {
    a_guest_holds_up_nothing("fibres");
}

fn figures_are_sound(outcome: &Value) {
    assert_eq!(outcome["strategy"], "pooled");
    assert_eq!(number(outcome, "wrong_results"), 0.0);
    assert!(number(outcome, "methods") >= 8000.0);
    assert!(number(outcome, "calls") > 8000.0);
    // What lives fits, once it has been moved together.
    assert!(number(outcome, "moves") > 0.0);
    assert!(number(outcome, "invalidations") > 0.0);
    assert!(number(outcome, "generations_recycled") > 0.0);
    assert!(number(outcome, "seconds") > 0.0);
    assert!(number(outcome, "compiles_per_second") > 0.0);
    assert!(number(outcome, "maps_peak") < 400.0, "{}", brief(outcome));
    let samples = outcome["rss_kib"].as_array().expect("a list of samples");
    assert!(samples.len() > 100, "{} samples", samples.len());
    for list in [
        "sample_compiles",
        "mapped_code_kib",
        "contexts",
        "generations",
        "maps",
    ] {
        assert_eq!(
            outcome[list].as_array().map(Vec::len),
            Some(samples.len()),
            "{list}"
        );
    }
}

/// The same measure finds the growth where there is some.
#[test]
fn a_global_context_is_seen_to_grow() {
    let outcome = outcome_of("--strategy global --methods 3500");
    assert_eq!(number(&outcome, "wrong_results"), 0.0);
    let slope = number(&outcome, "rss_slope_bytes_per_method");
    assert!(
        slope > 4000.0,
        "{slope} bytes a method: {}",
        brief(&outcome)
    );
}

#[test]
fn everything_can_be_kept() {
    let outcome = outcome_of("--methods 1500 --keep-all");
    assert_eq!(number(&outcome, "wrong_results"), 0.0);
    assert_eq!(number(&outcome, "evictions"), 0.0);
    assert_eq!(number(&outcome, "invalidations"), 0.0);
    assert_eq!(number(&outcome, "generations_recycled"), 0.0);
    assert_eq!(number(&outcome, "recompilations"), 0.0);
    assert!(number(&outcome, "maps_peak") < 600.0, "{}", brief(&outcome));
}

#[test]
fn stress_changes_no_result() {
    for flags in [
        "--methods 1500 --stress --threads 3",
        "--methods 200 --stress --opt 2",
    ] {
        let outcome = outcome_of(flags);
        assert_eq!(number(&outcome, "wrong_results"), 0.0, "{flags}");
        assert!(number(&outcome, "evictions") > 0.0, "{flags}");
    }
}

/// Each mode with each other: all combinations in the long form, some in the short one.
#[test]
fn combinations_of_stress_change_no_result() {
    let all = ["evict", "invalidate", "recycle", "move", "quarantine"];
    let (methods, step) = if is_soak() { (1500, 1) } else { (150, 6) };
    for combination in (1..32).step_by(step) {
        let modes = all
            .iter()
            .enumerate()
            .filter(|(i, _)| combination >> i & 1 == 1);
        let modes: Vec<_> = modes.map(|(_, mode)| *mode).collect();
        let modes = modes.join(",");
        let flags = format!("--methods {methods} --opt 0 --threads 3 --stress-of {modes}");
        let outcome = outcome_of(&flags);
        assert_eq!(number(&outcome, "wrong_results"), 0.0, "{flags}");
    }
}

/// Methods that stay, among others that go: in each setting of the cache.
#[test]
fn survivors_change_no_result() {
    for (victims, evacuate, policy) in [
        ("plain", "off", "lru"),
        ("plain", "on", "sieve"),
        ("generation", "off", "sieve"),
        ("generation", "on", "lru"),
    ] {
        let outcome = outcome_of(&format!(
            "--methods 2500 --code-budget 512KiB --survivors 0.05 --victims {victims} --evacuate \
             {evacuate} --groups {evacuate} --policy {policy} --work 2"
        ));
        let about = brief(&outcome);
        assert_eq!(number(&outcome, "wrong_results"), 0.0, "{about}");
        assert_eq!(outcome["settings"]["victims"], victims);
        assert_eq!(outcome["settings"]["policy"], policy);
        assert_eq!(outcome["settings"]["evacuate"], evacuate == "on");
        let again = number(&outcome, "recompilations");
        assert!(
            again > 0.0 && again < number(&outcome, "methods"),
            "{about}"
        );
        let moves = ["moves", "evacuations"].map(|f| number(&outcome, f));
        for count in moves {
            assert_eq!(count > 0.0, evacuate == "on", "{moves:?}: {about}");
        }
        occupancy_is_sound(&outcome);
    }
}

/// The moments are in order, and the cells of a row, of which all fit here, say what its counts say.
fn occupancy_is_sound(outcome: &Value) {
    let moments = outcome["occupancy"].clone();
    let moments: Vec<occupancy::Moment> = serde_json::from_value(moments).expect("moments");
    let expected = occupancy::MOMENTS as usize;
    assert!((expected / 2..=expected + 1).contains(&moments.len()));
    for pair in moments.windows(2) {
        assert!(pair[0].compiles < pair[1].compiles);
    }
    for row in moments.iter().flat_map(|m| &m.rows) {
        let cells = |kind| row.runs().filter(|r| r.0 == kind).map(|r| r.2).sum::<u64>();
        assert_eq!(['h', 'c', 'd'].map(cells), [row.hot, row.cold, row.dead]);
        assert!(row.live_bytes <= row.code_bytes + row.code_bytes / 4);
    }
    let sum = |of: fn(&occupancy::Row) -> u64| {
        let rows = moments.iter().flat_map(|m| &m.rows);
        rows.map(of).sum::<u64>()
    };
    assert!(sum(|r| r.hot) > 0 && sum(|r| r.dead) > 0);
}

/// With `--keep-all` no types change and nothing is evicted: what is, is by stress.
#[test]
fn stress_evicts_and_invalidates() {
    let outcome = outcome_of("--methods 500 --stress --keep-all");
    assert_eq!(number(&outcome, "wrong_results"), 0.0);
    for what in ["evictions", "invalidations"] {
        assert!(number(&outcome, what) > 0.0, "{what}: {}", brief(&outcome));
    }
}

#[test]
fn a_small_budget_and_early_release_change_no_result() {
    for flags in [
        "--code-budget 64KiB",
        "--release-at-sealing --code-budget 512KiB",
    ] {
        let outcome = outcome_of(&format!("--methods 1500 {flags}"));
        assert_eq!(number(&outcome, "wrong_results"), 0.0, "{flags}");
        assert!(number(&outcome, "evictions") > 0.0, "{flags}");
    }
}

#[test]
fn every_strategy_runs_and_the_report_shows_them() {
    let report = std::env::temp_dir().join(format!("churn-{}.html", std::process::id()));
    let outcome = outcome_of(&format!(
        "--strategy all --methods 300 --report {}",
        report.display()
    ));
    let page = std::fs::read_to_string(&report).expect("a report");
    std::fs::remove_file(&report).expect("the report can be removed");
    let runs = outcome["runs"].as_array().expect("a run for each");
    let names: Vec<&str> = runs
        .iter()
        .filter_map(|run| run["strategy"].as_str())
        .collect();
    assert_eq!(names, ["pooled", "global", "per-method"]);
    for run in runs {
        assert_eq!(number(run, "wrong_results"), 0.0);
        assert!(number(run, "methods") >= 300.0);
        assert_eq!(run["died"], Value::Null);
    }
    assert_eq!(
        page.matches("<svg viewBox=\"0 0 620").count(),
        6,
        "six plots"
    );
    assert!(page.contains("polyline class=\"line per-method\""));
    let moments = runs[0]["occupancy"].as_array().map_or(0, Vec::len);
    assert!(moments > 1, "{moments} moments");
    assert_eq!(page.matches("<div class=\"panel\">").count(), moments);
    for outside in ["http:", "https:", "src=", "url(", "@import"] {
        assert!(
            !page.contains(outside),
            "the page needs nothing from outside: {outside}"
        );
    }
}

#[test]
fn bad_flags_are_told() {
    let bad = [
        "--strategy none",
        "--guest nobody",
        "--methods",
        "--methods 0",
        "--methods many",
        "--opt 4",
        "--code-budget 12parsecs",
        "--code-budget 0",
        "--threads 0",
        "--survivors 1",
        "--survivors -0.1",
        "--survivors some",
        "--evacuate perhaps",
        "--victims any",
        "--groups 2",
        "--work 0",
        "--policy fifo",
        "--json=yes",
        "--frobnicate",
        "stray",
    ];
    for flags in bad {
        let output = churn(flags);
        assert_eq!(output.status.code(), Some(2), "{flags}");
        assert!(output.stdout.is_empty(), "{flags}");
        assert!(!output.stderr.is_empty(), "{flags}");
    }
    let help = churn("--help");
    assert_eq!(help.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&help.stdout).contains("--code-budget"));
}

/// What makes the check of results worth something: had the cache run the code of an older version,
/// or of another method, it would be seen.
#[test]
fn every_version_and_every_part_has_results_of_its_own() {
    let core = interpreter::Core::new(1);
    let run = |family, version, part, argument| {
        let program = interpreter::Program::new(&core, family, version);
        let mut thread = runtime::Thread::NEW;
        let argument = runtime::integer(argument);
        let result = program.call(part, &mut thread, argument, argument);
        (result, thread.trace)
    };
    for family in 0..40 {
        for part in 0..world::PARTS {
            let (result, traced) = run(family, 3, part, 12345);
            assert_eq!(run(family, 3, part, 12345), (result, traced));
            let (stale, stale_trace) = run(family, 2, part, 12345);
            assert_ne!(traced, stale_trace);
            assert_ne!(
                result, stale,
                "the result alone tells: family {family}, part {part}"
            );
        }
    }
}

/// A generation that is too long for its row has in it what it has in all.
#[test]
fn a_row_of_few_cells_has_the_shares_of_many_methods() {
    use inkpot::MethodIs::{Cold, Dead, Hot};
    let methods = |n: usize| -> Vec<inkpot::MethodIs> {
        let kind = |i| match i {
            _ if i % 64 == 0 => Hot,
            _ if i < n / 4 => Cold,
            _ => Dead,
        };
        (0..n).map(kind).collect()
    };
    for (n, width) in [(512, 80), (512, 512), (1000, 999), (7, 3), (3, 80), (0, 80)] {
        let methods = methods(n);
        let cells: Vec<u8> = occupancy::cells(&methods, width).collect();
        assert_eq!(cells.len(), n.min(width));
        for (kind, letter) in [(Hot, b'h'), (Cold, b'c'), (Dead, b'd')] {
            let all = methods.iter().filter(|m| **m == kind).count() * cells.len();
            let shown = cells.iter().filter(|c| **c == letter).count() * n;
            assert!(all.abs_diff(shown) <= n, "{n} in {width}: {letter}");
        }
    }
}

/// A sawtooth as recycling makes it has no slope; a rise under it is found.
#[test]
fn the_slope_is_that_of_the_minima() {
    let sawtooth = |rise: f64| -> Vec<outcome::Sample> {
        let sample = |n: u64| {
            let compiles = n * 10;
            let saw = (compiles % 256) * 3;
            let rise = (compiles as f64 * rise / 1024.0) as u64;
            outcome::Sample {
                compiles,
                rss_kib: 50_000 + saw + rise,
                ..Default::default()
            }
        };
        (0..6000).map(sample).collect()
    };
    let slope = |rise| outcome::slope(&sawtooth(rise), 2560).expect("long enough");
    assert!(slope(0.0).abs() < 1.0, "{}", slope(0.0));
    assert!((slope(100.0) - 100.0).abs() < 2.0, "{}", slope(100.0));
    assert_eq!(
        outcome::slope(&sawtooth(0.0)[..50], 2560),
        None,
        "too short to tell"
    );
}

/// An interpreter runs what has no code yet: nobody waits, all results are right, and everything comes to O2 in the end.
#[test]
fn it_warms_up() {
    for tiers in ["on", "off"] {
        let flags = format!("--warm-up --methods 84 --threads 2 --opt 2 --tiers {tiers}");
        let warmth = outcome_of(&flags);
        assert_eq!(number(&warmth, "wrong_results"), 0.0, "{warmth}");
        assert!(number(&warmth, "interpreted") > 0.0, "{warmth}");
        assert!(number(&warmth, "seconds_until_warm") > 0.0, "{warmth}");
        let (compiles, promotions) = (number(&warmth, "compiles"), number(&warmth, "promotions"));
        // Each thread calls each method some thousand times a second.
        let expected = if tiers == "on" { compiles / 2.0 } else { 0.0 };
        assert!(
            promotions >= expected * 0.9 && promotions <= expected,
            "{warmth}"
        );
    }
}

/// The whole workload, with types that change, over two tiers.
#[test]
fn tiers_under_changing_types() {
    let outcome = outcome_of("--methods 3000 --threads 2 --code-budget 1MiB --tiers on");
    assert_eq!(
        number(&outcome, "wrong_results"),
        0.0,
        "{}",
        brief(&outcome)
    );
    let stressed = outcome_of("--methods 1500 --threads 2 --tiers on --stress");
    assert_eq!(
        number(&stressed, "wrong_results"),
        0.0,
        "{}",
        brief(&stressed)
    );
}
