//! What a compilation costs beside LLVM and the front end.
//!
//! Of the time from the first request of a burst to the last answer, everything that is neither
//! the front end's, nor LLVM's: by the clock of whoever waits, so that it does not matter what
//! the cache's own statistics think that they leave out.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::measure::{Pair, quantile};
use crate::methods::{self, Bursts, Size};

const BURST: u64 = 192;

pub fn run() {
    static EMITTING: AtomicU64 = AtomicU64::new(0);
    let cache = methods::builder(&EMITTING).build().expect("a cache");
    let mut bursts = Bursts::new(cache, Size::Medium, BURST);
    let mut parts: [Vec<f64>; 6] = Default::default();
    let pair = Pair {
        name: "overhead",
        ours: "beside LLVM",
        theirs: "all",
        unit: "us a method",
    };
    let each = |seconds: f64| seconds * 1e6 / BURST as f64;
    pair.rounds(|| {
        let before = bursts.cache().statistics().compile_time;
        let emitting = EMITTING.load(Ordering::Relaxed);
        let all = bursts.run();
        let after = bursts.cache().statistics().compile_time;
        let since = |a: Duration, b: Duration| (a - b).as_secs_f64();
        let front_end = (EMITTING.load(Ordering::Relaxed) - emitting) as f64 * 1e-9;
        let emit = since(after.emit, before.emit);
        let optimise = since(after.optimise, before.optimise);
        let generate = since(after.generate, before.generate);
        let claimed = since(after.overhead, before.overhead);
        let link = since(after.link, before.link);
        let checks = emit - front_end;
        let took = [front_end, checks, optimise, generate, claimed, link];
        for (part, seconds) in parts.iter_mut().zip(took) {
            part.push(each(seconds));
        }
        (each(all - optimise - generate - front_end), each(all))
    });
    let [front_end, checks, optimise, generate, claimed, link] = parts.map(|p| quantile(&p, 0.5));
    eprintln!(
        "overhead: front end {front_end:.1}, verifier, checks and lowering {checks:.1}, passes \
         {optimise:.1}, code generator {generate:.1}, overhead by the statistics {claimed:.1}, of \
         which link {link:.1} us a method"
    );
}
