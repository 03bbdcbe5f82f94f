//! The figures that inkpot is held to, each a ratio of two things measured in one run.
//!
//! `cargo bench --bench ratios -- [NAMES]` prints, for each name, a line
//! `RATIO name median p10 p90` on stdout, and what it is made of on stderr. Under 1 is cheaper
//! than the alternative; a name that ends in `_rate` is our rate over theirs. The two sides of a
//! pair take turns, so that whatever else the machine does meets both; read the median, and
//! repeat before believing. `--plots DIR` draws pictures instead.

mod assume;
mod batch;
mod call;
mod callback;
mod company;
mod context;
mod evacuation;
mod fallback;
mod growth;
#[path = "../../tests/run_ir/harness.rs"]
#[allow(dead_code)] // tests use more of it
mod harness;
#[path = "../../tests/lua/interpreter.rs"]
#[allow(dead_code)]
mod interpreter;
mod isolation;
mod linking;
#[path = "../../examples/churn/lljit.rs"]
mod lljit;
mod lookup;
mod lua;
mod many;
mod mcjit;
mod measure;
mod methods;
mod overhead;
mod peers;
mod pin;
mod plots;
mod polls;
mod quantum;
mod rates;
mod relink;
mod resident;
mod scan;
mod service;
mod svg;
#[path = "../../tests/support/synthetic.rs"]
#[allow(dead_code)]
mod synthetic;
mod throw;
mod tiers;
mod trackers;

/// What the example's LLJIT is written against.
mod strategy {
    pub type Fallible<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;
}

use std::process::ExitCode;

/// Names, what they measure, and how.
const RATIOS: &[(&str, fn())] = &[
    ("batch_medium_rate", batch::medium),
    ("batch_small_rate", batch::small),
    ("baseline_rate", tiers::baseline),
    ("baseline_small_rate", tiers::baseline_small),
    ("warm_up", tiers::warm_up),
    ("steady_rate", tiers::steady),
    ("lone_request", service::lone),
    ("two_workers_rate", service::two_workers),
    ("overhead", overhead::run),
    ("call_resident", call::resident),
    ("canonical", call::canonical),
    ("pin", pin::run),
    ("quantum", quantum::run),
    ("lookup_papaya", lookup::papaya),
    ("lookup_quick_cache", lookup::quick_cache),
    ("lookup_dashmap", lookup::dashmap),
    ("lookup_moka", lookup::moka),
    ("lookup_call_best", lookup::call_best),
    ("lookup_scaling_rate", company::scaling),
    ("lookup_while_evicting", company::while_evicting),
    ("compile_rate_small", rates::small),
    ("compile_rate_medium", rates::medium),
    ("link", linking::apart),
    ("link_one", linking::one),
    ("link_each", linking::each),
    ("resident_bytes", resident::run),
    ("recycle", rates::recycle),
    ("growth_lookup", growth::lookup),
    ("growth_evict", growth::evict),
    ("callback", callback::run),
    ("fallback", fallback::thunk),
    ("fallback_entry", fallback::entry),
    ("fallback_asking", fallback::asking),
    ("polls", polls::run),
    ("scan", scan::run),
    ("context_release", context::run),
    ("assume", assume::linear),
    ("assume_million", assume::million),
    ("relink", relink::run),
    ("evacuation_recompiles", evacuation::run),
    ("isolation", isolation::batch),
    ("isolation_lone", isolation::lone),
    ("throw_host", throw::host),
    ("throw_jitted", throw::jitted),
    ("run_tiers_first", lua::tiers_first),
    ("run_tiers_steady", lua::tiers_steady),
    ("run_first", lua::first),
    ("run_whole", lua::whole),
];

fn main() -> ExitCode {
    inkpot::helper::run_if_helper();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, what] = &arguments[..]
        && flag == measure::CHILD
    {
        let figure = context::child(what).or_else(|| throw::child(what));
        let figure = figure.or_else(|| resident::child(what));
        println!("{}", figure.expect("one of them measures it"));
        return ExitCode::SUCCESS;
    }
    if let [flag, into, ..] = &arguments[..]
        && flag == plots::PLOTS
    {
        plots::draw(std::path::Path::new(into));
        return ExitCode::SUCCESS;
    }
    // Cargo tells every bench that it is one.
    let names: Vec<&str> = arguments
        .iter()
        .map(String::as_str)
        .filter(|a| *a != "--bench")
        .collect();
    let known = |name: &&str| RATIOS.iter().any(|(n, _)| n == name);
    if let Some(unknown) = names.iter().find(|n| !known(n)) {
        eprintln!("no ratio is called {unknown}; there are:");
        RATIOS.iter().for_each(|(name, _)| eprintln!("  {name}"));
        return ExitCode::from(2);
    }
    for (name, run) in RATIOS {
        if names.is_empty() || names.contains(name) {
            run();
        }
    }
    ExitCode::SUCCESS
}
