//! Polls: places in code that make no call, and where the reclaimer gets a safepoint all the same.
//!
//! A poll is a load of the cache's flag and a branch that is not taken. Where it is taken, code
//! calls the poll's thunk, which keeps all registers but r11, so that a function saves and spills
//! nothing for its sake.
//!
//! # Where
//!
//! At the entry of each function, and in each block that an edge leads back from to a block which a
//! depth-first walk is still inside of. Every cycle has such an edge, whatever its shape and by
//! whatever instruction it is made; so no thread stays in code without coming to a poll. (What LLVM
//! makes of one instruction, a `memset` or a loop around a compare-exchange, has none.)
//!
//! # When
//!
//! After optimisation. Before it, the load would keep loops from being vectorised, recognised and
//! deleted, and small functions would bring their polls where they are inlined. What passes have
//! learned of a function (that it writes no memory, say) is not spoiled by what is added here: the
//! program's memory is not touched.
//!
//! # How
//!
//! A block is split after its phis, rather than before its terminator: the comparison that a branch
//! looks at stays beside it, as the code generator, which goes by block, would have it. The C
//! interface has no way to split a block, but it can put a new one in front, to which all branches
//! lead instead, and move the phis there. The old block keeps its terminator, so that phis of its
//! successors need no change.

use std::collections::HashMap;

use inkwell::llvm_sys::core::*;
use inkwell::llvm_sys::prelude::{
    LLVMBasicBlockRef, LLVMBuilderRef, LLVMContextRef, LLVMTypeRef, LLVMValueRef,
};
use inkwell::llvm_sys::{
    LLVMAtomicOrdering, LLVMAttributeFunctionIndex, LLVMCallConv, LLVMIntPredicate, LLVMOpcode,
    LLVMVisibility,
};
use inkwell::module::Module;

use super::lower::{enum_attribute, list};
use crate::compile::batch::{POLL_FLAG, POLL_SAFEPOINT};

/// Not taken once for so many times that it is.
const NEVER: (u64, u64) = (1 << 20, 1);

/// Puts polls into all functions that the module defines.
pub(super) fn add(module: &Module<'_>) {
    let raw = module.as_mut_ptr();
    // SAFETY: a live module of this thread; the list of functions is copied before it is changed,
    // and `Polls` gives its builder back.
    unsafe {
        let functions = list(LLVMGetFirstFunction(raw), LLVMGetNextFunction);
        let naked = enum_attribute("naked");
        let polls = Polls::new(module);
        for function in functions {
            let is_naked =
                !LLVMGetEnumAttributeAtIndex(function, LLVMAttributeFunctionIndex, naked).is_null();
            if LLVMCountBasicBlocks(function) > 0 && !is_naked {
                polls.function(function);
            }
        }
        LLVMDisposeBuilder(polls.builder);
    }
}

/// What all polls of a module are made of.
struct Polls {
    context: LLVMContextRef,
    builder: LLVMBuilderRef,
    word: LLVMTypeRef,
    flag: LLVMValueRef,
    safepoint: LLVMValueRef,
    safepoint_type: LLVMTypeRef,
    /// The kind of metadata that says how often a branch is taken, and that it never is.
    profile: (u32, LLVMValueRef),
}

impl Polls {
    /// Declares the two symbols in the module.
    fn new(module: &Module<'_>) -> Self {
        let module = module.as_mut_ptr();
        let c_name = |name| std::ffi::CString::new(name).expect("our own names have no NUL");
        // SAFETY: a live module, and types of its context.
        unsafe {
            let context = LLVMGetModuleContext(module);
            let word = LLVMInt32TypeInContext(context);
            let flag = LLVMAddGlobal(module, word, c_name(POLL_FLAG).as_ptr());
            LLVMSetVisibility(flag, LLVMVisibility::LLVMHiddenVisibility);
            LLVMSetAlignment(flag, 4);
            let nothing = LLVMVoidTypeInContext(context);
            let safepoint_type = LLVMFunctionType(nothing, std::ptr::null_mut(), 0, 0);
            let safepoint =
                LLVMAddFunction(module, c_name(POLL_SAFEPOINT).as_ptr(), safepoint_type);
            LLVMSetVisibility(safepoint, LLVMVisibility::LLVMHiddenVisibility);
            LLVMSetFunctionCallConv(safepoint, PRESERVE_ALL);
            for promise in ["cold", "nounwind"] {
                let attribute = LLVMCreateEnumAttribute(context, enum_attribute(promise), 0);
                LLVMAddAttributeAtIndex(safepoint, LLVMAttributeFunctionIndex, attribute);
            }
            Self {
                context,
                builder: LLVMCreateBuilderInContext(context),
                word,
                flag,
                safepoint,
                safepoint_type,
                profile: never(context, word),
            }
        }
    }

    /// # Safety
    /// `function` is defined in the module.
    unsafe fn function(&self, function: LLVMValueRef) {
        // SAFETY: the caller's promise. The blocks are found before any is changed; splitting one
        // leaves the others, and their terminators, as they are.
        unsafe {
            let entry = LLVMGetEntryBasicBlock(function);
            let back = leading_back(entry);
            self.split(function, entry, end_of_allocas(entry));
            for block in back {
                if let Some(end) = end_of_phis(block) {
                    self.split(function, block, end);
                }
            }
        }
    }

    /// Puts a poll before `end`, an instruction of the block.
    ///
    /// # Safety
    /// Both are live, of this function, and what stands before `end` may stand in a block of its own.
    unsafe fn split(&self, function: LLVMValueRef, block: LLVMBasicBlockRef, end: LLVMValueRef) {
        let unnamed = c"".as_ptr();
        let builder = self.builder;
        // SAFETY: the caller's promise. Instructions are moved one by one in their order; the
        // terminator is out of its block while labels are replaced, so that LLVM leaves the phis of
        // its successors alone.
        unsafe {
            let head = LLVMInsertBasicBlockInContext(self.context, block, unnamed);
            let terminator = LLVMGetBasicBlockTerminator(block);
            LLVMInstructionRemoveFromParent(terminator);
            LLVMReplaceAllUsesWith(LLVMBasicBlockAsValue(block), LLVMBasicBlockAsValue(head));
            LLVMPositionBuilderAtEnd(builder, block);
            LLVMInsertIntoBuilder(builder, terminator);

            LLVMPositionBuilderAtEnd(builder, head);
            let mut moved = LLVMGetFirstInstruction(block);
            while moved != end {
                LLVMInstructionRemoveFromParent(moved);
                LLVMInsertIntoBuilder(builder, moved);
                moved = LLVMGetFirstInstruction(block);
            }
            let flag = LLVMBuildLoad2(builder, self.word, self.flag, unnamed);
            LLVMSetOrdering(flag, LLVMAtomicOrdering::LLVMAtomicOrderingMonotonic);
            LLVMSetAlignment(flag, 4);
            let zero = LLVMConstInt(self.word, 0, 0);
            let down = LLVMBuildICmp(builder, LLVMIntPredicate::LLVMIntEQ, flag, zero, unnamed);
            // At the end of the function, where it is in nobody's way without optimisation either.
            let raised = LLVMAppendBasicBlockInContext(self.context, function, unnamed);
            let branch = LLVMBuildCondBr(builder, down, block, raised);
            LLVMSetMetadata(branch, self.profile.0, self.profile.1);

            LLVMPositionBuilderAtEnd(builder, raised);
            let call = LLVMBuildCall2(
                builder,
                self.safepoint_type,
                self.safepoint,
                std::ptr::null_mut(),
                0,
                unnamed,
            );
            LLVMSetInstructionCallConv(call, PRESERVE_ALL);
            LLVMBuildBr(builder, block);
        }
    }
}

const PRESERVE_ALL: u32 = LLVMCallConv::LLVMPreserveAllCallConv as u32;

/// Metadata for a branch whose first successor is the one.
///
/// # Safety
/// A live context, and a type of it.
unsafe fn never(context: LLVMContextRef, word: LLVMTypeRef) -> (u32, LLVMValueRef) {
    let (kind, name) = ("prof", "branch_weights");
    // SAFETY: the caller's promise; names are valid for their lengths.
    unsafe {
        let weight = |weight| LLVMValueAsMetadata(LLVMConstInt(word, weight, 0));
        let mut parts = [
            LLVMMDStringInContext2(context, name.as_ptr().cast(), name.len()),
            weight(NEVER.0),
            weight(NEVER.1),
        ];
        let node = LLVMMDNodeInContext2(context, parts.as_mut_ptr(), parts.len());
        let kind = LLVMGetMDKindIDInContext(context, kind.as_ptr().cast(), kind.len() as u32);
        (kind, LLVMMetadataAsValue(context, node))
    }
}

/// The blocks that an edge leads back from, each once.
///
/// # Safety
/// `entry` is a live function's entry.
unsafe fn leading_back(entry: LLVMBasicBlockRef) -> Vec<LLVMBasicBlockRef> {
    /// A block that the walk is inside of.
    struct Inside {
        block: LLVMBasicBlockRef,
        terminator: LLVMValueRef,
        next: u32,
        leads_back: bool,
    }
    // SAFETY: the caller's promise; every block has a terminator, and nothing is changed.
    unsafe {
        let enter = |block| Inside {
            block,
            terminator: LLVMGetBasicBlockTerminator(block),
            next: 0,
            leads_back: false,
        };
        let mut back = Vec::new();
        // Whether the walk is still inside of a block that it has seen.
        let mut seen = HashMap::from([(entry, true)]);
        let mut path = vec![enter(entry)];
        while let Some(last) = path.last_mut() {
            if last.next == LLVMGetNumSuccessors(last.terminator) {
                if last.leads_back {
                    back.push(last.block);
                }
                seen.insert(last.block, false);
                path.pop();
                continue;
            }
            let successor = LLVMGetSuccessor(last.terminator, last.next);
            last.next += 1;
            match seen.get(&successor) {
                Some(&inside) => last.leads_back |= inside,
                None => {
                    seen.insert(successor, true);
                    path.push(enter(successor));
                }
            }
        }
        back
    }
}

/// The first instruction behind the allocas of an entry, all of which stay in the entry: elsewhere
/// they would be made anew at every turn. What stands between them, stays before the poll too.
///
/// # Safety
/// `entry` is a live function's entry.
unsafe fn end_of_allocas(entry: LLVMBasicBlockRef) -> LLVMValueRef {
    // SAFETY: the caller's promise; an alloca is not the last instruction of a block.
    unsafe {
        let first = LLVMGetFirstInstruction(entry);
        let all = list(first, LLVMGetNextInstruction);
        let last = all.into_iter().rev().find(|&i| belongs_to_the_entry(i));
        last.map_or(first, |last| LLVMGetNextInstruction(last))
    }
}

/// # Safety
/// `instruction` is live.
unsafe fn belongs_to_the_entry(instruction: LLVMValueRef) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        match LLVMGetInstructionOpcode(instruction) {
            LLVMOpcode::LLVMAlloca => true,
            // The one that tells other functions of allocas.
            LLVMOpcode::LLVMCall => {
                let called = LLVMGetCalledValue(instruction);
                !LLVMIsAFunction(called).is_null()
                    && super::lower::name_bytes(called) == b"llvm.localescape"
            }
            _ => false,
        }
    }
}

/// The first instruction behind what must begin a block. `None` for a block that is nothing else,
/// as only exceptions of another system have it.
///
/// # Safety
/// `block` is live and has a terminator.
unsafe fn end_of_phis(block: LLVMBasicBlockRef) -> Option<LLVMValueRef> {
    // SAFETY: the caller's promise: the walk ends at the terminator.
    unsafe {
        let mut at = LLVMGetFirstInstruction(block);
        loop {
            match LLVMGetInstructionOpcode(at) {
                LLVMOpcode::LLVMPHI
                | LLVMOpcode::LLVMLandingPad
                | LLVMOpcode::LLVMCatchPad
                | LLVMOpcode::LLVMCleanupPad => at = LLVMGetNextInstruction(at),
                LLVMOpcode::LLVMCatchSwitch => return None,
                _ => return Some(at),
            }
        }
    }
}

#[cfg(test)]
mod tests;
