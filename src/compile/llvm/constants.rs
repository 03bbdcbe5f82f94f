//! Constants are loaded from read-only data: no bytes that the program's author chose are executable.
//!
//! To be done after optimisation, of which it would leave little. A load is volatile, or the code generator would
//! see through it.
//!
//! Not only operands become immediates. The code generator makes stores of integers of a `memcpy` out of a constant,
//! and comparisons with integers of a `memcmp` with one, if it knows how long these are: so lengths are loaded, however small. It
//! compares with the cases of a `switch`, which the caller has had made comparisons.

use std::collections::HashMap;

use inkwell::llvm_sys::core::*;
use inkwell::llvm_sys::prelude::{LLVMBasicBlockRef, LLVMBuilderRef, LLVMTypeRef, LLVMValueRef};
use inkwell::llvm_sys::target::{LLVMABISizeOfType, LLVMGetModuleDataLayout, LLVMTargetDataRef};
use inkwell::llvm_sys::{LLVMLinkage, LLVMOpcode, LLVMTypeKind, LLVMUnnamedAddr, LLVMValueKind};
use inkwell::module::Module;

use super::lower::{enum_attribute, list, name_bytes};
use super::places;

/// What is to be run before: comparisons, which have operands, instead of cases.
pub(super) const BEFORE: &str = "function(lower-switch)";

/// Has all functions of the module load their constants.
pub(super) fn apart(module: &Module<'_>) {
    // SAFETY: a live module of this thread, and its functions.
    unsafe {
        let functions = places::functions(module);
        let mut pool = Pool::new(module);
        for function in functions {
            pool.constants_of(function);
        }
    }
}

/// The constants of a module.
struct Pool<'m, 'ctx> {
    module: &'m Module<'ctx>,
    layout: LLVMTargetDataRef,
    builder: LLVMBuilderRef,
    immarg: u32,
    /// The variables that hold them, of this function.
    variables: HashMap<LLVMValueRef, LLVMValueRef>,
}

impl Drop for Pool<'_, '_> {
    fn drop(&mut self) {
        // SAFETY: made by `new`, and used nowhere else.
        unsafe { LLVMDisposeBuilder(self.builder) };
    }
}

impl<'m, 'ctx> Pool<'m, 'ctx> {
    /// # Safety
    /// The module is live, and of the calling thread.
    unsafe fn new(module: &'m Module<'ctx>) -> Self {
        // SAFETY: the caller's promise.
        unsafe {
            let context = LLVMGetModuleContext(module.as_mut_ptr());
            Self {
                module,
                layout: LLVMGetModuleDataLayout(module.as_mut_ptr()),
                builder: LLVMCreateBuilderInContext(context),
                immarg: enum_attribute("immarg"),
                variables: HashMap::new(),
            }
        }
    }

    /// # Safety
    /// A function of the module, with a body.
    unsafe fn constants_of(&mut self, function: LLVMValueRef) {
        // Each function has its own, as it may come to be moved alone.
        self.variables.clear();
        // SAFETY: the caller's promise: what is put in comes before what is looked at.
        unsafe {
            let mut block = LLVMGetFirstBasicBlock(function);
            while !block.is_null() {
                let instructions = list(LLVMGetFirstInstruction(block), LLVMGetNextInstruction);
                for instruction in instructions {
                    match LLVMGetInstructionOpcode(instruction) {
                        LLVMOpcode::LLVMPHI => self.incoming(instruction),
                        opcode => self.operands(instruction, opcode),
                    }
                }
                block = LLVMGetNextBasicBlock(block);
            }
        }
    }

    /// # Safety
    /// A live instruction, other than a phi.
    unsafe fn operands(&mut self, instruction: LLVMValueRef, opcode: LLVMOpcode) {
        use LLVMOpcode::*;
        // SAFETY: the caller's promise.
        unsafe {
            let count = LLVMGetNumOperands(instruction) as u32;
            let chosen: Vec<u32> = match opcode {
                // What is a constant there has to be one.
                LLVMAlloca | LLVMLandingPad | LLVMSwitch | LLVMIndirectBr | LLVMCallBr => return,
                LLVMCall | LLVMInvoke => self.arguments(instruction),
                LLVMGetElementPtr => self.indices(instruction),
                _ => (0..count).collect(),
            };
            for i in chosen {
                let operand = LLVMGetOperand(instruction, i);
                let index = opcode == LLVMGetElementPtr && i > 0;
                let always = index || is_length(instruction, opcode, i);
                if self.is_chosen(operand) || (always && is_number(operand)) {
                    LLVMPositionBuilderBefore(self.builder, instruction);
                    LLVMSetOperand(instruction, i, self.load(operand));
                }
            }
        }
    }

    /// What a call passes, but for what has to be constant.
    ///
    /// # Safety
    /// A live call.
    unsafe fn arguments(&self, call: LLVMValueRef) -> Vec<u32> {
        // SAFETY: the caller's promise.
        unsafe {
            let callee = LLVMGetCalledValue(call);
            if !LLVMIsAInlineAsm(callee).is_null() {
                return Vec::new();
            }
            let known = !LLVMIsAFunction(callee).is_null();
            let has_to_be = |i: &u32| {
                let immarg = |of: LLVMValueRef| {
                    let attribute = LLVMGetEnumAttributeAtIndex(of, i + 1, self.immarg);
                    !attribute.is_null()
                };
                known && immarg(callee)
            };
            (0..LLVMGetNumArgOperands(call))
                .filter(|i| !has_to_be(i))
                .collect()
        }
    }

    /// The indices that are added to an address, times the size of something, and come to more than a byte.
    ///
    /// # Safety
    /// A live instruction that computes an address.
    unsafe fn indices(&self, instruction: LLVMValueRef) -> Vec<u32> {
        // SAFETY: the caller's promise: types of the module, and operands that there are.
        unsafe {
            let mut chosen = vec![0];
            let mut ty = LLVMGetGEPSourceElementType(instruction);
            for i in 1..LLVMGetNumOperands(instruction) as u32 {
                let index = LLVMGetOperand(instruction, i);
                if i > 1 {
                    ty = match LLVMGetTypeKind(ty) {
                        LLVMTypeKind::LLVMStructTypeKind => {
                            // Of a vector of addresses it is the same for each.
                            let field = match LLVMIsAConstantInt(index).is_null() {
                                true => LLVMGetAggregateElement(index, 0),
                                false => index,
                            };
                            let field = LLVMConstIntGetZExtValue(field) as u32;
                            ty = LLVMStructGetTypeAtIndex(ty, field);
                            continue;
                        }
                        _ => LLVMGetElementType(ty),
                    };
                }
                if LLVMIsAConstantInt(index).is_null() {
                    chosen.push(i); // by what it is
                    continue;
                }
                let size = i128::from(LLVMABISizeOfType(self.layout, ty));
                let distance = size * i128::from(LLVMConstIntGetSExtValue(index));
                if !(-128..256).contains(&distance) {
                    chosen.push(i);
                }
            }
            chosen
        }
    }

    /// Values that come with edges, at the end of where these come from.
    ///
    /// # Safety
    /// A live phi.
    unsafe fn incoming(&mut self, phi: LLVMValueRef) {
        // SAFETY: the caller's promise; a phi's operands are its values, in the order of its blocks.
        unsafe {
            // Several edges may come from one block, with the same value.
            let mut loaded: HashMap<LLVMBasicBlockRef, LLVMValueRef> = HashMap::new();
            for i in 0..LLVMCountIncoming(phi) {
                let value = LLVMGetIncomingValue(phi, i);
                if !self.is_chosen(value) {
                    continue;
                }
                let block = LLVMGetIncomingBlock(phi, i);
                let load = match loaded.get(&block) {
                    Some(load) => *load,
                    None => {
                        let end = LLVMGetBasicBlockTerminator(block);
                        LLVMPositionBuilderBefore(self.builder, end);
                        let load = self.load(value);
                        loaded.insert(block, load);
                        load
                    }
                };
                LLVMSetOperand(phi, i, load);
            }
        }
    }

    /// Whether the author of the program chose it: a number of more than a byte, or what has one in it.
    ///
    /// # Safety
    /// A live value.
    unsafe fn is_chosen(&self, value: LLVMValueRef) -> bool {
        use LLVMValueKind::*;
        // SAFETY: the caller's promise.
        unsafe {
            if LLVMIsConstant(value) == 0 || LLVMIsNull(value) != 0 || !self.is_data(value) {
                return false;
            }
            match LLVMGetValueKind(value) {
                LLVMConstantIntValueKind => {
                    // Vectors of one number are of this kind too.
                    let ty = LLVMTypeOf(value);
                    LLVMGetTypeKind(ty) != LLVMTypeKind::LLVMIntegerTypeKind
                        || LLVMGetIntTypeWidth(ty) > 64
                        || (!(-128..128).contains(&LLVMConstIntGetSExtValue(value))
                            && LLVMConstIntGetZExtValue(value) > 255)
                }
                LLVMConstantFPValueKind
                | LLVMConstantDataVectorValueKind
                | LLVMConstantDataArrayValueKind => true,
                LLVMConstantStructValueKind
                | LLVMConstantArrayValueKind
                | LLVMConstantVectorValueKind => self.any_operand_is_chosen(value),
                // An address that was written as a number. Others come to be known when they are linked.
                LLVMConstantExprValueKind => {
                    LLVMGetConstOpcode(value) == LLVMOpcode::LLVMIntToPtr
                        && self.any_operand_is_chosen(value)
                }
                _ => false,
            }
        }
    }

    /// # Safety
    /// A live constant.
    unsafe fn any_operand_is_chosen(&self, value: LLVMValueRef) -> bool {
        // SAFETY: the caller's promise.
        unsafe {
            let operands = 0..LLVMGetNumOperands(value) as u32;
            operands
                .map(|i| LLVMGetOperand(value, i))
                .any(|operand| self.is_chosen(operand))
        }
    }

    /// Whether it is of a type that can stand in memory.
    ///
    /// # Safety
    /// A live value.
    unsafe fn is_data(&self, value: LLVMValueRef) -> bool {
        use LLVMTypeKind::*;
        // SAFETY: the caller's promise.
        unsafe {
            let ty = LLVMTypeOf(value);
            let no_data = matches!(
                LLVMGetTypeKind(ty),
                LLVMTokenTypeKind
                    | LLVMMetadataTypeKind
                    | LLVMLabelTypeKind
                    | LLVMVoidTypeKind
                    | LLVMTargetExtTypeKind
                    | LLVMScalableVectorTypeKind
                    | LLVMX86_AMXTypeKind
            );
            !no_data && LLVMTypeIsSized(ty) != 0
        }
    }

    /// Loads a constant, where the builder is.
    ///
    /// # Safety
    /// A constant of the module.
    unsafe fn load(&mut self, constant: LLVMValueRef) -> LLVMValueRef {
        // SAFETY: the caller's promise.
        unsafe {
            let ty = LLVMTypeOf(constant);
            let known = self.variables.get(&constant).copied();
            let variable = known.unwrap_or_else(|| self.variable(ty, constant));
            self.variables.insert(constant, variable);
            let load = LLVMBuildLoad2(self.builder, ty, variable, c"".as_ptr());
            LLVMSetVolatile(load, 1);
            load
        }
    }

    /// # Safety
    /// A constant of the module, and its type.
    unsafe fn variable(&self, ty: LLVMTypeRef, constant: LLVMValueRef) -> LLVMValueRef {
        // SAFETY: the caller's promise.
        unsafe {
            let name = c"inkpot.constant".as_ptr();
            let variable = LLVMAddGlobal(self.module.as_mut_ptr(), ty, name);
            LLVMSetInitializer(variable, constant);
            LLVMSetGlobalConstant(variable, 1);
            LLVMSetLinkage(variable, LLVMLinkage::LLVMPrivateLinkage);
            LLVMSetUnnamedAddress(variable, LLVMUnnamedAddr::LLVMGlobalUnnamedAddr);
            variable
        }
    }
}

/// # Safety
/// A live value.
unsafe fn is_number(value: LLVMValueRef) -> bool {
    // SAFETY: the caller's promise.
    unsafe { !LLVMIsAConstantInt(value).is_null() && LLVMIsNull(value) == 0 }
}

/// Whether an operand says how many bytes of memory are copied or compared.
///
/// # Safety
/// A live instruction, of this opcode, that has this operand.
unsafe fn is_length(instruction: LLVMValueRef, opcode: LLVMOpcode, operand: u32) -> bool {
    if operand != 2 || !matches!(opcode, LLVMOpcode::LLVMCall | LLVMOpcode::LLVMInvoke) {
        return false;
    }
    // SAFETY: the caller's promise.
    let name = unsafe { name_bytes(LLVMGetCalledValue(instruction)) };
    let copies = [&b"llvm.memcpy."[..], b"llvm.memmove.", b"llvm.memset."];
    // One that is inline by its name has a constant length, which `immarg` tells.
    copies.iter().any(|start| name.starts_with(start))
        || matches!(
            name,
            b"memcmp" | b"bcmp" | b"memcpy" | b"memmove" | b"memset"
        )
}
