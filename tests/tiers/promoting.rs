//! What becomes of a method on its way to the next tier.

use inkpot::{OptLevel, Tier};

use super::support::Unary;
use super::support::texts::text;
use super::{CALLS, Seen, call, settle, wait_for_tier};

const ADD: (&str, &str) = (
    "add",
    "define i64 @self(i64 %x) { %r = add i64 %x, $N ret i64 %r }",
);

fn by_hand() -> [Tier; 2] {
    [Tier::baseline().promote_by_hand(), Tier::optimised()]
}

#[test]
fn by_hand_alone() {
    let seen = Seen::new([ADD]);
    let cache = seen.cache().tiers(by_hand()).build().unwrap();
    let me = cache.participant("by hand");
    let add = text(&cache, "add#1");
    assert!(!add.promote().unwrap(), "there is no code yet");
    assert_eq!(call(&add, &me, 1, 2000), 2);
    settle(&cache);
    assert_eq!(add.tier(), Some(0));
    assert!(add.promote().unwrap());
    wait_for_tier(&add, 1);
    assert!(!add.promote().unwrap(), "that is the last tier");
    assert_eq!(call(&add, &me, 1, 1), 2);
}

#[test]
fn a_tier_may_ask_the_front_end_again() {
    let seen = Seen::new([ADD]);
    let tiers = [
        Tier::baseline().promote_after(CALLS),
        Tier::new("middle", OptLevel::O1).promote_after(CALLS),
        Tier::optimised().emit_again(true),
    ];
    let cache = seen.cache().tiers(tiers).build().unwrap();
    let me = cache.participant("again");
    let add = text(&cache, "add#1");
    for tier in [1, 2] {
        assert_eq!(call(&add, &me, 1, CALLS), 2);
        wait_for_tier(&add, tier);
    }
    let name = "add#1".to_owned();
    assert_eq!(seen.emitted(), [(name.clone(), 0), (name, 2)]);
}

/// After an eviction a method begins anew.
#[test]
fn eviction_ends_it() {
    let seen = Seen::new([ADD]);
    let cache = seen.cache().tiers(by_hand()).build().unwrap();
    let me = cache.participant("evicts");
    let add = text::<Unary>(&cache, "add#1");
    call(&add, &me, 1, 1);
    assert!(cache.statistics().bytes.sources > 0);
    add.promote().unwrap();
    wait_for_tier(&add, 1);
    assert_eq!(
        cache.statistics().bytes.sources,
        0,
        "it is in the last tier"
    );
    cache.evict_all();
    assert_eq!(add.tier(), None);
    call(&add, &me, 1, 1);
    assert_eq!(add.tier(), Some(0));
    assert!(cache.statistics().bytes.sources > 0);
    cache.evict_all();
    assert_eq!(cache.statistics().bytes.sources, 0);
    assert_eq!(seen.emitted().len(), 2);
}

/// Invalidation while it is on its way: what was kept is not used.
#[test]
fn invalidation_ends_it() {
    let seen = Seen::new([ADD]);
    let cache = seen.cache().tiers(by_hand()).build().unwrap();
    let me = cache.participant("invalidates");
    for n in 0..100 {
        let add = text::<Unary>(&cache, &format!("add#{n}"));
        assert_eq!(call(&add, &me, 1, 1), n + 1);
        add.promote().unwrap();
        drop(cache.invalidate(add.key()));
        assert_eq!(call(&add, &me, 2, 1), n + 2);
        let emitted = seen.emitted();
        let times = emitted.iter().filter(|(name, _)| name == add.key()).count();
        assert!(times >= 2, "{emitted:?}");
    }
}

/// Methods of one batch, and of several, that declare the same things by different types.
#[test]
fn names_of_one_thing_by_several_types() {
    let one = "declare i64 @\"add#1\"(i64)
        define i64 @self(i64 %x) { %r = call i64 @\"add#1\"(i64 %x) ret i64 %r }";
    // The same method by another type, as C has it where nothing was declared.
    let two = "declare i64 @\"add#1\"(i64, i64)
        define i64 @self(i64 %x) { %r = call i64 @\"add#1\"(i64 %x, i64 0) ret i64 %r }";
    let both = "declare i64 @one(i64)
        declare i64 @two(i64)
        define i64 @self(i64 %x) {
            %a = call i64 @one(i64 %x)
            %b = call i64 @two(i64 %a)
            ret i64 %b }";
    let seen = Seen::new([ADD, ("one", one), ("two", two), ("both", both)]);
    let cache = seen.cache().tiers(by_hand()).build().unwrap();
    let me = cache.participant("types");
    let names = ["both", "two", "one", "add#1"];
    let handles = names.map(|name| text::<Unary>(&cache, name));
    assert_eq!(call(&handles[0], &me, 1, 1), 3);
    for order in [[0, 1, 2, 3], [3, 2, 1, 0]] {
        cache.evict_all();
        // In batches of their own, and then together.
        for i in order {
            call(&handles[i], &me, 1, 1);
        }
        for i in order {
            handles[i].promote().unwrap();
        }
        for handle in &handles {
            wait_for_tier(handle, 1);
        }
        assert_eq!(call(&handles[0], &me, 1, 1), 3);
    }
}

/// Methods whose data, or whose labels, must stay are good at once: to promote them would be to lose these.
#[test]
fn what_must_stay_is_final() {
    let counter = "; allow data
        @n = internal global i64 0
        define i64 @self(i64 %x) {
            %n = load i64, ptr @n
            %m = add i64 %n, %x
            store i64 %m, ptr @n
            ret i64 %m }";
    let stays = "; stay
        define i64 @self(i64 %x) { %r = mul i64 %x, 3 ret i64 %r }";
    let seen = Seen::new([("counter", counter), ("stays", stays)]);
    let cache = seen.cache().build().unwrap();
    let me = cache.participant("final");
    let counter = text(&cache, "counter");
    let kept = counter.keep();
    assert_eq!(call(&counter, &me, 1, 10 * CALLS), i64::from(10 * CALLS));
    assert_eq!(counter.tier(), Some(1));
    let stays = text(&cache, "stays");
    assert_eq!(call(&stays, &me, 2, 10 * CALLS), 6);
    assert_eq!(stays.tier(), Some(1));
    assert!(!stays.promote().unwrap());
    drop(kept);
}

/// A method that cannot be compiled for the next tier stays what it is, and is not tried again and again.
#[test]
fn a_failure_costs_the_promotion_alone() {
    use inkpot::{BoxError, Cache, Frontend, Unit};
    /// Refuses to speculate.
    struct Timid(Seen);
    impl Frontend for Timid {
        type Key = String;
        fn emit<'ctx>(
            &self,
            key: &String,
            unit: &mut Unit<'_, 'ctx, String>,
        ) -> Result<(), BoxError> {
            self.0.emit(key, unit)?;
            match unit.tier() {
                0 => Ok(()),
                _ => Err("not that".into()),
            }
        }
    }
    let seen = Seen::new([ADD]);
    let tiers = [
        Tier::baseline().promote_after(CALLS),
        Tier::optimised().emit_again(true),
    ];
    let cache = Cache::builder(Timid(seen.clone()))
        .tiers(tiers)
        .build()
        .unwrap();
    let me = cache.participant("timid");
    let add = text(&cache, "add#1");
    assert_eq!(call(&add, &me, 1, 20 * CALLS), 2);
    settle(&cache);
    assert_eq!(call(&add, &me, 1, 20 * CALLS), 2);
    settle(&cache);
    assert_eq!(add.tier(), Some(0));
    assert_eq!(seen.emitted().len(), 2);
    assert_eq!(cache.statistics().failures, 1);
    // Until it is invalidated.
    drop(cache.invalidate(add.key()));
    assert_eq!(call(&add, &me, 1, 20 * CALLS), 2);
    settle(&cache);
    assert_eq!(seen.emitted().len(), 4);
}

#[test]
fn nonsense_is_refused() {
    let seen = Seen::new([ADD]);
    let build = |tiers: Vec<Tier>| seen.cache().tiers(tiers).build().map(drop);
    assert!(build(Vec::new()).is_err());
    assert!(build(vec![Tier::baseline(); 9]).is_err());
    let error = build(vec![Tier::baseline().passes("no-such-pass")]).unwrap_err();
    assert!(error.to_string().contains("no-such-pass"), "{error}");
}

/// Attributes that are part of a call, on declarations alone: each caller's own hold for its calls, whoever is linked first.
#[test]
fn attributes_of_declarations_are_each_caller_s_own() {
    let callee = "
        %pair = type { i64, i64, i64 }
        declare ptr @keep(ptr)
        define i64 @self(ptr byval(%pair) %p) {
            %b = getelementptr %pair, ptr %p, i32 0, i32 1
            %r = load i64, ptr %b
            ret i64 %r }";
    // It takes the other's address, by a declaration without attributes.
    let address = "declare i64 @callee(ptr)
        define i64 @self(i64 %x) {
            %a = ptrtoint ptr @callee to i64
            %zero = icmp eq i64 %a, 0
            %r = select i1 %zero, i64 0, i64 %x
            ret i64 %r }";
    let caller = "
        %pair = type { i64, i64, i64 }
        declare i64 @callee(ptr byval(%pair))
        define i64 @self(i64 %x) {
            %p = alloca %pair
            %q = alloca %pair
            %pb = getelementptr %pair, ptr %p, i32 0, i32 1
            %qb = getelementptr %pair, ptr %q, i32 0, i32 1
            store volatile i64 %x, ptr %pb
            store volatile i64 1, ptr %qb
            %r = call i64 @callee(ptr %p)
            %s = call i64 @callee(ptr %q)
            %t = mul i64 %r, %s
            ret i64 %t }";
    for order in [["address", "caller"], ["caller", "address"]] {
        let seen = Seen::new([("callee", callee), ("address", address), ("caller", caller)]);
        let cache = seen.cache().tiers(by_hand()).workers(0).build().unwrap();
        let me = cache.participant("attributes");
        let handles = order.map(|name| text::<Unary>(&cache, name));
        for handle in &handles {
            assert_eq!(call(handle, &me, 42, 1), 42);
        }
        for handle in &handles {
            handle.promote().unwrap();
        }
        // Both in one batch.
        while cache.compile_some(usize::MAX) > 0 {}
        for handle in &handles {
            assert_eq!(handle.tier(), Some(1));
            assert_eq!(call(handle, &me, 42, 1), 42);
        }
        // And from the beginning.
        cache.evict_all();
        for handle in &handles {
            handle.request().unwrap();
        }
        for handle in &handles {
            assert_eq!(call(handle, &me, 42, 1), 42);
        }
    }
}

/// A method that loses its code while it is queued for the next tier begins anew, for the first.
#[test]
fn who_loses_its_code_on_the_way_begins_anew() {
    let seen = Seen::new([ADD]);
    let cache = seen.cache().tiers(by_hand()).workers(0).build().unwrap();
    let me = cache.participant("loses");
    let [one, two] = [1, 2].map(|n| text::<Unary>(&cache, &format!("add#{n}")));
    for handle in [&one, &two] {
        call(handle, &me, 1, 1);
        assert!(handle.promote().unwrap());
    }
    cache.evict(one.key());
    assert_eq!(call(&one, &me, 1, 1), 2);
    while cache.compile_some(usize::MAX) > 0 {}
    assert_eq!((one.tier(), two.tier()), (Some(0), Some(1)));
}
