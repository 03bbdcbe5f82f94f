//! With LLVM: a front end each of whose methods may panic.

use std::time::Duration;

use inkpot::inkwell::context::Context;
use inkpot::inkwell::module::Module;
use inkpot::{BoxError, Cache, Fallback, Frontend, OptLevel, Reclaimer, Tier, Unit};

use super::support::Unary;
use super::support::texts::{Name, Texts};
use super::{each_call_panics, persist, trip};

const ADD: &str = "define i64 @self(i64 %x) { %y = add i64 %x, $N  ret i64 %y }";
const HOST: &str = "declare i64 @twice(i64)
    define i64 @self(i64 %x) { %y = call i64 @twice(i64 %x)  %z = add i64 %y, $N  ret i64 %z }";

unsafe extern "C" fn twice(x: i64) -> i64 {
    2 * x
}

struct Trips(Texts);

impl Frontend for Trips {
    type Key = Name;

    fn prelude<'ctx>(&self, _: &'ctx Context, _: &Module<'ctx>) -> Result<(), BoxError> {
        trip("Frontend::prelude");
        Ok(())
    }

    fn emit<'ctx>(&self, key: &Name, unit: &mut Unit<'_, 'ctx, Name>) -> Result<(), BoxError> {
        trip("Frontend::emit, before");
        self.0.emit(key, unit)?;
        trip("Frontend::emit, after");
        Ok(())
    }

    fn resolve(&self, symbol: &str) -> Option<*const ()> {
        trip("Frontend::resolve");
        (symbol == "twice").then_some(twice as *const ())
    }

    fn group(&self, _: &Name) -> u64 {
        trip("Frontend::group");
        0
    }

    fn fallback(&self, _: &Name) -> Fallback {
        trip("Frontend::fallback");
        Fallback::default()
    }
}

fn life() {
    let cache = persist(|| {
        Cache::builder(Trips(Texts::new([("add", ADD), ("host", HOST)])))
            .workers(0)
            .reclaimer(Reclaimer::Manual)
            .tiers([
                Tier::new("first", OptLevel::O0),
                Tier::new("second", OptLevel::O1),
            ])
            .generation_methods(4)
            .retry_after(Duration::ZERO, Duration::ZERO)
            .build()
    });
    let me = cache.participant("test");
    let methods: Vec<_> = (0..6)
        .map(|n| {
            let name = format!("{}#{n}", ["add", "host"][n % 2]);
            let result = [n as i64 + 5, n as i64 + 10][n % 2];
            // SAFETY: all texts have this type.
            (persist(|| unsafe { cache.method::<Unary>(&name) }), result)
        })
        .collect();
    for round in 0..2 {
        for (method, result) in &methods {
            if round == 1 {
                persist(|| method.promote());
            }
            // SAFETY: as above.
            let y = persist(|| method.get(&mut me.pin()).map(|f| unsafe { f.call(5) }));
            assert_eq!(y, *result);
        }
        persist(|| {
            while cache.compile_some(usize::MAX) > 0 {}
            Ok::<_, ()>(())
        });
    }
    persist(|| {
        cache.seal();
        cache.evict_all();
        for _ in 0..10 {
            cache.maintain();
        }
        Ok::<_, ()>(())
    });
    assert_eq!(cache.statistics().mapped_code_bytes, 0);
}

#[test]
fn front_ends() {
    each_call_panics("llvm::front_ends", life);
}
