//! Thread-local variables, lowered to calls of the host.
//!
//! A thread-local of an object file is an offset from the thread's pointer, which the dynamic
//! linker gives out when it loads a library. Code that comes and goes has no such loader, and
//! eviction would reset the variable: its storage is the host's. So each use of a declared
//! thread-local becomes a call of a host function, with the number of the variable, which returns
//! its address for the calling thread. The call is declared to depend on its argument alone, so
//! that a function asks once.

use std::collections::HashMap;

use inkwell::llvm_sys::core::*;
use inkwell::llvm_sys::prelude::{LLVMBuilderRef, LLVMTypeRef, LLVMValueRef};
use inkwell::llvm_sys::{LLVMAttributeFunctionIndex, LLVMOpcode};
use inkwell::module::Module;

use super::lower::{is_dead, list, name_bytes, name_of, users_of};

/// By what the names of the intrinsic begin that yields a thread-local's address.
const ADDRESS: &[u8] = b"llvm.threadlocal.address.";
/// What the call of the host promises: no side effect, the same result for the same thread.
const PROMISES: [(&str, u64); 5] = [
    ("nounwind", 0),
    ("willreturn", 0),
    ("nosync", 0),
    ("nofree", 0),
    ("memory", 0),
];

/// Lowers all thread-locals that are declared in `module`, and that `number` knows. Whether there were any.
pub(super) fn lower(
    module: &Module<'_>,
    runtime: LLVMValueRef,
    number: &mut dyn FnMut(&str) -> Option<u64>,
) -> Result<bool, String> {
    let raw = module.as_mut_ptr();
    // SAFETY: a live module of this thread; lists are copied before anything is changed, and
    // `runtime` is a function of the module.
    unsafe {
        let builder = LLVMCreateBuilderInContext(LLVMGetModuleContext(raw));
        let mut lowering = Lowering {
            builder,
            runtime,
            runtime_type: LLVMGlobalGetValueType(runtime),
        };
        let globals = list(LLVMGetFirstGlobal(raw), LLVMGetNextGlobal);
        let outcome = globals
            .into_iter()
            .filter(|&global| LLVMIsThreadLocal(global) != 0 && LLVMIsDeclaration(global) != 0)
            .filter_map(|global| Some((global, number(&name_of(global))?)))
            .try_fold(false, |_, (global, number)| {
                lowering.variable(global, number).map(|()| true)
            });
        LLVMDisposeBuilder(builder);
        outcome
    }
}

struct Lowering {
    builder: LLVMBuilderRef,
    runtime: LLVMValueRef,
    runtime_type: LLVMTypeRef,
}

impl Lowering {
    /// # Safety
    /// `global` is a live thread-local of the module.
    unsafe fn variable(&mut self, global: LLVMValueRef, number: u64) -> Result<(), String> {
        // SAFETY: live values; each list of users is copied before it is changed.
        unsafe {
            for user in users_of(global) {
                if is_address_of(user) {
                    LLVMPositionBuilderBefore(self.builder, user);
                    let address = self.call(number);
                    LLVMReplaceAllUsesWith(user, address);
                    LLVMInstructionEraseFromParent(user);
                } else {
                    self.user(user, global, number, &name_of(global))?;
                }
            }
            if users_of(global).into_iter().all(|user| is_dead(user)) {
                LLVMDeleteGlobal(global);
            }
        }
        Ok(())
    }

    /// Replaces `value`, which is the variable or a constant made of it, in a user.
    ///
    /// # Safety
    /// All are live; `user` uses `value`.
    unsafe fn user(
        &mut self,
        user: LLVMValueRef,
        value: LLVMValueRef,
        number: u64,
        name: &str,
    ) -> Result<(), String> {
        // SAFETY: the caller's promise.
        unsafe {
            if is_dead(user) {
                return Ok(());
            }
            if LLVMIsAInstruction(user).is_null() {
                if LLVMIsAConstantExpr(user).is_null() {
                    return Err(format!(
                        "the address of the thread-local {name} in a constant: it has one for each thread"
                    ));
                }
                for outer in users_of(user) {
                    self.user(outer, user, number, name)?;
                }
                return Ok(());
            }
            // A block that leads to a phi twice must bring the same value twice.
            let mut brought = HashMap::new();
            for i in 0..LLVMGetNumOperands(user) as u32 {
                if LLVMGetOperand(user, i) != value {
                    continue;
                }
                let anew = if LLVMIsAPHINode(user).is_null() {
                    LLVMPositionBuilderBefore(self.builder, user);
                    self.materialise(value, number, name)?
                } else {
                    let block = LLVMGetIncomingBlock(user, i);
                    match brought.get(&block) {
                        Some(&anew) => anew,
                        None => {
                            let end = LLVMGetBasicBlockTerminator(block);
                            LLVMPositionBuilderBefore(self.builder, end);
                            let anew = self.materialise(value, number, name)?;
                            brought.insert(block, anew);
                            anew
                        }
                    }
                };
                LLVMSetOperand(user, i, anew);
            }
        }
        Ok(())
    }

    /// The value of the variable's address, or of a constant made of it, where the builder is.
    ///
    /// # Safety
    /// `value` is live, and the builder stands before an instruction.
    unsafe fn materialise(
        &mut self,
        value: LLVMValueRef,
        number: u64,
        name: &str,
    ) -> Result<LLVMValueRef, String> {
        // SAFETY: the caller's promise; operands of constants are constants.
        unsafe {
            if LLVMIsAConstantExpr(value).is_null() {
                return Ok(self.call(number));
            }
            // One operand is made of the variable, the first in all that LLVM still has.
            let base = self.materialise(LLVMGetOperand(value, 0), number, name)?;
            let to = LLVMTypeOf(value);
            let unnamed = c"".as_ptr();
            match LLVMGetConstOpcode(value) {
                LLVMOpcode::LLVMGetElementPtr => {
                    let indices = LLVMGetNumOperands(value) as u32;
                    let mut indices: Vec<_> =
                        (1..indices).map(|i| LLVMGetOperand(value, i)).collect();
                    Ok(LLVMBuildGEP2(
                        self.builder,
                        LLVMGetGEPSourceElementType(value),
                        base,
                        indices.as_mut_ptr(),
                        indices.len() as u32,
                        unnamed,
                    ))
                }
                LLVMOpcode::LLVMPtrToInt => Ok(LLVMBuildPtrToInt(self.builder, base, to, unnamed)),
                _ => Err(format!(
                    "a constant expression of the thread-local {name}: take its address by \
                     `llvm.threadlocal.address`"
                )),
            }
        }
    }

    /// # Safety
    /// The builder stands before an instruction of the module.
    unsafe fn call(&mut self, number: u64) -> LLVMValueRef {
        // SAFETY: the caller's promise; the runtime's function takes one integer of 64 bits.
        unsafe {
            let context = LLVMGetTypeContext(self.runtime_type);
            let mut number = LLVMConstInt(LLVMInt64TypeInContext(context), number, 0);
            let call = LLVMBuildCall2(
                self.builder,
                self.runtime_type,
                self.runtime,
                &mut number,
                1,
                c"thread.local".as_ptr(),
            );
            for (promise, value) in PROMISES {
                let kind = LLVMGetEnumAttributeKindForName(promise.as_ptr().cast(), promise.len());
                let attribute = LLVMCreateEnumAttribute(context, kind, value);
                LLVMAddCallSiteAttribute(call, LLVMAttributeFunctionIndex, attribute);
            }
            call
        }
    }
}

/// Whether this is a call of the intrinsic that yields a thread-local's address.
///
/// # Safety
/// `user` is live.
unsafe fn is_address_of(user: LLVMValueRef) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        !LLVMIsACallInst(user).is_null() && {
            let called = LLVMGetCalledValue(user);
            !LLVMIsAFunction(called).is_null() && name_bytes(called).starts_with(ADDRESS)
        }
    }
}
