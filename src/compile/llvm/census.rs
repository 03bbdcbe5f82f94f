//! Which values of a batch's module are whose.
//!
//! LLVM's lists cannot be marked at their end: linking a module into another one may erase
//! values of earlier methods, `llvm.used` for one. So the values that were there are remembered,
//! and what is not among them was added.

use std::collections::HashMap;

use inkwell::llvm_sys::LLVMLinkage;
use inkwell::llvm_sys::comdat::LLVMSetComdat;
use inkwell::llvm_sys::core::*;
use inkwell::llvm_sys::prelude::LLVMValueRef;
use inkwell::module::Module;

use super::lower::{is_local, list, name_bytes, name_of, rename};

/// The functions and global variables of the methods that are done.
///
/// Known by address, name and kind: LLVM may have freed a value, and given its address to a new
/// one. Addresses are compared only.
#[derive(Default)]
pub(super) struct Census(HashMap<LLVMValueRef, Known>);

struct Known {
    name: Box<[u8]>,
    declared: bool,
}

/// What one method added.
pub(super) struct Additions {
    pub(super) functions: Vec<LLVMValueRef>,
    pub(super) globals: Vec<LLVMValueRef>,
    /// No method may have one of these, so each that the module has was added now.
    pub(super) ifunc: Option<LLVMValueRef>,
    pub(super) assembly: bool,
}

impl Census {
    /// What came into the module since the last method was done.
    pub(super) fn additions(&self, module: &Module<'_>) -> Additions {
        let raw = module.as_mut_ptr();
        let mut assembly = 0;
        // SAFETY: `raw` is a live module of the calling thread, and the lists hold live values.
        unsafe {
            let new = |mut values: Vec<LLVMValueRef>| {
                values.retain(|&value| !self.knows(value));
                values
            };
            LLVMGetModuleInlineAsm(raw, &mut assembly);
            Additions {
                functions: new(list(LLVMGetFirstFunction(raw), LLVMGetNextFunction)),
                globals: new(list(LLVMGetFirstGlobal(raw), LLVMGetNextGlobal)),
                ifunc: Some(LLVMGetFirstGlobalIFunc(raw)).filter(|i| !i.is_null()),
                assembly: assembly != 0,
            }
        }
    }

    /// # Safety
    /// `value` is a live global value.
    unsafe fn knows(&self, value: LLVMValueRef) -> bool {
        self.0.get(&value).is_some_and(|known| {
            // SAFETY: the caller's promise.
            unsafe {
                known.declared == (LLVMIsDeclaration(value) != 0)
                    && *known.name == *name_bytes(value)
            }
        })
    }

    /// The method with cell `number` is done. What it defined, but for its own function, becomes
    /// local, and gets a name that no other method of the batch can mean.
    pub(super) fn settle(&mut self, added: Additions, own: Option<LLVMValueRef>, number: u32) {
        for value in added.functions.into_iter().chain(added.globals) {
            // SAFETY: live values of the module; the lists of the additions hold what is left.
            unsafe {
                let declared = LLVMIsDeclaration(value) != 0;
                if !declared && Some(value) != own {
                    make_local(value);
                    let name = name_of(value);
                    if !name.is_empty() {
                        rename(value, &format!("inkpot.local.{number}.{name}"));
                    }
                }
                let name = name_bytes(value).into();
                self.0.insert(value, Known { name, declared });
            }
        }
    }
}

/// # Safety
/// `value` is a live, defined function or global variable.
unsafe fn make_local(value: LLVMValueRef) {
    // SAFETY: the caller's promise.
    unsafe {
        LLVMSetComdat(value, std::ptr::null_mut());
        if !is_local(value) {
            LLVMSetLinkage(value, LLVMLinkage::LLVMInternalLinkage);
        }
    }
}
