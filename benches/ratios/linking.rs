//! From an object to methods that can be called: the cache's linker beside JITLink.
//!
//! Each object is linked several times by both, in turns: the cache loses the methods in between and is asked for
//! them again, and JITLink's tracker is removed.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use inkpot::{Backend, Batch, Cache, Error, Reclaimer};

use crate::batch::Bare;
use crate::measure::{Pair, quantile};
use crate::methods::{self, Name, Size};
use crate::rates::BATCH;
use crate::trackers::Trackers;

/// How often an object is linked by each side.
const LINKS: usize = 9;

/// A batch's object, and the symbols of its methods.
struct Object {
    bytes: Vec<u8>,
    symbols: Vec<String>,
}

/// Compiles batches as one would by hand, and remembers the last object, and when it was there.
struct Kept {
    bare: Mutex<Bare>,
    apart: bool,
    last: Mutex<Option<Object>>,
    there: Mutex<Option<Instant>>,
}

/// So that it can be asked while a cache has it.
struct Keeping(&'static Kept);

impl Backend<Name> for Keeping {
    type Context = ();

    fn open(&self) -> Result<((), u64), Error> {
        Ok(((), 0))
    }

    fn compile(&self, _context: &mut (), batch: &mut Batch<'_, Name>) -> Result<Vec<u8>, Error> {
        let mut last = self.0.last.lock().expect("nobody panics");
        let object = last.get_or_insert_with(|| {
            let symbols: Vec<_> = (0..batch.len()).map(|i| batch.symbol(i)).collect();
            let methods = (0..batch.len()).map(|i| (*batch.key(i), symbols[i].clone()));
            let bare = self.0.bare.lock().expect("nobody panics");
            let bytes = bare.compile_all(&methods.collect::<Vec<_>>(), self.0.apart);
            Object { bytes, symbols }
        });
        let bytes = object.bytes.clone();
        *self.0.there.lock().expect("nobody panics") = Some(Instant::now());
        Ok(bytes)
    }
}

/// A section for each method, as the cache's own backend has it.
pub fn apart() {
    whole("link", true);
}

/// All methods in one section.
pub fn one() {
    whole("link_one", false);
}

fn whole(name: &'static str, apart: bool) {
    linked(
        name,
        "JITLink, the same object",
        apart,
        |trackers, object| {
            let started = Instant::now();
            let tracked = trackers.link(&object.bytes, object.symbols.iter().cloned());
            let took = started.elapsed();
            assert_eq!(tracked.entries.len(), BATCH);
            took
        },
    );
}

/// The same, and JITLink with an object for each of the methods: as it has to be where each of them shall go by itself.
pub fn each() {
    let mut bare = Bare::new(Size::Medium, BATCH as u64);
    linked(
        "link_each",
        "JITLink, an object each",
        true,
        |trackers, _| {
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
        },
    );
}

fn linked(
    name: &'static str,
    theirs: &'static str,
    apart: bool,
    mut by_jitlink: impl FnMut(&Trackers, &Object) -> Duration,
) {
    let kept: &'static Kept = Box::leak(Box::new(Kept {
        bare: Mutex::new(Bare::new(Size::Medium, 1)),
        apart,
        last: Mutex::new(None),
        there: Mutex::new(None),
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
        kept.last.lock().expect("nobody panics").take();
        let size = Size::Medium;
        let handles: Vec<_> = numbers
            .map(|number| methods::handle(&cache, Name { size, number }))
            .collect();
        let (mut ours, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..LINKS {
            for handle in &handles {
                handle.request().expect("the cache is open");
            }
            assert_eq!(cache.compile_some(BATCH), BATCH);
            let now = Instant::now();
            let there = kept.there.lock().expect("nobody panics").take();
            ours.push(each(now - there.expect("it was compiled")));
            assert!(cache.statistics().methods_resident == BATCH as u64);
            cache.seal();
            cache.evict_all();
            while cache.maintain() {}
            let last = kept.last.lock().expect("nobody panics");
            let object = last.as_ref().expect("it is kept");
            theirs.push(each(by_jitlink(&trackers, object)));
        }
        (quantile(&ours, 0.5), quantile(&theirs, 0.5))
    });
}
