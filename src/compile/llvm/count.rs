//! Counting: code of a tier that promotes adds to its thread's counter, and calls the cache when that is full.
//!
//! Where it counts, and when that comes in, is said in [`super::places`]; where the counters are, in
//! [`crate::tier::counts`].

use std::collections::HashMap;

use inkwell::llvm_sys::LLVMIntPredicate;
use inkwell::llvm_sys::core::*;
use inkwell::llvm_sys::prelude::{LLVMBuilderRef, LLVMTypeRef, LLVMValueRef};
use inkwell::module::Module;

use super::job::Counting;
use super::lower::{enum_attribute, name_bytes};
use super::places::{self, Look, PRESERVE_ALL, Place, Places};
use crate::compile::batch::COUNTER_FULL;
use crate::method::FULL;
use crate::tier::{CALL, counts};

/// The address space of what is found from the thread pointer (fs) on.
const OF_THREAD: u32 = 257;

/// Makes every function of the module count for its method.
pub(super) fn add(module: &Module<'_>, counting: &Counting<'_>) {
    let methods: HashMap<u32, u64> = counting.methods.iter().copied().collect();
    // SAFETY: a live module of this thread, and its functions.
    unsafe {
        let functions = places::functions(module);
        let (shared, places) = (Shared::new(module, counting), Places::new(module));
        for function in functions {
            let cell = owner(name_bytes(function));
            if let Some(method) = cell.and_then(|cell| methods.get(&cell).copied()) {
                places.add(
                    function,
                    &Counter {
                        shared: &shared,
                        method,
                    },
                );
            }
        }
    }
}

/// The cell of the method that a function of the module belongs to, by its name: `inkpot.method.N`, or
/// `inkpot.local.N.NAME`, and what passes have split off from these.
pub(super) fn owner(name: &[u8]) -> Option<u32> {
    let name = std::str::from_utf8(name).ok()?;
    let name = name.strip_prefix("inkpot.")?;
    let number = name
        .strip_prefix("method.")
        .or_else(|| name.strip_prefix("local."))?;
    number.split('.').next()?.parse().ok()
}

/// What all counters of a module are made of.
struct Shared {
    word: LLVMTypeRef,
    long: LLVMTypeRef,
    byte: LLVMTypeRef,
    pointer: LLVMTypeRef,
    /// Where the thread's table is.
    table: LLVMValueRef,
    full: LLVMValueRef,
    full_type: LLVMTypeRef,
    nest: u32,
    threshold: u32,
}

impl Shared {
    /// # Safety
    /// A live module of this thread.
    unsafe fn new(module: &Module<'_>, counting: &Counting<'_>) -> Self {
        // SAFETY: the caller's promise; types of the module's context.
        unsafe {
            let context = LLVMGetModuleContext(module.as_mut_ptr());
            let long = LLVMInt64TypeInContext(context);
            let pointer = LLVMPointerTypeInContext(context, 0);
            let (full, full_type) = places::declare_stub(module, COUNTER_FULL, &mut [pointer]);
            let offset = LLVMConstInt(long, counting.table as u64, 1);
            let of_thread = LLVMPointerTypeInContext(context, OF_THREAD);
            Self {
                word: LLVMInt32TypeInContext(context),
                long,
                byte: LLVMInt8TypeInContext(context),
                pointer,
                table: LLVMConstIntToPtr(offset, of_thread),
                full,
                full_type,
                nest: enum_attribute("nest"),
                threshold: counting.threshold,
            }
        }
    }
}

/// One method's.
struct Counter<'s> {
    shared: &'s Shared,
    method: u64,
}

impl Look for Counter<'_> {
    unsafe fn condition(&self, builder: LLVMBuilderRef, place: Place) -> LLVMValueRef {
        let unnamed = c"".as_ptr();
        let shared = self.shared;
        let weight = match place {
            Place::Entry => CALL,
            Place::Round => 1,
        };
        // SAFETY: the caller's promise: values and types of the module. Volatile, as the thread may be another one at
        // the next count, for all that LLVM knows.
        unsafe {
            let table = LLVMBuildLoad2(builder, shared.pointer, shared.table, unnamed);
            LLVMSetVolatile(table, 1);
            let at = LLVMConstInt(shared.long, counts::place(self.method), 0);
            let counter = LLVMBuildGEP2(builder, shared.byte, table, [at].as_mut_ptr(), 1, unnamed);
            let before = LLVMBuildLoad2(builder, shared.word, counter, unnamed);
            LLVMSetVolatile(before, 1);
            let weight = LLVMConstInt(shared.word, weight.into(), 0);
            let after = LLVMBuildAdd(builder, before, weight, unnamed);
            LLVMSetVolatile(LLVMBuildStore(builder, after, counter), 1);
            let threshold = LLVMConstInt(shared.word, shared.threshold.into(), 0);
            LLVMBuildICmp(
                builder,
                LLVMIntPredicate::LLVMIntULT,
                after,
                threshold,
                unnamed,
            )
        }
    }

    unsafe fn otherwise(&self, builder: LLVMBuilderRef) {
        let shared = self.shared;
        // SAFETY: the caller's promise.
        unsafe {
            let number = LLVMConstInt(shared.long, self.method | FULL, 0);
            let mut argument = [LLVMConstIntToPtr(number, shared.pointer)];
            let (stub, ty) = (shared.full, shared.full_type);
            let call = LLVMBuildCall2(builder, ty, stub, argument.as_mut_ptr(), 1, c"".as_ptr());
            LLVMSetInstructionCallConv(call, PRESERVE_ALL);
            let context = LLVMGetTypeContext(shared.long);
            LLVMAddCallSiteAttribute(call, 1, LLVMCreateEnumAttribute(context, shared.nest, 0));
        }
    }
}
