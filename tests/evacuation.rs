//! Survivors of sparse generations move together, and callers notice nothing.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use inkpot::inkwell::builder::BuilderError;
use inkpot::{
    BoxError, Builder, Cache, Error, Frontend, MethodIs, OptLevel, Reclaimer, Statistics, Unit,
};
use support::synthetic::{Code, How, Synthetic, Unary, method};
use support::wait_until;

/// Of so many methods one survives.
const ONE_IN: u32 = 64;

/// Lets the reclaimer free all that is dead.
fn recycle(cache: &Cache<Code>) {
    wait_until("all that is dead is freed", || !cache.maintain());
}

fn ask_for_all<K: inkpot::Key>(cache: &Cache<K>, keys: &[K]) {
    for key in keys {
        // SAFETY: all methods here are of this type.
        let handle = unsafe { cache.method::<Unary>(key) }.unwrap();
        handle.request().unwrap();
    }
    wait_until("all are compiled", || {
        cache.statistics().compiles >= keys.len() as u64
    });
    cache.seal();
}

/// Evicts all but one in 64, moves these, and returns their bytes and what the cache maps then.
fn thin_out<K: inkpot::Key>(cache: &Cache<K>, keys: &[K]) -> (u64, Statistics) {
    for (i, key) in (0..).zip(keys) {
        if i % ONE_IN != 0 {
            assert!(cache.evict(key));
        }
    }
    while cache.evacuate() > 0 {}
    wait_until("all that is dead is freed", || !cache.maintain());
    let all = cache.occupancy();
    let live = all.iter().map(|o| o.live_bytes).sum();
    (live, cache.statistics())
}

/// Some of everything that a synthetic method can be; each of some hundred bytes.
fn any(n: u32) -> Code {
    let code = match n / ONE_IN % 5 {
        0 => Code::leaf(n),
        1 => Code::leaf(n).framed(),
        2 => Code::new(n, How::Call).framed(),
        3 => Code::new(n, How::CallAddress),
        _ => Code::new(n, How::Host).framed(),
    };
    code.padded(400 + (n % 7 * 90) as u16)
}

#[test]
fn one_survivor_in_64_takes_twice_its_bytes_at_most() {
    let cache = Cache::with_backend(Synthetic::default())
        .reclaimer(Reclaimer::Manual)
        .evacuate(false)
        .build()
        .unwrap();
    let keys: Vec<Code> = (0..32_000).map(any).collect();
    ask_for_all(&cache, &keys);
    let before = cache.statistics();
    let (live, now) = thin_out(&cache, &keys);
    assert_eq!(now.methods_resident, u64::from(32_000 / ONE_IN));
    assert_eq!((now.compiles, now.moved_by_compiling), (before.compiles, 0));
    assert!(now.moves >= now.methods_resident, "{now:#?}");
    assert!(
        now.mapped_code_bytes <= 2 * live,
        "{} for {live}, and {} before",
        now.mapped_code_bytes,
        before.mapped_code_bytes
    );
    let me = cache.participant("test");
    for key in keys.iter().step_by(ONE_IN as usize) {
        let handle = method(&cache, *key);
        let mut guard = me.pin();
        // SAFETY: the type is right.
        let y = unsafe { handle.entry(&guard).unwrap().call(7) };
        assert_eq!(y, key.result(7));
        // And by way of its callees, which are compiled again if need be.
        // SAFETY: as above.
        let y = unsafe { handle.get(&mut guard).unwrap().call(7) };
        assert_eq!(y, key.result(7));
    }
}

/// Methods with a switch, constants, a private function, and a call.
struct Shapes;

impl Frontend for Shapes {
    type Key = u32;

    fn emit<'ctx>(&self, key: &u32, unit: &mut Unit<'_, 'ctx, u32>) -> Result<(), BoxError> {
        let mut emit = || -> Result<(), BuilderError> {
            let context = unit.context();
            let i64 = context.i64_type();
            let ty = i64.fn_type(&[i64.into()], false);
            let f = unit.define(ty);
            let callee = (key % 4 == 3).then(|| unit.callee(&(key / 2), ty));
            let builder = context.create_builder();
            let x = f.get_first_param().expect("it has one").into_int_value();
            let number = |n: u64| i64.const_int(n, false);
            let entry = context.append_basic_block(f, "entry");
            let blocks: Vec<_> = (0..6)
                .map(|n| context.append_basic_block(f, &format!("case{n}")))
                .collect();
            builder.position_at_end(entry);
            let cases: Vec<_> = (0..6).zip(&blocks).map(|(n, b)| (number(n), *b)).collect();
            builder.build_switch(x, blocks[5], &cases)?;
            for (n, block) in (1..).zip(&blocks) {
                builder.position_at_end(*block);
                let scaled = builder.build_int_mul(x, number(n * 0x1234_5678_9abc), "")?;
                let float = builder.build_signed_int_to_float(scaled, context.f64_type(), "")?;
                let constant = context.f64_type().const_float(0.5 * n as f64);
                let float = builder.build_float_mul(float, constant, "")?;
                let back = builder.build_float_to_signed_int(float, i64, "")?;
                let mut result = builder.build_int_add(back, number(u64::from(*key)), "")?;
                if let Some(callee) = callee.filter(|_| n == 3) {
                    let call = builder.build_call(callee, &[result.into()], "")?;
                    result = call.try_as_basic_value().unwrap_basic().into_int_value();
                }
                builder.build_return(Some(&result))?;
            }
            Ok(())
        };
        Ok(emit()?)
    }
}

fn shape(key: u32, x: i64) -> i64 {
    let n = if (0..6).contains(&x) { x + 1 } else { 6 };
    let scaled = x.wrapping_mul(n * 0x1234_5678_9abc) as f64;
    let result = ((scaled * (0.5 * n as f64)) as i64).wrapping_add(i64::from(key));
    match key % 4 == 3 && n == 3 {
        true => shape(key / 2, result),
        false => result,
    }
}

#[test]
fn llvm_s_methods_move_without_being_compiled_again() {
    for level in [OptLevel::O0, OptLevel::O2] {
        let cache = Cache::builder(Shapes)
            .opt_level(level)
            .reclaimer(Reclaimer::Manual)
            .evacuate(false)
            .build()
            .unwrap();
        let keys: Vec<u32> = (0..6_400).collect();
        ask_for_all(&cache, &keys);
        let before = cache.statistics();
        let (live, now) = thin_out(&cache, &keys);
        assert_eq!((now.compiles, now.moved_by_compiling), (before.compiles, 0));
        assert_eq!(now.moves, 100, "{now:#?}");
        assert!(live > 10_000 && now.mapped_code_bytes < before.mapped_code_bytes / 8);
        let me = cache.participant("test");
        let mut guard = me.pin();
        for key in keys.iter().step_by(ONE_IN as usize) {
            // SAFETY: all methods here are of this type.
            let handle = unsafe { cache.method::<Unary>(key) }.unwrap();
            for x in [-5, 0, 1, 2, 3, 4, 5, 6, 1 << 40] {
                // SAFETY: the type is right.
                let y = unsafe { handle.get(&mut guard).unwrap().call(x) };
                assert_eq!(y, shape(*key, x), "{key} of {x}");
            }
        }
    }
}

/// Threads call methods, hold pointers to them on their stacks, and lease them, while everything moves
/// all the time.
#[test]
fn callers_notice_nothing() {
    let cache = Cache::with_backend(Synthetic::default())
        .generation_methods(16)
        .build()
        .unwrap();
    let stop = AtomicBool::new(false);
    let codes: Vec<Code> = (0..96).map(|n| any(n * 16)).collect();
    std::thread::scope(|scope| {
        for t in 0..2 {
            let (cache, codes, stop) = (&cache, &codes, &stop);
            scope.spawn(move || {
                let me = cache.participant(format!("caller {t}"));
                let mut turn = t;
                while !stop.load(Ordering::Relaxed) {
                    turn += 1;
                    let mut guard = me.pin();
                    for code in codes.iter().skip(turn % 5).step_by(5) {
                        let handle = method(cache, *code);
                        let lease = (turn % 7 == 0).then(|| handle.lease(&mut guard).unwrap());
                        let entry = handle.get(&mut guard).unwrap();
                        // SAFETY: the type is right.
                        let first = unsafe { entry.call(1) };
                        std::thread::yield_now();
                        // SAFETY: as above; it was loaded under this guard.
                        let second = unsafe { entry.call(2) };
                        assert_eq!((first, second), (code.result(1), code.result(2)));
                        drop(lease);
                    }
                }
            });
        }
        for _ in 0..300 {
            cache.seal();
            cache.compact();
            std::thread::sleep(Duration::from_millis(1));
        }
        stop.store(true, Ordering::Relaxed);
    });
    let now = cache.statistics();
    assert!(now.moves > 1_000, "{now:#?}");
    // Nothing was evicted, so each was compiled once, and those that they call.
    assert_eq!((now.evictions, now.compiles), (0, now.methods_resident));
}

/// What a method was called goes with it: it is no victim because it was moved.
#[test]
fn a_method_that_was_called_is_in_use_where_it_is_moved() {
    let cache = Cache::with_backend(Synthetic::default())
        .reclaimer(Reclaimer::Manual)
        .build()
        .unwrap();
    let keys: Vec<Code> = (0..400).map(|n| Code::leaf(n).padded(4_000)).collect();
    ask_for_all(&cache, &keys);
    let me = cache.participant("test");
    for key in keys.iter().step_by(10) {
        let guard = me.pin();
        // SAFETY: the type is right.
        unsafe { method(&cache, *key).entry(&guard).unwrap().call(0) };
    }
    assert!(cache.compact() > 0);
    recycle(&cache);
    let half = cache.statistics().mapped_code_bytes / 2;
    cache.set_code_budget(half);
    assert!(cache.statistics().evictions > 100);
    for key in keys.iter().step_by(10) {
        assert!(cache.is_resident(key), "{key:?}");
    }
}

/// A generation with one that is kept: this moves too, to others that are.
#[test]
fn what_is_kept_moves_and_stays_kept() {
    let cache = Cache::with_backend(Synthetic::default())
        .reclaimer(Reclaimer::Manual)
        .evacuate(false)
        .build()
        .unwrap();
    let keys: Vec<Code> = (0..6_400).map(any).collect();
    ask_for_all(&cache, &keys);
    let keeps: Vec<_> = keys
        .iter()
        .step_by(640)
        .map(|key| method(&cache, *key).keep())
        .collect();
    let (_, now) = thin_out(&cache, &keys);
    assert_eq!(now.methods_resident, 100);
    // Those that are kept, and nothing else, are where eviction cannot reach.
    assert!(now.bytes.kept > 0 && now.bytes.kept < 128 << 10, "{now:#?}");
    cache.evict_all();
    assert_eq!(cache.statistics().methods_resident, 10);
    drop(keeps);
    assert_eq!(cache.statistics().bytes.kept, 0);
    cache.evict_all();
    cache.seal();
    recycle(&cache);
    let end = cache.statistics();
    assert_eq!((end.mapped_code_bytes, end.bytes.recipes), (0, 0));
}

/// Without recipes survivors are compiled again, while they are called.
#[test]
fn without_recipes_survivors_are_compiled_again() {
    let cache = Cache::with_backend(Synthetic::default())
        .reclaimer(Reclaimer::Manual)
        .keep_recipes(false)
        .evacuate(false)
        .build()
        .unwrap();
    let keys: Vec<Code> = (0..6_400).map(|n| Code::leaf(n).padded(600)).collect();
    ask_for_all(&cache, &keys);
    let (_, first) = thin_out(&cache, &keys);
    assert_eq!((first.moves, first.bytes.recipes), (0, 0));
    wait_until("all are compiled again", || {
        cache.statistics().moved_by_compiling == 100
    });
    for key in keys.iter().step_by(ONE_IN as usize) {
        assert!(cache.is_resident(key));
    }
    cache.seal();
    recycle(&cache);
    let now = cache.statistics();
    assert_eq!(now.compiles, 6_400 + 100);
    // Some of it may have come back before `first` was seen.
    assert!(
        now.mapped_code_bytes < now.mapped_code_bytes_peak / 8,
        "{now:#?}"
    );
}

/// What the picture is drawn from agrees with what happened.
#[test]
fn occupancy_tells_who_lives_where() {
    let cache = Cache::with_backend(Synthetic::default())
        .reclaimer(Reclaimer::Manual)
        .generation_methods(8)
        .evacuate(false)
        .build()
        .unwrap();
    let keys: Vec<Code> = (0..64).map(|n| Code::leaf(n).padded(1_000)).collect();
    for key in &keys {
        ask_for_all(&cache, &keys[..=key.n as usize]);
    }
    let count = |what: MethodIs| {
        let all = cache.occupancy();
        let methods = all.iter().flat_map(|o| &o.methods);
        methods.filter(|m| **m == what).count()
    };
    assert_eq!((count(MethodIs::Hot), count(MethodIs::Dead)), (64, 0));
    for key in keys.iter().step_by(2) {
        assert!(cache.evict(key));
    }
    let dead = count(MethodIs::Dead);
    // Generations of one method are gone.
    assert!(count(MethodIs::Hot) == 32 && dead <= 32);
    let left = cache.compact();
    assert!(left > 0);
    let all = cache.occupancy();
    assert_eq!(count(MethodIs::Hot), 32);
    assert!(
        all.iter()
            .all(|o| o.methods.len() as u64 >= 1 && o.code_bytes > 0)
    );
    assert_eq!(cache.statistics().moves, 32);
}

/// With methods in two groups.
fn grouped() -> Builder<Code> {
    Cache::with_backend(Synthetic {
        groups: 2,
        ..Synthetic::default()
    })
}

#[test]
fn groups_have_generations_of_their_own() {
    for (groups, generations) in [(1, 1), (2, 2), (4, 2)] {
        let cache = grouped().groups(groups).build().unwrap();
        for n in 0..64 {
            let handle = method(&cache, Code::leaf(n));
            handle.request().unwrap();
        }
        wait_until("all are compiled", || cache.statistics().compiles == 64);
        let lives = cache.occupancy();
        let methods: Vec<_> = lives.iter().map(|o| o.methods.len()).collect();
        assert_eq!(methods, vec![64 / generations; generations], "{groups}");
        // What is invalidated of one group leaves nothing of it.
        drop(cache.invalidate_if(|code| code.n.is_multiple_of(2)));
        cache.seal();
        assert_eq!(cache.occupancy().len(), 1);
    }
    // A small budget has no room for several that are half empty.
    let cache = grouped().code_budget(128 << 10).build().unwrap();
    let keys: Vec<Code> = (0..8).map(Code::leaf).collect();
    for key in &keys {
        ask_for_all(&cache, std::slice::from_ref(key));
    }
    wait_until("all are compiled", || cache.statistics().compiles == 8);
    let open = cache.statistics().generations_open;
    assert!(open <= 1, "{open}");
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let null = Cache::with_backend(Synthetic::default()).fallback(std::ptr::null());
    assert!(matches!(
        null.build(),
        Err(Error::Setting {
            setting: "fallback",
            ..
        })
    ));
    let never = Cache::with_backend(Synthetic::default()).admit_after(2, Duration::ZERO);
    assert!(matches!(
        never.build(),
        Err(Error::Setting {
            setting: "admit_after",
            ..
        })
    ));
    let builder = || Cache::with_backend(Synthetic::default());
    let bad = [
        builder().groups(0),
        builder().evacuation_work(0.0),
        builder().evacuation_work(-1.0),
        builder().evacuation_work(f64::NAN),
        builder().evacuation_work(1e7),
    ];
    for builder in bad {
        assert!(matches!(builder.build(), Err(Error::Setting { .. })));
    }
}

/// The same generations, and how much may be moved for what comes back.
#[test]
fn work_says_when_a_generation_is_left() {
    let left = |work: f64| {
        let cache = Cache::with_backend(Synthetic::default())
            .reclaimer(Reclaimer::Manual)
            .generation_methods(64)
            .evacuation_work(work)
            .evacuate(false)
            .build()
            .unwrap();
        let keys: Vec<Code> = (0..640).map(|n| Code::leaf(n).padded(1_000)).collect();
        ask_for_all(&cache, &keys);
        // Half of each generation dies.
        for key in keys.iter().step_by(2) {
            assert!(cache.evict(key));
        }
        cache.evacuate()
    };
    assert_eq!(left(0.5), 0);
    assert!(left(2.0) > 5);
}

/// Where every generation is small, moving gains nothing, and ends.
#[test]
fn nothing_moves_for_ever() {
    for budget in [1, 64 << 10, 256 << 10] {
        let cache = Cache::with_backend(Synthetic::default())
            .code_budget(budget)
            .generation_methods(1)
            .build()
            .unwrap();
        let me = cache.participant("test");
        for n in 0..200 {
            let code = Code::new(n, How::Host).framed();
            let mut guard = me.pin();
            // SAFETY: the type is right.
            let y = unsafe { method(&cache, code).get(&mut guard).unwrap().call(3) };
            assert_eq!(y, code.result(3));
        }
        // Each once, if at all.
        assert!(cache.statistics().moves <= 200, "{budget}");
    }
}

/// Workers move survivors by themselves, when they have nothing else to do; unless they are told not to.
#[test]
fn by_themselves_or_not_at_all() {
    for evacuate in [true, false] {
        let cache = Cache::with_backend(Synthetic::default())
            .evacuate(evacuate)
            .generation_age(Duration::from_millis(10))
            .generation_methods(64)
            .build()
            .unwrap();
        let keys: Vec<Code> = (0..2048).map(any).collect();
        ask_for_all(&cache, &keys);
        for (i, key) in (0..).zip(&keys) {
            if i % ONE_IN != 0 {
                cache.evict(key);
            }
        }
        let compiled = cache.statistics().compiles;
        if evacuate {
            wait_until("survivors are moved", || cache.statistics().moves >= 20);
        } else {
            // Many times as long as a worker rests.
            std::thread::sleep(Duration::from_millis(300));
            assert_eq!(cache.statistics().moves, 0);
        }
        assert_eq!(cache.statistics().compiles, compiled);
    }
}
