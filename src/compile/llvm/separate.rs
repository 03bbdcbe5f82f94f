//! Methods apart from each other: a section for each function, and for what only it refers to.
//!
//! Methods that are compiled together share one `.text`, where a call of a local function leaves no trace, one
//! table of jump targets, one table of exceptions. To move one of them later without the others, all that is its own
//! must be in sections of its own (`crate::link::recipe`). LLVM has an option for that, which its C interface
//! does not have; but members of a comdat get such sections too, and so do their jump tables
//! and exception tables. One comdat for the whole batch is enough: it only says what is kept together, and
//! of a batch everything is kept.
//!
//! Constants that LLVM puts into sections to merge (numbers, strings) stay there: those sections say
//! where an entry ends, so that each can be copied by itself.

use inkwell::llvm_sys::comdat::{
    LLVMComdatSelectionKind, LLVMGetOrInsertComdat, LLVMSetComdat, LLVMSetComdatSelectionKind,
};
use inkwell::llvm_sys::core::*;
use inkwell::llvm_sys::prelude::LLVMValueRef;
use inkwell::llvm_sys::target::{LLVMABISizeOfType, LLVMGetModuleDataLayout};
use inkwell::llvm_sys::{LLVMTypeKind, LLVMUnnamedAddr};
use inkwell::module::Module;

use super::lower::{list, name_of};

/// Gives each function of the module, and each constant that would share a section, a section of its own. To
/// be done right before code is generated: passes would keep what is in a comdat.
pub(crate) fn apart(module: &Module<'_>) {
    let raw = module.as_mut_ptr();
    // SAFETY: `raw` is a live module of the calling thread, the lists hold its live values, and the comdat is of
    // the same module.
    unsafe {
        let defined = |value: &LLVMValueRef| LLVMIsDeclaration(*value) == 0;
        let mut functions = list(LLVMGetFirstFunction(raw), LLVMGetNextFunction);
        functions.retain(defined);
        let Some(&first) = functions.first() else {
            return;
        };
        // By a name that the object has anyway.
        let Ok(name) = std::ffi::CString::new(name_of(first)) else {
            return;
        };
        let comdat = LLVMGetOrInsertComdat(raw, name.as_ptr());
        let all = LLVMComdatSelectionKind::LLVMNoDuplicatesComdatSelectionKind;
        LLVMSetComdatSelectionKind(comdat, all);
        for function in functions {
            LLVMSetComdat(function, comdat);
        }
        let globals = list(LLVMGetFirstGlobal(raw), LLVMGetNextGlobal);
        for global in globals.into_iter().filter(defined) {
            if LLVMIsGlobalConstant(global) != 0 && !is_merged(global) {
                LLVMSetComdat(global, comdat);
            }
        }
    }
}

/// Whether LLVM puts it into a section to merge. Where this is wrong a constant shares a section that it need not
/// share, or the other way round.
///
/// # Safety
/// `constant` is a live, defined global constant.
unsafe fn is_merged(constant: LLVMValueRef) -> bool {
    // SAFETY: the caller's promise; a string is as long as LLVM says.
    unsafe {
        if LLVMGetUnnamedAddress(constant) != LLVMUnnamedAddr::LLVMGlobalUnnamedAddr {
            return false;
        }
        let value = LLVMGetInitializer(constant);
        if !LLVMIsAConstantDataArray(value).is_null() && LLVMIsConstantString(value) != 0 {
            let mut len = 0;
            let bytes = LLVMGetAsString(value, &mut len);
            let bytes = std::slice::from_raw_parts(bytes.cast::<u8>(), len);
            return bytes.iter().position(|&byte| byte == 0) == Some(len - 1);
        }
        let ty = LLVMTypeOf(value);
        let of_numbers = match LLVMGetTypeKind(ty) {
            LLVMTypeKind::LLVMArrayTypeKind | LLVMTypeKind::LLVMVectorTypeKind => {
                is_number(LLVMGetTypeKind(LLVMGetElementType(ty)))
            }
            kind => is_number(kind),
        };
        let layout = LLVMGetModuleDataLayout(LLVMGetGlobalParent(constant));
        of_numbers && matches!(LLVMABISizeOfType(layout, ty), 4 | 8 | 16 | 32)
    }
}

fn is_number(kind: LLVMTypeKind) -> bool {
    matches!(
        kind,
        LLVMTypeKind::LLVMIntegerTypeKind
            | LLVMTypeKind::LLVMFloatTypeKind
            | LLVMTypeKind::LLVMDoubleTypeKind
    )
}
