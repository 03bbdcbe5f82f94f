//! Promotions in the middle of everything else.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use inkpot::{OptLevel, Quarantine, Stress, Tier};

use super::support::Unary;
use super::support::texts::text;
use super::{Seen, wait_for_tier};

const TEXTS: [(&str, &str); 3] = [
    (
        "add",
        "; inlinable
         define i64 @self(i64 %x) { %r = add i64 %x, $N ret i64 %r }",
    ),
    (
        "sum",
        "declare i64 @\"add#$N\"(i64)
         define i64 @self(i64 %n) {
         entry: br label %head
         head: %i = phi i64 [ 0, %entry ], [ %next, %head ]
               %sum = phi i64 [ 0, %entry ], [ %more, %head ]
               %more = call i64 @\"add#$N\"(i64 %sum)
               %next = add i64 %i, 1
               %again = icmp ult i64 %next, %n
               br i1 %again, label %head, label %done
         done: ret i64 %more }",
    ),
    (
        "switch",
        "define i64 @self(i64 %x) {
           %k = urem i64 %x, 6
           switch i64 %k, label %o [ i64 0, label %a i64 1, label %b i64 2, label %c i64 3, label %d i64 4, label %e ]
         a: ret i64 $N
         b: ret i64 11
         c: ret i64 22
         d: ret i64 33
         e: ret i64 44
         o: ret i64 55 }",
    ),
];

fn expected(name: &str, n: i64, x: i64) -> i64 {
    match name {
        "add" => x + n,
        "sum" => x * n,
        _ => [n, 11, 22, 33, 44, 55][x as usize % 6],
    }
}

/// Threads call methods that are evicted, invalidated, moved and promoted all the time, through three tiers of which each
/// counts in its own way.
#[test]
fn promotions_among_everything_else() {
    let middle = Tier::new("middle", OptLevel::O1).promote_after(20);
    let tiers = [
        Tier::baseline().promote_after(10),
        middle,
        Tier::optimised(),
    ];
    let mut stress = Stress::default();
    (stress.evict_every, stress.invalidate_every) = (173, 211);
    (stress.recycle_every, stress.move_every) = (29, 17);
    let quarantine = Quarantine {
        bytes: 4 << 20,
        time: Duration::MAX,
    };
    for polls in [false, true] {
        let seen = Seen::new(TEXTS);
        let cache = seen
            .cache()
            .tiers(tiers.clone())
            .polls(polls)
            .stress(stress)
            .quarantine(quarantine)
            .build()
            .unwrap();
        let run = |thread: u64| {
            let me = cache.participant(format!("caller {thread}"));
            let mut state = 7 + thread;
            for round in 0..4000 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let random = |shift: u64, below: u64| ((state >> shift) % below) as i64;
                let (name, _) = TEXTS[random(60, 3) as usize];
                let (n, x) = (random(40, 5), 1 + random(50, 12));
                let handle = text::<Unary>(&cache, &format!("{name}#{n}"));
                let mut guard = me.pin();
                let entry = handle.get(&mut guard).unwrap();
                // SAFETY: the text has this type.
                let result = unsafe { entry.call(x) };
                assert_eq!(
                    result,
                    expected(name, n, x),
                    "{name}#{n} of {x} in round {round}"
                );
            }
        };
        std::thread::scope(|scope| {
            for thread in 0..2 {
                scope.spawn(move || run(thread));
            }
        });
        let now = cache.statistics();
        assert!(now.promotions > 20, "{} promotions", now.promotions);
        assert_eq!(now.failures, 0);
    }
}

/// Code that counts is moved, and counts on.
#[test]
fn counting_code_moves() {
    let seen = Seen::new(TEXTS);
    let cache = seen.cache().build().unwrap();
    let me = cache.participant("moves");
    for (name, n, x) in [("add", 3, 4), ("sum", 5, 6), ("switch", 7, 3)] {
        let handle = text::<Unary>(&cache, &format!("{name}#{n}"));
        let call = |times: u32| {
            assert_eq!(super::call(&handle, &me, x, times), expected(name, n, x));
        };
        call(1);
        let tier = handle.tier();
        cache.seal();
        assert!(cache.compact() > 0, "{name}");
        assert_eq!(handle.tier(), tier);
        call(super::CALLS);
        wait_for_tier(&handle, 1);
        call(3);
    }
}

/// A thread that is inside when its method is promoted, evicted and freed goes on counting in the old code.
#[test]
fn who_is_inside_goes_on() {
    let inside = "
        declare void @wait()
        define i64 @self(i64 %n) {
        entry: br label %head
        head: %i = phi i64 [ 0, %entry ], [ %next, %head ]
              call void @wait()
              %next = add i64 %i, 1
              %more = icmp ult i64 %next, %n
              br i1 %more, label %head, label %done
        done: ret i64 %next }";
    static GO: AtomicBool = AtomicBool::new(false);
    static IN: AtomicBool = AtomicBool::new(false);
    extern "C" fn wait() {
        IN.store(true, Ordering::Release);
        while !GO.load(Ordering::Acquire) {
            std::thread::yield_now();
        }
    }
    let seen = Seen::new([("inside", inside)]);
    let cache = seen
        .cache()
        .import("wait", wait as *const ())
        .build()
        .unwrap();
    let started = Instant::now();
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let me = cache.participant("inside");
            let handle = text(&cache, "inside");
            super::call(&handle, &me, 10_000, 1)
        });
        while !IN.load(Ordering::Acquire) {
            assert!(started.elapsed() < Duration::from_secs(30));
            std::thread::yield_now();
        }
        let handle = text::<Unary>(&cache, "inside");
        handle.promote().unwrap();
        wait_for_tier(&handle, 1);
        cache.evict_all();
        cache.seal();
        drop(cache.invalidate_all());
        GO.store(true, Ordering::Release);
        assert_eq!(thread.join().unwrap(), 10_000);
    });
}
