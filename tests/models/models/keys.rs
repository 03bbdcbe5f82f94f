//! From keys to methods, and from numbers to cells.

use std::sync::Arc;

use loom::thread::yield_now;

use super::world::World;
use crate::Cache;
use crate::method::Map;
use crate::reclaim::{Domain, Guard, Reclaimer};
use crate::run::spawn;
use crate::stub::{Method, Plain, Stub, cache, method};

fn put(map: &Map<u64, u64>, key: u64) {
    assert!(map.insert_unless(map.hash(&key), key, 0, 10 * key, |_| false));
}

fn get(map: &Map<u64, u64>, key: u64) -> Option<u64> {
    map.get(map.hash(&key), &key, |value| *value)
}

/// As the reclaimer does it, if a grace period is over when it says so.
fn take_apart(map: &Map<u64, u64>, mut is_over: impl FnMut() -> bool) {
    let unlinked = map.take_unlinked();
    while !(is_over() && unlinked.is_over()) {
        yield_now();
    }
    // SAFETY: nobody is inside any more. (That this is so is what is checked.)
    unsafe { unlinked.destroy() };
}

/// As the reclaimer does it.
fn take_apart_after_grace(map: &Map<u64, u64>, domain: &Arc<Domain>) {
    let mut reclaimer = Reclaimer::new(domain);
    let grace = reclaimer.start();
    take_apart(map, || {
        reclaimer.step();
        grace.is_over()
    });
}

/// The table's readers take no lock: what stays is found, while others come and go.
pub(super) fn look_up() {
    let map = Arc::new(Map::new());
    // From the same bucket on: there are four.
    let other = (2..).find(|key| (map.hash(key) ^ map.hash(&1)) & 3 == 0);
    let other = other.expect("about every fourth is");
    let of_reader = map.clone();
    let reader = spawn(move || {
        for key in [other, 1] {
            assert!(get(&of_reader, key).is_none_or(|value| value == 10 * key));
        }
    });
    put(&map, 1);
    put(&map, other);
    map.remove(map.hash(&other), |value| *value == 10 * other);
    take_apart(&map, || true);
    reader.join().unwrap();
    assert_eq!(get(&map, 1), Some(10));
    assert_eq!(get(&map, other), None);
}

/// The table grows while it is read.
pub(super) fn grow() {
    let map = Arc::new(Map::new());
    put(&map, 1);
    let of_reader = map.clone();
    let reader = spawn(move || assert_eq!(get(&of_reader, 1), Some(10)));
    put(&map, 2);
    put(&map, 3);
    reader.join().unwrap();
    assert!(
        [1, 2, 3]
            .into_iter()
            .all(|key| get(&map, key) == Some(10 * key))
    );
}

/// As a look-up by key reads the map: under a guard, and no pin of the map's own.
fn look(map: &Map<u64, u64>, key: u64, _guard: &Guard<'_>) -> Option<u64> {
    // SAFETY: pinned, and who destroys waits for a grace period.
    unsafe { map.look(&key, |_| {}, |_, value| *value) }
}

/// So many keys whose searches begin at the same bucket, of four.
fn neighbours<const N: usize>(map: &Map<u64, u64>) -> [u64; N] {
    let mut alike = (1..).filter(|key| map.hash(key) & 3 == map.hash(&1) & 3);
    std::array::from_fn(|_| alike.next().expect("about every fourth is"))
}

/// A method is made, forgotten, and taken apart after a grace period of the cache, while somebody who is pinned there looks.
pub(super) fn forgotten() {
    let world = World::empty();
    let map = Arc::new(Map::new());
    let [first, second] = neighbours(&map);
    let (of_reader, its) = (map.clone(), world.clone());
    let reader = spawn(move || {
        let me = its.participant();
        let guard = me.pin();
        for key in [first, second] {
            let found = look(&of_reader, key, &guard);
            assert!(found.is_none_or(|value| value == 10 * key));
        }
        drop(guard);
    });
    put(&map, first);
    put(&map, second);
    map.remove(map.hash(&first), |value| *value == 10 * first);
    take_apart_after_grace(&map, &world.domain);
    reader.join().unwrap();
    assert_eq!(get(&map, second), Some(10 * second));
}

/// Who drives the epochs on may be any thread. What that stores is a mark: who finds it knows that readers are gone.
pub(super) fn marked_by_another() {
    let map = Arc::new(Map::new());
    put(&map, 1);
    let of_reader = map.clone();
    let reader = spawn(move || get(&of_reader, 1));
    yield_now();
    let of_other = map.clone();
    let other = spawn(move || (0..2).for_each(|_| of_other.drive()));
    map.remove(map.hash(&1), |value| *value == 10);
    let unlinked = map.take_unlinked();
    yield_now();
    if unlinked.is_over() {
        // SAFETY: it said so.
        unsafe { unlinked.destroy() };
    }
    reader.join().unwrap();
    other.join().unwrap();
}

/// The table grows and is copied, and the old array taken apart, while somebody looks; and what he looks for is replaced
/// in its place.
pub(super) fn look_while_it_grows() {
    let world = World::empty();
    let map = Arc::new(Map::new());
    put(&map, 1);
    let (of_reader, its) = (map.clone(), world.clone());
    let reader = spawn(move || {
        let me = its.participant();
        let guard = me.pin();
        let found = look(&of_reader, 1, &guard);
        // Between the two it is gone for nobody: but what was found last may be found to be gone.
        assert!(found.is_none_or(|value| value == 10 || value == 11));
        assert_eq!(get(&of_reader, 1).map(|value| value / 10), Some(1));
        drop(guard);
    });
    assert!(map.insert_unless(map.hash(&1), 1, 0, 11, |_| false));
    put(&map, 2);
    put(&map, 3);
    take_apart_after_grace(&map, &world.domain);
    reader.join().unwrap();
    assert_eq!(get(&map, 1), Some(11));
}

/// What stays is found by searches that go past a place which is emptied, and used again.
pub(super) fn go_past() {
    let map = Arc::new(Map::new());
    let [first, second] = neighbours(&map);
    put(&map, first);
    put(&map, second);
    let of_reader = map.clone();
    let reader = spawn(move || assert_eq!(get(&of_reader, second), Some(10 * second)));
    map.remove(map.hash(&first), |value| *value == 10 * first);
    put(&map, first);
    reader.join().unwrap();
    assert_eq!(get(&map, first), Some(10 * first));
}

/// Two make the same key, and one of them finds that it is there. Keys are compared under no lock.
pub(super) fn make_twice() {
    let map = Arc::new(Map::new());
    let make = |map: &Map<u64, u64>, value| map.insert_unless(map.hash(&1), 1, 0, value, |_| true);
    let of_other = map.clone();
    let other = spawn(move || make(&of_other, 10));
    let ours = make(&map, 20);
    let its = other.join().unwrap();
    assert!(ours != its, "one of them was first");
    assert_eq!(get(&map, 1), Some(if ours { 20 } else { 10 }));
    assert_eq!(map.len(), 1);
}

/// A key has one cell, whoever is the first to mention it and the last to let it go.
pub(super) fn one_cell() {
    let (cache, _first) = cache(&Arc::<Stub<Plain>>::default());
    let of_other = cache.clone();
    let other = spawn(move || {
        drop(method(&of_other, 2));
        method(&of_other, 2)
    });
    let ours = method(&cache, 2);
    let its = other.join().unwrap();
    assert!(
        Arc::ptr_eq(ours.method(), its.method()),
        "two cells for a key"
    );
    assert!(Arc::ptr_eq(ours.method(), method(&cache, 2).method()));
}

/// Promise 6: a cell that is given back is another method's, and nobody's but its.
pub(super) fn cell_again() {
    let (cache, _first) = cache(&Arc::<Stub<Plain>>::default());
    let last = method(&cache, 2);
    let other = spawn(move || drop(last));
    let ours = method(&cache, 3);
    ours.method().link(CODE);
    other.join().unwrap();
    assert_eq!(ours.method().word().load(), CODE);
    ours.method().unlink();
}

const CODE: usize = 0x1234;

/// Where calls of a key go, if it is found to have code.
fn code_by_key(cache: &Cache<u32>, key: u32) -> Option<usize> {
    let me = cache.participant("reader");
    let guard = me.pin();
    // SAFETY: all methods have this type.
    let entry = unsafe { cache.entry::<Method>(&key, &guard) };
    // SAFETY: it is not called.
    entry.map(|entry| unsafe { entry.pointer() } as usize)
}

/// Promise 6: a number is another method's while somebody looks at what it leads to, by the key of the one that had it.
/// (That one never has code.)
pub(super) fn number_again() {
    let (cache, _first) = cache(&Arc::<Stub<Plain>>::default());
    let last = method(&cache, 2);
    let number = last.method().cell;
    let of_reader = cache.clone();
    let reader = spawn(move || assert_eq!(code_by_key(&of_reader, 2), None, "another's"));
    drop(last);
    let ours = method(&cache, 3);
    assert_eq!(ours.method().cell, number);
    ours.method().link(CODE);
    ours.method().note_call(CODE);
    reader.join().unwrap();
    assert_eq!(code_by_key(&cache, 3), Some(CODE));
    ours.method().unlink();
}

/// Promise 6: a number is nobody else's before its method is gone from the table.
pub(super) fn number_given_back() {
    let (cache, _first) = cache(&Arc::<Stub<Plain>>::default());
    let last = method(&cache, 2);
    let other = spawn(move || drop(last));
    yield_now();
    let ours = method(&cache, 3);
    ours.method().link(CODE);
    ours.method().note_call(CODE);
    assert_eq!(code_by_key(&cache, 2), None, "another's");
    other.join().unwrap();
    ours.method().unlink();
}

/// Promises 1 and 6: a method is forgotten, and what led to it is taken apart by the reclaimer, while somebody looks.
pub(super) fn reclaimed() {
    let (cache, _first) = cache(&Arc::<Stub<Plain>>::default());
    let last = method(&cache, 2);
    let of_reader = cache.clone();
    let reader = spawn(move || assert_eq!(code_by_key(&of_reader, 2), None));
    drop(last);
    for _ in 0..4 {
        cache.maintain();
    }
    reader.join().unwrap();
}
