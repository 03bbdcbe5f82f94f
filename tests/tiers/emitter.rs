//! A generator of code other than LLVM's, for what it knows.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use inkpot::inkwell::OptimizationLevel;
use inkpot::inkwell::module::Module;
use inkpot::inkwell::targets::{
    CodeModel, FileType, InitializationConfig, RelocMode, Target, TargetMachine,
};
use inkpot::inkwell::values::AnyValue;
use inkpot::{Emitter, Refused, Tier};

use super::support::Unary;
use super::support::texts::text;
use super::{Seen, call, wait_for_tier};

/// Knows no multiplications; says which functions have one, or only that some have.
struct Simple {
    names: bool,
    emitted: Arc<AtomicU64>,
}

impl Emitter for Simple {
    fn emit(&self, module: &Module<'_>) -> Result<Vec<u8>, Refused> {
        let text = module.print_to_string().to_string();
        let mut functions = Vec::new();
        for function in module.get_functions() {
            if function.print_to_string().to_string().contains(" mul ") {
                functions.push(function.get_name().to_string_lossy().into_owned());
            }
        }
        if text.contains(" mul ") {
            functions.retain(|_| self.names);
            return Err(Refused { functions });
        }
        self.emitted.fetch_add(1, Ordering::Relaxed);
        Target::initialize_native(&InitializationConfig::default()).unwrap();
        let triple = TargetMachine::get_default_triple();
        let machine = Target::from_triple(&triple).unwrap().create_target_machine(
            &triple,
            "x86-64",
            "",
            OptimizationLevel::None,
            RelocMode::PIC,
            CodeModel::Small,
        );
        let object = machine
            .unwrap()
            .write_to_memory_buffer(module, FileType::Object);
        Ok(object.unwrap().as_slice().to_vec())
    }
}

#[test]
fn what_it_refuses_llvm_compiles() {
    let add = (
        "add",
        "define i64 @self(i64 %x) { %r = add i64 %x, $N ret i64 %r }",
    );
    let mul = (
        "mul",
        "define i64 @self(i64 %x) { %r = mul i64 %x, $N ret i64 %r }",
    );
    for names in [true, false] {
        let seen = Seen::new([add, mul]);
        let emitted = Arc::<AtomicU64>::default();
        let simple = Simple {
            names,
            emitted: emitted.clone(),
        };
        let tiers = [
            Tier::baseline()
                .passes("")
                .emitter(simple)
                .promote_by_hand(),
            Tier::optimised(),
        ];
        let cache = seen.cache().tiers(tiers).build().unwrap();
        let me = cache.participant("emits");
        let numbers = [3, 17, 1000];
        let of = |what: &str| numbers.map(|n| text::<Unary>(&cache, &format!("{what}#{n}")));
        let (adds, muls) = (of("add"), of("mul"));
        for handle in adds.iter().zip(&muls).flat_map(|(a, m)| [a, m]) {
            handle.request().unwrap();
        }
        for (i, n) in numbers.into_iter().enumerate() {
            assert_eq!(call(&adds[i], &me, 5, 1), 5 + n);
            assert_eq!(call(&muls[i], &me, 5, 1), 5 * n);
        }
        assert!(emitted.load(Ordering::Relaxed) > 0);
        assert_eq!(cache.statistics().failures, 0);
        muls[0].promote().unwrap();
        wait_for_tier(&muls[0], 1);
        assert_eq!(call(&muls[0], &me, 5, 1), 15);
    }
}
