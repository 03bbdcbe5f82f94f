//! What a front end gets to emit one method.

use std::ptr;

use inkwell::AddressSpace;
use inkwell::context::Context;
use inkwell::llvm_sys::LLVMAttributeFunctionIndex;
use inkwell::llvm_sys::LLVMVisibility;
use inkwell::llvm_sys::bit_reader::LLVMParseBitcodeInContext2;
use inkwell::llvm_sys::comdat::LLVMSetComdat;
use inkwell::llvm_sys::core::*;
use inkwell::llvm_sys::linker::LLVMLinkModules2;
use inkwell::llvm_sys::prelude::{LLVMModuleRef, LLVMValueRef};
use inkwell::module::{Linkage, Module};
use inkwell::types::FunctionType;
use inkwell::values::{AsValueRef, FunctionValue};

use super::aliases;
use super::context::LlvmContext;
use super::lower::{address_name, name_of, rename};
use super::names;
use super::strip::DebugInfo;
use super::threads;
use crate::compile::Batch;
use crate::error::{BoxError, Error};
use crate::invalidate::{Assumed, Assumption};
use crate::method::Key;

/// One method's part of a batch: what [`Frontend::emit`](crate::Frontend::emit) emits into.
///
/// A method may add to the module its own function, private functions and constants, and
/// declarations of host functions. Mutable globals, thread-locals (but see
/// [`Unit::thread_locals`]), constructors, ifuncs
/// and module-level assembly are refused with a typed error: they would be reset by eviction.
/// So are intrinsics of other machines. Aliases are as good as what they stand for.
///
/// A method whose labels (`blockaddress`) may be in use when their activation has ended stays: see
/// [`Unit::stay`].
///
/// The method's private functions and globals are renamed when it is done, so that methods of one
/// batch do not meet in a name: inline assembly must take them as operands.
///
/// # What ends the process
/// LLVM's code generator ends the process over some IR that its verifier lets pass, and nothing
/// of it comes back as an error: `llvm.x86.*` intrinsics and vector types in calls that need
/// an instruction set which the function does not have (`target-features`), an unknown strategy
/// of garbage collection (`gc`), calling conventions of other machines. Where that must not be, have it done in
/// [another process](crate::Builder::isolation).
pub struct Unit<'u, 'ctx, K: Key> {
    context: &'ctx LlvmContext,
    module: &'u Module<'ctx>,
    batch: &'u mut dyn Callees<K>,
    i: usize,
    symbol: String,
    debug_info: DebugInfo,
    tier: usize,
    /// Whether the module was given the method's function. It is found by its name each time: a front end may link
    /// modules into this one, which replaces what is only declared.
    defined: bool,
    wishes: Wishes,
    trouble: Option<Error>,
}

/// What a front end said of its method.
#[derive(Clone, Copy, Default)]
pub(super) struct Wishes {
    /// It may have mutable globals.
    pub(super) data: bool,
    /// Its code shall stay.
    pub(super) stay: bool,
    /// Its code needs no passes.
    pub(super) optimised: bool,
    /// Other methods may have its body in theirs.
    pub(super) inlinable: bool,
    /// It is longer than methods shall be.
    pub(super) long: bool,
}

/// What became of a unit.
pub(super) struct Finished {
    /// The method's function.
    pub(super) own: Option<LLVMValueRef>,
    pub(super) wishes: Wishes,
    /// What went wrong under the hood.
    pub(super) trouble: Option<Error>,
}

/// The part of a [`Batch`] that a unit needs, whatever the batch's lifetime.
trait Callees<K: Key> {
    /// The canonical symbol of another method.
    fn callee(&mut self, key: &K) -> Result<String, Error>;
    /// Method `i` relies on an assumption.
    fn assume(&mut self, i: usize, assumption: &Assumption) -> Assumed;
    /// Method `i`, for an error.
    fn describe(&self, i: usize) -> String;
}

impl<K: Key> Callees<K> for Batch<'_, K> {
    fn callee(&mut self, key: &K) -> Result<String, Error> {
        Batch::callee(self, key)?;
        let method = self.callees.last().expect("just pushed");
        Ok(address_name(method))
    }

    fn assume(&mut self, i: usize, assumption: &Assumption) -> Assumed {
        Batch::assume(self, i, assumption)
    }

    fn describe(&self, i: usize) -> String {
        self.methods[i].describe()
    }
}

impl<'u, 'ctx, K: Key> Unit<'u, 'ctx, K> {
    pub(super) fn new(
        context: &'ctx LlvmContext,
        module: &'u Module<'ctx>,
        batch: &'u mut Batch<'_, K>,
        i: usize,
    ) -> Self {
        let (symbol, debug_info) = (batch.symbol(i), batch.supplies.debug_info);
        let tier = batch.tier();
        Self {
            context,
            module,
            batch,
            i,
            symbol,
            debug_info,
            tier,
            defined: false,
            wishes: Wishes::default(),
            trouble: None,
        }
    }

    pub(super) fn finish(self) -> Finished {
        Finished {
            own: self.own().map(|own| own.as_value_ref()),
            wishes: self.wishes,
            trouble: self.trouble,
        }
    }

    fn own(&self) -> Option<FunctionValue<'ctx>> {
        let own = || self.module.get_function(&self.symbol);
        self.defined.then(own).flatten()
    }

    /// The generation's context. Types made in [`Frontend::prelude`](crate::Frontend::prelude)
    /// are found here by name.
    pub fn context(&self) -> &'ctx Context {
        self.context.llvm()
    }

    /// The batch's module, shared with other methods. Do not touch what they added.
    pub fn module(&self) -> &'u Module<'ctx> {
        self.module
    }

    /// The method's own function, to be given a body. It has the C calling convention and a name
    /// that the cache chose; a second call returns the same function, or makes the method fail if
    /// it asks for another type.
    ///
    /// Calls of it by itself stay direct, and may be optimised as such. Every other use of it is
    /// its canonical address.
    pub fn define(&mut self, ty: FunctionType<'ctx>) -> FunctionValue<'ctx> {
        let own = self.own();
        let name = match own {
            Some(own) if own.get_type() == ty => return own,
            Some(own) => {
                let was = own.get_type();
                self.give_up(format!(
                    "the method was defined as {was}, and is now defined as {ty}"
                ));
                // Until `emit` returns, it gets something to fill.
                "inkpot.method.none"
            }
            None => &*self.symbol,
        };
        let function = self.module.add_function(name, ty, Some(Linkage::External));
        hide(function.as_value_ref());
        self.defined = true;
        function
    }

    /// Another method, to be called: present or not, compiled or not. Each call of it becomes a
    /// load of its cell and an indirect call, so that it sees evictions and invalidations; every
    /// other use of it is its canonical address, which then stays for the life of the cache.
    ///
    /// Parameter attributes that are part of the calling convention (`sret`, `byval`, `zeroext`,
    /// ...) may be set on the declaration or on the call. The method must have been emitted with
    /// this type.
    pub fn callee(&mut self, key: &K, ty: FunctionType<'ctx>) -> FunctionValue<'ctx> {
        let name = match self.batch.callee(key) {
            Ok(name) => name,
            Err(error) => {
                // The method is given up when `emit` returns; until then it gets something to call.
                self.trouble.get_or_insert(error);
                "inkpot.address.none".to_owned()
            }
        };
        self.declare(&name, ty)
    }

    /// The method relies on an assumption, as it is now: it is unlinked when that falls, and if it falls
    /// before the method is published, the method is compiled again. To be called before what the
    /// assumption is about is looked at.
    ///
    /// What is returned is for frames of the method that are inside when it falls: see
    /// [`Unit::holds`]. Less than half a microsecond, publishing included.
    pub fn assume(&mut self, assumption: &Assumption) -> Assumed {
        self.batch.assume(self.i, assumption)
    }

    /// A host function, by the name under which the builder imported it (or that
    /// [`Frontend::resolve`](crate::Frontend::resolve) knows).
    ///
    /// Methods of one batch may import it by different types, and have private functions of that
    /// name: the declaration's own name is another one then.
    pub fn import(&mut self, name: &str, ty: FunctionType<'ctx>) -> FunctionValue<'ctx> {
        self.external(name, ty, |_| true)
    }

    /// A function that the prelude declared, with its type and attributes.
    pub fn declared(&mut self, name: &str) -> Option<FunctionValue<'ctx>> {
        let model = self
            .context
            .with_prelude(|_, prelude| prelude.get_function(name))?;
        let convention = model.get_call_conventions();
        let fits = |f: FunctionValue<'ctx>| f.get_call_conventions() == convention;
        let function = self.external(name, model.get_type(), fits);
        // SAFETY: both are live functions of one context and type.
        unsafe { copy_attributes(model.as_value_ref(), function.as_value_ref()) };
        Some(function)
    }

    /// Takes this method's code from bitcode: a module that defines `function`, with whatever
    /// private functions and constants it needs, and declares what it refers to. Declared
    /// functions for which `callee` returns a key are treated as by [`Unit::callee`].
    ///
    /// The bitcode is parsed into the generation's context, and its module linked into the
    /// batch's. An error if the method was [defined](Unit::define) already.
    ///
    /// # Damaged bitcode
    /// LLVM reads it, and is made for what LLVM wrote. A file that was cut short is an error. But of
    /// single bits turned over it notices a quarter; most are another program to it, and over one in
    /// a hundred makes it crash, and the process with it. What comes from a disk or a network needs
    /// a checksum of the embedder's own.
    pub fn adopt(
        &mut self,
        bitcode: &[u8],
        function: &str,
        callee: &mut dyn FnMut(&str) -> Option<K>,
    ) -> Result<FunctionValue<'ctx>, BoxError> {
        self.adopt_as(bitcode, function, callee, &mut |_| None)
    }

    /// As [`Unit::adopt`], where names that the bitcode declares mean something else in this method
    /// than in others of the batch: `import` gives the name that each is to be imported by, and that
    /// [`Frontend::resolve`](crate::Frontend::resolve) is asked for. So one piece of bitcode serves
    /// several methods, each with global variables of its own, say.
    ///
    /// # Errors
    /// As for [`Unit::adopt`].
    pub fn adopt_as(
        &mut self,
        bitcode: &[u8],
        function: &str,
        callee: &mut dyn FnMut(&str) -> Option<K>,
        import: &mut dyn FnMut(&str) -> Option<String>,
    ) -> Result<FunctionValue<'ctx>, BoxError> {
        if self.own().is_some() {
            return Err("the method has its function already".into());
        }
        self.context.listen();
        let piece = self.parse(bitcode)?;
        if aliases::any(&piece) {
            piece.verify().map_err(|message| message.to_string())?;
        }
        let own = aliases::function(&piece, function)
            .filter(|f| f.count_basic_blocks() > 0)
            .ok_or_else(|| format!("the bitcode does not define {function}"))?;
        let declared: Vec<_> = piece
            .get_functions()
            .filter(|f| f.count_basic_blocks() == 0 && f.get_intrinsic_id() == 0)
            .collect();
        for declaration in declared {
            let name = name_of(declaration.as_value_ref());
            let Some(key) = callee(&name) else {
                if let Some(name) = import(&name) {
                    rename(declaration.as_value_ref(), &name);
                }
                continue;
            };
            let name = self.batch.callee(&key)?;
            let name = names::of_method(
                self.module,
                &name,
                declaration.get_type(),
                |_| true,
                |known| names::alike(known, declaration),
            );
            rename(declaration.as_value_ref(), &name);
            hide(declaration.as_value_ref());
        }
        for global in piece.get_globals() {
            let declared = global.get_initializer().is_none();
            let name = declared.then(|| name_of(global.as_value_ref()));
            if let Some(name) = name.and_then(|name| import(&name)) {
                rename(global.as_value_ref(), &name);
            }
        }
        // Unused and internal as they are then, the linker leaves them behind.
        aliases::dissolve(&piece);
        isolate(&piece);
        own.set_linkage(Linkage::External);
        rename(own.as_value_ref(), &self.symbol);
        hide(own.as_value_ref());
        self.context.listen(); // `callee` is the front end's, and may have had the context
        self.link(piece).inspect_err(|e| {
            // Half of it may be in the module.
            self.give_up(e.to_string());
        })?;
        let Some(own) = self.module.get_function(&self.symbol) else {
            let message = "the linked module lost the method's function";
            self.give_up(message.to_owned());
            return Err(message.into());
        };
        self.defined = true;
        Ok(own)
    }

    /// Gives storage to the thread-local variables that the method declares (`external
    /// thread_local`): each use of one that `number` knows becomes a call of the host function
    /// `runtime`, a `extern "C" fn(u64) -> *mut u8`, with that number. It returns the variable's
    /// address for the calling thread, each time the same, and must not unwind.
    ///
    /// To be called when the method's code is complete. A method that keeps another thread-local
    /// is refused.
    ///
    /// # Errors
    /// Where the address of such a variable stands in a constant, which all threads would share.
    pub fn thread_locals(
        &mut self,
        runtime: &str,
        number: &mut dyn FnMut(&str) -> Option<u64>,
    ) -> Result<(), BoxError> {
        let context = self.context();
        let pointer = context.ptr_type(AddressSpace::default());
        let runtime = self.import(
            runtime,
            pointer.fn_type(&[context.i64_type().into()], false),
        );
        match threads::lower(self.module, runtime.as_value_ref(), number) {
            Ok(calls) => {
                // To find those that are one too many is the passes' part.
                self.wishes.optimised &= !calls;
                Ok(())
            }
            Err(message) => {
                self.give_up(message.clone());
                Err(message.into())
            }
        }
    }

    /// Says that the method means its mutable globals. They live in the generation's memory,
    /// begin anew with every compilation, and end with the generation: use this for a method
    /// that is [kept](crate::Handle::keep) for ever, or [stays](Unit::stay).
    pub fn allow_data(&mut self) {
        self.wishes.data = true;
    }

    /// Says that the method's code has been through a pipeline of LLVM's passes already, ahead of time,
    /// say. If that is so of all methods of a batch, it goes to the code generator as it is, which saves
    /// a third of the time that compiling takes at O2. To be called before
    /// [`Unit::thread_locals`], which takes it back if it changes the code.
    ///
    /// Code that no pipeline has seen may say so too, if it needs none: what only passes lower
    /// (coroutines, say) must not be left in it.
    pub fn optimised(&mut self) {
        self.wishes.optimised = true;
    }

    /// The [tier](crate::Tier) that the method is emitted for, counted from 0. Methods are emitted for the first one; for
    /// a later one if their code was evicted while they were on their way there, if that
    /// [emits again](crate::Tier::emit_again), or if they cannot be promoted: those that [stay](Unit::stay) or have
    /// [data](Unit::allow_data) are compiled for the last one at once.
    pub fn tier(&self) -> usize {
        self.tier
    }

    /// Says that other methods may have this one's body in theirs: in tiers that [inline](crate::Tier::inline), where LLVM
    /// finds that it pays. Its IR is kept for that while it has code. When it is invalidated, they are too.
    ///
    /// For small methods that are called often. Those that have private functions or data of their own, stay, or are
    /// coroutines are not inlined, nor is any where debug information is kept.
    pub fn inlinable(&mut self) {
        self.wishes.inlinable = true;
    }

    /// Says that addresses inside of the method's code, constants or data get about (its function's
    /// address does not count: that is canonical). It is compiled among others that stay, is no victim
    /// of eviction, and its memory lives as long as the cache, invalidated or not. The
    /// statistics name it.
    ///
    /// A method stays without being told if a label of it (`blockaddress`) may get further than to
    /// the jumps of one activation: stored where another finds it, passed on, or returned.
    pub fn stay(&mut self) {
        self.wishes.stay = true;
    }

    /// The method fails, whatever `emit` returns.
    fn give_up(&mut self, message: String) {
        let method = self.batch.describe(self.i);
        let source: BoxError = message.into();
        self.trouble.get_or_insert(Error::Frontend {
            method,
            source: source.into(),
        });
    }

    fn declare(&self, name: &str, ty: FunctionType<'ctx>) -> FunctionValue<'ctx> {
        let name = names::of_method(self.module, name, ty, |_| true, |_| true);
        self.module.get_function(&name).unwrap_or_else(|| {
            let function = self.module.add_function(&name, ty, Some(Linkage::External));
            hide(function.as_value_ref());
            function
        })
    }

    /// The declaration of something of the host's, of this type, and that `fits`.
    fn external(
        &self,
        name: &str,
        ty: FunctionType<'ctx>,
        fits: impl Fn(FunctionValue<'ctx>) -> bool,
    ) -> FunctionValue<'ctx> {
        let name = names::of_import(self.module, name, ty, |_| true, fits);
        self.module
            .get_function(&name)
            .unwrap_or_else(|| self.module.add_function(&name, ty, Some(Linkage::External)))
    }

    fn parse(&self, bitcode: &[u8]) -> Result<Module<'ctx>, BoxError> {
        let name = c"piece";
        let mut module: LLVMModuleRef = ptr::null_mut();
        // SAFETY: the buffer borrows `bitcode`, which outlives it; the module is checked before
        // it is used, and belongs to the context.
        let failed = unsafe {
            let buffer = LLVMCreateMemoryBufferWithMemoryRange(
                bitcode.as_ptr().cast(),
                bitcode.len(),
                name.as_ptr(),
                0,
            );
            let failed = LLVMParseBitcodeInContext2(self.context.raw(), buffer, &mut module);
            LLVMDisposeMemoryBuffer(buffer);
            failed
        };
        if failed != 0 || module.is_null() {
            let why = self
                .context
                .take_errors()
                .unwrap_or_else(|| "unreadable".to_owned());
            return Err(format!("the bitcode is damaged: {why}").into());
        }
        // SAFETY: a module that nobody else owns.
        let module = unsafe { Module::new(module) };
        self.debug_info.apply(&module);
        module.set_triple(&self.module.get_triple());
        module.set_data_layout(&self.module.get_data_layout());
        Ok(module)
    }

    fn link(&self, piece: Module<'ctx>) -> Result<(), BoxError> {
        let piece = std::mem::ManuallyDrop::new(piece);
        // SAFETY: two live modules of one context; the source is consumed, also on failure.
        let failed = unsafe { LLVMLinkModules2(self.module.as_mut_ptr(), piece.as_mut_ptr()) };
        match (failed, self.context.take_errors()) {
            (0, None) => Ok(()),
            (_, why) => {
                let why = why.unwrap_or_else(|| "no reason given".to_owned());
                Err(format!("the bitcode does not link into the batch: {why}").into())
            }
        }
    }
}

/// Makes what a module defines its own, so that linking joins it with nothing.
fn isolate(piece: &Module<'_>) {
    for function in piece.get_functions().filter(|f| f.count_basic_blocks() > 0) {
        function.set_linkage(Linkage::Internal);
        // SAFETY: a live function.
        unsafe { LLVMSetComdat(function.as_value_ref(), ptr::null_mut()) };
    }
    for global in piece.get_globals().filter(|g| !g.is_declaration()) {
        // LLVM's own lists are refused, or dropped, by that linkage.
        if global.get_linkage() != Linkage::Appending {
            global.set_linkage(Linkage::Internal);
            // SAFETY: a live global variable.
            unsafe { LLVMSetComdat(global.as_value_ref(), ptr::null_mut()) };
        }
    }
}

/// Within the reservation, so code may reach it by a displacement.
fn hide(value: LLVMValueRef) {
    // SAFETY: a live global value.
    unsafe {
        LLVMSetComdat(value, ptr::null_mut());
        LLVMSetVisibility(value, LLVMVisibility::LLVMHiddenVisibility);
    }
}

/// # Safety
/// Both are live functions of one context and one type.
unsafe fn copy_attributes(from: LLVMValueRef, to: LLVMValueRef) {
    // SAFETY: the caller's promise; indices run over the function, its result and parameters.
    unsafe {
        LLVMSetFunctionCallConv(to, LLVMGetFunctionCallConv(from));
        let parameters = LLVMCountParams(from);
        for index in std::iter::once(LLVMAttributeFunctionIndex).chain(0..=parameters) {
            for attribute in super::lower::attributes_at(from, index) {
                LLVMAddAttributeAtIndex(to, index, attribute);
            }
        }
    }
}
