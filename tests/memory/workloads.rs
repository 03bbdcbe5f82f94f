//! Methods that fill a context in different ways.

use inkpot::inkwell::AddressSpace;
use inkpot::inkwell::values::IntValue;
use inkpot::{BoxError, Cache, Frontend, Handle, OptLevel, Unit};

use crate::support::Gate;

pub type Unary = unsafe extern "C" fn(i64) -> i64;

/// What a method is made of.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// An addition.
    Tiny,
    /// Some 700 bytes: calls of other methods, constants, a branch.
    Medium,
    /// Calls of eight methods that no other method calls, and that have no code; constants.
    Strangers,
    /// A table of numbers that no other method has.
    Constants,
    /// Structures that no other method has.
    Types,
    /// Nothing: holds the worker up until the gate is opened.
    Gate,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Key {
    pub kind: Kind,
    pub n: u32,
}

/// The front end. Its gate lets requests come together.
#[derive(Default)]
pub struct Filler {
    pub gate: std::sync::Arc<Gate>,
}

/// Different for different arguments, and never small.
pub fn number(n: u32, i: u64) -> u64 {
    (u64::from(n) << 20 | i).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1 << 40
}

impl Frontend for Filler {
    type Key = Key;

    fn emit<'ctx>(&self, key: &Key, unit: &mut Unit<'_, 'ctx, Key>) -> Result<(), BoxError> {
        if key.kind == Kind::Gate {
            self.gate.wait();
        }
        let context = unit.context();
        let long = context.i64_type();
        let unary = long.fn_type(&[long.into()], false);
        let function = unit.define(unary);
        let build = context.create_builder();
        build.position_at_end(context.append_basic_block(function, "entry"));
        let x = function.get_first_param().ok_or("x")?.into_int_value();
        let constant = |i: u64| long.const_int(number(key.n, i), false);
        let result = match key.kind {
            Kind::Gate => x,
            Kind::Tiny => build.build_int_add(x, long.const_int(key.n.into(), false), "")?,
            Kind::Medium => {
                let mut y = x;
                for i in 0..8u64 {
                    let other = key.n.wrapping_mul(7).wrapping_add(i as u32) % 64;
                    let callee = Key {
                        kind: Kind::Medium,
                        n: other,
                    };
                    let z = build.build_xor(y, constant(i), "")?;
                    let z = build.build_int_mul(z, constant(i + 100), "")?;
                    let call = build.build_call(unit.callee(&callee, unary), &[z.into()], "")?;
                    let called = call.try_as_basic_value().unwrap_basic().into_int_value();
                    y = build.build_int_add(called, y, "")?;
                }
                y
            }
            Kind::Strangers => {
                let mut y = x;
                for i in 0..8 {
                    let callee = Key {
                        kind: Kind::Strangers,
                        n: (key.n + 1) << 10 | i,
                    };
                    let z = build.build_xor(y, constant(i.into()), "")?;
                    let z = build.build_int_mul(z, constant(u64::from(i) + 100), "")?;
                    let call = build.build_call(unit.callee(&callee, unary), &[z.into()], "")?;
                    y = call.try_as_basic_value().unwrap_basic().into_int_value();
                }
                y
            }
            Kind::Constants => {
                let numbers: Vec<IntValue<'_>> = (0..256).map(constant).collect();
                let table = long.const_array(&numbers);
                let global = unit.module().add_global(table.get_type(), None, "table");
                global.set_initializer(&table);
                global.set_constant(true);
                global.set_linkage(inkpot::inkwell::module::Linkage::Private);
                let index = build.build_and(x, long.const_int(255, false), "")?;
                // SAFETY: the index is within the table.
                let at = unsafe { build.build_gep(long, global.as_pointer_value(), &[index], "")? };
                build.build_load(long, at, "")?.into_int_value()
            }
            Kind::Types => {
                let mut sum = x;
                let pointer =
                    build.build_int_to_ptr(x, context.ptr_type(AddressSpace::default()), "")?;
                for i in 0..8u32 {
                    let named = context.opaque_struct_type(&format!("Shape{}.{i}", key.n));
                    let rows = context.i32_type().array_type(key.n * 8 + i + 1);
                    let fields = [
                        rows.into(),
                        long.into(),
                        context.i8_type().into(),
                        long.into(),
                    ];
                    named.set_body(&fields, false);
                    let at = build.build_struct_gep(named, pointer, 1 + 2 * (i % 2), "")?;
                    let field = build.build_load(long, at, "")?.into_int_value();
                    sum = build.build_int_add(sum, field, "")?;
                }
                sum
            }
        };
        build.build_return(Some(&result))?;
        Ok(())
    }
}

/// The handle of a method.
pub fn method(cache: &Cache<Key>, kind: Kind, n: u32) -> Handle<Key, Unary> {
    // SAFETY: all methods have this type.
    unsafe { cache.method(&Key { kind, n }) }.expect("there are cells")
}

/// How a context is filled.
#[derive(Clone, Copy, Debug)]
pub struct Filling {
    pub kind: Kind,
    pub methods: u32,
    pub batch: usize,
    pub level: OptLevel,
}
