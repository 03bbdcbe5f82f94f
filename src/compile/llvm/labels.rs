//! Labels as values: whether those of a method may outlive an activation.
//!
//! The address of a label is an address in the method's code, and dies with that. As long as an activation jumps by
//! labels that it read itself, this is no matter: code with a frame on the stack stays. But a label that is stored
//! where a later activation finds it (threaded code, a resume label), returned, or passed on, must find the very
//! same code again: such a method stays for as long as the cache.
//!
//! What is followed is a label and whatever leads to one: numbers computed from it, constants and tables made of it,
//! what is loaded from those, local variables that it is stored into. Where such a value goes that cannot be
//! followed, the label has escaped.

use std::collections::HashSet;

use inkwell::llvm_sys::LLVMOpcode;
use inkwell::llvm_sys::core::*;
use inkwell::llvm_sys::prelude::{LLVMBasicBlockRef, LLVMValueRef};

use super::lower::{is_dead, name_bytes, users_of};

/// Whether a label of one of these functions can be in use when its function's activation has ended.
///
/// # Safety
/// Live functions of one module, whose aliases have been dissolved.
pub(super) unsafe fn escape(functions: &[LLVMValueRef]) -> bool {
    let mut flow = Flow::default();
    // SAFETY: the caller's promise; nothing is changed while users are walked.
    unsafe {
        for &function in functions {
            let mut block = LLVMGetFirstBasicBlock(function);
            while !block.is_null() {
                if let Some(label) = label_of(block) {
                    flow.follow(label);
                }
                block = LLVMGetNextBasicBlock(block);
            }
        }
        flow.run()
    }
}

/// The one constant that is the block's address, if it was ever taken.
///
/// # Safety
/// `block` is live.
unsafe fn label_of(block: LLVMBasicBlockRef) -> Option<LLVMValueRef> {
    // SAFETY: the caller's promise; nothing is changed while uses are walked.
    unsafe {
        let mut at = LLVMGetFirstUse(LLVMBasicBlockAsValue(block));
        while !at.is_null() {
            let user = LLVMGetUser(at);
            if !LLVMIsABlockAddress(user).is_null() {
                return Some(user);
            }
            at = LLVMGetNextUse(at);
        }
        None
    }
}

/// What leads to labels, and where it goes.
#[derive(Default)]
struct Flow {
    seen: HashSet<LLVMValueRef>,
    values: Vec<LLVMValueRef>,
}

impl Flow {
    fn follow(&mut self, value: LLVMValueRef) {
        if self.seen.insert(value) {
            self.values.push(value);
        }
    }

    /// Whether one of them escapes.
    ///
    /// # Safety
    /// All values are live.
    unsafe fn run(&mut self) -> bool {
        while let Some(value) = self.values.pop() {
            // SAFETY: the caller's promise.
            unsafe {
                for user in users_of(value) {
                    let stays_inside = match LLVMIsAInstruction(user).is_null() {
                        true => self.constant(user),
                        false => self.instruction(value, user),
                    };
                    if !stays_inside {
                        return true;
                    }
                }
            }
        }
        false
    }

    /// # Safety
    /// `user` is live, and no instruction.
    unsafe fn constant(&mut self, user: LLVMValueRef) -> bool {
        // SAFETY: the caller's promise.
        unsafe {
            if is_dead(user) {
                return true;
            }
            // A table, an expression, or a part of one. Else data of a function's, which is anyone's.
            let followed =
                LLVMIsAGlobalValue(user).is_null() || !LLVMIsAGlobalVariable(user).is_null();
            if followed {
                self.follow(user);
            }
            followed
        }
    }

    /// # Safety
    /// `user` is a live instruction with the operand `value`.
    unsafe fn instruction(&mut self, value: LLVMValueRef, user: LLVMValueRef) -> bool {
        use LLVMOpcode::*;
        // SAFETY: the caller's promise.
        unsafe {
            match LLVMGetInstructionOpcode(user) {
                LLVMPHI | LLVMSelect | LLVMFreeze | LLVMGetElementPtr | LLVMLoad | LLVMBitCast
                | LLVMAddrSpaceCast | LLVMPtrToInt | LLVMIntToPtr | LLVMTrunc | LLVMSExt
                | LLVMZExt | LLVMAdd | LLVMSub | LLVMMul | LLVMShl | LLVMLShr | LLVMAShr
                | LLVMAnd | LLVMOr | LLVMXor | LLVMInsertElement | LLVMExtractElement
                | LLVMInsertValue | LLVMExtractValue | LLVMShuffleVector => {
                    self.follow(user);
                    true
                }
                LLVMIndirectBr | LLVMSwitch | LLVMICmp => true,
                LLVMStore => {
                    LLVMGetOperand(user, 0) != value || self.local(LLVMGetOperand(user, 1))
                }
                LLVMCall => self.call(value, user),
                _ => false,
            }
        }
    }

    /// A call that copies what leads to labels, or only concerns the variable that holds it.
    ///
    /// # Safety
    /// `call` is a live call with the operand `value`.
    unsafe fn call(&mut self, value: LLVMValueRef, call: LLVMValueRef) -> bool {
        // SAFETY: the caller's promise; the name is looked at only here.
        unsafe {
            let called = LLVMGetCalledValue(call);
            if LLVMIsAFunction(called).is_null() {
                return false;
            }
            let name = name_bytes(called);
            let is = |prefix: &[u8]| name.starts_with(prefix);
            if is(b"llvm.memcpy.") || is(b"llvm.memmove.") {
                return LLVMGetOperand(call, 1) != value || self.local(LLVMGetOperand(call, 0));
            }
            is(b"llvm.lifetime.") || is(b"llvm.memset.")
        }
    }

    /// What leads to labels comes to lie at `place`: it can be followed in a local variable.
    ///
    /// # Safety
    /// `place` is a live pointer.
    unsafe fn local(&mut self, mut place: LLVMValueRef) -> bool {
        // SAFETY: the caller's promise; operands of live values are live.
        unsafe {
            while !LLVMIsAGetElementPtrInst(place).is_null() || !LLVMIsABitCastInst(place).is_null()
            {
                place = LLVMGetOperand(place, 0);
            }
            let local = !LLVMIsAAllocaInst(place).is_null();
            if local {
                self.follow(place);
            }
            local
        }
    }
}
