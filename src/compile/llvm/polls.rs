//! Polls: places in code that make no call, and where the reclaimer gets a safepoint all the same.
//!
//! A poll is a load of the cache's flag and a branch that is not taken. Where it is taken, code
//! calls the poll's thunk, which keeps all registers but r11, so that a function saves and spills
//! nothing for its sake. Where polls are, and when they come in, is said in [`super::places`].

use inkwell::llvm_sys::core::*;
use inkwell::llvm_sys::prelude::{LLVMBuilderRef, LLVMTypeRef, LLVMValueRef};
use inkwell::llvm_sys::{LLVMAtomicOrdering, LLVMIntPredicate, LLVMVisibility};
use inkwell::module::Module;

use super::places::{self, Look, PRESERVE_ALL, Place, Places};
use crate::compile::symbols::{POLL_FLAG, POLL_SAFEPOINT};

/// Puts polls into all functions that the module defines.
pub(super) fn add(module: &Module<'_>) {
    // SAFETY: a live module of this thread, and its functions.
    unsafe {
        let functions = places::functions(module);
        let (polls, places) = (Polls::new(module), Places::new(module));
        for function in functions {
            places.add(function, &polls);
        }
    }
}

/// What all polls of a module are made of.
struct Polls {
    word: LLVMTypeRef,
    flag: LLVMValueRef,
    safepoint: LLVMValueRef,
    safepoint_type: LLVMTypeRef,
}

impl Polls {
    /// Declares the two symbols in the module.
    fn new(module: &Module<'_>) -> Self {
        let c_name = std::ffi::CString::new(POLL_FLAG).expect("our own names have no NUL");
        // SAFETY: a live module, and types of its context.
        unsafe {
            let (safepoint, safepoint_type) = places::declare_stub(module, POLL_SAFEPOINT, &mut []);
            let module = module.as_mut_ptr();
            let word = LLVMInt32TypeInContext(LLVMGetModuleContext(module));
            let flag = LLVMAddGlobal(module, word, c_name.as_ptr());
            LLVMSetVisibility(flag, LLVMVisibility::LLVMHiddenVisibility);
            LLVMSetAlignment(flag, 4);
            Self {
                word,
                flag,
                safepoint,
                safepoint_type,
            }
        }
    }
}

impl Look for Polls {
    unsafe fn condition(&self, builder: LLVMBuilderRef, _: Place) -> LLVMValueRef {
        let unnamed = c"".as_ptr();
        // SAFETY: the caller's promise: values and types of the module.
        unsafe {
            let flag = LLVMBuildLoad2(builder, self.word, self.flag, unnamed);
            LLVMSetOrdering(flag, LLVMAtomicOrdering::LLVMAtomicOrderingMonotonic);
            LLVMSetAlignment(flag, 4);
            let zero = LLVMConstInt(self.word, 0, 0);
            LLVMBuildICmp(builder, LLVMIntPredicate::LLVMIntEQ, flag, zero, unnamed)
        }
    }

    unsafe fn otherwise(&self, builder: LLVMBuilderRef) {
        // SAFETY: the caller's promise.
        unsafe {
            let (stub, ty) = (self.safepoint, self.safepoint_type);
            let call = LLVMBuildCall2(builder, ty, stub, std::ptr::null_mut(), 0, c"".as_ptr());
            LLVMSetInstructionCallConv(call, PRESERVE_ALL);
        }
    }
}

#[cfg(test)]
mod tests;
