//! What a method may add to its batch's module, and what is refused.

use std::ffi::CStr;

use inkwell::llvm_sys::LLVMLinkage;
use inkwell::llvm_sys::core::*;
use inkwell::llvm_sys::prelude::LLVMValueRef;
use inkwell::module::Module;
use inkwell::values::FunctionValue;

use super::census::Additions;
use super::lower::{enum_attribute, is_method_address, list, name_bytes, name_of};
use crate::compile::Batch;
use crate::compile::symbols::{OwnSymbol, parse_symbol};
use crate::error::Error;
use crate::method::Key;

/// C, the only calling convention of methods.
const C_CONVENTION: u32 = 0;

/// By what the names of their intrinsics begin, after `llvm.`: LLVM's other targets.
const OTHER_MACHINES: [&str; 17] = [
    "aarch64",
    "amdgcn",
    "arm",
    "bpf",
    "dx",
    "hexagon",
    "loongarch",
    "mips",
    "nvvm",
    "ppc",
    "r600",
    "riscv",
    "s390",
    "spv",
    "ve",
    "wasm",
    "xcore",
];

/// A construct that methods cannot have.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Refusal {
    pub(super) construct: &'static str,
    pub(super) name: String,
    pub(super) advice: &'static str,
}

impl Refusal {
    pub(super) fn into_error(self, method: String) -> Error {
        let Self {
            construct,
            name,
            advice,
        } = self;
        Error::Refused {
            method,
            construct,
            name,
            advice,
        }
    }
}

/// A method must have defined its function. It is for others, whatever its front end made of it.
pub(super) fn own_function(own: Option<LLVMValueRef>) -> Result<(), String> {
    let Some(own) = own else {
        return Err("`emit` defined no function: call `Unit::define` or `Unit::adopt`".to_owned());
    };
    // SAFETY: a live function of the batch's module, looked up by name just now.
    unsafe {
        if LLVMCountBasicBlocks(own) == 0 {
            return Err("the method's function has no body".to_owned());
        }
        LLVMSetLinkage(own, LLVMLinkage::LLVMExternalLinkage);
    }
    Ok(())
}

impl Additions {
    /// Verifies each function that was added; the message is LLVM's.
    pub(super) fn verify(&self, module: &Module<'_>) -> Result<(), String> {
        for &function in &self.functions {
            // SAFETY: a live function of the module.
            let valid = unsafe { FunctionValue::new(function) }.is_none_or(|f| f.verify(false));
            if !valid {
                // Only the verifier of whole modules has words for it; the rest is valid.
                let message = module.verify().err().map(|e| e.to_string());
                return Err(message.unwrap_or_else(|| "not a valid function".to_owned()));
            }
        }
        Ok(())
    }

    /// Refuses what would be reset by eviction or doubled by recompilation, what refers to
    /// methods in another way than by [`Unit`](super::Unit), and what would end the process.
    pub(super) fn restrict<K: Key>(
        &self,
        own: Option<LLVMValueRef>,
        data: bool,
        batch: &Batch<'_, K>,
    ) -> Result<(), Refusal> {
        if self.assembly {
            return Err(Refusal {
                construct: "module-level assembly",
                name: "module asm".to_owned(),
                advice: "put it into the function, or into the host",
            });
        }
        if let Some(ifunc) = self.ifunc {
            let advice = "resolve it in the host, and import the result";
            return refuse("an ifunc", ifunc, advice);
        }
        // SAFETY: live global variables and functions of the module.
        unsafe {
            for &global in &self.globals {
                restrict_global(global, data)?;
                restrict_declaration(global, batch)?;
            }
            for &function in &self.functions {
                restrict_declaration(function, batch)?;
                restrict_convention(function, own)?;
                if LLVMIsDeclaration(function) == 0 {
                    restrict_calls(function, own)?;
                    unwind_table(function);
                }
            }
        }
        Ok(())
    }

    /// Takes out the lists that only tell LLVM what to keep. The method's parts have no name
    /// outside the object, so nobody needs them but for the method's function, which is kept;
    /// and linking the next method's list would replace this one.
    pub(super) fn drop_lists(&mut self) {
        self.globals.retain(|&global| {
            // SAFETY: a live global variable, that has no users if it is such a list.
            unsafe {
                let list = is_list(global);
                if list {
                    LLVMDeleteGlobal(global);
                }
                !list
            }
        });
    }
}

fn refuse(
    construct: &'static str,
    value: LLVMValueRef,
    advice: &'static str,
) -> Result<(), Refusal> {
    Err(Refusal {
        construct,
        name: name_of(value),
        advice,
    })
}

/// Whether this is a list for LLVM itself, of which nothing gets into the object.
///
/// # Safety
/// `global` is a live global variable.
unsafe fn is_list(global: LLVMValueRef) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let unused = LLVMGetFirstUse(global).is_null();
        let appending = LLVMGetLinkage(global) == LLVMLinkage::LLVMAppendingLinkage;
        unused && appending && {
            let section = LLVMGetSection(global);
            let metadata = !section.is_null() && CStr::from_ptr(section) == c"llvm.metadata";
            metadata || matches!(name_bytes(global), b"llvm.used" | b"llvm.compiler.used")
        }
    }
}

/// # Safety
/// `global` is a live global variable.
unsafe fn restrict_global(global: LLVMValueRef, data: bool) -> Result<(), Refusal> {
    // SAFETY: the caller's promise.
    unsafe {
        if is_list(global) {
            return Ok(());
        }
        if matches!(
            name_bytes(global),
            b"llvm.global_ctors" | b"llvm.global_dtors"
        ) {
            let advice = "run them in the host";
            return refuse("a list of constructors", global, advice);
        }
        if LLVMGetLinkage(global) == LLVMLinkage::LLVMAppendingLinkage {
            let advice = "LLVM has no use for it";
            return refuse("a global of appending linkage", global, advice);
        }
        if LLVMIsThreadLocal(global) != 0 {
            let advice = "keep thread-local state in the host, by import";
            return refuse("a thread-local", global, advice);
        }
        let mutable = LLVMIsDeclaration(global) == 0 && LLVMIsGlobalConstant(global) == 0;
        if mutable && !data {
            let advice = "it would be reset when the method is evicted: keep state in the host, \
                          by import, or say `Unit::allow_data` and keep the method";
            return refuse("a mutable global", global, advice);
        }
    }
    Ok(())
}

/// Symbols of ours mean addresses, so they must be ones that the batch asked for; and intrinsics
/// of other machines pass the verifier, but end the process in the code generator.
///
/// # Safety
/// `value` is a live function or global variable.
unsafe fn restrict_declaration<K: Key>(
    value: LLVMValueRef,
    batch: &Batch<'_, K>,
) -> Result<(), Refusal> {
    // SAFETY: the caller's promise.
    let name = unsafe {
        if LLVMIsDeclaration(value) == 0 {
            return Ok(());
        }
        name_bytes(value)
    };
    if let Some(intrinsic) = name.strip_prefix(b"llvm.") {
        let machine = intrinsic.split(|&c| c == b'.').next().unwrap_or_default();
        if OTHER_MACHINES.iter().any(|m| m.as_bytes() == machine) {
            let advice = "this machine has no such instruction";
            return refuse("an intrinsic of another machine", value, advice);
        }
    }
    if !name.starts_with(b"inkpot.") {
        return Ok(());
    }
    let known = match parse_symbol(&name_of(value)) {
        Some(OwnSymbol::Cell(number) | OwnSymbol::Address(number)) => {
            batch.referred_to(number).is_some()
        }
        Some(OwnSymbol::Import(import)) => !import.starts_with("inkpot."),
        // They come in when all that a front end says has been checked.
        Some(
            OwnSymbol::PollFlag
            | OwnSymbol::PollSafepoint
            | OwnSymbol::CounterFull
            | OwnSymbol::CounterRound,
        )
        | None => false,
    };
    if known {
        return Ok(());
    }
    let advice = "names that begin with `inkpot.` are the cache's: use `Unit::callee`";
    refuse("a symbol that it was not given", value, advice)
}

/// # Safety
/// `function` is a live function.
unsafe fn restrict_convention(
    function: LLVMValueRef,
    own: Option<LLVMValueRef>,
) -> Result<(), Refusal> {
    // SAFETY: the caller's promise.
    unsafe {
        let declared = LLVMIsDeclaration(function) != 0;
        let is_method = Some(function) == own || (declared && is_method_address(function));
        if is_method && LLVMGetFunctionCallConv(function) != C_CONVENTION {
            let advice = "methods call each other by the C convention";
            return refuse("a calling convention other than C", function, advice);
        }
    }
    Ok(())
}

/// Methods must be called by the C convention. Checked here, where it is known whose call it is.
///
/// # Safety
/// `function` is a live, defined function.
unsafe fn restrict_calls(function: LLVMValueRef, own: Option<LLVMValueRef>) -> Result<(), Refusal> {
    // SAFETY: the caller's promise; blocks and instructions are walked and not changed.
    unsafe {
        let mut block = LLVMGetFirstBasicBlock(function);
        while !block.is_null() {
            for instruction in list(LLVMGetFirstInstruction(block), LLVMGetNextInstruction) {
                if LLVMIsACallInst(instruction).is_null()
                    && LLVMIsAInvokeInst(instruction).is_null()
                    || LLVMGetInstructionCallConv(instruction) == C_CONVENTION
                {
                    continue;
                }
                let called = LLVMGetCalledValue(instruction);
                let function_called = !LLVMIsAFunction(called).is_null();
                if function_called && (Some(called) == own || is_method_address(called)) {
                    let advice = "methods call each other by the C convention";
                    return refuse("a call by a convention other than C", function, advice);
                }
            }
            block = LLVMGetNextBasicBlock(block);
        }
    }
    Ok(())
}

/// Every function gets an unwind table: panics pass through, and backtraces see it.
///
/// # Safety
/// `function` is a live function.
unsafe fn unwind_table(function: LLVMValueRef) {
    const ASYNC: u64 = 2;
    let kind = enum_attribute("uwtable");
    // SAFETY: the caller's promise.
    unsafe {
        let context = LLVMGetModuleContext(LLVMGetGlobalParent(function));
        let attribute = LLVMCreateEnumAttribute(context, kind, ASYNC);
        LLVMAddAttributeAtIndex(
            function,
            inkwell::llvm_sys::LLVMAttributeFunctionIndex,
            attribute,
        );
    }
}
