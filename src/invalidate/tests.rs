//! Assumptions and groups without a cache; and a cache that does nothing but count.

use std::any::Any;
use std::sync::atomic::AtomicUsize;
use std::sync::{Barrier, Weak};
use std::thread;
use std::time::Duration;

use super::*;
use crate::error::Error;

#[derive(Default)]
struct Counting {
    unlinked: AtomicUsize,
}

impl Relying for Counting {
    fn unlink(&self, fallen: &[(Arc<Inner>, u64)]) -> Option<Box<dyn Any + Send>> {
        self.unlinked.fetch_add(fallen.len(), Ordering::SeqCst);
        None
    }

    fn wait(&self, _: Option<Duration>) -> Result<(), Error> {
        Ok(())
    }

    fn keep_running(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        None
    }
}

fn counting() -> (Arc<Counting>, Weak<dyn Relying>) {
    let cache = Arc::<Counting>::default();
    let weak: Weak<Counting> = Arc::downgrade(&cache);
    (cache, weak)
}

#[test]
fn a_group_takes_its_members_along_and_not_the_other_way_round() {
    let top = Assumption::new();
    let (left, right) = (top.member(), top.member());
    let below = left.member();
    let versions = || [&top, &left, &right, &below].map(|a| a.version());
    drop(top.invalidate());
    assert_eq!(versions(), [1, 1, 1, 1]);
    drop(left.invalidate());
    assert_eq!(versions(), [1, 2, 1, 2]);
    drop(below.invalidate());
    assert_eq!(versions(), [1, 2, 1, 3]);
}

#[test]
fn a_dropped_member_leaves_nothing() {
    let top = Assumption::new();
    let members: Vec<_> = (0..1000).map(|_| top.member()).collect();
    assert_eq!(top.inner.listed().0, 1000);
    let clone = members[7].clone();
    drop(members);
    assert_eq!(top.inner.listed().0, 1, "a clone is the same member");
    drop(top.invalidate());
    assert_eq!(clone.version(), 1);
    drop(clone);
    assert_eq!(top.inner.listed().0, 0);
}

#[test]
fn a_member_keeps_its_group() {
    let top = Assumption::new();
    let member = top.member();
    let bond = member.bond();
    let seen = top.clone();
    drop((top, member));
    assert_eq!(seen.inner.listed().0, 1, "code that relies on it keeps it");
    drop(seen.invalidate());
    assert!(!bond.is_current());
}

#[test]
fn groups_nested_by_the_hundred_thousand_fall_and_go_without_recursion() {
    let run = || {
        let top = Assumption::new();
        let mut last = top.member();
        for _ in 0..100_000 {
            last = last.member();
        }
        drop(top.invalidate());
        assert_eq!(last.version(), 1);
        drop(last);
        assert_eq!(top.inner.listed().0, 0);
    };
    let small = thread::Builder::new().stack_size(64 << 10);
    small.spawn(run).unwrap().join().unwrap();
}

#[test]
fn a_cache_is_listed_once_and_told_of_all_that_fell_at_once() {
    let top = Assumption::new();
    let members: Vec<_> = (0..10).map(|_| top.member()).collect();
    let (cache, weak) = counting();
    for member in &members {
        member.bind(&weak);
        member.bind(&weak);
        assert_eq!(member.inner.listed().1, 1);
    }
    drop(top.invalidate());
    assert_eq!(cache.unlinked.load(Ordering::SeqCst), 10);
}

#[test]
fn caches_that_are_gone_are_taken_out() {
    let a = Assumption::new();
    for _ in 0..100 {
        let (_cache, weak) = counting();
        a.bind(&weak);
        assert_eq!(a.inner.listed().1, 1, "the others are gone");
    }
    drop(a.invalidate());
    assert_eq!(a.inner.listed().1, 0);
}

#[test]
fn members_that_come_and_go_while_the_group_falls() {
    const TIMES: u64 = 2000;
    let top = Assumption::new();
    let start = Barrier::new(3);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                start.wait();
                for _ in 0..TIMES {
                    let member = top.member();
                    let before = top.version();
                    let below = member.member();
                    assert!(member.version() <= top.version());
                    assert!(below.version() <= top.version());
                    assert!(top.version() >= before);
                }
            });
        }
        start.wait();
        for _ in 0..TIMES {
            drop(top.invalidate());
        }
    });
    assert_eq!(top.version(), TIMES);
    assert_eq!(top.inner.listed().0, 0);
}

#[test]
fn what_is_bound_while_an_assumption_falls_is_seen_or_is_new() {
    for _ in 0..2000 {
        let a = Assumption::new();
        let (cache, weak) = counting();
        let start = Barrier::new(2);
        let bond = thread::scope(|scope| {
            let binds = scope.spawn(|| {
                start.wait();
                a.bind(&weak).0
            });
            start.wait();
            drop(a.invalidate());
            binds.join().unwrap()
        });
        let seen = cache.unlinked.load(Ordering::SeqCst) == 1;
        assert!(seen || bond.is_current(), "neither");
    }
}
