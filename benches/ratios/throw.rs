//! What a throw costs while a million methods are live, each with an unwind record: through frames of the
//! host's, which have nothing to do with them, and through frames of methods. Against the same with
//! no other methods, each in a process of its own: the unwinder keeps what it learned.

use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Instant;

use inkpot::{Cache, Handle};

use crate::measure::{Pair, in_a_child, quantile};
use crate::synthetic::{Code, How, Synthetic, Unary, method};

const METHODS: u32 = 1_000_000;
/// So that there are 4,000 generations, each with one unwind table.
const PER_GENERATION: usize = 250;
/// Frames between who throws and who catches.
const FRAMES: u8 = 20;

const HOST: [&str; 2] = ["throw_host.live", "throw_host.none"];
const JITTED: [&str; 2] = ["throw_jitted.live", "throw_jitted.none"];

pub fn host() {
    compare("throw_host", HOST);
}

pub fn jitted() {
    compare("throw_jitted", JITTED);
}

fn compare(name: &'static str, [live, none]: [&str; 2]) {
    let pair = Pair {
        name,
        ours: "with a million methods",
        theirs: "with none",
        unit: "us a throw through 20 frames",
    };
    pair.in_turns(|| in_a_child(live), || in_a_child(none));
}

/// Microseconds that a throw takes. `None` for what others measure.
pub fn child(what: &str) -> Option<f64> {
    let (others, through_methods) = match what {
        _ if what == HOST[0] => (METHODS, false),
        _ if what == HOST[1] => (0, false),
        _ if what == JITTED[0] => (METHODS, true),
        _ if what == JITTED[1] => (0, true),
        _ => return None,
    };
    let cache = Cache::with_backend(Synthetic::default())
        .budget(8 << 30)
        .generation_methods(PER_GENERATION)
        .build()
        .expect("a cache");
    let (top, _others) = fill(&cache, others);
    let me = cache.participant("who throws");
    let mut guard = me.pin();
    let entry = top.get(&mut guard).expect("it compiles");
    let throw = |x: i64| match through_methods {
        // SAFETY: a method of this type, resident and pinned.
        true => unsafe { entry.call(x) },
        false => down(u32::from(FRAMES), x),
    };
    let caught = || catch_unwind(AssertUnwindSafe(|| throw(black_box(-1)))).is_err();
    let started = Instant::now();
    assert!(caught(), "it throws");
    let first = started.elapsed();
    if others > 0 {
        let statistics = cache.statistics();
        let generations = statistics.generations_open + statistics.generations_sealed;
        eprintln!("{what}: {generations} generations; the first throw took {first:.2?}");
    }
    Some(median_of_many(caught))
}

fn median_of_many(mut throw: impl FnMut() -> bool) -> f64 {
    const RUNS: usize = 31;
    const THROWS: u32 = 100;
    let figures: Vec<f64> = (0..RUNS)
        .map(|_| {
            let started = Instant::now();
            for _ in 0..THROWS {
                assert!(throw(), "it throws");
            }
            started.elapsed().as_secs_f64() * 1e6 / f64::from(THROWS)
        })
        .collect();
    quantile(&figures, 0.5)
}

/// As many frames of this function, and a throw below them.
#[inline(never)]
extern "C-unwind" fn down(frames: u32, x: i64) -> i64 {
    if frames == 1 {
        resume_unwind(Box::new(x));
    }
    down(frames - 1, x) + black_box(1) // not by a jump
}

/// Compiles so many methods, and among them, evenly spread, those that call each other down to the one
/// that throws. Returns the first of these, and the handles of all.
fn fill(cache: &Cache<Code>, others: u32) -> (Handle<Code, Unary>, Vec<Handle<Code, Unary>>) {
    let top = Code::new(1 << FRAMES, How::CallHost)
        .depth(FRAMES - 1)
        .framed();
    let mut chain = std::iter::successors(Some(top), Code::callee);
    let (mut handles, mut waiting) = (Vec::new(), Vec::new());
    for n in 0..others {
        if n % (METHODS / u32::from(FRAMES)) == 0 {
            waiting.extend(chain.next());
        }
        waiting.push(Code::leaf(n).framed());
        if waiting.len() > 10_000 {
            handles.extend(compile(cache, &mut waiting));
        }
    }
    waiting.extend(chain);
    handles.extend(compile(cache, &mut waiting));
    assert_eq!(handles.len(), others as usize + usize::from(FRAMES));
    cache.seal();
    (method(cache, top), handles)
}

fn compile(cache: &Cache<Code>, codes: &mut Vec<Code>) -> Vec<Handle<Code, Unary>> {
    let handles: Vec<_> = codes.drain(..).map(|code| method(cache, code)).collect();
    for handle in &handles {
        handle.request().expect("the cache is open");
    }
    let me = cache.participant("who asks");
    for handle in &handles {
        handle.get(&mut me.pin()).expect("it compiles");
    }
    handles
}
