//! From keys to methods, and from numbers to cells.

use std::sync::Arc;

use crate::method::Map;
use crate::run::spawn;
use crate::stub::{Plain, Stub, cache, method};

fn put(map: &Map<u64, u64>, key: u64) {
    assert!(map.insert_unless(map.hash(&key), key, 0, 10 * key, |_| false));
}

fn get(map: &Map<u64, u64>, key: u64) -> Option<u64> {
    map.get(map.hash(&key), &key, |value| *value)
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
    // Nobody looks under a guard.
    drop(map.take_unlinked());
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
    const CODE: usize = 0x1234;
    let (cache, _first) = cache(&Arc::<Stub<Plain>>::default());
    let last = method(&cache, 2);
    let other = spawn(move || drop(last));
    let ours = method(&cache, 3);
    ours.method().link(CODE);
    other.join().unwrap();
    assert_eq!(ours.method().word().load(), CODE);
    ours.method().unlink();
}
