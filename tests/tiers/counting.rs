//! What counts, and what is counted.

use inkpot::Tier;

use super::support::Unary;
use super::support::texts::text;
use super::{CALLS, Seen, call, settle, wait_for_tier};

const LOOP: (&str, &str) = (
    "loop",
    "define i64 @self(i64 %n) {
     entry: br label %head
     head: %i = phi i64 [ 0, %entry ], [ %next, %head ]
           %next = add i64 %i, 1
           %more = icmp ult i64 %next, %n
           br i1 %more, label %head, label %done
     done: ret i64 %next }",
);

const ADD: (&str, &str) = (
    "add",
    "define i64 @self(i64 %x) { %r = add i64 %x, $N ret i64 %r }",
);

#[test]
fn calls_promote() {
    let seen = Seen::new([ADD]);
    let cache = seen.cache().build().unwrap();
    let me = cache.participant("calls");
    let add = text(&cache, "add#5");
    assert_eq!(call(&add, &me, 1, CALLS - 1), 6);
    settle(&cache);
    assert_eq!(add.tier(), Some(0));
    assert_eq!(call(&add, &me, 1, 1), 6);
    wait_for_tier(&add, 1);
    assert_eq!(call(&add, &me, 2, 3 * CALLS), 7);
    settle(&cache);
    // The front end was asked once.
    assert_eq!(seen.emitted(), [("add#5".to_owned(), 0)]);
    let now = cache.statistics();
    assert_eq!((now.promotions, now.compiles, now.failures), (1, 2, 0));
}

#[test]
fn loops_promote() {
    let seen = Seen::new([LOOP]);
    let cache = seen.cache().build().unwrap();
    let me = cache.participant("loops");
    let turns = text(&cache, "loop");
    let few = i64::from(CALLS) * 4;
    assert_eq!(call(&turns, &me, few, 1), few);
    settle(&cache);
    assert_eq!(turns.tier(), Some(0));
    assert_eq!(call(&turns, &me, few, 1), few);
    wait_for_tier(&turns, 1);
    assert_eq!(call(&turns, &me, few, 1), few);
}

/// Each thread counts for itself: what one has counted the other does not add to.
#[test]
fn threads_share_no_counter() {
    let seen = Seen::new([ADD]);
    let cache = seen.cache().build().unwrap();
    let part = CALLS * 2 / 3;
    let run = || {
        let me = cache.participant("counts");
        let add = text::<Unary>(&cache, "add#1");
        assert_eq!(call(&add, &me, 1, part), 2);
    };
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(run);
        }
    });
    settle(&cache);
    let add = text::<Unary>(&cache, "add#1");
    assert_eq!(add.tier(), Some(0));
    // One thread that calls as often as both did.
    let me = cache.participant("counts");
    assert_eq!(call(&add, &me, 1, 2 * part), 2);
    wait_for_tier(&add, 1);
}

/// What a private function does is the method's doing.
#[test]
fn private_functions_count_for_their_method() {
    let parts = "
        define internal i64 @part(i64 %n) noinline {
        entry: br label %head
        head: %i = phi i64 [ 0, %entry ], [ %next, %head ]
              %next = add i64 %i, 1
              %more = icmp ult i64 %next, %n
              br i1 %more, label %head, label %done
        done: ret i64 %next }
        define i64 @self(i64 %n) { %r = call i64 @part(i64 %n) ret i64 %r }";
    let seen = Seen::new([("parts", parts)]);
    let cache = seen.cache().build().unwrap();
    let me = cache.participant("parts");
    let parts = text(&cache, "parts");
    assert_eq!(
        call(&parts, &me, 8 * i64::from(CALLS), 1),
        8 * i64::from(CALLS)
    );
    wait_for_tier(&parts, 1);
}

/// Code that counts may stand anywhere: the counters' stub keeps all registers.
#[test]
fn counting_disturbs_nothing() {
    let floats = "
        define double @self(i64 %n, double %a, double %b, double %c, double %d) {
        entry: br label %head
        head: %i = phi i64 [ 0, %entry ], [ %next, %head ]
              %x = phi double [ %a, %entry ], [ %x2, %head ]
              %y = phi double [ %b, %entry ], [ %y2, %head ]
              %x1 = fmul double %x, %c
              %x2 = fadd double %x1, %y
              %y2 = fsub double %y, %d
              %next = add i64 %i, 1
              %more = icmp ult i64 %next, %n
              br i1 %more, label %head, label %done
        done: %r = fadd double %x2, %y2
              ret double %r }";
    type Floats = unsafe extern "C" fn(i64, f64, f64, f64, f64) -> f64;
    let seen = Seen::new([("floats", floats)]);
    let cache = seen.cache().build().unwrap();
    let me = cache.participant("floats");
    let handle = text::<Floats>(&cache, "floats");
    let expected = |n: i64, mut x: f64, mut y: f64, c: f64, d: f64| {
        for _ in 0..n {
            (x, y) = (x * c + y, y - d);
        }
        x + y
    };
    for round in 0..50 {
        // Its counter is full in the middle of it, again and again.
        let n = i64::from(CALLS) * 3 + round;
        let mut guard = me.pin();
        let entry = handle.get(&mut guard).unwrap();
        // SAFETY: the type is the text's.
        let x = unsafe { entry.call(n, 1.5, 2.5, 0.875, 0.125) };
        assert_eq!(x, expected(n, 1.5, 2.5, 0.875, 0.125));
    }
}

/// Where loops are passed on, a method with one is good at once, by itself and among others; one without counts.
#[test]
fn loops_are_passed_on() {
    let seen = Seen::new([ADD, LOOP]);
    let tiers = [
        Tier::baseline().promote_after(CALLS).pass_loops_on(true),
        Tier::optimised(),
    ];
    let cache = seen.cache().tiers(tiers).build().unwrap();
    let me = cache.participant("loops");
    let (turns, add) = (text(&cache, "loop"), text::<Unary>(&cache, "add#2"));
    assert_eq!(call(&turns, &me, 5, 1), 5);
    assert_eq!(turns.tier(), Some(1));
    // Alone it is not even emitted twice.
    assert_eq!(seen.emitted().len(), 1);
    cache.evict_all();
    add.request().unwrap();
    turns.request().unwrap();
    assert_eq!(call(&turns, &me, 5, 1), 5);
    assert_eq!(call(&add, &me, 5, 1), 7);
    assert_eq!((turns.tier(), add.tier()), (Some(1), Some(0)));
}
