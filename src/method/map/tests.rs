use std::sync::atomic::{AtomicBool, AtomicUsize};

use super::*;
use proptest::prelude::*;

fn put<K: Eq + Hash + Send + Sync + 'static>(map: &Map<K, u32>, key: K, value: u32) -> bool {
    map.insert_unless(map.hash(&key), key, value, value, |_| false)
}

fn get<K: Eq + Hash + Send + Sync + 'static>(map: &Map<K, u32>, key: &K) -> Option<u32> {
    map.get(map.hash(key), key, |v| *v)
}

/// How long the array is.
fn buckets<K: Eq + Hash + Send + Sync + 'static>(map: &Map<K, u32>) -> usize {
    let _guard = map.epochs.pin();
    // SAFETY: pinned, and nothing that was unlinked is dropped meanwhile by other than this thread.
    unsafe { map.buckets() }.len()
}

fn remove(map: &Map<u32, u32>, key: u32, value: u32) {
    map.remove(map.hash(&key), |v| *v == value);
}

/// Destroys what was unlinked, when nobody looks and all that get have gone.
fn take_apart<K: Eq + Hash + Send + Sync + 'static>(map: &Map<K, u32>) {
    let unlinked = map.take_unlinked();
    while !unlinked.is_over() {
        std::thread::yield_now(); // other tests pin the same epochs
    }
    // SAFETY: it said so, and nobody looks.
    unsafe { unlinked.destroy() };
}

/// What one does to a map, and whether it agrees with the standard one, if keys have such hashes.
fn agrees(
    ops: Vec<(u8, u32, u32)>,
    hash: impl Fn(&Map<u32, u32>, u32) -> u32,
) -> Result<(), TestCaseError> {
    let map = Map::new();
    let mut model = std::collections::HashMap::new();
    for (op, key, value) in ops {
        let hash = hash(&map, key);
        match op {
            0 => {
                let stands = model.contains_key(&key) && value % 2 == 0;
                let inserted = map.insert_unless(hash, key, value, value, |_| value % 2 == 0);
                prop_assert_eq!(inserted, !stands);
                if !stands {
                    model.insert(key, value);
                }
            }
            1 => {
                let present = model.get(&key).copied().unwrap_or(value);
                map.remove(hash, |v| *v == present);
                model.remove(&key);
            }
            2 => {
                // Another value than the one that is there.
                let other = model.get(&key).map_or(value, |v| v.wrapping_add(1));
                if !model.values().any(|v| *v == other) {
                    map.remove(hash, |v| *v == other);
                }
            }
            _ if value % 64 == 0 => take_apart(&map),
            _ => {}
        }
        prop_assert_eq!(map.get(hash, &key, |v| *v), model.get(&key).copied());
        prop_assert_eq!(map.len(), model.len());
    }
    let mut all = Vec::new();
    map.for_each(|v| all.push(*v));
    let mut expected: Vec<_> = model.into_values().collect();
    all.sort_unstable();
    expected.sort_unstable();
    prop_assert_eq!(all, expected);
    Ok(())
}

proptest! {
    #[test]
    fn agrees_with_the_standard_map(ops in prop::collection::vec((0u8..4, 0u32..400, any::<u32>()), 1..3000)) {
        agrees(ops, |map, key| map.hash(&key))?;
    }

    /// Some buckets are always full, and searches go far behind them, over the end of the array too.
    #[test]
    fn agrees_where_hashes_collide(ops in prop::collection::vec((0u8..4, 0u32..40, any::<u32>()), 1..2000)) {
        agrees(ops, |_, key| [1, 1, 2, u32::MAX, 15, 5][key as usize % 6])?;
    }
}

#[test]
fn readers_see_what_stays_while_others_come_and_go() {
    let map = Map::new();
    for key in 0..100u32 {
        put(&map, key, key);
    }
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..200u32 {
                for key in 100..400 {
                    put(&map, key + round, key);
                }
                for key in 100..400 {
                    remove(&map, key + round, key);
                }
            }
            over.store(true, Ordering::Relaxed);
        });
        while !over.load(Ordering::Relaxed) {
            for key in 0..100 {
                assert_eq!(get(&map, &key), Some(key));
            }
        }
    });
}

#[test]
fn keys_that_come_and_go_leave_nothing() {
    let map = Map::new();
    for key in 0..300_000 {
        put(&map, key, key);
        remove(&map, key, key);
    }
    assert_eq!(map.len(), 0);
    assert_eq!(buckets(&map), FEWEST);
}

/// It cannot be copied, and it counts how many there are.
#[derive(PartialEq, Eq, Hash)]
struct Counted(u32);

static ALIVE: AtomicUsize = AtomicUsize::new(0);

impl Drop for Counted {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::Relaxed);
    }
}

fn counted(number: u32) -> Counted {
    ALIVE.fetch_add(1, Ordering::Relaxed);
    Counted(number)
}

#[test]
fn growing_and_shrinking_neither_copy_nor_lose_keys() {
    const MANY: u32 = 5_000;
    const FEW: u32 = 5;
    let map = Map::new();
    for key in 0..MANY {
        put(&map, counted(key), key);
    }
    assert!(buckets(&map) * WIDTH >= 2 * MANY as usize);
    for key in 0..MANY {
        assert_eq!(get(&map, &counted(key)), Some(key));
    }
    for key in FEW..MANY {
        map.remove(map.hash(&counted(key)), |v| *v == key);
    }
    assert_eq!(buckets(&map), FEWEST);
    for key in 0..FEW {
        assert_eq!(get(&map, &counted(key)), Some(key));
    }
    assert_eq!(
        ALIVE.load(Ordering::Relaxed),
        MANY as usize,
        "destroyed at once"
    );
    take_apart(&map);
    assert_eq!(ALIVE.load(Ordering::Relaxed), FEW as usize);
    for key in 0..FEW / 2 {
        map.remove(map.hash(&counted(key)), |v| *v == key);
    }
    drop(map);
    assert_eq!(
        ALIVE.load(Ordering::Relaxed),
        0,
        "some untaken, some in the map"
    );
}

/// A number is somebody else's as soon as its item is gone: whoever looks must not take what that one has for the item's.
#[test]
fn who_looks_is_not_told_of_others_numbers() {
    const KEYS: u32 = 8;
    const NUMBERS: usize = 3;
    let map = Map::new();
    // What belongs to the owner of each number: a key, or 0.
    let words: [AtomicUsize; NUMBERS] = Default::default();
    let seen = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let mut free: Vec<u32> = (0..NUMBERS as u32).collect();
            let mut taken = std::collections::VecDeque::new();
            for key in (1..=KEYS).cycle().take(400_000) {
                if free.is_empty() {
                    let (key, number) = taken.pop_front().expect("all are taken");
                    map.remove(map.hash(&key), |v| *v == key);
                    words[number as usize].store(0, Ordering::Relaxed);
                    free.push(number);
                }
                let number = free.pop().expect("one was given back");
                let hash = map.hash(&key);
                assert!(map.insert_unless(hash, key, number, key, |_| true));
                words[number as usize].store(key as usize, Ordering::Release);
                taken.push_back((key, number));
            }
        });
        let mut seen = 0;
        while !writer.is_finished() {
            for key in 1..=KEYS {
                let load = |number, _: &_| words[number as usize].load(Ordering::Acquire);
                // SAFETY: nothing that was taken out of the map is destroyed before its end.
                let word = unsafe { map.look(&key, |_| {}, load) };
                let word = word.filter(|word| *word != 0);
                assert!(word.is_none_or(|word| word == key as usize));
                seen += u32::from(word.is_some());
            }
        }
        seen
    });
    assert!(seen > 0);
}
