//! The compiler: from a method's source and its profile to LLVM IR.
//!
//! Integers are handled in line behind a check of their tags. A field load compares the object's
//! shape with those that its profile has seen, and loads from the place that the matching shape
//! gives. All else goes to the runtime.

use std::error::Error;

use inkwell::basic_block::BasicBlock;
use inkwell::builder::Builder;
use inkwell::context::Context;
use inkwell::types::{BasicTypeEnum, StructType};
use inkwell::values::{BasicMetadataValueEnum, FunctionValue, IntValue, PointerValue};
use inkwell::{AddressSpace, IntPredicate};

use crate::language::{Expr, LOCALS, Method, Op, Statement};
use crate::runtime::integer;
use crate::world::{CLASSES, Class, Key, Kind, Profile, Random};

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Where a method is emitted to. Each strategy has its own idea of that.
pub trait Target<'ctx> {
    fn context(&self) -> &'ctx Context;
    /// The method's own function.
    fn define(&mut self) -> FunctionValue<'ctx>;
    /// Another method's function, to be called.
    fn callee(&mut self, key: &Key) -> Fallible<FunctionValue<'ctx>>;
    /// A function of the runtime.
    fn runtime(&mut self, name: &str) -> Fallible<FunctionValue<'ctx>>;
}

/// Emits the method `key` of the world that `seed` makes.
pub fn emit<'ctx>(seed: u64, key: &Key, target: &mut dyn Target<'ctx>) -> Fallible<()> {
    let method = Method::of(seed, key.family, key.part);
    let profile = Profile::of(seed, key.family, key.version);
    let context = target.context();
    let function = target.define();
    let builder = context.create_builder();
    builder.position_at_end(context.append_basic_block(function, "entry"));
    let mut locals = Vec::with_capacity(LOCALS);
    for _ in 0..LOCALS {
        locals.push(builder.build_alloca(context.i64_type(), "local")?);
    }
    let thread = function
        .get_nth_param(0)
        .ok_or("no thread")?
        .into_pointer_value();
    let mut emitter = Emitter {
        seed,
        key,
        profile,
        context,
        function,
        builder,
        target,
        locals,
        thread,
    };
    emitter.method(&method)
}

struct Emitter<'a, 'ctx> {
    seed: u64,
    key: &'a Key,
    profile: Profile,
    context: &'ctx Context,
    function: FunctionValue<'ctx>,
    builder: Builder<'ctx>,
    target: &'a mut dyn Target<'ctx>,
    locals: Vec<PointerValue<'ctx>>,
    thread: PointerValue<'ctx>,
}

impl<'ctx> Emitter<'_, 'ctx> {
    fn method(&mut self, method: &Method) -> Fallible<()> {
        for (n, local) in self.locals.clone().into_iter().enumerate() {
            let value = match n {
                0 | 1 => self
                    .function
                    .get_nth_param(n as u32 + 1)
                    .ok_or("no argument")?,
                _ => self.long(integer(0)).into(),
            };
            self.builder.build_store(local, value)?;
        }
        let previous = self.enter()?;
        self.statements(&method.body)?;
        let result = self.value(&method.result)?;
        let head = self.member("vm.thread", self.thread, 2)?;
        self.builder.build_store(head, previous)?;
        self.builder.build_return(Some(&result))?;
        Ok(())
    }

    /// Counts the call, marks the trace, and links a frame. Returns the frame below.
    fn enter(&mut self) -> Fallible<PointerValue<'ctx>> {
        let long = self.context.i64_type();
        let pointer = self.context.ptr_type(AddressSpace::default());
        let mark = self.long(self.key.mark(self.seed) as i64);
        let frame_type = self.vm_type("vm.frame")?;
        let frame = self.builder.build_alloca(frame_type, "frame")?;

        let at = self.member("vm.thread", self.thread, 0)?;
        let calls = self.builder.build_load(long, at, "calls")?.into_int_value();
        self.builder
            .build_store(at, self.builder.build_int_add(calls, self.long(1), "")?)?;

        let at = self.member("vm.thread", self.thread, 1)?;
        let trace = self.builder.build_load(long, at, "trace")?.into_int_value();
        let high = self.builder.build_left_shift(trace, self.long(7), "")?;
        let low = self
            .builder
            .build_right_shift(trace, self.long(57), false, "")?;
        let turned = self.builder.build_or(high, low, "")?;
        self.builder
            .build_store(at, self.builder.build_xor(turned, mark, "")?)?;

        let head = self.member("vm.thread", self.thread, 2)?;
        let previous = self
            .builder
            .build_load(pointer, head, "previous")?
            .into_pointer_value();
        self.builder
            .build_store(self.member("vm.frame", frame, 0)?, previous)?;
        self.builder
            .build_store(self.member("vm.frame", frame, 1)?, mark)?;
        self.builder.build_store(head, frame)?;
        Ok(previous)
    }

    fn statements(&mut self, statements: &[Statement]) -> Fallible<()> {
        statements
            .iter()
            .try_for_each(|statement| self.statement(statement))
    }

    fn statement(&mut self, statement: &Statement) -> Fallible<()> {
        match statement {
            Statement::Set(local, expr) => {
                let value = self.value(expr)?;
                self.builder.build_store(self.locals[*local], value)?;
            }
            Statement::If(condition, then, otherwise) => self.branch(condition, then, otherwise)?,
            Statement::Repeat(turns, body) => self.repeat(*turns, body)?,
        }
        Ok(())
    }

    fn branch(
        &mut self,
        condition: &Expr,
        then: &[Statement],
        otherwise: &[Statement],
    ) -> Fallible<()> {
        let value = self.value(condition)?;
        let falsy = self.long(integer(0));
        let taken = self
            .builder
            .build_int_compare(IntPredicate::NE, value, falsy, "")?;
        let [yes, no, join] = ["then", "else", "join"].map(|name| self.block(name));
        self.builder.build_conditional_branch(taken, yes, no)?;
        for (block, statements) in [(yes, then), (no, otherwise)] {
            self.builder.position_at_end(block);
            self.statements(statements)?;
            self.builder.build_unconditional_branch(join)?;
        }
        self.builder.position_at_end(join);
        Ok(())
    }

    fn repeat(&mut self, turns: u32, body: &[Statement]) -> Fallible<()> {
        let long = self.context.i64_type();
        let [turn, done] = ["turn", "done"].map(|name| self.block(name));
        let before = self.current()?;
        self.builder.build_unconditional_branch(turn)?;
        self.builder.position_at_end(turn);
        let counter = self.builder.build_phi(long, "counter")?;
        self.statements(body)?;
        let next = self.builder.build_int_add(
            counter.as_basic_value().into_int_value(),
            self.long(1),
            "",
        )?;
        counter.add_incoming(&[(&self.long(0), before), (&next, self.current()?)]);
        let end = self.long(turns.into());
        let again = self
            .builder
            .build_int_compare(IntPredicate::ULT, next, end, "")?;
        self.builder.build_conditional_branch(again, turn, done)?;
        self.builder.position_at_end(done);
        Ok(())
    }

    fn value(&mut self, expr: &Expr) -> Fallible<IntValue<'ctx>> {
        match expr {
            Expr::Int(n) => Ok(self.long(integer((*n).into()))),
            Expr::Constant(n) => Ok(self.long(integer(self.profile.constants[*n]))),
            Expr::Local(n) => self.local(*n),
            Expr::Field { local, name, site } => self.field(*local, *name, *site),
            Expr::Binary(op, left, right) => {
                let left = self.value(left)?;
                let right = self.value(right)?;
                self.binary(*op, left, right)
            }
            Expr::Call(callee, left, right) => {
                let left = self.value(left)?;
                let right = self.value(right)?;
                let function = self.target.callee(&callee.key(self.key))?;
                self.call(function, &[self.thread.into(), left.into(), right.into()])
            }
        }
    }

    fn local(&self, n: usize) -> Fallible<IntValue<'ctx>> {
        Ok(self
            .builder
            .build_load(self.context.i64_type(), self.locals[n], "")?
            .into_int_value())
    }

    /// Two integers are handled here, all else by the runtime.
    fn binary(
        &mut self,
        op: Op,
        left: IntValue<'ctx>,
        right: IntValue<'ctx>,
    ) -> Fallible<IntValue<'ctx>> {
        let tags = self.builder.build_and(left, right, "")?;
        let [fast, slow, join] = ["integers", "other", "join"].map(|name| self.block(name));
        self.builder
            .build_conditional_branch(self.low_bit(tags)?, fast, slow)?;

        self.builder.position_at_end(fast);
        let quick = self.integers(op, left, right)?;
        self.builder.build_unconditional_branch(join)?;

        self.builder.position_at_end(slow);
        let function = self.target.runtime("vm_arithmetic")?;
        let number = self.long(op as i64);
        let slowly = self.call(function, &[number.into(), left.into(), right.into()])?;
        self.builder.build_unconditional_branch(join)?;
        self.join(join, &[(quick, fast), (slowly, slow)])
    }

    /// Arithmetic on tagged integers, without taking the tags off where that can be avoided.
    fn integers(
        &self,
        op: Op,
        left: IntValue<'ctx>,
        right: IntValue<'ctx>,
    ) -> Fallible<IntValue<'ctx>> {
        let (build, one) = (&self.builder, self.long(1));
        Ok(match op {
            Op::Add => build.build_int_add(left, build.build_int_sub(right, one, "")?, "")?,
            Op::Sub => build.build_int_add(build.build_int_sub(left, right, "")?, one, "")?,
            Op::Mul => {
                let bare = build.build_right_shift(left, one, true, "")?;
                let even = build.build_int_sub(right, one, "")?;
                build.build_int_add(build.build_int_mul(bare, even, "")?, one, "")?
            }
            Op::Xor => build.build_or(build.build_xor(left, right, "")?, one, "")?,
            Op::Less => {
                let less = build.build_int_compare(IntPredicate::SLT, left, right, "")?;
                self.tag(build.build_int_z_extend(less, self.context.i64_type(), "")?)?
            }
        })
    }

    /// An inline cache: the shapes that the profile has seen here, each with its own load.
    fn field(&mut self, local: usize, name: usize, site: u64) -> Fallible<IntValue<'ctx>> {
        let value = self.local(local)?;
        let [object, slow, join] = ["object", "miss", "join"].map(|name| self.block(name));
        self.builder
            .build_conditional_branch(self.low_bit(value)?, slow, object)?;
        let mut results = Vec::new();

        self.builder.position_at_end(object);
        let pointer_type = self.context.ptr_type(AddressSpace::default());
        let pointer = self.builder.build_int_to_ptr(value, pointer_type, "")?;
        let at = self.member("vm.object", pointer, 0)?;
        let shape = self
            .builder
            .build_load(self.context.i64_type(), at, "shape")?
            .into_int_value();
        for class in self.seen(local, site) {
            let expected = self.long(class.shape as i64);
            let same = self
                .builder
                .build_int_compare(IntPredicate::EQ, shape, expected, "")?;
            let [hit, next] = ["hit", "next"].map(|name| self.block(name));
            self.builder.build_conditional_branch(same, hit, next)?;
            self.builder.position_at_end(hit);
            results.push((self.load_field(class, name, pointer)?, hit));
            self.builder.build_unconditional_branch(join)?;
            self.builder.position_at_end(next);
        }
        self.builder.build_unconditional_branch(slow)?;

        self.builder.position_at_end(slow);
        let function = self.target.runtime("vm_field")?;
        let missed = self.call(function, &[value.into(), self.long(name as i64).into()])?;
        self.builder.build_unconditional_branch(join)?;
        results.push((missed, slow));
        self.join(join, &results)
    }

    /// One or two of the profile's classes: which, is part of the profile.
    fn seen(&self, local: usize, site: u64) -> Vec<Class> {
        let words = [
            13,
            self.key.family.into(),
            self.key.version.into(),
            self.key.part.into(),
            site,
        ];
        let mut random = Random::of(self.seed, &words);
        let first = (local + random.below(2)) % CLASSES;
        let mut classes = vec![self.profile.classes[first]];
        if random.chance(40) {
            classes.push(self.profile.classes[(first + 1) % CLASSES]);
        }
        classes
    }

    /// A load of what the class keeps under `name`. The class is a type of its own.
    fn load_field(
        &self,
        class: Class,
        name: usize,
        object: PointerValue<'ctx>,
    ) -> Fallible<IntValue<'ctx>> {
        let (build, long, layout) = (&self.builder, self.context.i64_type(), class.layout());
        let position = layout.position[name];
        let kind = layout.kinds[position];
        let shape = [BasicTypeEnum::from(long)].into_iter();
        let fields: Vec<_> = shape
            .chain(layout.kinds.iter().map(|k| self.stored(*k)))
            .collect();
        let type_ = self.context.struct_type(&fields, false);
        let at = build.build_struct_gep(type_, object, position as u32 + 1, "")?;
        let loaded = build.build_load(self.stored(kind), at, "")?;
        let wide = match kind {
            Kind::Long => loaded.into_int_value(),
            Kind::Double => build.build_float_to_signed_int(loaded.into_float_value(), long, "")?,
            _ => build.build_int_s_extend(loaded.into_int_value(), long, "")?,
        };
        self.tag(wide)
    }

    fn stored(&self, kind: Kind) -> BasicTypeEnum<'ctx> {
        match kind {
            Kind::Byte => self.context.i8_type().into(),
            Kind::Short => self.context.i16_type().into(),
            Kind::Int => self.context.i32_type().into(),
            Kind::Long => self.context.i64_type().into(),
            Kind::Double => self.context.f64_type().into(),
        }
    }

    fn tag(&self, bare: IntValue<'ctx>) -> Fallible<IntValue<'ctx>> {
        let shifted = self.builder.build_left_shift(bare, self.long(1), "")?;
        Ok(self.builder.build_or(shifted, self.long(1), "")?)
    }

    fn low_bit(&self, value: IntValue<'ctx>) -> Fallible<IntValue<'ctx>> {
        Ok(self
            .builder
            .build_int_truncate(value, self.context.bool_type(), "")?)
    }

    fn long(&self, value: i64) -> IntValue<'ctx> {
        self.context.i64_type().const_int(value as u64, false)
    }

    fn vm_type(&self, name: &str) -> Fallible<StructType<'ctx>> {
        Ok(self
            .context
            .get_struct_type(name)
            .ok_or_else(|| format!("no type {name}"))?)
    }

    fn member(
        &self,
        type_: &str,
        pointer: PointerValue<'ctx>,
        index: u32,
    ) -> Fallible<PointerValue<'ctx>> {
        Ok(self
            .builder
            .build_struct_gep(self.vm_type(type_)?, pointer, index, "")?)
    }

    fn call(
        &self,
        function: FunctionValue<'ctx>,
        arguments: &[BasicMetadataValueEnum<'ctx>],
    ) -> Fallible<IntValue<'ctx>> {
        let call = self.builder.build_call(function, arguments, "")?;
        Ok(call
            .try_as_basic_value()
            .basic()
            .ok_or("a call without result")?
            .into_int_value())
    }

    fn join(
        &self,
        block: BasicBlock<'ctx>,
        incoming: &[(IntValue<'ctx>, BasicBlock<'ctx>)],
    ) -> Fallible<IntValue<'ctx>> {
        self.builder.position_at_end(block);
        let phi = self.builder.build_phi(self.context.i64_type(), "")?;
        for (value, from) in incoming {
            phi.add_incoming(&[(value, *from)]);
        }
        Ok(phi.as_basic_value().into_int_value())
    }

    fn block(&self, name: &str) -> BasicBlock<'ctx> {
        self.context.append_basic_block(self.function, name)
    }

    fn current(&self) -> Fallible<BasicBlock<'ctx>> {
        Ok(self
            .builder
            .get_insert_block()
            .ok_or("the builder stands nowhere")?)
    }
}
