//! What keeping contexts costs: memory that grows while generations stay alive, with contexts
//! disposed of when a generation is sealed, and with contexts that live as long as it.

use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use inkpot::{Cache, ContextRelease, OptLevel};

use crate::measure::{Pair, in_a_child};
use crate::methods::{self, Name, Size};

const METHODS: u64 = 768;
const PER_GENERATION: usize = 64;
const AT_SEALING: &str = "context_release.at_sealing";
const WITH_GENERATION: &str = "context_release.with_generation";

pub fn run() {
    let pair = Pair {
        name: "context_release",
        ours: "at sealing",
        theirs: "with the generation",
        unit: "KiB a method",
    };
    pair.in_turns(|| in_a_child(AT_SEALING), || in_a_child(WITH_GENERATION));
}

/// KiB by which this process grows for each method that stays. `None` for what others measure.
pub fn child(what: &str) -> Option<f64> {
    static EMITTING: AtomicU64 = AtomicU64::new(0);
    let release = match what {
        AT_SEALING => ContextRelease::AtSealing,
        WITH_GENERATION => ContextRelease::WithGeneration,
        _ => return None,
    };
    let cache = methods::builder(&EMITTING)
        .opt_level(OptLevel::O0)
        .release_context(release)
        .generation_methods(PER_GENERATION)
        .build()
        .expect("a cache");
    let participant = cache.participant("asker");
    let ask = |numbers: std::ops::Range<u64>| {
        let size = Size::Medium;
        let handles: Vec<_> = numbers
            .map(|number| methods::handle(&cache, Name { size, number }))
            .collect();
        for handle in &handles {
            handle.request().expect("the cache is open");
        }
        for handle in &handles {
            handle.get(&mut participant.pin()).expect("it compiles");
        }
        cache.seal();
        settled_rss_kib(&cache)
    };
    // LLVM's own tables are filled by the first methods.
    let before = ask(0..PER_GENERATION as u64);
    let after = ask(PER_GENERATION as u64..PER_GENERATION as u64 + METHODS);
    Some((after - before) / METHODS as f64)
}

/// Resident memory when the reclaimer has given back what it can.
pub fn settled_rss_kib(cache: &Cache<Name>) -> f64 {
    const QUIET: Duration = Duration::from_millis(600);
    let mut least = rss_kib();
    let mut since = Instant::now();
    while since.elapsed() < QUIET {
        std::thread::sleep(Duration::from_millis(20));
        cache.maintain(); // by itself it would look again a second later
        let now = rss_kib();
        if now < least {
            (least, since) = (now, Instant::now());
        }
    }
    least
}

pub fn rss_kib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux has it");
    let line = status.lines().find(|l| l.starts_with("VmRSS:"));
    let figure = line.and_then(|l| l.split_whitespace().nth(1));
    figure.and_then(|f| f.parse().ok()).expect("it says VmRSS")
}
