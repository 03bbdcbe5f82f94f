//! Calls between methods, lowered to what survives eviction.
//!
//! A direct call of another method becomes a monotonic atomic load of its cell, right before
//! the call, and an indirect call. A plain load, or one through the GOT, would be hoisted out of
//! loops at O2, and the eviction never seen; an atomic one is not, not even for a callee without
//! side effects. What is left of the declaration stands for the canonical address.

use std::collections::HashSet;

use inkwell::llvm_sys::core::*;
use inkwell::llvm_sys::prelude::{LLVMAttributeRef, LLVMModuleRef, LLVMTypeRef, LLVMValueRef};
use inkwell::llvm_sys::{LLVMAtomicOrdering, LLVMAttributeFunctionIndex, LLVMAttributeIndex};
use inkwell::llvm_sys::{LLVMLinkage, LLVMValue, LLVMVisibility};
use inkwell::module::Module;

use crate::compile::Batch;
use crate::compile::symbols::{OwnSymbol, parse_symbol};
use crate::method::{Key, Method};

/// Attributes of functions that a call site may carry, and that callers rely on.
const CALL_SITE: [&str; 7] = [
    "noreturn",
    "nounwind",
    "willreturn",
    "memory",
    "cold",
    "convergent",
    "returns_twice",
];

/// The name under which code refers to a method's canonical address.
pub(super) fn address_name<K: Key>(method: &Method<K>) -> String {
    format!("inkpot.address.{}", method.cell)
}

/// Whether this has the name of another method's canonical address.
///
/// # Safety
/// `value` is live.
pub(super) unsafe fn is_method_address(value: LLVMValueRef) -> bool {
    // SAFETY: the caller's promise; nothing changes the value while its name is looked at.
    let name = unsafe { name_bytes(value) };
    let name = std::str::from_utf8(name).ok();
    matches!(name.and_then(parse_symbol), Some(OwnSymbol::Address(_)))
}

/// The number of an attribute that every supported LLVM has.
pub(super) fn enum_attribute(name: &str) -> u32 {
    // SAFETY: the name is valid for its length.
    unsafe { LLVMGetEnumAttributeKindForName(name.as_ptr().cast(), name.len()) }
}

/// Whether it has no meaning outside of its module.
///
/// # Safety
/// `value` is a live global value.
pub(super) unsafe fn is_local(value: LLVMValueRef) -> bool {
    // SAFETY: the caller's promise.
    let linkage = unsafe { LLVMGetLinkage(value) };
    matches!(
        linkage,
        LLVMLinkage::LLVMInternalLinkage | LLVMLinkage::LLVMPrivateLinkage
    )
}

pub(super) fn name_of(value: LLVMValueRef) -> String {
    // SAFETY: a live value; the name is copied before the value can change.
    unsafe { String::from_utf8_lossy(name_bytes(value)).into_owned() }
}

/// # Safety
/// `value` is live, and neither renamed nor erased while the name is used.
pub(super) unsafe fn name_bytes<'n>(value: LLVMValueRef) -> &'n [u8] {
    let mut len = 0;
    // SAFETY: the caller's promise; LLVM gives the length with the name, which is never null.
    unsafe {
        let name = LLVMGetValueName2(value, &mut len);
        std::slice::from_raw_parts(name.cast(), len)
    }
}

pub(super) fn rename(value: LLVMValueRef, name: &str) {
    // SAFETY: a live value; the name is copied.
    unsafe { LLVMSetValueName2(value, name.as_ptr().cast(), name.len()) };
}

/// # Safety
/// `function` is a live function.
pub(super) unsafe fn attributes_at(
    function: LLVMValueRef,
    index: LLVMAttributeIndex,
) -> Vec<LLVMAttributeRef> {
    // SAFETY: the caller's promise; the vector is as long as LLVM says.
    unsafe {
        let count = LLVMGetAttributeCountAtIndex(function, index) as usize;
        let mut attributes = vec![std::ptr::null_mut(); count];
        LLVMGetAttributesAtIndex(function, index, attributes.as_mut_ptr());
        attributes
    }
}

/// The values of one of LLVM's lists, from `first` on.
///
/// # Safety
/// `first` is a live value of the list that `next` walks, or null.
pub(super) unsafe fn list(
    first: *mut LLVMValue,
    next: unsafe extern "C" fn(LLVMValueRef) -> LLVMValueRef,
) -> Vec<LLVMValueRef> {
    let mut values = Vec::new();
    let mut at = first;
    while !at.is_null() {
        values.push(at);
        // SAFETY: a live value of the list.
        at = unsafe { next(at) };
    }
    values
}

pub(super) unsafe fn users_of(value: LLVMValueRef) -> Vec<LLVMValueRef> {
    // SAFETY: the caller has a live value; the list is copied before anything is changed.
    unsafe {
        let mut seen = HashSet::new();
        let mut users = Vec::new();
        let mut at = LLVMGetFirstUse(value);
        while !at.is_null() {
            let user = LLVMGetUser(at);
            if seen.insert(user) {
                users.push(user);
            }
            at = LLVMGetNextUse(at);
        }
        users
    }
}

/// Whether `user` is a constant that nothing uses, such as what was in a list that is gone: LLVM
/// keeps constants for as long as what they refer to.
pub(super) unsafe fn is_dead(user: LLVMValueRef) -> bool {
    // SAFETY: a live user of a live value, and its users.
    unsafe {
        !LLVMIsAConstant(user).is_null()
            && LLVMIsAGlobalValue(user).is_null()
            && LLVMIsABlockAddress(user).is_null()
            && users_of(user).into_iter().all(|u| is_dead(u))
    }
}

/// Whether `user` is a call, and calls `function` (rather than only passing it on).
///
/// # Safety
/// Both are live.
pub(super) unsafe fn calls_directly(user: LLVMValueRef, function: LLVMValueRef) -> bool {
    // SAFETY: live values.
    unsafe {
        let is_call = !LLVMIsACallInst(user).is_null() || !LLVMIsAInvokeInst(user).is_null();
        is_call && LLVMGetCalledValue(user) == function
    }
}

/// The declaration of a function that lies within the reservation.
///
/// # Safety
/// `ty` is a function type of the module's context.
pub(super) unsafe fn declare(module: LLVMModuleRef, name: &str, ty: LLVMTypeRef) -> LLVMValueRef {
    let c_name = std::ffi::CString::new(name).expect("our own names have no NUL");
    // SAFETY: a live module and a function type of its context.
    unsafe {
        let present = LLVMGetNamedFunction(module, c_name.as_ptr());
        if !present.is_null() {
            return present;
        }
        let function = LLVMAddFunction(module, c_name.as_ptr(), ty);
        LLVMSetVisibility(function, LLVMVisibility::LLVMHiddenVisibility);
        function
    }
}

/// Lowers all calls of other methods in the batch's module.
pub(super) fn calls<K: Key>(module: &Module<'_>, batch: &mut Batch<'_, K>) {
    let raw = module.as_mut_ptr();
    // SAFETY: a live module of this thread; the list of functions is copied before it is changed.
    unsafe {
        let functions = list(LLVMGetFirstFunction(raw), LLVMGetNextFunction);
        for function in functions {
            let Some(OwnSymbol::Address(number)) = parse_symbol(&name_of(function)) else {
                continue;
            };
            callee(raw, function, number);
            if users_of(function).into_iter().all(|u| is_dead(u)) {
                LLVMDeleteFunction(function);
            } else {
                batch.takes_address_of(number);
            }
        }
    }
}

/// Lowers all calls of the method with this cell that are made by its `callee`.
///
/// # Safety
/// A live module of this thread, and a function of it.
pub(super) unsafe fn callee(module: LLVMModuleRef, callee: LLVMValueRef, number: u32) {
    // SAFETY: a live declaration of a live module, and its users.
    unsafe {
        let context = LLVMGetModuleContext(module);
        let pointer = LLVMPointerTypeInContext(context, 0);
        let users = users_of(callee);
        if !users.iter().any(|&u| calls_directly(u, callee)) {
            return;
        }
        let cell = cell(module, pointer, number);
        let builder = LLVMCreateBuilderInContext(context);
        for call in users.into_iter().filter(|&u| calls_directly(u, callee)) {
            copy_call_attributes(callee, call);
            LLVMPositionBuilderBefore(builder, call);
            let entry = LLVMBuildLoad2(builder, pointer, cell, c"entry".as_ptr());
            LLVMSetOrdering(entry, LLVMAtomicOrdering::LLVMAtomicOrderingMonotonic);
            LLVMSetAlignment(entry, 8);
            LLVMSetOperand(call, LLVMGetNumOperands(call) as u32 - 1, entry);
        }
        LLVMDisposeBuilder(builder);
    }
}

/// What the callee's declaration promised, and what is part of the calling convention, moves to
/// the call site: an indirect call has no declaration to look at. A call by another type than
/// the declaration's (LLVM allows it) knows better; it only gets what is about the function.
///
/// # Safety
/// A live function, and a live call of it.
pub(super) unsafe fn copy_call_attributes(callee: LLVMValueRef, call: LLVMValueRef) {
    // SAFETY: a live function, and a live call of it; if their types are the same, the call has as
    // many parameters as the function, and maybe more arguments.
    unsafe {
        if LLVMGetCalledFunctionType(call) == LLVMGlobalGetValueType(callee) {
            for index in 0..=LLVMCountParams(callee) {
                for attribute in attributes_at(callee, index) {
                    LLVMAddCallSiteAttribute(call, index, attribute);
                }
            }
        }
        for attribute in attributes_at(callee, LLVMAttributeFunctionIndex) {
            if LLVMIsEnumAttribute(attribute) == 0 {
                continue;
            }
            let kind = LLVMGetEnumAttributeKind(attribute);
            let wanted = CALL_SITE
                .iter()
                .any(|n| LLVMGetEnumAttributeKindForName(n.as_ptr().cast(), n.len()) == kind);
            if wanted {
                LLVMAddCallSiteAttribute(call, LLVMAttributeFunctionIndex, attribute);
            }
        }
    }
}

unsafe fn cell(module: LLVMModuleRef, pointer: LLVMTypeRef, number: u32) -> LLVMValueRef {
    let name = std::ffi::CString::new(format!("inkpot.cell.{number}")).expect("no NUL in it");
    // SAFETY: a live module and a type of its context.
    unsafe {
        let present = LLVMGetNamedGlobal(module, name.as_ptr());
        if !present.is_null() {
            return present;
        }
        let cell = LLVMAddGlobal(module, pointer, name.as_ptr());
        LLVMSetLinkage(cell, LLVMLinkage::LLVMExternalLinkage);
        LLVMSetVisibility(cell, LLVMVisibility::LLVMHiddenVisibility);
        LLVMSetAlignment(cell, 8);
        cell
    }
}
