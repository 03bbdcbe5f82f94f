//! A sealed generation's memory is mostly its methods: what packing them into pages loses is less
//! than a quarter, if they have 128 bytes and more.

mod support;

use inkpot::{BoxError, Cache, Frontend, OptLevel, Statistics, Unit};
use support::synthetic::{self, Code, How, Synthetic};
use support::wait_until;

/// Methods in a full generation, by default.
const FULL: u32 = 512;

/// Compiles a full generation: one method after the other, or in batches.
fn fill<K: inkpot::Key>(cache: &Cache<K>, keys: impl Iterator<Item = K>, one_by_one: bool) {
    for key in keys {
        // SAFETY: nobody calls it.
        let handle = unsafe { cache.method::<synthetic::Unary>(&key) }.unwrap();
        if one_by_one {
            let me = cache.participant("test");
            handle.get(&mut me.pin()).unwrap();
        } else {
            handle.request().unwrap();
        }
    }
    wait_until("all are compiled", || {
        cache.statistics().compiles == u64::from(FULL)
    });
    cache.seal();
}

/// At most a quarter is lost, and of one generation of these methods.
fn check(what: &str, least: u64, statistics: &Statistics) {
    let (pages, sections) = (statistics.sealed_resident, statistics.sealed_sections);
    println!(
        "{what}: {pages} over {sections}, {:.3}",
        pages as f64 / sections as f64
    );
    assert_eq!((statistics.generations_open, statistics.failures), (0, 0));
    assert_eq!(statistics.generations_sealed, 1, "{what}");
    assert!(sections >= least * u64::from(FULL), "{what}: {sections}");
    assert!(pages >= sections, "{what}: {pages} over {sections}");
    assert!(pages * 4 <= sections * 5, "{what}: {pages} over {sections}");
    // Pages and mappings agree.
    assert!(pages <= statistics.mapped, "{what}");
}

#[test]
fn synthetic_methods_of_128_bytes_are_packed() {
    for one_by_one in [true, false] {
        for how in [How::Leaf, How::Jump, How::Host] {
            for (padding, framed) in [(128, false), (128, true), (300, true), (900, false)] {
                let cache = Cache::with_backend(Synthetic::default()).build().unwrap();
                let keys = (0..FULL).map(|n| {
                    let code = Code::new(n, how).padded(padding);
                    if framed { code.framed() } else { code }
                });
                fill(&cache, keys, one_by_one);
                let what = format!("{how:?} of {padding}, {framed}, {one_by_one}");
                check(&what, u64::from(padding), &cache.statistics());
            }
        }
    }
}

/// Methods of `x * c ^ d`, so many times over.
struct Mixers(u64);

impl Frontend for Mixers {
    type Key = u32;

    fn emit<'ctx>(&self, n: &u32, unit: &mut Unit<'_, 'ctx, u32>) -> Result<(), BoxError> {
        let long = unit.context().i64_type();
        let function = unit.define(long.fn_type(&[long.into()], false));
        let build = unit.context().create_builder();
        build.position_at_end(unit.context().append_basic_block(function, "entry"));
        let mut x = function.get_first_param().ok_or("x")?.into_int_value();
        for i in 0..self.0 {
            let number = (u64::from(*n) << 8 | i).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 << 62;
            x = build.build_int_mul(x, long.const_int(number, false), "")?;
            x = build.build_xor(x, long.const_int(!number, false), "")?;
        }
        build.build_return(Some(&x))?;
        Ok(())
    }
}

#[test]
fn compiled_methods_of_128_bytes_are_packed() {
    for level in [OptLevel::O0, OptLevel::O2] {
        for (rounds, one_by_one) in [(5, false), (5, true), (24, false)] {
            let cache = Cache::builder(Mixers(rounds))
                .opt_level(level)
                .build()
                .unwrap();
            fill(&cache, 0..FULL, one_by_one);
            let what = format!("{rounds} rounds, {level:?}, {one_by_one}");
            check(&what, 26 * rounds, &cache.statistics());
        }
    }
}
