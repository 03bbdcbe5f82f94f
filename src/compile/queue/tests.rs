//! The order in which requests are taken.

use super::lists::{Class, Lists};

const CLASS: Class = Class { tier: 0, group: 0 };
const OTHER: Class = Class { tier: 0, group: 1 };

fn wishes(lists: &mut Lists<u64>, ids: std::ops::Range<u64>, class: Class) {
    ids.for_each(|id| lists.push(id, id, class, false));
}

fn take(lists: &mut Lists<u64>, limit: usize) -> Vec<u64> {
    lists
        .take(limit, 1)
        .map_or_else(Vec::new, |(_, batch)| batch)
}

#[test]
fn first_come_first_served_among_equals() {
    let mut lists = Lists::new();
    wishes(&mut lists, 0..10, CLASS);
    assert_eq!(take(&mut lists, 4), [0, 1, 2, 3]);
    assert_eq!(take(&mut lists, 4), [4, 5, 6, 7]);
    assert_eq!(take(&mut lists, 4), [8, 9]);
    assert!(lists.take(4, 1).is_none());
    assert!(lists.is_empty());
}

#[test]
fn waited_for_before_wished_for_and_hot_before_cold() {
    let mut lists = Lists::new();
    wishes(&mut lists, 0..100, CLASS);
    // 70 once more, 80 three times, 90 a hundred times.
    for (id, times) in [(70, 1), (80, 3), (90, 100)] {
        (0..times).for_each(|_| assert!(lists.ask(id)));
    }
    assert!(lists.raise(50));
    lists.push(200, 200, CLASS, true);
    // A quarter of a batch may come along.
    assert_eq!(take(&mut lists, 8), [50, 200, 90, 80]);
    assert_eq!(take(&mut lists, 8), [70, 0, 1, 2, 3, 4, 5, 6]);
    // It is asked for when it is not here any more.
    assert!(!lists.ask(70));
    assert!(!lists.raise(70));
    assert_eq!(lists.len(), 101 - 12);
}

#[test]
fn a_batch_has_one_class_and_the_first_decides_which() {
    let mut lists = Lists::new();
    wishes(&mut lists, 0..3, CLASS);
    wishes(&mut lists, 10..13, OTHER);
    wishes(&mut lists, 20..23, CLASS);
    lists.ask(12);
    assert_eq!(lists.take(64, 1), Some((OTHER, vec![12, 10, 11])));
    assert_eq!(lists.take(64, 1), Some((CLASS, vec![0, 1, 2, 20, 21, 22])));
}

#[test]
fn what_is_taken_out_is_not_taken() {
    let mut lists = Lists::new();
    wishes(&mut lists, 0..6, CLASS);
    lists.ask(3);
    assert_eq!(lists.remove(3), Some(3));
    assert_eq!(lists.remove(3), None);
    assert_eq!(lists.remove(0), Some(0));
    // It comes again, and is new.
    lists.push(3, 3, CLASS, false);
    assert_eq!(take(&mut lists, 64), [1, 2, 4, 5, 3]);
    wishes(&mut lists, 0..3, OTHER);
    lists.raise(2);
    assert_eq!(lists.drain(), [0, 1, 2]);
    assert!(lists.is_empty());
}

/// While others are waited for all the time, and hot ones come all the time.
#[test]
fn nothing_waits_for_ever() {
    const COLD: u64 = 32;
    let mut lists = Lists::new();
    wishes(&mut lists, 0..COLD, OTHER);
    let mut next = 1000;
    let mut taken = Vec::new();
    let mut batches = 0;
    while taken.len() < COLD as usize {
        for _ in 0..20 {
            lists.push(next, next, CLASS, true);
            lists.push(next + 1, next + 1, CLASS, false);
            (0..50).for_each(|_| assert!(lists.ask(next + 1)));
            next += 2;
        }
        let batch = take(&mut lists, 16);
        taken.extend(batch.into_iter().filter(|&id| id < COLD));
        batches += 1;
        assert!(
            batches <= 8 * COLD / 4,
            "{} of {COLD} were taken",
            taken.len()
        );
    }
    assert!(taken.is_sorted());
}

/// Each worker gets a part, but not one that is too small.
#[test]
fn workers_share_what_is_here() {
    let mut lists = Lists::new();
    wishes(&mut lists, 0..100, CLASS);
    let sizes: Vec<usize> = std::iter::from_fn(|| Some(lists.take(64, 2)?.1.len())).collect();
    assert_eq!(sizes, [50, 25, 13, 8, 4]);
    wishes(&mut lists, 0..300, CLASS);
    assert_eq!(lists.take(64, 2).map(|(_, batch)| batch.len()), Some(64));
    let mut lists = Lists::new();
    wishes(&mut lists, 0..3, CLASS);
    assert_eq!(lists.take(64, 8).map(|(_, batch)| batch.len()), Some(3));
}

/// What was cancelled, and asked for again, all the time: numbers that stand for nothing go.
#[test]
fn numbers_do_not_pile_up() {
    let mut lists = Lists::new();
    wishes(&mut lists, 0..10, CLASS);
    for _ in 0..100_000 {
        lists.push(77, 77, CLASS, false);
        lists.ask(77);
        lists.remove(77);
    }
    assert!(lists.numbers() < 5000, "{}", lists.numbers());
    assert_eq!(take(&mut lists, 64).len(), 10);
}

/// A queue of a hundred thousand, each raised in turn, last ones first: nothing is searched for.
#[test]
fn a_long_queue_is_no_slower() {
    const MANY: u64 = 100_000;
    let mut lists = Lists::new();
    wishes(&mut lists, 0..MANY, CLASS);
    let mut seen = 0;
    for id in (0..MANY).rev() {
        if lists.raise(id) {
            seen += take(&mut lists, 4).len() as u64;
        }
    }
    seen += std::iter::from_fn(|| Some(lists.take(64, 1)?.1.len() as u64)).sum::<u64>();
    assert_eq!(seen, MANY);
    assert!(lists.is_empty());
}
