//! Linker sets: variables of one section, which the program walks through from `__start_SECTION` to
//! `__stop_SECTION`.
//!
//! These two names are the linker's, and promise that the variables stand one behind the other. So they become one
//! variable, a struct of them in the order in which the program defines them; each is a part of it.

use crate::ir::{self, Module, Value};
use inkwell::llvm_sys::LLVMLinkage;
use inkwell::llvm_sys::core::*;
use inkwell::llvm_sys::prelude::*;
use inkwell::llvm_sys::target::{
    LLVMABISizeOfType, LLVMGetModuleDataLayout, LLVMPreferredAlignmentOfGlobal,
};
use std::collections::BTreeSet;

/// By what the linker's names begin.
const BOUNDS: [&str; 2] = ["__start_", "__stop_"];

/// The section whose start or stop this is the name of.
pub fn section_of(name: &str) -> Option<&str> {
    BOUNDS.iter().find_map(|bound| name.strip_prefix(bound))
}

/// The variables of a section.
pub fn members<'m>(module: &'m Module<'_>, section: &str) -> Vec<Value<'m>> {
    let mut members = ir::globals(module);
    members.retain(|global| {
        // SAFETY: a global variable.
        let thread_local = unsafe { LLVMIsThreadLocal(global.raw()) } != 0;
        !global.is_declaration() && !thread_local && global.section() == section
    });
    members
}

/// Makes one variable of each section that the program walks through.
pub fn join(module: &Module<'_>) {
    let bounds = ir::globals(module).into_iter().chain(ir::functions(module));
    let names: Vec<_> = bounds
        .filter(|global| global.is_declaration() && global.is_used())
        .map(Value::name)
        .collect();
    let sections: BTreeSet<&str> = names.iter().filter_map(|name| section_of(name)).collect();
    for section in sections {
        let members = members(module, section);
        if !members.is_empty() {
            // SAFETY: definitions of this module.
            unsafe { join_section(module, section, &members) };
        }
    }
}

/// # Safety
/// The members are defined variables of the module.
unsafe fn join_section(module: &Module<'_>, section: &str, members: &[Value<'_>]) {
    // SAFETY: by contract; types and constants are all of the module's context.
    unsafe {
        let context = LLVMGetModuleContext(module.as_mut_ptr());
        let layout = LLVMGetModuleDataLayout(module.as_mut_ptr());
        let byte = LLVMInt8TypeInContext(context);
        let mut fields = Vec::new();
        let (mut size, mut largest) = (0, 1);
        let mut offsets = Vec::new();
        for member in members {
            let align = match LLVMGetAlignment(member.raw()) {
                0 => LLVMPreferredAlignmentOfGlobal(layout, member.raw()),
                align => align,
            };
            let gap = u64::next_multiple_of(size, align.into()) - size;
            fields.push(LLVMConstNull(LLVMArrayType2(byte, gap)));
            fields.push(LLVMGetInitializer(member.raw()));
            offsets.push(size + gap);
            size += gap + LLVMABISizeOfType(layout, member.value_type());
            largest = largest.max(align);
        }
        let (first, count) = (fields.as_mut_ptr(), fields.len() as u32);
        let whole = LLVMConstStructInContext(context, first, count, 1);
        let name = format!("run_ir.set.{section}");
        let set = ir::add_variable(module, &name, LLVMTypeOf(whole));
        LLVMSetInitializer(set.raw(), whole);
        LLVMSetAlignment(set.raw(), largest);
        set.set_linkage(LLVMLinkage::LLVMInternalLinkage);
        let constant = members.iter().all(|member| member.is_constant());
        LLVMSetGlobalConstant(set.raw(), constant.into());
        let index = LLVMInt64TypeInContext(context);
        let at = |offset: u64| {
            let mut offset: LLVMValueRef = LLVMConstInt(index, offset, 0);
            LLVMConstGEP2(byte, set.raw(), &mut offset, 1)
        };
        for (member, offset) in members.iter().zip(offsets) {
            LLVMReplaceAllUsesWith(member.raw(), at(offset));
            // Nothing uses it any more; what its initialiser names is the set's business now.
            member.delete();
        }
        for (bound, offset) in BOUNDS.iter().zip([0, size]) {
            let name = format!("{bound}{section}");
            let bound = ir::global(module, &name).or_else(|| ir::function(module, &name));
            if let Some(bound) = bound.filter(|bound| bound.is_declaration()) {
                LLVMReplaceAllUsesWith(bound.raw(), at(offset));
            }
        }
    }
}
