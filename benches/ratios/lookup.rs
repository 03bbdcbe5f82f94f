//! From a key to code that can be called: the cache's own table under a held guard, against concurrent maps from
//! keys to `Arc`s. With few methods and many, where all are looked up equally often, and where some are far more
//! often; what counts is the worst of these.

use std::hint::black_box;

use crate::many::{self, FEW, MANY, Often};
use crate::measure::{Pair, nanoseconds, quantile};
use crate::peers::{Ours, PEERS, Table, peer};

/// Keys of one run, and of all runs before they come again.
const RUN: usize = 20_000;
const KEYS: usize = 64 * RUN;

const SETTINGS: [(u64, Often); 4] = [
    (FEW, Often::Uniform),
    (FEW, Often::Zipf),
    (MANY, Often::Uniform),
    (MANY, Often::Zipf),
];

type Walk = fn(&dyn Table, &[u64]) -> u64;

fn look_up(table: &dyn Table, keys: &[u64]) -> u64 {
    table.look_up(keys)
}

fn call(table: &dyn Table, keys: &[u64]) -> u64 {
    table.call(keys)
}

pub fn papaya() {
    beside("lookup_papaya", &PEERS[..1], look_up);
}

pub fn quick_cache() {
    beside("lookup_quick_cache", &PEERS[1..2], look_up);
}

pub fn dashmap() {
    beside("lookup_dashmap", &PEERS[2..3], look_up);
}

pub fn moka() {
    beside("lookup_moka", &PEERS[3..], look_up);
}

/// With the call, against the quickest of them.
pub fn call_best() {
    beside("lookup_call_best", &PEERS, call);
}

/// A setting, ready to be measured.
struct Prepared {
    name: String,
    methods: u64,
    peers: Vec<Box<dyn Table + Send + Sync>>,
    keys: Vec<u64>,
    /// Where the next run begins.
    next: usize,
    /// What was seen, ours and theirs.
    seen: Vec<(f64, f64)>,
}

impl Prepared {
    fn new(methods: u64, often: Often, peers: &[&str]) -> Self {
        let cache = many::cache_of(methods);
        let entries = many::entries(cache, &cache.participant("prepares"), methods);
        Self {
            name: format!("{methods} methods, {often:?}"),
            methods,
            peers: peers.iter().map(|name| peer(name, &entries)).collect(),
            keys: many::keys(often, methods, KEYS),
            next: 0,
            seen: Vec::new(),
        }
    }

    /// Ours and the best of theirs, in ns.
    fn measure(&mut self, walk: Walk) -> (f64, f64) {
        let cache = many::cache_of(self.methods);
        let me = cache.participant("looks up");
        let ours = Ours::new(cache, &me);
        let next = &mut self.next;
        // Each run has keys that neither side has just looked up.
        let mut run = |table: &dyn Table| {
            let keys = &self.keys[*next..*next + RUN];
            *next = (*next + RUN) % KEYS;
            black_box(walk(table, black_box(keys)));
        };
        let run = &std::cell::RefCell::new(&mut run);
        let both = self.peers.iter().map(|peer| {
            nanoseconds(
                RUN as u64,
                |_| (run.borrow_mut())(&ours),
                |_| (run.borrow_mut())(&**peer),
            )
        });
        let best = both.min_by(|a, b| a.1.total_cmp(&b.1));
        let best = best.expect("there is a peer");
        self.seen.push(best);
        best
    }
}

fn beside(name: &'static str, peers: &[&'static str], walk: Walk) {
    let prepare = |(methods, often)| Prepared::new(methods, often, peers);
    let mut settings = SETTINGS.map(prepare);
    let pair = Pair {
        name,
        ours: "by key",
        theirs: if peers.len() > 1 {
            "the best of them"
        } else {
            peers[0]
        },
        unit: "ns",
    };
    pair.rounds(|| {
        let all = settings.iter_mut().map(|setting| setting.measure(walk));
        let worst = all.max_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1)));
        worst.expect("there are settings")
    });
    for setting in settings {
        let side = |pick: fn(&(f64, f64)) -> f64| {
            let all: Vec<f64> = setting.seen.iter().map(pick).collect();
            quantile(&all, 0.5)
        };
        let (ours, theirs) = (side(|s| s.0), side(|s| s.1));
        let ratio = ours / theirs;
        eprintln!(
            "{name}: {}: {ours:.1} and {theirs:.1} ns, {ratio:.3}",
            setting.name
        );
    }
}
