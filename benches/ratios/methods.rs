//! The methods that are compiled: the same IR for the cache and for the bare pipeline.

use inkpot::inkwell::builder::Builder;
use inkpot::inkwell::context::Context;
use inkpot::inkwell::intrinsics::Intrinsic;
use inkpot::inkwell::module::Module;
use inkpot::inkwell::types::{BasicType, FunctionType};
use inkpot::inkwell::values::{FunctionValue, IntValue, PointerValue};
use inkpot::inkwell::{AddressSpace, IntPredicate};
use inkpot::{BoxError, Cache, Frontend, Handle, OptLevel, Unit};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// The type of all methods: the object they belong to, and an argument.
pub type Code = unsafe extern "C" fn(*mut i64, i64) -> i64;

/// Fields of an object.
pub const FIELDS: u64 = 16;
/// Types that the runtime declares in each context.
const TYPES: u64 = 60;
/// Statements of a method of medium size: about 700 bytes of code at O1.
const STATEMENTS: u64 = 11;

/// How large a method is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Size {
    /// One addition.
    Tiny,
    /// As a dynamically typed language has them once they are specialised: loads of fields,
    /// guards on what was loaded, arithmetic, stores, and calls of the runtime.
    Medium,
}

/// Names a method: its number makes its constants.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Name {
    pub size: Size,
    pub number: u64,
}

/// The runtime, as far as the methods know it.
extern "C" fn send(_object: *mut i64, selector: i64, _site: *mut i64, argument: i64) -> i64 {
    selector ^ argument
}

/// Where methods go when a guard does not hold.
extern "C" fn leave(_object: *mut i64, place: i64) -> i64 {
    place
}

/// The runtime's functions, declared in a module.
struct Runtime<'ctx> {
    send: FunctionValue<'ctx>,
    leave: FunctionValue<'ctx>,
}

impl<'ctx> Runtime<'ctx> {
    fn new(
        context: &'ctx Context,
        mut import: impl FnMut(&str, FunctionType<'ctx>) -> FunctionValue<'ctx>,
    ) -> Self {
        let word = context.i64_type();
        let pointer = context.ptr_type(AddressSpace::default()).into();
        let send = word.fn_type(&[pointer, word.into(), pointer, word.into()], false);
        Self {
            send: import("vm_send", send),
            leave: import("vm_leave", signature(context)),
        }
    }
}

/// Declares the runtime's types.
pub fn prelude(context: &Context) {
    let word = context.i64_type();
    let pointer = context.ptr_type(AddressSpace::default());
    for i in 0..TYPES {
        let body = context.opaque_struct_type(&format!("vm.type.{i}"));
        let fields = word.array_type(FIELDS as u32 + i as u32);
        body.set_body(&[pointer.into(), fields.into()], false);
    }
}

/// A method's type.
pub fn signature(context: &Context) -> FunctionType<'_> {
    let word = context.i64_type();
    let pointer = context.ptr_type(AddressSpace::default());
    word.fn_type(&[pointer.into(), word.into()], false)
}

/// Gives `function` its body.
pub fn body<'ctx>(
    context: &'ctx Context,
    module: &Module<'ctx>,
    name: Name,
    function: FunctionValue<'ctx>,
    import: impl FnMut(&str, FunctionType<'ctx>) -> FunctionValue<'ctx>,
) -> Result<(), BoxError> {
    let builder = context.create_builder();
    builder.position_at_end(context.append_basic_block(function, "entry"));
    let parameters = function.get_params();
    let (object, x) = (
        parameters[0].into_pointer_value(),
        parameters[1].into_int_value(),
    );
    let result = match name.size {
        Size::Tiny => {
            let constant = context.i64_type().const_int(name.number, true);
            builder.build_int_add(x, constant, "sum")?
        }
        Size::Medium => Medium {
            context,
            builder: &builder,
            module,
            function,
            object,
            runtime: Runtime::new(context, import),
            random: name.number.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        }
        .emit(x)?,
    };
    builder.build_return(Some(&result))?;
    Ok(())
}

/// Emits a method of medium size.
struct Medium<'b, 'ctx> {
    context: &'ctx Context,
    builder: &'b Builder<'ctx>,
    module: &'b Module<'ctx>,
    function: FunctionValue<'ctx>,
    object: PointerValue<'ctx>,
    runtime: Runtime<'ctx>,
    random: u64,
}

impl<'ctx> Medium<'_, 'ctx> {
    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    fn constant(&self, n: u64) -> IntValue<'ctx> {
        self.context.i64_type().const_int(n, false)
    }

    /// A field of the object, which is of one of the runtime's types.
    fn field(&mut self) -> Result<PointerValue<'ctx>, BoxError> {
        let ty = format!("vm.type.{}", self.random(TYPES));
        let ty = self.context.get_struct_type(&ty);
        let ty = ty.ok_or("the prelude declares it")?.as_basic_type_enum();
        let one = self.context.i32_type().const_int(1, false);
        let field = self.random(FIELDS - 1);
        let path = [self.constant(0), one, self.constant(field)];
        // SAFETY: the indices are within the type.
        Ok(unsafe {
            self.builder
                .build_in_bounds_gep(ty, self.object, &path, "field")?
        })
    }

    fn load(&mut self) -> Result<IntValue<'ctx>, BoxError> {
        let field = self.field()?;
        let word = self.context.i64_type();
        Ok(self
            .builder
            .build_load(word, field, "value")?
            .into_int_value())
    }

    fn store(&mut self, value: IntValue<'ctx>) -> Result<(), BoxError> {
        let field = self.field()?;
        self.builder.build_store(field, value)?;
        Ok(())
    }

    /// Leaves specialised code, at a place.
    fn leave(&self, value: IntValue<'ctx>) -> Result<IntValue<'ctx>, BoxError> {
        let arguments = [self.object.into(), value.into()];
        let called = self
            .builder
            .build_call(self.runtime.leave, &arguments, "left")?;
        Ok(called.try_as_basic_value().unwrap_basic().into_int_value())
    }

    /// Goes on only if `condition` holds; else leaves through the runtime, and says where.
    fn guard(&mut self, condition: IntValue<'ctx>) -> Result<(), BoxError> {
        let good = self.context.append_basic_block(self.function, "good");
        let exit = self.context.append_basic_block(self.function, "exit");
        self.builder
            .build_conditional_branch(condition, good, exit)?;
        self.builder.position_at_end(exit);
        let place = self.random(1 << 20);
        let left = self.leave(self.constant(place))?;
        self.builder.build_return(Some(&left))?;
        self.builder.position_at_end(good);
        Ok(())
    }

    /// Adds a field to `sum`: both are integers, or it leaves.
    fn add(&mut self, sum: IntValue<'ctx>) -> Result<IntValue<'ctx>, BoxError> {
        let value = self.load()?;
        let b = self.builder;
        let tag = b.build_and(value, self.constant(1), "tag")?;
        let integer = b.build_int_compare(IntPredicate::NE, tag, self.constant(0), "integer")?;
        self.guard(integer)?;
        let intrinsic = Intrinsic::find("llvm.sadd.with.overflow").ok_or("LLVM has it")?;
        let word = self.context.i64_type().into();
        let checked_add = intrinsic.get_declaration(self.module, &[word]);
        let arguments = [sum.into(), value.into()];
        let both = b.build_call(checked_add.ok_or("it has this type")?, &arguments, "both")?;
        let both = both.try_as_basic_value().unwrap_basic().into_struct_value();
        let sum = b.build_extract_value(both, 0, "sum")?.into_int_value();
        let over = b.build_extract_value(both, 1, "over")?.into_int_value();
        self.guard(b.build_not(over, "fits")?)?;
        self.store(sum)?;
        Ok(sum)
    }

    /// Sends a message: the runtime is given the receiver, what names the message, the call site
    /// where it remembers what it found, and an argument.
    fn send(&mut self, argument: IntValue<'ctx>) -> Result<IntValue<'ctx>, BoxError> {
        let selector = self.constant(self.random >> 40);
        let site = self.random(1 << 46) & !7;
        let pointer = self.context.ptr_type(AddressSpace::default());
        let site = self.constant(site).const_to_pointer(pointer);
        let arguments = [
            self.object.into(),
            selector.into(),
            site.into(),
            argument.into(),
        ];
        let answer = self
            .builder
            .build_call(self.runtime.send, &arguments, "answer")?;
        Ok(answer.try_as_basic_value().unwrap_basic().into_int_value())
    }

    /// Most of what such a method does is to send messages; between them it moves values to and
    /// fro, and now and then adds.
    fn emit(mut self, x: IntValue<'ctx>) -> Result<IntValue<'ctx>, BoxError> {
        let mut value = x;
        for _ in 0..STATEMENTS {
            value = self.send(value)?;
            self.store(value)?;
            value = self.load()?;
            value = self.send(value)?;
        }
        value = self.add(value)?;
        self.add(value)
    }
}

/// The front end for the cache.
pub struct Methods {
    /// Nanoseconds spent in `emit`.
    pub emitting: &'static AtomicU64,
}

impl Frontend for Methods {
    type Key = Name;

    fn prelude<'ctx>(&self, context: &'ctx Context, _: &Module<'ctx>) -> Result<(), BoxError> {
        prelude(context);
        Ok(())
    }

    fn emit<'ctx>(&self, name: &Name, unit: &mut Unit<'_, 'ctx, Name>) -> Result<(), BoxError> {
        let started = Instant::now();
        let context = unit.context();
        let function = unit.define(signature(context));
        let module = unit.module();
        body(context, module, *name, function, |name, ty| {
            unit.import(name, ty)
        })?;
        let took = started.elapsed().as_nanos() as u64;
        self.emitting.fetch_add(took, Ordering::Relaxed);
        Ok(())
    }
}

/// A cache of such methods at O1, with one compile worker.
pub fn builder(emitting: &'static AtomicU64) -> inkpot::Builder<Name> {
    Cache::builder(Methods { emitting })
        .opt_level(OptLevel::O1)
        .workers(1)
        .import("vm_send", send as *const ())
        .import("vm_leave", leave as *const ())
}

/// What they call.
pub fn imports() -> [(&'static str, *const ()); 2] {
    [
        ("vm_send", send as *const ()),
        ("vm_leave", leave as *const ()),
    ]
}

/// A handle to a method.
pub fn handle(cache: &Cache<Name>, name: Name) -> Handle<Name, Code> {
    // SAFETY: `signature` is what `Code` says.
    unsafe { cache.method(&name) }.expect("there are cells")
}

/// Fresh methods of one size, burst after burst.
pub struct Bursts {
    cache: Cache<Name>,
    size: Size,
    methods: u64,
    next: u64,
}

impl Bursts {
    pub fn new(cache: Cache<Name>, size: Size, methods: u64) -> Self {
        Self {
            cache,
            size,
            methods,
            next: 0,
        }
    }

    pub fn cache(&self) -> &Cache<Name> {
        &self.cache
    }

    /// Asks for all methods of a burst, waits for all, and says how many seconds that took.
    /// Afterwards, and outside of the time, they are dropped and their memory is recycled.
    pub fn run(&mut self) -> f64 {
        let took = self.compile();
        self.clear();
        took
    }

    /// As [`Bursts::run`], and they stay until [`Bursts::clear`].
    pub fn compile(&mut self) -> f64 {
        let participant = self.cache.participant("burst");
        let names = self.next..self.next + self.methods;
        self.next = names.end;
        let started = Instant::now();
        let handles: Vec<_> = names
            .map(|number| {
                let size = self.size;
                let handle = handle(&self.cache, Name { size, number });
                handle.request().expect("the cache is open");
                handle
            })
            .collect();
        let mut guard = participant.pin();
        for handle in &handles {
            handle.get(&mut guard).expect("it compiles");
        }
        started.elapsed().as_secs_f64()
    }

    /// Drops all methods, and waits until their memory is recycled.
    pub fn clear(&self) {
        self.cache.seal();
        self.cache.evict_all();
        loop {
            let now = self.cache.statistics();
            if now.generations_dead + now.generations_fallow == 0 {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}
