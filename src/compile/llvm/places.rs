//! Places in finished code where something is looked at: the entry of each function, and each way round a loop.
//!
//! # Where
//!
//! At the entry, and in each block that an edge leads back from to a block which a
//! depth-first walk is still inside of. Every cycle has such an edge, whatever its shape and by
//! whatever instruction it is made; so no thread stays in code without coming to a place. (What LLVM
//! makes of one instruction, a `memset` or a loop around a compare-exchange, has none.)
//!
//! # When
//!
//! After optimisation. Before it, what is looked at would keep loops from being vectorised, recognised and
//! deleted, and small functions would bring their places where they are inlined. What passes have
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
use inkwell::llvm_sys::{LLVMAttributeFunctionIndex, LLVMCallConv, LLVMOpcode, LLVMVisibility};
use inkwell::module::Module;

use super::lower::{enum_attribute, list};

/// Not taken once for so many times that it is.
const NEVER: (u64, u64) = (1 << 20, 1);

/// What calls of our own stubs are: all registers but r11 are kept.
pub(super) const PRESERVE_ALL: u32 = LLVMCallConv::LLVMPreserveAllCallConv as u32;

/// Which kind of place it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    Entry,
    Round,
}

/// Something that is looked at in each place: what is emitted there.
pub(super) trait Look {
    /// Emits what yields a bit: true if the code goes on as it would.
    ///
    /// # Safety
    /// The builder is in a function of the module that this was made for.
    unsafe fn condition(&self, builder: LLVMBuilderRef, place: Place) -> LLVMValueRef;

    /// Emits what is done otherwise, before the code goes on.
    ///
    /// # Safety
    /// As for [`Look::condition`].
    unsafe fn otherwise(&self, builder: LLVMBuilderRef);
}

/// The functions of a module that can have places.
///
/// # Safety
/// The module is live, and of the calling thread.
pub(super) unsafe fn functions(module: &Module<'_>) -> Vec<LLVMValueRef> {
    let naked = enum_attribute("naked");
    // SAFETY: the caller's promise; the list is copied.
    unsafe {
        let mut functions = list(
            LLVMGetFirstFunction(module.as_mut_ptr()),
            LLVMGetNextFunction,
        );
        functions.retain(|&function| {
            let is_naked =
                !LLVMGetEnumAttributeAtIndex(function, LLVMAttributeFunctionIndex, naked).is_null();
            LLVMCountBasicBlocks(function) > 0 && !is_naked
        });
        functions
    }
}

/// Declares a stub that keeps all registers but r11, of parameters of these types.
///
/// # Safety
/// A live module, and types of its context.
pub(super) unsafe fn declare_stub(
    module: &Module<'_>,
    name: &str,
    parameters: &mut [LLVMTypeRef],
) -> (LLVMValueRef, LLVMTypeRef) {
    // SAFETY: the caller's promise.
    unsafe {
        let (stub, ty) = declare(module, name, parameters);
        LLVMSetFunctionCallConv(stub, PRESERVE_ALL);
        (stub, ty)
    }
}

/// As [`declare_stub`], for one that is called by the C convention.
///
/// # Safety
/// As for that.
pub(super) unsafe fn declare(
    module: &Module<'_>,
    name: &str,
    parameters: &mut [LLVMTypeRef],
) -> (LLVMValueRef, LLVMTypeRef) {
    let name = std::ffi::CString::new(name).expect("our own names have no NUL");
    // SAFETY: the caller's promise.
    unsafe {
        let module = module.as_mut_ptr();
        let context = LLVMGetModuleContext(module);
        let nothing = LLVMVoidTypeInContext(context);
        let ty = LLVMFunctionType(nothing, parameters.as_mut_ptr(), parameters.len() as u32, 0);
        let stub = LLVMAddFunction(module, name.as_ptr(), ty);
        LLVMSetVisibility(stub, LLVMVisibility::LLVMHiddenVisibility);
        for promise in ["cold", "nounwind"] {
            let attribute = LLVMCreateEnumAttribute(context, enum_attribute(promise), 0);
            LLVMAddAttributeAtIndex(stub, LLVMAttributeFunctionIndex, attribute);
        }
        (stub, ty)
    }
}

/// Puts looks into the functions of a module.
pub(super) struct Places {
    context: LLVMContextRef,
    builder: LLVMBuilderRef,
    /// The kind of metadata that says how often a branch is taken, and that it never is.
    profile: (u32, LLVMValueRef),
}

impl Drop for Places {
    fn drop(&mut self) {
        // SAFETY: ours, and disposed of once.
        unsafe { LLVMDisposeBuilder(self.builder) };
    }
}

impl Places {
    pub(super) fn new(module: &Module<'_>) -> Self {
        // SAFETY: a live module, and types of its context.
        unsafe {
            let context = LLVMGetModuleContext(module.as_mut_ptr());
            Self {
                context,
                builder: LLVMCreateBuilderInContext(context),
                profile: never(context, LLVMInt32TypeInContext(context)),
            }
        }
    }

    /// At the entry, and on each way round a loop.
    ///
    /// # Safety
    /// `function` is defined in the module.
    pub(super) unsafe fn add(&self, function: LLVMValueRef, look: &impl Look) {
        // SAFETY: the caller's promise. The blocks that lead back are the same when the entry has been split, whose
        // new head nothing leads back to.
        unsafe {
            let entry = LLVMGetEntryBasicBlock(function);
            let end = end_of_allocas(entry);
            self.split(function, entry, end, look, Place::Entry);
            self.add_rounds(function, look);
        }
    }

    /// On each way round a loop alone.
    ///
    /// # Safety
    /// As for [`Places::add`].
    pub(super) unsafe fn add_rounds(&self, function: LLVMValueRef, look: &impl Look) {
        // SAFETY: the caller's promise. The blocks are found before any is changed; splitting one
        // leaves the others, and their terminators, as they are.
        unsafe {
            for block in leading_back(LLVMGetEntryBasicBlock(function)) {
                if let Some(end) = end_of_phis(block) {
                    self.split(function, block, end, look, Place::Round);
                }
            }
        }
    }

    /// Calls something before each way round a loop goes on.
    ///
    /// # Safety
    /// As for [`Places::add`]; `call` emits a call, and nothing that ends a block.
    pub(super) unsafe fn call_on_rounds(
        &self,
        function: LLVMValueRef,
        call: impl Fn(LLVMBuilderRef),
    ) {
        // SAFETY: the caller's promise.
        unsafe {
            for block in leading_back(LLVMGetEntryBasicBlock(function)) {
                if let Some(end) = end_of_phis(block) {
                    LLVMPositionBuilderBefore(self.builder, end);
                    call(self.builder);
                }
            }
        }
    }

    /// Puts a look before `end`, an instruction of the block.
    ///
    /// # Safety
    /// Both are live, of this function, and what stands before `end` may stand in a block of its own.
    unsafe fn split(
        &self,
        function: LLVMValueRef,
        block: LLVMBasicBlockRef,
        end: LLVMValueRef,
        look: &impl Look,
        place: Place,
    ) {
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
            let good = look.condition(builder, place);
            // At the end of the function, where it is in nobody's way without optimisation either.
            let rare = LLVMAppendBasicBlockInContext(self.context, function, unnamed);
            let branch = LLVMBuildCondBr(builder, good, block, rare);
            LLVMSetMetadata(branch, self.profile.0, self.profile.1);

            LLVMPositionBuilderAtEnd(builder, rare);
            look.otherwise(builder);
            LLVMBuildBr(builder, block);
        }
    }
}

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

/// Whether a function has a loop.
///
/// # Safety
/// `function` is live.
pub(super) unsafe fn loops(function: LLVMValueRef) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        LLVMCountBasicBlocks(function) > 0
            && !leading_back(LLVMGetEntryBasicBlock(function)).is_empty()
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
