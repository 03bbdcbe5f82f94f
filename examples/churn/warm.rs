//! How soon a runtime is warm, and how fast it is then: an interpreter runs what has no code yet, and nothing ever
//! waits for a compilation.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use inkpot::{Cache, Handle};
use serde::Serialize;

use crate::interpreter::{Core, Program};
use crate::options::Options;
use crate::pooled::Pooled;
use crate::runtime::{MethodFn, Object, Thread, Value, integer};
use crate::strategy::Fallible;
use crate::world::{CLASSES, Key, PUBLIC_PARTS, Random};

/// Calls of each method, with arguments that are known before: what they return is too.
const VARIANTS: usize = 4;
/// Calls of which a thread counts together how many ran compiled code: if so many of them did it is warm.
const BLOCK: u64 = 1024;
const WARM: u64 = BLOCK * 9 / 10;
/// Calls between two quanta.
const QUANTUM: u64 = 64;
/// How long nothing may be compiled, nor interpreted, before the speed is measured: longer than a batch takes. And for
/// how long it is measured.
const QUIET: Duration = Duration::from_secs(3);
const MEASURED: Duration = Duration::from_secs(2);
/// No compilation takes longer.
const PATIENCE: Duration = Duration::from_secs(300);

/// What came of it.
#[derive(Serialize)]
pub struct Warmth {
    methods: u64,
    threads: u64,
    tiers: bool,
    opt: u8,
    /// Until nine calls in ten ran compiled code, on the thread where that took longest.
    seconds_until_warm: f64,
    /// Until no method was promoted any more.
    seconds_until_settled: f64,
    /// Once that was so, on all threads.
    calls_per_second: f64,
    interpreted: u64,
    compiles: u64,
    promotions: u64,
    /// Of IR that was kept for promotions, at the end.
    source_bytes: u64,
    pub wrong_results: u64,
}

/// What the fallback needs: it is called by code that knows nothing but the method's word.
static INTERPRETER: OnceLock<Core> = OnceLock::new();
static INTERPRETED: AtomicU64 = AtomicU64::new(0);

inkpot::fallback! {
    /// The interpreter, for the method whose key is in the word.
    pub unsafe extern "C" fn interpret(word: usize, thread: *mut Thread, left: Value, right: Value) -> Value {
        let key = key_of(word);
        INTERPRETED.fetch_add(1, Ordering::Relaxed);
        let core = INTERPRETER.get().expect("it is there before any method");
        let program = Program::new(core, key.family, key.version);
        // SAFETY: methods are called with the thread that they run on.
        program.call_of(key, unsafe { &mut *thread }, left, right)
    }
}

/// A key as a word: versions do not count here, where no type changes.
pub fn word_of(key: &Key) -> usize {
    (key.family as usize) << 8 | usize::from(key.part)
}

fn key_of(word: usize) -> Key {
    Key {
        family: (word >> 8) as u32,
        version: 0,
        part: word as u8,
    }
}

/// A method that is called, and what its calls come to.
struct Site {
    handle: Handle<Key, MethodFn>,
    calls: Vec<Known>,
}

struct Known {
    left: Value,
    right: Value,
    result: Value,
    thread: Thread,
    /// What the arguments refer to.
    _objects: Box<[Object; 2]>,
}

// SAFETY: the thread's frame pointer is null outside of calls.
unsafe impl Send for Known {}
// SAFETY: as above; nothing is written.
unsafe impl Sync for Known {}

/// What threads tell.
#[derive(Default)]
struct Progress {
    stop: AtomicBool,
    warm: AtomicU64,
    /// Nanoseconds until the last thread was warm.
    latest: AtomicU64,
    calls: AtomicU64,
    wrong: AtomicU64,
}

pub fn run(options: &Options) -> Fallible<Warmth> {
    let seed = options.seed;
    let core = INTERPRETER.get_or_init(|| Core::new(seed));
    let pooled = Pooled::warming(options)?;
    let cache = pooled.cache();
    let families = (options.methods() / u64::from(PUBLIC_PARTS)).max(1) as u32;
    let mut sites = Vec::new();
    for family in 0..families {
        let program = Program::new(core, family, 0);
        for part in 0..PUBLIC_PARTS {
            // SAFETY: every method is emitted with this type.
            let handle = unsafe { cache.method(&program.key(part)) }?;
            let calls = known_calls(&program, part, seed);
            sites.push(Site { handle, calls });
        }
    }
    let progress = Progress::default();
    let started = Instant::now();
    let (settled, speed) = std::thread::scope(|scope| {
        for number in 0..options.threads {
            let (sites, progress) = (&sites, &progress);
            scope.spawn(move || call(cache, sites, number, started, progress));
        }
        let settled = watch(cache, options.threads, started, &progress);
        let before = progress.calls.load(Ordering::Relaxed);
        let measured = Instant::now();
        std::thread::sleep(MEASURED);
        let calls = progress.calls.load(Ordering::Relaxed) - before;
        let speed = calls as f64 / measured.elapsed().as_secs_f64();
        progress.stop.store(true, Ordering::Relaxed);
        (settled, speed)
    });
    let now = cache.statistics();
    Ok(Warmth {
        methods: sites.len() as u64,
        threads: options.threads,
        tiers: options.settings.tiers,
        opt: options.opt,
        seconds_until_warm: progress.latest.load(Ordering::Relaxed) as f64 / 1e9,
        seconds_until_settled: settled.as_secs_f64(),
        calls_per_second: speed,
        interpreted: INTERPRETED.load(Ordering::Relaxed),
        compiles: now.compiles,
        promotions: now.promotions,
        source_bytes: now.bytes.sources,
        wrong_results: progress.wrong.load(Ordering::Relaxed),
    })
}

/// Makes up arguments, and asks the interpreter what comes of them.
fn known_calls(program: &Program<'_>, part: u8, seed: u64) -> Vec<Known> {
    let key = program.key(part);
    let mut random = Random::of(seed, &[23, key.family.into(), part.into()]);
    (0..VARIANTS)
        .map(|_| {
            let classes = [0; 2].map(|_| program.profile.classes[random.below(CLASSES)]);
            let objects = Box::new(classes.map(|class| Object::new(class, &mut random)));
            let [left, right] =
                [(0, 10), (1, 50)].map(|(n, integers): (usize, usize)| {
                    match random.chance(integers) {
                        true => integer(random.next() as i64 >> random.below(64)),
                        false => objects[n].value(),
                    }
                });
            let mut thread = Thread::NEW;
            let result = program.call(part, &mut thread, left, right);
            Known {
                left,
                right,
                result,
                thread,
                _objects: objects,
            }
        })
        .collect()
}

/// Calls methods until it is told to stop.
fn call(cache: &Cache<Key>, sites: &[Site], number: u64, started: Instant, progress: &Progress) {
    let me = cache.participant(format!("caller {number}"));
    let mut guard = me.pin();
    let mut random = Random::of(number, &[29]);
    let mut warm = false;
    let (mut calls, mut compiled, mut wrong) = (0, 0, 0);
    loop {
        calls += 1;
        let site = &sites[random.below(sites.len())];
        let known = &site.calls[random.below(VARIANTS)];
        let mut thread = Thread::NEW;
        let entry = match site.handle.entry(&guard) {
            Some(entry) => {
                compiled += 1;
                entry
            }
            None => site.handle.entry_or_fallback(&guard),
        };
        // SAFETY: the thread's state and the objects outlive the call.
        let result = unsafe { entry.call(&mut thread, known.left, known.right) };
        wrong += u64::from(result != known.result || thread != known.thread);
        if calls % QUANTUM == 0 {
            guard.repin();
        }
        if calls == BLOCK {
            if !warm && compiled >= WARM {
                warm = true;
                let now = started.elapsed().as_nanos() as u64;
                progress.latest.fetch_max(now, Ordering::Relaxed);
                progress.warm.fetch_add(1, Ordering::Relaxed);
            }
            progress.calls.fetch_add(calls, Ordering::Relaxed);
            progress.wrong.fetch_add(wrong, Ordering::Relaxed);
            if progress.stop.load(Ordering::Relaxed) {
                return;
            }
            (calls, compiled, wrong) = (0, 0, 0);
        }
    }
}

/// Waits until all threads are warm, and nothing is compiled any more. How long that took.
fn watch(cache: &Cache<Key>, threads: u64, started: Instant, progress: &Progress) -> Duration {
    let mut last = ((0, 0), Instant::now());
    while started.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(5));
        let now = cache.statistics();
        let done = (now.compiles, INTERPRETED.load(Ordering::Relaxed));
        if done != last.0 || now.queued > 0 {
            last = (done, Instant::now());
        }
        let warm = progress.warm.load(Ordering::Relaxed) == threads;
        if warm && last.1.elapsed() >= QUIET {
            break;
        }
    }
    last.1.duration_since(started)
}
