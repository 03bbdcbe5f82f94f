//! What the process has of the system, before and after.

use std::time::Duration;

use inkpot::{Cache, ContextRelease, OptLevel, Reclaimer};

use crate::charge::heap;
use crate::support::{child, wait_until};
use crate::workloads::{Filler, Filling, Key, Kind, method};
use crate::{builder, compile};

const PATIENCE: Duration = Duration::from_secs(300);

/// Some 40 MB of contexts, and 4 MB of code.
const FILLING: Filling = Filling {
    kind: Kind::Constants,
    methods: 1500,
    batch: 64,
    level: OptLevel::O0,
};

/// Resident bytes of the process.
fn rss() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("there is a /proc");
    let pages = statm.split(' ').nth(1).expect("the second number");
    pages.parse::<u64>().expect("a number") * 4096
}

/// Gives the cache time to trim the heap, which it does a little after it was freed.
fn settle(cache: &Cache<Key>) {
    for _ in 0..12 {
        cache.maintain();
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn resident_memory_falls_when_generations_are_recycled() {
    let test = "resident::resident_memory_falls_when_generations_are_recycled";
    let ended = child::run(test, PATIENCE, || {
        let filler = Filler::default();
        let gate = filler.gate.clone();
        let cache = Cache::builder(filler)
            .opt_level(FILLING.level)
            .reclaimer(Reclaimer::Thread)
            .build()
            .unwrap();
        let warm_up = Filling {
            methods: 64,
            ..FILLING
        };
        compile(&cache, &gate, &warm_up, 1_000_000);
        let recycled = || {
            cache.evict_all();
            cache.seal();
            wait_until("nothing is dead or fallow", || {
                let s = cache.statistics();
                let left = s.generations_open + s.generations_sealed;
                left + s.generations_dead + s.generations_fallow == 0
            });
        };
        recycled();
        let (before, recycled_before) = (rss(), cache.statistics().generations_recycled);
        compile(&cache, &gate, &FILLING, 0);
        let (full, s) = (rss(), cache.statistics());
        let rise = full.saturating_sub(before);
        println!("{before} before, {full} full: {s:#?}");
        assert!(rise > 20 << 20, "{rise}");
        assert!(s.generations_sealed > 2, "several generations");
        recycled();
        assert!(cache.statistics().generations_recycled > recycled_before + 2);
        let settles = (0..20).any(|_| {
            settle(&cache);
            rss() < before + rise / 4
        });
        println!("{} at the end", rss());
        assert!(settles, "of {rise} bytes most stay");
    });
    if let Some(ended) = ended {
        println!("{}", ended.output);
        ended.expect_code(0);
    }
}

/// What a sealed cache takes.
struct Sealed {
    resident: u64,
    /// Bytes of the heap in use, to the allocator.
    heap: u64,
    /// What contexts are charged.
    contexts: u64,
}

/// Fills a cache and seals it.
fn sealed(release: ContextRelease) -> Sealed {
    let filler = Filler::default();
    let gate = filler.gate.clone();
    let builder = builder(filler, &FILLING).release_context(release);
    let cache = builder.build().unwrap();
    compile(&cache, &gate, &FILLING, 0);
    cache.seal();
    let open = cache.statistics();
    assert_eq!((open.generations_open, open.generations_sealed), (0, 1));
    if release == ContextRelease::AtSealing {
        assert_eq!(open.bytes.contexts, 0);
    }
    // The least of several looks: on a busy machine the heap comes down late.
    let looks = (0..4).map(|_| {
        settle(&cache);
        rss()
    });
    let resident = looks.min().expect("several looks");
    let heap = heap() as u64;

    let me = cache.participant("test");
    let guard = me.pin();
    for n in (0..FILLING.methods).step_by(100) {
        let handle = method(&cache, FILLING.kind, n);
        let entry = handle.entry(&guard).expect("it is resident");
        for x in [0, 1, 255, 256] {
            // SAFETY: the type is right.
            let y = unsafe { entry.call(x) };
            assert_eq!(y, crate::workloads::number(n, x as u64 & 255) as i64);
        }
    }
    Sealed {
        resident,
        heap,
        contexts: cache.statistics().bytes.contexts,
    }
}

#[test]
fn contexts_released_at_sealing_are_gone_and_methods_stay() {
    let test = "resident::contexts_released_at_sealing_are_gone_and_methods_stay";
    let ended = child::run(test, PATIENCE, || {
        // Otherwise the allocator keeps what is free at the end of a thread's heap, up to twice the largest piece that
        // was ever freed.
        // SAFETY: an option of the allocator's.
        unsafe { libc::mallopt(libc::M_TRIM_THRESHOLD, 128 << 10) };
        sealed(ContextRelease::AtSealing); // what is allocated once
        let with_generation = sealed(ContextRelease::WithGeneration);
        let at_sealing = sealed(ContextRelease::AtSealing);
        let charged = with_generation.contexts;
        println!(
            "{} resident with {charged} of contexts, {} without; {} and {} in use",
            with_generation.resident, at_sealing.resident, with_generation.heap, at_sealing.heap
        );
        assert_eq!(at_sealing.contexts, 0);
        assert!(charged > 20 << 20, "{charged}");
        // The code is the same; what makes the difference is contexts.
        assert!(at_sealing.heap + charged * 3 / 4 < with_generation.heap);
        // What lies between what stays does not go back to the system.
        assert!(at_sealing.resident + charged / 2 < with_generation.resident);
    });
    if let Some(ended) = ended {
        println!("{}", ended.output);
        ended.expect_code(0);
    }
}
