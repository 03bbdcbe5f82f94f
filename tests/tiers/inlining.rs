//! Bodies of methods in other methods.

use inkpot::Tier;

use super::support::Unary;
use super::support::texts::text;
use super::{Seen, call, wait_for_tier};

/// Adds its number; others may have it in theirs.
const ADD: (&str, &str) = (
    "add",
    "; inlinable
     define i64 @self(i64 %x) { %r = add i64 %x, $N ret i64 %r }",
);

/// Sums it up, a number of times.
const SUM: (&str, &str) = (
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
);

fn by_hand() -> [Tier; 2] {
    [Tier::baseline().promote_by_hand(), Tier::optimised()]
}

/// Whether a method calls another one, which is evicted for that.
fn calls(seen: &Seen, cache: &inkpot::Cache<String>, caller: &str, callee: &str) -> bool {
    let me = cache.participant("looks");
    let caller = text::<Unary>(cache, caller);
    cache.evict(&callee.to_owned());
    let before = seen.emitted().len();
    call(&caller, &me, 3, 1);
    seen.emitted().len() > before
}

#[test]
fn a_body_is_inlined_and_falls_with_its_method() {
    let seen = Seen::new([ADD, SUM]);
    let cache = seen.cache().tiers(by_hand()).build().unwrap();
    let me = cache.participant("inlines");
    let sum = text(&cache, "sum#7");
    assert_eq!(call(&sum, &me, 10, 1), 70);
    assert!(calls(&seen, &cache, "sum#7", "add#7"));
    sum.promote().unwrap();
    wait_for_tier(&sum, 1);
    assert!(!calls(&seen, &cache, "sum#7", "add#7"));
    assert_eq!(call(&sum, &me, 10, 1), 70);
    // Evicted, its body is in the other all the same; invalidated, it is not.
    let add = "add#7".to_owned();
    assert!(!cache.is_resident(&add));
    assert!(cache.is_resident(sum.key()));
    drop(cache.invalidate(&add));
    assert!(!cache.is_resident(sum.key()));
    assert_eq!(call(&sum, &me, 10, 1), 70);
}

/// What is inlined relies on what was assumed for it, and so does who inlines it; through several of them.
#[test]
fn bodies_of_bodies() {
    let chain = (
        "chain",
        "; inlinable
         declare i64 @\"add#$N\"(i64)
         define i64 @self(i64 %x) { %r = call i64 @\"add#$N\"(i64 %x) %s = mul i64 %r, 2 ret i64 %s }",
    );
    let top = (
        "top",
        "declare i64 @\"chain#$N\"(i64)
         declare i64 @\"add#$N\"(i64)
         define i64 @self(i64 %x) {
            %r = call i64 @\"chain#$N\"(i64 %x)
            %s = call i64 @\"add#$N\"(i64 %r)
            ret i64 %s }",
    );
    let seen = Seen::new([ADD, chain, top]);
    let cache = seen.cache().tiers(by_hand()).build().unwrap();
    let me = cache.participant("inlines");
    let top = text(&cache, "top#5");
    let compile = || {
        assert_eq!(call(&top, &me, 1, 1), 17);
        top.promote().unwrap();
        wait_for_tier(&top, 1);
        assert_eq!(call(&top, &me, 1, 1), 17);
    };
    compile();
    assert!(!calls(&seen, &cache, "top#5", "add#5"));
    assert!(!calls(&seen, &cache, "top#5", "chain#5"));
    for below in ["add#5", "chain#5"] {
        cache.evict_all();
        compile();
        drop(cache.invalidate(&below.to_owned()));
        assert!(!cache.is_resident(top.key()), "{below}");
    }
    compile();
    drop(cache.invalidate_all());
    assert!(!cache.is_resident(top.key()));
}

/// A callee that was never compiled, or whose front end does not say so, is called.
#[test]
fn what_may_not_be_inlined_is_called() {
    let plain = (
        "plain",
        "define i64 @self(i64 %x) { %r = add i64 %x, 1 ret i64 %r }",
    );
    let user = (
        "user",
        "declare i64 @plain(i64)
         define i64 @self(i64 %x) { %r = call i64 @plain(i64 %x) ret i64 %r }",
    );
    let seen = Seen::new([plain, user]);
    let cache = seen.cache().tiers(by_hand()).build().unwrap();
    let me = cache.participant("calls");
    let user = text(&cache, "user");
    assert_eq!(call(&user, &me, 1, 1), 2);
    user.promote().unwrap();
    wait_for_tier(&user, 1);
    assert!(calls(&seen, &cache, "user", "plain"));
    drop(cache.invalidate(&"plain".to_owned()));
    assert!(cache.is_resident(user.key()));
    assert_eq!(call(&user, &me, 1, 1), 2);
}

/// Recursion of both kinds: of a body, and of a body with who has it.
#[test]
fn recursion() {
    let down = (
        "down",
        "; inlinable
         declare i64 @\"down#$M\"(i64)
         declare i64 @\"add#1\"(i64)
         define i64 @self(i64 %x) {
            %end = icmp sle i64 %x, 0
            br i1 %end, label %done, label %on
         on: %y = sub i64 %x, 1
            %r = call i64 @self(i64 %y)
            %s = call i64 @\"add#1\"(i64 %r)
            ret i64 %s
         done: ret i64 0 }",
    );
    let other = (
        "other",
        "; inlinable
         declare i64 @user(i64)
         define i64 @self(i64 %x) {
            %end = icmp sle i64 %x, 0
            br i1 %end, label %done, label %on
         on: %y = sub i64 %x, 1
            %r = call i64 @user(i64 %y)
            %s = add i64 %r, 1
            ret i64 %s
         done: ret i64 0 }",
    );
    let user = (
        "user",
        "; inlinable
         declare i64 @other(i64)
         declare i64 @\"down#1\"(i64)
         define i64 @self(i64 %x) {
            %a = call i64 @other(i64 %x)
            %b = call i64 @\"down#1\"(i64 %x)
            %c = add i64 %a, %b
            ret i64 %c }",
    );
    let seen = Seen::new([ADD, down, other, user]);
    let cache = seen.cache().tiers(by_hand()).build().unwrap();
    let me = cache.participant("recurses");
    let names = ["user", "other", "down#1"];
    let handles = names.map(|name| text::<Unary>(&cache, name));
    let before: Vec<i64> = (0..20).map(|x| call(&handles[0], &me, x, 1)).collect();
    for handle in &handles {
        handle.promote().unwrap();
    }
    for handle in &handles {
        wait_for_tier(handle, 1);
    }
    let after: Vec<i64> = (0..20).map(|x| call(&handles[0], &me, x, 1)).collect();
    assert_eq!(before, after);
}

/// A body that gets another caller late: who has it in his own relies on what it has in its own, too.
#[test]
fn who_comes_late_relies_on_all_of_it() {
    let k = (
        "k",
        "; inlinable\n define i64 @self(i64 %x) { %r = add i64 %x, 1 ret i64 %r }",
    );
    let of = |callee: &str| {
        format!(
            "; inlinable\n declare i64 @{callee}(i64)
             define i64 @self(i64 %x) {{ %r = call i64 @{callee}(i64 %x) ret i64 %r }}"
        )
    };
    let m = of("k");
    let n = of("m");
    let p1 = "declare i64 @k(i64)
        declare i64 @m(i64)
        define i64 @self(i64 %x) {
            %r = call i64 @k(i64 %x)
            %s = call i64 @m(i64 %r)
            ret i64 %s }";
    let p2 = "declare i64 @n(i64)
        define i64 @self(i64 %x) { %r = call i64 @n(i64 %x) ret i64 %r }";
    // All are in the batch that is promoted: what declares first is first.
    for order in [["p1", "p2"], ["p2", "p1"]] {
        let seen = Seen::new([k, ("m", &m), ("n", &n), ("p1", p1), ("p2", p2)]);
        let cache = seen.cache().tiers(by_hand()).workers(0).build().unwrap();
        let me = cache.participant("late");
        let handles = order.map(|name| text::<Unary>(&cache, name));
        for handle in &handles {
            call(handle, &me, 1, 1);
        }
        for name in ["n", "m", "k"] {
            call(&text(&cache, name), &me, 1, 1);
        }
        for handle in &handles {
            handle.promote().unwrap();
        }
        while cache.compile_some(usize::MAX) > 0 {}
        for handle in &handles {
            assert_eq!(handle.tier(), Some(1));
        }
        drop(cache.invalidate(&"k".to_owned()));
        for handle in &handles {
            assert!(!cache.is_resident(handle.key()), "{:?}", handle.key());
        }
    }
}

/// State is not copied, and nothing that must stay is taken along into what need not; nor are private functions.
#[test]
fn what_has_more_than_its_body_is_called() {
    let counter = "; inlinable ; allow data
        @n = internal global i64 0
        define i64 @self(i64 %x) {
            %n = load i64, ptr @n
            %m = add i64 %n, %x
            store i64 %m, ptr @n
            ret i64 %m }";
    let stays = "; inlinable ; stay
        define i64 @self(i64 %x) { %r = mul i64 %x, 3 ret i64 %r }";
    let parts = "; inlinable
        define internal i64 @part(i64 %x) noinline { %r = add i64 %x, 7 ret i64 %r }
        define i64 @self(i64 %x) { %r = call i64 @part(i64 %x) ret i64 %r }";
    let user = |callee: &str| {
        format!(
            "declare i64 @{callee}(i64)
             define i64 @self(i64 %x) {{ %r = call i64 @{callee}(i64 %x) ret i64 %r }}"
        )
    };
    let users = ["counter", "stays", "parts"].map(user);
    let seen = Seen::new([
        ("counter", counter),
        ("stays", stays),
        ("parts", parts),
        ("user-counter", &users[0]),
        ("user-stays", &users[1]),
        ("user-parts", &users[2]),
    ]);
    let cache = seen.cache().tiers(by_hand()).build().unwrap();
    let me = cache.participant("calls");
    let counter = text::<Unary>(&cache, "counter");
    let _kept = counter.keep();
    let users =
        ["counter", "stays", "parts"].map(|of| text::<Unary>(&cache, &format!("user-{of}")));
    let results = || -> Vec<i64> { users.iter().map(|user| call(user, &me, 2, 1)).collect() };
    assert_eq!(results(), [2, 6, 9]);
    for user in &users {
        user.promote().unwrap();
    }
    for user in &users {
        wait_for_tier(user, 1);
    }
    assert_eq!(results(), [4, 6, 9]);
    assert_eq!(call(&counter, &me, 2, 1), 6, "there is one counter");
}

/// What passes make of a body is not the body: specialised clones of it, here.
#[test]
fn clones_of_bodies_are_their_own() {
    // Long enough for LLVM to specialise it for a constant, and recursive, so that it is not inlined away.
    let mut long = String::from(
        "; inlinable
         define i64 @self(i64 %x) {
         entry: %end = icmp sle i64 %x, 0
             br i1 %end, label %done, label %on
         on: ",
    );
    let mut last = "%x".to_owned();
    for i in 0..600 {
        long += &format!(
            "%v{i} = xor i64 {last}, {}\n %w{i} = mul i64 %v{i}, %x\n",
            i * 7 + 1
        );
        last = format!("%w{i}");
    }
    long += &format!(
        "%y = sub i64 %x, 1
         %r = call i64 @self(i64 %y)
         %s = add i64 %r, {last}
         ret i64 %s
         done: ret i64 0 }}"
    );
    let user = "declare i64 @long(i64)
        define i64 @self(i64 %x) {
            %a = call i64 @long(i64 5)
            %b = call i64 @long(i64 6)
            %c = add i64 %a, %b
            %d = add i64 %c, %x
            ret i64 %d }";
    let seen = Seen::new([("long", &long), ("user", user)]);
    let cache = seen.cache().tiers(by_hand()).build().unwrap();
    let me = cache.participant("clones");
    let user = text(&cache, "user");
    let before = call(&user, &me, 3, 1);
    user.promote().unwrap();
    wait_for_tier(&user, 1);
    assert_eq!(call(&user, &me, 3, 1), before);
}
