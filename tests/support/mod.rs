//! What several tests share: a small front end, one of texts, waiting, child processes.
#![allow(dead_code, reason = "each test uses a part of it")]

pub mod child;
pub mod fibre;
pub mod held;
pub mod helpers;
pub mod maps;
pub mod synthetic;
pub mod texts;

use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use inkpot::inkwell::AddressSpace;
use inkpot::inkwell::values::IntValue;
use inkpot::{BoxError, Cache, Frontend, Handle, Unit};

pub type Unary = unsafe extern "C" fn(i64) -> i64;

/// Methods on one integer.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Op {
    /// x + n
    Add(i64),
    /// calls the method, then adds n
    CallAdd(Box<Op>, i64),
    /// returns an error
    Refuse,
    /// panics
    Panic,
    /// IR that does not verify
    Invalid,
    /// inline assembly that LLVM cannot parse
    BadAssembly,
    /// calls a host function that nobody knows
    Unresolved,
    /// a mutable global
    Mutable,
    /// a thread-local
    ThreadLocal,
    /// sums the pure method over 0..x
    SumPure(Box<Op>),
    /// calls the imported `host_callback(x)`
    CallHost,
    /// the canonical address of the method
    AddressOf(Box<Op>),
}

pub struct Calculator;

impl Frontend for Calculator {
    type Key = Op;

    fn emit<'ctx>(&self, key: &Op, unit: &mut Unit<'_, 'ctx, Op>) -> Result<(), BoxError> {
        let context = unit.context();
        let i64_type = context.i64_type();
        let unary = i64_type.fn_type(&[i64_type.into()], false);
        let function = unit.define(unary);
        let builder = context.create_builder();
        builder.position_at_end(context.append_basic_block(function, "entry"));
        let x = function
            .get_first_param()
            .ok_or("no parameter")?
            .into_int_value();
        let constant = |n: i64| i64_type.const_int(n as u64, true);
        let call = |f, x: IntValue<'ctx>| -> Result<IntValue<'ctx>, BoxError> {
            let call = builder.build_call(f, &[x.into()], "call")?;
            Ok(call.try_as_basic_value().unwrap_basic().into_int_value())
        };
        match key {
            Op::Add(n) => {
                builder.build_return(Some(&builder.build_int_add(x, constant(*n), "sum")?))?;
            }
            Op::CallAdd(other, n) => {
                let y = call(unit.callee(other, unary), x)?;
                builder.build_return(Some(&builder.build_int_add(y, constant(*n), "sum")?))?;
            }
            Op::Refuse => return Err("refused by the front end".into()),
            Op::Panic => panic!("the front end panics"),
            Op::Invalid => {
                builder.build_return(None)?;
            }
            Op::BadAssembly => {
                let void = context.void_type().fn_type(&[], false);
                let assembly = context.create_inline_asm(
                    void,
                    "bogus_mnemonic eax".into(),
                    String::new(),
                    true,
                    false,
                    None,
                    false,
                );
                builder.build_indirect_call(void, assembly, &[], "asm")?;
                builder.build_return(Some(&x))?;
            }
            Op::Unresolved => {
                let y = call(unit.import("nobody_knows_this", unary), x)?;
                builder.build_return(Some(&y))?;
            }
            Op::Mutable | Op::ThreadLocal => {
                let global = unit.module().add_global(i64_type, None, "counter");
                global.set_initializer(&constant(0));
                global.set_thread_local(*key == Op::ThreadLocal);
                builder.build_store(global.as_pointer_value(), x)?;
                builder.build_return(Some(&x))?;
            }
            Op::CallHost => {
                let y = call(unit.import("host_callback", unary), x)?;
                builder.build_return(Some(&y))?;
            }
            Op::AddressOf(other) => {
                let pointer = unit
                    .callee(other, unary)
                    .as_global_value()
                    .as_pointer_value();
                let address = builder.build_ptr_to_int(pointer, i64_type, "address")?;
                let _ = context.ptr_type(AddressSpace::default());
                builder.build_return(Some(&address))?;
            }
            Op::SumPure(other) => {
                let callee = unit.callee(other, unary);
                for name in ["nounwind", "willreturn"] {
                    let kind = inkpot::inkwell::attributes::Attribute::get_named_enum_kind_id(name);
                    let attribute = context.create_enum_attribute(kind, 0);
                    callee.add_attribute(
                        inkpot::inkwell::attributes::AttributeLoc::Function,
                        attribute,
                    );
                }
                let kind = inkpot::inkwell::attributes::Attribute::get_named_enum_kind_id("memory");
                callee.add_attribute(
                    inkpot::inkwell::attributes::AttributeLoc::Function,
                    context.create_enum_attribute(kind, 0),
                );
                let entry = builder.get_insert_block().ok_or("no block")?;
                let head = context.append_basic_block(function, "head");
                let body = context.append_basic_block(function, "body");
                let done = context.append_basic_block(function, "done");
                let host = unit.import("host_callback", unary);
                builder.build_unconditional_branch(head)?;
                builder.position_at_end(head);
                let i = builder.build_phi(i64_type, "i")?;
                let sum = builder.build_phi(i64_type, "sum")?;
                i.add_incoming(&[(&constant(0), entry)]);
                sum.add_incoming(&[(&constant(0), entry)]);
                let (i_now, sum_now) = (
                    i.as_basic_value().into_int_value(),
                    sum.as_basic_value().into_int_value(),
                );
                let more = builder.build_int_compare(
                    inkpot::inkwell::IntPredicate::SLT,
                    i_now,
                    x,
                    "more",
                )?;
                builder.build_conditional_branch(more, body, done)?;
                builder.position_at_end(body);
                let y = call(callee, constant(1))?;
                call(host, i_now)?;
                let next_sum = builder.build_int_add(sum_now, y, "sum")?;
                let next_i = builder.build_int_add(i_now, constant(1), "i")?;
                i.add_incoming(&[(&next_i, body)]);
                sum.add_incoming(&[(&next_sum, body)]);
                builder.build_unconditional_branch(head)?;
                builder.position_at_end(done);
                builder.build_return(Some(&sum_now))?;
            }
        }
        Ok(())
    }
}

/// The calculator, with something to be done before each emission.
pub struct Hooked<H>(pub H);

impl<H: Fn(&Op) + Send + Sync + 'static> Frontend for Hooked<H> {
    type Key = Op;

    fn emit<'ctx>(&self, key: &Op, unit: &mut Unit<'_, 'ctx, Op>) -> Result<(), BoxError> {
        (self.0)(key);
        Calculator.emit(key, unit)
    }
}

/// Holds threads up until it is opened.
#[derive(Default)]
pub struct Gate {
    open: Mutex<bool>,
    changed: Condvar,
    waiting: Mutex<usize>,
}

impl Gate {
    pub const fn new() -> Self {
        Self {
            open: Mutex::new(false),
            changed: Condvar::new(),
            waiting: Mutex::new(0),
        }
    }

    /// For a minute at most: a test that fails ends, and with it its cache, which waits for its workers.
    pub fn wait(&self) {
        *self.waiting.lock().unwrap() += 1;
        let open = self.open.lock().unwrap();
        let minute = Duration::from_secs(60);
        let waited = self.changed.wait_timeout_while(open, minute, |open| !*open);
        drop(waited.unwrap());
    }

    pub fn open(&self) {
        *self.open.lock().unwrap() = true;
        self.changed.notify_all();
    }

    pub fn close(&self) {
        *self.open.lock().unwrap() = false;
    }

    /// How many have ever come to it.
    pub fn came(&self) -> usize {
        *self.waiting.lock().unwrap()
    }
}

/// The handle of the synthetic method that adds `n`.
pub fn leaf(cache: &Cache<synthetic::Code>, n: u32) -> Handle<synthetic::Code, synthetic::Unary> {
    synthetic::method(cache, synthetic::Code::leaf(n))
}

pub fn method(cache: &Cache<Op>, op: &Op) -> Handle<Op, Unary> {
    // SAFETY: `Calculator` emits every key with this type.
    unsafe { cache.method(op) }.expect("there are cells")
}

/// Has the methods of these numbers compiled, each with one that calls it.
pub fn fill(cache: &Cache<Op>, keys: std::ops::Range<i64>) {
    let me = cache.participant("fills");
    for n in keys {
        let outer = Op::CallAdd(Box::new(Op::Add(n)), 1000);
        let mut guard = me.pin();
        // SAFETY: the type is right.
        let y = unsafe { method(cache, &outer).get(&mut guard).unwrap().call(1) };
        assert_eq!(y, 1001 + n);
    }
}

/// Waits for something that will happen soon.
#[track_caller]
pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < Duration::from_secs(60), "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
