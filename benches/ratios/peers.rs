//! Concurrent maps that one would keep code in without this crate: from keys to `Arc`s, with their own hashers, looked
//! up as their documentation does it.

use std::sync::Arc;

use dashmap::DashMap;
use inkpot::{Cache, Guard, Participant};

use crate::many::Unary;

/// What a peer keeps of a method.
pub struct Code {
    entry: u64,
}

impl Code {
    /// Calls it.
    fn call(&self, x: u64) -> u64 {
        // SAFETY: the entry is that of a method of the cache that the peers were made from, which stays.
        unsafe { std::mem::transmute::<usize, Unary>(self.entry as usize)(x) }
    }
}

/// Looks keys up one after the other.
pub trait Table {
    fn name(&self) -> &'static str;
    /// All entries, summed up.
    fn look_up(&self, keys: &[u64]) -> u64;
    /// Calls each of the methods with what the last one returned.
    fn call(&self, keys: &[u64]) -> u64;
}

/// The cache itself, under a guard that is held.
pub struct Ours<'a> {
    pub cache: &'a Cache<u64>,
    pub guard: Guard<'a>,
}

impl<'a> Ours<'a> {
    pub fn new(cache: &'a Cache<u64>, me: &'a Participant) -> Self {
        Self {
            cache,
            guard: me.pin(),
        }
    }
}

impl Table for Ours<'_> {
    fn name(&self) -> &'static str {
        "inkpot"
    }

    #[inline(never)]
    fn look_up(&self, keys: &[u64]) -> u64 {
        keys.iter().fold(0, |sum, key| {
            // SAFETY: the type is right.
            let entry = unsafe { self.cache.entry::<Unary>(key, &self.guard) };
            let entry = entry.expect("it is resident");
            // SAFETY: it is not called.
            sum ^ unsafe { entry.pointer() } as usize as u64
        })
    }

    #[inline(never)]
    fn call(&self, keys: &[u64]) -> u64 {
        keys.iter().fold(0, |x, key| {
            // SAFETY: the type is right, and the methods take any number.
            unsafe {
                let entry = self.cache.entry::<Unary>(key, &self.guard);
                entry.expect("it is resident").call(x)
            }
        })
    }
}

/// Pinned once for all keys.
struct Papaya(papaya::HashMap<u64, Arc<Code>>);

impl Table for Papaya {
    fn name(&self) -> &'static str {
        "papaya"
    }

    #[inline(never)]
    fn look_up(&self, keys: &[u64]) -> u64 {
        let map = self.0.pin();
        keys.iter()
            .fold(0, |sum, key| sum ^ map.get(key).expect("it is there").entry)
    }

    #[inline(never)]
    fn call(&self, keys: &[u64]) -> u64 {
        let map = self.0.pin();
        keys.iter()
            .fold(0, |x, key| map.get(key).expect("it is there").call(x))
    }
}

/// Where `get` clones the `Arc`: a name, and that.
struct Cloning<G>(&'static str, G);

impl<G: Fn(&u64) -> Option<Arc<Code>>> Table for Cloning<G> {
    fn name(&self) -> &'static str {
        self.0
    }

    #[inline(never)]
    fn look_up(&self, keys: &[u64]) -> u64 {
        keys.iter().fold(0, |sum, key| {
            sum ^ (self.1)(key).expect("it is there").entry
        })
    }

    #[inline(never)]
    fn call(&self, keys: &[u64]) -> u64 {
        keys.iter()
            .fold(0, |x, key| (self.1)(key).expect("it is there").call(x))
    }
}

/// For a call the `Arc` is cloned: the shard would be locked as long as the method runs, and a method that is
/// compiled meanwhile could not be inserted.
struct Dashmap(DashMap<u64, Arc<Code>>);

impl Table for Dashmap {
    fn name(&self) -> &'static str {
        "dashmap"
    }

    #[inline(never)]
    fn look_up(&self, keys: &[u64]) -> u64 {
        keys.iter().fold(0, |sum, key| {
            sum ^ self.0.get(key).expect("it is there").entry
        })
    }

    #[inline(never)]
    fn call(&self, keys: &[u64]) -> u64 {
        keys.iter().fold(0, |x, key| {
            let code = Arc::clone(&self.0.get(key).expect("it is there"));
            code.call(x)
        })
    }
}

/// The names of the peers.
pub const PEERS: [&str; 4] = ["papaya", "quick_cache", "dashmap", "moka"];

/// A peer with these entries, by the keys from 0 on.
pub fn peer(name: &str, entries: &[u64]) -> Box<dyn Table + Send + Sync> {
    let many = entries.len();
    let all = (0..).zip(entries.iter().map(|&entry| Arc::new(Code { entry })));
    match name {
        "papaya" => {
            let map = papaya::HashMap::new();
            let pinned = map.pin();
            all.for_each(|(key, code)| assert!(pinned.insert(key, code).is_none()));
            drop(pinned);
            Box::new(Papaya(map))
        }
        "quick_cache" => {
            // Room enough for each of its shards.
            let cache = quick_cache::sync::Cache::new(2 * many);
            all.for_each(|(key, code)| cache.insert(key, code));
            Box::new(Cloning("quick_cache", move |key: &u64| cache.get(key)))
        }
        "dashmap" => Box::new(Dashmap(all.collect())),
        "moka" => {
            let cache = moka::sync::Cache::new(2 * many as u64);
            all.for_each(|(key, code)| cache.insert(key, code));
            cache.run_pending_tasks();
            Box::new(Cloning("moka", move |key: &u64| cache.get(key)))
        }
        _ => unreachable!("no peer is called {name}"),
    }
}
