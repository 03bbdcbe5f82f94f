//! Methods that come, and go, beside LLJIT with a module and a resource tracker for each.

use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use inkpot::{Backend, Batch, Cache, ContextRelease, Error, Reclaimer};

use crate::batch::Bare;
use crate::measure::Pair;
use crate::methods::{self, Bursts, Name, Size};
use crate::trackers::Trackers;

static EMITTING: AtomicU64 = AtomicU64::new(0);

pub fn small() {
    compile("compile_rate_small", Size::Tiny, 384);
}

pub fn medium() {
    compile("compile_rate_medium", Size::Medium, 192);
}

/// A burst through the cache, until all can be called; and the same IR, with the same passes, through LLJIT.
fn compile(name: &'static str, size: Size, burst: u64) {
    let cache = methods::builder(&EMITTING).build().expect("a cache");
    let mut ours = Bursts::new(cache, size, burst);
    let mut theirs = Bare::new(size, burst);
    let trackers = Trackers::new();
    let pair = Pair {
        name,
        ours: "through the cache",
        theirs: "through LLJIT",
        unit: "methods/s",
    };
    pair.in_turns(
        || burst as f64 / ours.run(),
        || {
            let mut numbers = Vec::new();
            let started = Instant::now();
            let contexts = theirs.each(|number, object| {
                trackers.add(number, &object);
                numbers.push(number);
            });
            let took = started.elapsed().as_secs_f64();
            drop(contexts);
            trackers.remove(numbers);
            burst as f64 / took
        },
    );
}

/// Methods of a batch, and of a generation.
const BATCH: usize = 64;

/// A batch's object, and the symbols of its methods.
type Object = (Vec<u8>, Vec<String>);

/// Compiles batches as one would by hand, and remembers the last object, and when it was there.
struct Kept {
    bare: Mutex<Bare>,
    last: Mutex<Option<(Instant, Object)>>,
}

/// So that it can be asked while a cache has it.
struct Keeping(&'static Kept);

impl Backend<Name> for Keeping {
    type Context = ();

    fn open(&self) -> Result<((), u64), Error> {
        Ok(((), 0))
    }

    fn compile(&self, _context: &mut (), batch: &mut Batch<'_, Name>) -> Result<Vec<u8>, Error> {
        let symbols: Vec<_> = (0..batch.len()).map(|i| batch.symbol(i)).collect();
        let methods = (0..batch.len()).map(|i| (*batch.key(i), symbols[i].clone()));
        let bare = self.0.bare.lock().expect("nobody panics");
        let object = bare.compile_all(&methods.collect::<Vec<_>>());
        let copy = (object.clone(), symbols);
        *self.0.last.lock().expect("nobody panics") = Some((Instant::now(), copy));
        Ok(object)
    }
}

/// From the object to methods that can be called: the cache's linker, and JITLink with the same object.
pub fn link() {
    linked(
        "link",
        "JITLink, the same object",
        |trackers, (object, symbols)| {
            let started = Instant::now();
            let tracked = trackers.link(&object, symbols);
            let took = started.elapsed();
            assert_eq!(tracked.entries.len(), BATCH);
            took
        },
    );
}

/// The same, and JITLink with an object for each of the methods: as it has to be where each of them shall go by itself.
pub fn link_each() {
    let mut bare = Bare::new(Size::Medium, BATCH as u64);
    linked("link_each", "JITLink, an object each", |trackers, _| {
        let mut took = Duration::ZERO;
        let mut numbers = Vec::new();
        let contexts = bare.each(|number, object| {
            let started = Instant::now();
            trackers.add(number, &object);
            took += started.elapsed();
            numbers.push(number);
        });
        drop(contexts);
        trackers.remove(numbers);
        took
    });
}

fn linked(
    name: &'static str,
    theirs: &'static str,
    mut by_jitlink: impl FnMut(&Trackers, Object) -> Duration,
) {
    let kept: &'static Kept = Box::leak(Box::new(Kept {
        bare: Mutex::new(Bare::new(Size::Medium, 1)),
        last: Mutex::new(None),
    }));
    let cache = Cache::with_backend(Keeping(kept))
        .workers(0)
        .batch_limit(BATCH)
        .generation_methods(BATCH)
        .reclaimer(Reclaimer::Manual);
    let cache = methods::imports()
        .into_iter()
        .fold(cache, |cache, (name, address)| cache.import(name, address))
        .build()
        .expect("a cache");
    let trackers = Trackers::new();
    let mut next = 0;
    let pair = Pair {
        name,
        ours: "the cache",
        theirs,
        unit: "us a method",
    };
    let each = |took: Duration| took.as_secs_f64() * 1e6 / BATCH as f64;
    pair.rounds(|| {
        let numbers = next..next + BATCH as u64;
        next = numbers.end;
        let ask = |number| {
            let size = Size::Medium;
            let handle = methods::handle(&cache, Name { size, number });
            handle.request().expect("the cache is open");
            handle
        };
        let handles: Vec<_> = numbers.map(ask).collect();
        assert_eq!(cache.compile_some(BATCH), BATCH);
        let now = Instant::now();
        let last = kept.last.lock().expect("nobody panics").take();
        let (there, object) = last.expect("it was compiled");
        assert!(cache.statistics().methods_resident == BATCH as u64);
        drop(handles);
        cache.seal();
        cache.evict_all();
        while cache.maintain() {}
        (each(now - there), each(by_jitlink(&trackers, object)))
    });
}

/// A generation's methods are evicted, and its memory comes back; and trackers, each with a method, are removed.
pub fn recycle() {
    let cache = methods::builder(&EMITTING)
        .workers(0)
        .generation_methods(BATCH)
        .batch_limit(BATCH)
        .release_context(ContextRelease::AtSealing)
        .reclaimer(Reclaimer::Manual);
    let cache = cache.build().expect("a cache");
    let mut bare = Bare::new(Size::Medium, BATCH as u64);
    let trackers = Trackers::new();
    let mut next = 0;
    let pair = Pair {
        name: "recycle",
        ours: "a generation of 64",
        theirs: "64 trackers",
        unit: "us",
    };
    pair.in_turns(
        || {
            let numbers = next..next + BATCH as u64;
            next = numbers.end;
            for number in numbers {
                let size = Size::Medium;
                let handle = methods::handle(&cache, Name { size, number });
                handle.request().expect("the cache is open");
            }
            while cache.compile_some(BATCH) > 0 {}
            cache.seal();
            // Contexts go at sealing, as theirs are gone when code is: neither is in the time.
            (0..3).for_each(|_| {
                cache.maintain();
            });
            let before = cache.statistics();
            assert_eq!(before.methods_resident, BATCH as u64);
            let started = Instant::now();
            cache.evict_all();
            while cache.maintain() {}
            let took = started.elapsed();
            let recycled = cache.statistics().generations_recycled - before.generations_recycled;
            assert!(recycled > 0);
            took.as_secs_f64() * 1e6
        },
        || {
            let mut numbers = Vec::new();
            let contexts = bare.each(|number, object| {
                trackers.add(number, &object);
                numbers.push(number);
            });
            drop(contexts);
            let started = Instant::now();
            trackers.remove(numbers);
            started.elapsed().as_secs_f64() * 1e6
        },
    );
}
