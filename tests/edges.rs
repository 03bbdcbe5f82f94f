//! Where front ends meet LLVM: methods of one batch share a module, and none may see another's
//! parts, be blamed for another's faults, or end the process.

mod support;

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use inkpot::inkwell::builder::Builder;
use inkpot::inkwell::context::Context;
use inkpot::inkwell::memory_buffer::MemoryBuffer;
use inkpot::inkwell::module::{Linkage, Module};
use inkpot::inkwell::types::FunctionType;
use inkpot::inkwell::values::{FunctionValue, IntValue};
use inkpot::{BoxError, Cache, Error, Frontend, Handle, OptLevel, Unit};
use support::Unary;

type Emitted = Result<(), BoxError>;

/// A front end that is one closure. Key 0 keeps the worker busy until the gate is opened.
struct Closure<E> {
    emit: E,
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Gate {
    state: Mutex<(bool, bool)>,
    changed: Condvar,
}

impl Gate {
    fn set(&self, change: impl FnOnce(&mut (bool, bool))) {
        change(&mut self.state.lock().unwrap());
        self.changed.notify_all();
    }

    fn wait(&self, until: impl Fn(&(bool, bool)) -> bool) {
        let state = self.state.lock().unwrap();
        let patience = Duration::from_secs(20);
        let (_state, timeout) = self
            .changed
            .wait_timeout_while(state, patience, |s| !until(s))
            .unwrap();
        assert!(!timeout.timed_out(), "the gate stays as it is");
    }
}

impl<E> Frontend for Closure<E>
where
    E: for<'ctx> Fn(u32, &mut Unit<'_, 'ctx, u32>) -> Emitted + Send + Sync + 'static,
{
    type Key = u32;

    fn prelude<'ctx>(&self, context: &'ctx Context, prelude: &Module<'ctx>) -> Emitted {
        prelude.add_function("declared_host", unary(context), None);
        Ok(())
    }

    fn emit<'ctx>(&self, key: &u32, unit: &mut Unit<'_, 'ctx, u32>) -> Emitted {
        if *key == 0 {
            self.gate.set(|s| s.0 = true);
            self.gate.wait(|s| s.1);
            return adds(0, unit);
        }
        (self.emit)(*key, unit)
    }
}

struct Fixture {
    cache: Cache<u32>,
    gate: Arc<Gate>,
}

impl Fixture {
    fn new<E>(emit: E) -> Self
    where
        E: for<'ctx> Fn(u32, &mut Unit<'_, 'ctx, u32>) -> Emitted + Send + Sync + 'static,
    {
        let gate = Arc::<Gate>::default();
        let front_end = Closure {
            emit,
            gate: gate.clone(),
        };
        let cache = Cache::builder(front_end)
            .import("host", add_one as *const ())
            .import("declared_host", add_one as *const ())
            .opt_level(OptLevel::O2)
            .build()
            .unwrap();
        Self { cache, gate }
    }

    fn method(&self, key: u32) -> Handle<u32, Unary> {
        // SAFETY: every test emits all its keys with this type.
        unsafe { self.cache.method(&key) }.unwrap()
    }

    /// What the method gives for 100.
    fn call(&self, key: u32) -> Result<i64, Error> {
        let me = self.cache.participant("test");
        let mut guard = me.pin();
        let entry = self.method(key).get(&mut guard)?;
        // SAFETY: the type is right.
        Ok(unsafe { entry.call(100) })
    }

    /// Compiles the methods as one batch: they are queued while the worker is busy.
    fn batch<const N: usize>(&self, keys: [u32; N]) -> [Result<i64, Error>; N] {
        self.method(0).request().unwrap();
        self.gate.wait(|s| s.0);
        for key in keys {
            self.method(key).request().unwrap();
        }
        std::thread::scope(|scope| {
            let callers = keys.map(|key| scope.spawn(move || self.call(key)));
            // All should wait by then: who asks after a failure is served by another batch.
            std::thread::sleep(Duration::from_millis(50));
            self.gate.set(|s| s.1 = true);
            callers.map(|caller| caller.join().unwrap())
        })
    }

    fn refusal(&self, key: u32) -> (&'static str, String) {
        match self.call(key) {
            Err(Error::Refused {
                construct, name, ..
            }) => (construct, name),
            other => panic!("not refused: {other:?}"),
        }
    }
}

extern "C" fn add_one(x: i64) -> i64 {
    x + 1
}

fn unary(context: &Context) -> FunctionType<'_> {
    let long = context.i64_type();
    long.fn_type(&[long.into()], false)
}

/// Gives a function an entry block, with `body` in it.
fn fill<'ctx>(
    context: &'ctx Context,
    function: FunctionValue<'ctx>,
    body: impl FnOnce(&Builder<'ctx>, IntValue<'ctx>) -> Result<IntValue<'ctx>, BoxError>,
) -> Emitted {
    let builder = context.create_builder();
    builder.position_at_end(context.append_basic_block(function, "entry"));
    let x = function.get_first_param().unwrap().into_int_value();
    let result = body(&builder, x)?;
    builder.build_return(Some(&result))?;
    Ok(())
}

/// x + n
fn adds(n: u32, unit: &mut Unit<'_, '_, u32>) -> Emitted {
    let n = unit.context().i64_type().const_int(n.into(), false);
    let own = unit.define(unary(unit.context()));
    fill(
        unit.context(),
        own,
        |b, x| Ok(b.build_int_add(x, n, "sum")?),
    )
}

/// Calls the import with x as each of its `count` arguments.
fn calls_import(name: &str, count: usize, unit: &mut Unit<'_, '_, u32>) -> Emitted {
    let long = unit.context().i64_type();
    let own = unit.define(unary(unit.context()));
    let host = unit.import(name, long.fn_type(&vec![long.into(); count], false));
    fill(unit.context(), own, |b, x| {
        let call = b.build_call(host, &vec![x.into(); count], "call")?;
        Ok(call.try_as_basic_value().unwrap_basic().into_int_value())
    })
}

/// A function beside the method's own, of the given name.
fn helper<'ctx>(
    unit: &mut Unit<'_, 'ctx, u32>,
    name: &str,
    linkage: Linkage,
) -> FunctionValue<'ctx> {
    let ty = unary(unit.context());
    unit.module().add_function(name, ty, Some(linkage))
}

fn bitcode(ir: &str) -> Vec<u8> {
    let context = Context::create();
    let ir = format!("{ir}\0");
    let buffer = MemoryBuffer::create_from_memory_range_copy(ir.as_bytes(), "ir");
    let module = context.create_module_from_ir(buffer).unwrap();
    module.write_bitcode_to_memory().as_slice().to_vec()
}

/// All keys adopt `f` of this.
fn adopts(ir: &str) -> Fixture {
    let piece = bitcode(ir);
    Fixture::new(move |_, unit| unit.adopt(&piece, "f", &mut |_| None).map(drop))
}

#[test]
fn one_import_by_two_types() {
    let fixture = Fixture::new(|key, unit| calls_import("host", key as usize, unit));
    let values = fixture.batch([1, 2, 3]);
    assert!(
        values.iter().all(|v| matches!(v, Ok(101))),
        "the host's function looks at its first argument only: {values:?}"
    );
}

#[test]
fn an_import_is_not_a_neighbours_helper() {
    let fixture = Fixture::new(|key, unit| match key {
        1 => {
            adds(1, unit)?;
            for name in ["host", "declared_host"] {
                let helper = helper(unit, name, Linkage::Internal);
                fill(unit.context(), helper, |_, x| Ok(x))?;
            }
            Ok(())
        }
        2 => calls_import("host", 1, unit),
        _ => {
            let own = unit.define(unary(unit.context()));
            let host = unit.declared("declared_host").ok_or("the prelude has it")?;
            fill(unit.context(), own, |b, x| {
                let call = b.build_call(host, &[x.into()], "call")?;
                Ok(call.try_as_basic_value().unwrap_basic().into_int_value())
            })
        }
    });
    let values = fixture.batch([1, 2, 3]);
    assert!(
        matches!(values, [Ok(101), Ok(101), Ok(101)]),
        "a helper that gives 100 was called: {values:?}"
    );
}

#[test]
fn an_import_has_the_name_of_a_variable_of_its_own_method() {
    let fixture = Fixture::new(|_, unit| {
        let long = unit.context().i64_type();
        let global = unit.module().add_global(long, None, "host");
        global.set_initializer(&long.const_int(7, false));
        global.set_constant(true);
        calls_import("host", 1, unit)
    });
    assert_eq!(fixture.call(1).unwrap(), 101);
}

/// What a front end runs into while it emits is its own business.
#[test]
fn a_left_over_diagnostic_is_not_blamed_on_the_next() {
    let fixture = Fixture::new(|key, unit| {
        if key == 1 {
            let damaged = b"BC\xc0\xde not bitcode\0";
            let buffer = MemoryBuffer::create_from_memory_range_copy(damaged, "damaged");
            let module = Module::parse_bitcode_from_buffer(&buffer, unit.context());
            assert!(module.is_err());
        }
        adds(key, unit)
    });
    assert_eq!(fixture.call(1).unwrap(), 101);
    assert_eq!(fixture.call(2).unwrap(), 102);
}

/// inkwell's `link_in_module` puts a handler for diagnostics into the context that writes into a
/// stack frame which is gone when the next diagnostic comes.
#[test]
fn a_replaced_handler_for_diagnostics_is_replaced_again() {
    let fixture = Fixture::new(|key, unit| {
        let context = unit.context();
        if key == 1 {
            let other = context.create_module("other");
            unit.module()
                .link_in_module(other)
                .map_err(|e| e.to_string())?;
            return adds(1, unit);
        }
        let void = context.void_type().fn_type(&[], false);
        let text = "bogus_mnemonic eax".to_owned();
        let assembly =
            context.create_inline_asm(void, text, String::new(), true, false, None, false);
        let own = unit.define(unary(context));
        fill(context, own, |b, x| {
            b.build_indirect_call(void, assembly, &[], "asm")?;
            Ok(x)
        })
    });
    assert_eq!(fixture.call(1).unwrap(), 101);
    let failed = fixture.call(2);
    assert!(
        matches!(&failed, Err(Error::Codegen { message, .. }) if message.contains("bogus_mnemonic")),
        "{failed:?}"
    );
}

/// A front end may add aliases by hand, methods of one batch by the same name, which is an import's too.
#[test]
fn aliases_made_by_a_builder_leave_no_name_behind() {
    let fixture = Fixture::new(|key, unit| {
        if key == 3 {
            return calls_import("host", 1, unit);
        }
        let helper = helper(unit, "helper", Linkage::Internal);
        fill(unit.context(), helper, |_, x| Ok(x))?;
        // SAFETY: a live module, and a function of its context.
        let alias = unsafe {
            use inkpot::inkwell::llvm_sys::core::{LLVMAddAlias2, LLVMGlobalGetValueType};
            use inkpot::inkwell::types::AsTypeRef;
            use inkpot::inkwell::values::AsValueRef;
            let raw = helper.as_value_ref();
            let ty = LLVMGlobalGetValueType(raw);
            assert_eq!(ty, helper.get_type().as_type_ref());
            LLVMAddAlias2(unit.module().as_mut_ptr(), ty, 0, raw, c"host".as_ptr())
        };
        // SAFETY: a pointer to a function of this type.
        let alias = unsafe { inkpot::inkwell::values::PointerValue::new(alias) };
        let own = unit.define(unary(unit.context()));
        let ty = unary(unit.context());
        fill(unit.context(), own, |b, x| {
            let call = b.build_indirect_call(ty, alias, &[x.into()], "call")?;
            let y = call.try_as_basic_value().unwrap_basic().into_int_value();
            Ok(b.build_int_add(
                y,
                unit.context().i64_type().const_int(key.into(), false),
                "",
            )?)
        })
    });
    let values = fixture.batch([1, 2, 3]);
    assert!(matches!(values, [Ok(101), Ok(102), Ok(101)]), "{values:?}");
}

/// C's `__attribute__((used))`. Linking the second module into the batch's erases the first's
/// list.
#[test]
fn lists_of_what_is_used_are_adopted_many_times() {
    let variable = adopts(
        "@v = internal constant i64 5
         @llvm.used = appending global [1 x ptr] [ptr @v], section \"llvm.metadata\"
         define i64 @f(i64 %x) {
           %v = load i64, ptr @v
           %r = add i64 %x, %v
           ret i64 %r
         }",
    );
    let function = adopts(
        "@llvm.compiler.used = appending global [1 x ptr] [ptr @f], section \"llvm.metadata\"
         define i64 @f(i64 %x) {
           %r = add i64 %x, 5
           ret i64 %r
         }",
    );
    for fixture in [variable, function] {
        let values = fixture.batch([1, 2, 3, 4]);
        assert!(values.iter().all(|v| matches!(v, Ok(105))), "{values:?}");
    }
}

/// C++'s inline functions: each method keeps its own.
#[test]
fn comdats_of_one_name_are_not_joined() {
    let piece = |n: u32| {
        bitcode(&format!(
            "$g = comdat any
             define linkonce_odr i64 @g(i64 %x) noinline comdat {{
               %r = add i64 %x, {n}
               ret i64 %r
             }}
             define i64 @f(i64 %x) {{
               %r = call i64 @g(i64 %x)
               ret i64 %r
             }}"
        ))
    };
    let pieces = [piece(1), piece(2)];
    let fixture = Fixture::new(move |key, unit| {
        let piece = &pieces[key as usize - 1];
        unit.adopt(piece, "f", &mut |_| None).map(drop)
    });
    let values = fixture.batch([1, 2]);
    assert!(matches!(values, [Ok(101), Ok(102)]), "{values:?}");
}

/// The function that `define` returned would be freed by it.
#[test]
fn adopting_after_defining_is_an_error() {
    let piece = bitcode("define i64 @f(i64 %x) {\n ret i64 %x\n}");
    let fixture = Fixture::new(move |_, unit| {
        let own = unit.define(unary(unit.context()));
        assert!(unit.adopt(&piece, "f", &mut |_| None).is_err());
        fill(unit.context(), own, |_, x| Ok(x))
    });
    assert_eq!(fixture.call(1).unwrap(), 100);
}

#[test]
fn a_method_has_one_type() {
    let piece = bitcode("define i64 @f(i64 %x) {\n ret i64 %x\n}");
    let fixture = Fixture::new(move |key, unit| {
        let own = unit.adopt(&piece, "f", &mut |_| None)?;
        assert_eq!(unit.define(own.get_type()), own);
        if key == 1 {
            let void = unit.context().void_type().fn_type(&[], false);
            assert_eq!(unit.define(void).get_type(), void);
        }
        Ok(())
    });
    let failed = fixture.call(1);
    assert!(matches!(failed, Err(Error::Frontend { .. })), "{failed:?}");
    assert_eq!(fixture.call(2).unwrap(), 100);
}

#[test]
fn a_mutable_global_with_a_name_of_llvm_is_refused() {
    let fixture = Fixture::new(|_, unit| {
        let long = unit.context().i64_type();
        let global = unit.module().add_global(long, None, "llvm.counter");
        global.set_initializer(&long.const_zero());
        let own = unit.define(unary(unit.context()));
        fill(unit.context(), own, |b, x| {
            b.build_store(global.as_pointer_value(), x)?;
            Ok(x)
        })
    });
    assert_eq!(
        fixture.refusal(1),
        ("a mutable global", "llvm.counter".to_owned())
    );
}

/// LLVM ends the process over such a list if it does not know the name.
#[test]
fn an_unknown_list_is_refused() {
    let fixture = adopts(
        "@llvm.foo = appending global [1 x i64] [i64 1]
         define i64 @f(i64 %x) {
           ret i64 %x
         }",
    );
    let (construct, name) = fixture.refusal(1);
    assert_eq!(construct, "a global of appending linkage");
    assert_eq!(name, "llvm.foo");
}

/// It passes the verifier, and LLVM ends the process when it finds no instruction for it.
#[test]
fn an_intrinsic_of_another_machine_is_refused() {
    let fixture = adopts(
        "declare i32 @llvm.aarch64.crc32b(i32, i32)
         define i64 @f(i64 %x) {
           %t = trunc i64 %x to i32
           %r = call i32 @llvm.aarch64.crc32b(i32 %t, i32 %t)
           %z = zext i32 %r to i64
           ret i64 %z
         }",
    );
    let (construct, name) = fixture.refusal(1);
    assert_eq!(construct, "an intrinsic of another machine");
    assert_eq!(name, "llvm.aarch64.crc32b");
}

/// The call is in a helper, so its name does not tell whose it is.
#[test]
fn the_guilty_one_is_blamed() {
    const FAST: u32 = 8;
    let fixture = Fixture::new(|key, unit| {
        adds(key, unit)?;
        if key == 3 {
            let callee = unit.callee(&9, unary(unit.context()));
            let helper = helper(unit, "helper", Linkage::External);
            fill(unit.context(), helper, |b, x| {
                let call = b.build_call(callee, &[x.into()], "call")?;
                call.set_call_convention(FAST);
                Ok(call.try_as_basic_value().unwrap_basic().into_int_value())
            })?;
        }
        Ok(())
    });
    let values = fixture.batch([1, 2, 3]);
    assert!(matches!(values[..2], [Ok(101), Ok(102)]), "{values:?}");
    assert!(
        matches!(&values[2], Err(Error::Refused { name, method, .. }) if name == "helper" && method == "3"),
        "{values:?}"
    );
}

/// They would link to whatever is at that number.
#[test]
fn symbols_that_the_batch_did_not_ask_for_are_refused() {
    let names = [
        "inkpot.address.50000",
        "inkpot.cell.50000",
        "inkpot.import.1.inkpot.address.50000",
        "inkpot.other",
    ];
    let fixture = Fixture::new(move |key, unit| match key {
        9 => {
            let long = unit.context().i64_type();
            let own = unit.define(unary(unit.context()));
            let cell = unit.module().add_global(long, None, "inkpot.cell.50001");
            fill(unit.context(), own, |b, _| {
                let load = b.build_load(long, cell.as_pointer_value(), "entry")?;
                Ok(load.into_int_value())
            })
        }
        _ => calls_import(names[key as usize - 1], 1, unit),
    });
    for (key, name) in (1..).zip(names).chain([(9, "inkpot.cell.50001")]) {
        let (construct, named) = fixture.refusal(key);
        assert_eq!(construct, "a symbol that it was not given");
        assert_eq!(named, name);
    }
}

/// A call by another type than its declaration's: attributes of parameters go by position, and
/// must not land on a parameter that they do not fit.
#[test]
fn a_call_by_another_type_than_the_declarations() {
    let piece = bitcode(
        "declare i64 @other(ptr nonnull align 8, i64 returned)
         define i64 @f(i64 %x) {
           %r = call i64 @other(i64 %x)
           ret i64 %r
         }",
    );
    let fixture = Fixture::new(move |key, unit| match key {
        1 => {
            let callee = &mut |name: &str| (name == "other").then_some(2);
            unit.adopt(&piece, "f", callee).map(drop)
        }
        _ => adds(key, unit),
    });
    fixture.call(2).unwrap();
    assert_eq!(fixture.call(1).unwrap(), 102);
}
