//! What a cache told its listener, to be held against its statistics and against what lives where.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use inkpot::{Cache, Event, EvictedBy, Key, MethodIs, Statistics};

/// Events by kind.
#[derive(Default)]
pub struct Tally {
    pub calls: AtomicU64,
    /// Calls that ended by a panic, and that went to a fallback.
    pub unwound: AtomicU64,
    pub fell: AtomicU64,
    finished: AtomicU64,
    promoted: AtomicU64,
    in_vain: AtomicU64,
    failed: AtomicU64,
    evicted: AtomicU64,
    unlinked_by_assumptions: AtomicU64,
    recycled: AtomicU64,
    lost: AtomicU64,
    checks: AtomicU64,
}

fn one_more(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Tally {
    pub fn called(&self) {
        one_more(&self.calls);
    }

    pub fn hear<K>(&self, event: &Event<'_, K>) {
        one_more(match event {
            Event::Finished { .. } => &self.finished,
            Event::Promoted { .. } => &self.promoted,
            Event::InVain { .. } => &self.in_vain,
            Event::Failed { .. } => &self.failed,
            Event::Evicted { cause, .. } => match cause {
                EvictedBy::Eviction => &self.evicted,
                EvictedBy::Assumption => &self.unlinked_by_assumptions,
                _ => return,
            },
            Event::Recycled { .. } => &self.recycled,
            Event::Lost { events, .. } => {
                self.lost.fetch_add(*events, Ordering::Relaxed);
                return;
            }
            _ => return,
        });
    }

    /// Where the events and the statistics differ. With nobody acting they agree soon.
    fn differences(&self, s: &Statistics) -> Vec<String> {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let finished = get(&self.finished) + get(&self.promoted);
        [
            ("compiles", s.compiles, finished),
            ("stale_compiles", s.stale_compiles, get(&self.in_vain)),
            ("failures", s.failures, get(&self.failed)),
            ("evictions", s.evictions, get(&self.evicted)),
            (
                "unlinked_by_assumptions",
                s.unlinked_by_assumptions,
                get(&self.unlinked_by_assumptions),
            ),
            (
                "generations_recycled",
                s.generations_recycled,
                get(&self.recycled),
            ),
            ("promotions", s.promotions, get(&self.promoted)),
            ("queued", s.queued, 0),
            ("events_lost", s.events_lost, get(&self.lost)),
        ]
        .into_iter()
        .filter(|(_, said, heard)| said != heard)
        .map(|(what, said, heard)| format!("{what} is {said}, and {heard} were heard of"))
        .collect()
    }

    /// Holds one against the other: nobody asks for anything meanwhile; what was asked for is compiled, and told.
    pub fn check<K: Key>(&self, cache: &Cache<K>) {
        one_more(&self.checks);
        let started = Instant::now();
        loop {
            let s = cache.statistics();
            // An event that was lost is in no count.
            let differences = match s.events_lost {
                0 => self.differences(&s),
                _ => Vec::new(),
            };
            let problems = [differences, inconsistencies(cache)].concat();
            if problems.is_empty() {
                return;
            }
            assert!(
                started.elapsed() < Duration::from_secs(20),
                "{problems:#?}\n{s:#?}"
            );
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    pub fn report(&self, what: &str, s: &Statistics) {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        println!(
            "{what}: {} calls ({} unwound, {} to fallbacks), {} compiles, {} promotions, {} failures, {} evictions, {} \
             invalidations, {} by assumptions, {} moves in {} evacuations, {} generations recycled, {} bytes of code mapped, {} charged, \
             {} in quarantine, {} checks",
            get(&self.calls),
            get(&self.unwound),
            get(&self.fell),
            s.compiles,
            s.promotions,
            s.failures,
            s.evictions,
            s.invalidations,
            s.unlinked_by_assumptions,
            s.moves,
            s.evacuations,
            s.generations_recycled,
            s.mapped_code_bytes,
            s.bytes.charged,
            s.quarantined,
            get(&self.checks),
        );
    }
}

/// What one snapshot says that cannot be, and in which snapshot and pictures of who lives where differ.
fn inconsistencies<K: Key>(cache: &Cache<K>) -> Vec<String> {
    let before = cache.statistics();
    let picture = cache.occupancy();
    let s = cache.statistics();
    let mut problems = Vec::new();
    let mut expect = |what: &str, holds: bool| {
        if !holds {
            problems.push(what.to_owned());
        }
    };
    let b = &s.bytes;
    expect(
        "more methods have code than are known",
        s.methods_resident <= s.methods_known,
    );
    expect(
        "more are on probation than have code",
        s.methods_on_probation <= s.methods_resident,
    );
    expect("more is held than is retired", b.held <= b.retired);
    expect(
        "more generations are held than are fallow",
        s.generations_held <= s.generations_fallow,
    );
    expect("more stays than is kept", b.staying <= b.kept);
    expect("more is mapped than reserved", s.mapped <= s.reserved);
    expect("more pages are written than mapped", s.resident <= s.mapped);
    expect(
        "more is mapped than ever was",
        s.mapped_code_bytes <= s.mapped_code_bytes_peak,
    );
    expect(
        "the parts of the time are more than it",
        s.compile_time.link <= s.compile_time.overhead,
    );
    expect(
        "more came back from probation than went",
        s.relinks <= s.probations,
    );
    expect(
        "counters ran backwards",
        before.evictions <= s.evictions && before.compiles <= s.compiles,
    );
    // Only while nothing changes: survivors are moved, and generations sealed, by threads of the cache's own.
    let same = |of: fn(&Statistics) -> u64| of(&before) == of(&s);
    if same(|s| s.generations_recycled)
        && same(|s| s.moves)
        && same(|s| s.evictions)
        && same(|s| s.compiles)
        && same(|s| s.generations_open)
    {
        let alive = |is: &&MethodIs| !matches!(is, MethodIs::Dead);
        let live = picture
            .iter()
            .flat_map(|g| &g.methods)
            .filter(alive)
            .count() as u64;
        let code: u64 = picture.iter().map(|g| g.code_bytes).sum();
        let open = picture.iter().filter(|g| g.open).count() as u64;
        expect(
            "the picture has other methods than are resident",
            live == s.methods_resident,
        );
        expect(
            "the picture has other generations",
            picture.len() as u64 == s.generations_open + s.generations_sealed,
        );
        expect(
            "the picture has other open generations",
            open == s.generations_open,
        );
        expect(
            "the picture has other bytes",
            code == b.text + b.constants + b.data,
        );
    }
    problems
}
