//! How long a method is.

use inkwell::llvm_sys::core::*;
use inkwell::llvm_sys::prelude::LLVMValueRef;

/// Instructions in these functions.
///
/// # Safety
/// They are live functions of a module of the calling thread.
pub(super) unsafe fn of(functions: &[LLVMValueRef]) -> u64 {
    let mut instructions = 0;
    for &function in functions {
        // SAFETY: the caller's promise; what is walked is not changed meanwhile, and ends with null.
        unsafe {
            let mut block = LLVMGetFirstBasicBlock(function);
            while !block.is_null() {
                let mut instruction = LLVMGetFirstInstruction(block);
                while !instruction.is_null() {
                    instructions += 1;
                    instruction = LLVMGetNextInstruction(instruction);
                }
                block = LLVMGetNextBasicBlock(block);
            }
        }
    }
    instructions
}
