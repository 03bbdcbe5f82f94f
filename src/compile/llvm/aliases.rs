//! Aliases: other names for a method's parts.
//!
//! An object is linked by itself, so whatever an alias's linkage says, it means the aliasee that stands beside it.

use std::ptr;

use inkwell::llvm_sys::LLVMLinkage;
use inkwell::llvm_sys::core::*;
use inkwell::llvm_sys::error::LLVMConsumeError;
use inkwell::llvm_sys::prelude::LLVMValueRef;
use inkwell::llvm_sys::transforms::pass_builder::{
    LLVMCreatePassBuilderOptions, LLVMDisposePassBuilderOptions, LLVMRunPasses,
};
use inkwell::module::Module;
use inkwell::values::FunctionValue;

use super::lower::list;

/// The function of this name, or that an alias of this name stands for. The module is valid.
pub(super) fn function<'ctx>(module: &Module<'ctx>, name: &str) -> Option<FunctionValue<'ctx>> {
    let raw = module.as_mut_ptr();
    // SAFETY: a live module, and a name with its length; in a valid module aliases do not go in circles.
    unsafe {
        let mut value = LLVMGetNamedGlobalAlias(raw, name.as_ptr().cast(), name.len());
        if value.is_null() {
            return module.get_function(name);
        }
        while !LLVMIsAGlobalAlias(value).is_null() {
            value = LLVMAliasGetAliasee(value);
        }
        let function = Some(value).filter(|&value| !LLVMIsAFunction(value).is_null());
        function.and_then(|function| FunctionValue::new(function))
    }
}

/// Whether a module has any.
pub(super) fn any(module: &Module<'_>) -> bool {
    // SAFETY: a live module of this thread.
    unsafe { !LLVMGetFirstGlobalAlias(module.as_mut_ptr()).is_null() }
}

/// Names directly what was named by an alias. The aliases are left unused, and internal. The module is valid.
pub(super) fn dissolve(module: &Module<'_>) {
    let raw = module.as_mut_ptr();
    // SAFETY: a live module of this thread; aliasee and alias are pointers to one address space.
    unsafe {
        let aliases: Vec<LLVMValueRef> = list(LLVMGetFirstGlobalAlias(raw), LLVMGetNextGlobalAlias);
        for alias in aliases {
            LLVMReplaceAllUsesWith(alias, LLVMAliasGetAliasee(alias));
            LLVMSetLinkage(alias, LLVMLinkage::LLVMInternalLinkage);
        }
    }
}

/// Takes out aliases that [`dissolve`] left, and all else that is internal and unused: there is no other way to
/// delete an alias by LLVM's C interface.
pub(super) fn drop_unused(module: &Module<'_>) {
    // SAFETY: a live module of this thread; the pass needs no machine.
    unsafe {
        let options = LLVMCreatePassBuilderOptions();
        let error = LLVMRunPasses(
            module.as_mut_ptr(),
            c"globaldce".as_ptr(),
            ptr::null_mut(),
            options,
        );
        LLVMDisposePassBuilderOptions(options);
        if !error.is_null() {
            // Only for a pass of another name.
            LLVMConsumeError(error);
        }
    }
}
