//! The compile service: how soon a lone request is answered, and what a second worker gains.

use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use inkpot::inkwell::memory_buffer::MemoryBuffer;
use inkpot::{Cache, OptLevel};

use crate::batch::Bare;
use crate::lljit::Lljit;
use crate::measure::{Pair, processor_seconds, quantile};
use crate::methods::{self, Bursts, Name, Size};

static EMITTING: AtomicU64 = AtomicU64::new(0);

/// Requests of a round.
const LONE: u64 = 24;
/// Between two of them: all that the last one left to do is done, and the service sleeps.
const PAUSE: Duration = Duration::from_millis(5);

/// A method at O2, asked for when nothing else is, until it can be called; against the bare pipeline and
/// LLJIT's linking.
pub fn lone() {
    let builder = methods::builder(&EMITTING).opt_level(OptLevel::O2);
    let cache = builder.build().expect("a cache");
    let mut theirs = Bare::at(OptLevel::O2, Size::Medium, 1);
    let lljit = Lljit::new().expect("LLJIT");
    for (name, address) in methods::imports() {
        lljit.define(name, address).expect("it is new");
    }
    let mut next = 0;
    let pair = Pair {
        name: "lone_request",
        ours: "the service",
        theirs: "LLVM and LLJIT",
        unit: "ms",
    };
    // On a machine that others use too, processor time says more.
    let [mut our_work, mut their_work] = [Vec::new(), Vec::new()];
    let figure = |work: &mut Vec<f64>, one: &mut dyn FnMut() -> Duration| {
        let before = processor_seconds();
        let times = (0..LONE).map(|_| {
            std::thread::sleep(PAUSE);
            one().as_secs_f64() * 1e3
        });
        let times: Vec<f64> = times.collect();
        work.push((processor_seconds() - before) * 1e3 / LONE as f64);
        quantile(&times, 0.5)
    };
    pair.in_turns(
        || {
            let me = cache.participant("asks");
            let figure = figure(&mut our_work, &mut || {
                let mut guard = me.pin();
                let started = Instant::now();
                next += 1;
                let size = Size::Medium;
                let handle = methods::handle(&cache, Name { size, number: next });
                handle.get(&mut guard).expect("it compiles");
                started.elapsed()
            });
            clear(&cache);
            figure
        },
        || {
            figure(&mut their_work, &mut || {
                let started = Instant::now();
                let contexts = theirs.each(|number, object| {
                    let object = MemoryBuffer::create_from_memory_range_copy(&object, "method");
                    lljit.add(object).expect("it is linked");
                    let address = lljit.address(&format!("method.{number}"));
                    assert!(!address.expect("it is there").is_null());
                });
                let took = started.elapsed();
                drop(contexts);
                took
            })
        },
    );
    let [ours, theirs] = [&our_work, &their_work].map(|work| quantile(work, 0.5));
    let ratio = ours / theirs;
    eprintln!("lone_request: processor time {ours:.3} and {theirs:.3} ms, {ratio:.3}");
}

/// Outside of the time.
fn clear(cache: &Cache<Name>) {
    cache.seal();
    cache.evict_all();
}

/// Methods of a burst, for each side.
const BURST: u64 = 256;

/// Two workers against one, and two threads that run LLVM on data of their own against one.
pub fn two_workers() {
    let build = |workers| {
        let builder = methods::builder(&EMITTING).workers(workers);
        Bursts::new(builder.build().expect("a cache"), Size::Medium, BURST)
    };
    let (mut one, mut two) = (build(1), build(2));
    let mut alone = [Bare::new(Size::Medium, BURST)];
    let mut halves = [(); 2].map(|()| Bare::new(Size::Medium, BURST / 2));
    let pair = Pair {
        name: "two_workers_rate",
        ours: "two workers gain",
        theirs: "two threads of LLVM gain",
        unit: "times",
    };
    // In threads of their own, whether one or two: a thread of malloc's main arena is at a disadvantage.
    let bare = |sides: &mut [Bare]| {
        std::thread::scope(|threads| {
            for side in sides {
                threads.spawn(|| drop(side.each(|_, object| drop(object))));
            }
        });
    };
    let time = |run: &mut dyn FnMut()| {
        let started = Instant::now();
        run();
        started.elapsed().as_secs_f64()
    };
    pair.rounds(|| {
        let by_one = one.run();
        let alone = time(&mut || bare(&mut alone));
        let by_two = two.run();
        let together = time(&mut || bare(&mut halves));
        (by_one / by_two, alone / together)
    });
}
