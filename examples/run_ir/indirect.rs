//! Indirect functions (ifuncs): a resolver says, once, which function is meant.
//!
//! Natively the dynamic linker asks all resolvers before anything of the program runs, and writes the answers wherever
//! the address was used. Here each indirect function becomes a variable for its answer, code loads it, and a function
//! of ours, called before all constructors, fills the variables; then it writes the answers into initialised data.

use crate::ir::{self, Module, Value};
use inkwell::llvm_sys::core::*;
use inkwell::llvm_sys::prelude::*;
use inkwell::llvm_sys::{LLVMLinkage, LLVMOpcode, LLVMTypeKind, LLVMValueKind};
use std::collections::{HashMap, HashSet};

/// The function that asks the resolvers.
const RESOLVE: &str = "run_ir.resolve";

/// Takes the indirect functions out. The function that must run before all others, if there were any.
///
/// Aliases are used by nothing any more, and thread-local variables have been taken apart: what they begin with is data like other data.
pub fn take<'m>(module: &'m Module<'_>) -> Result<Option<Value<'m>>, String> {
    let ifuncs = ir::ifuncs(module);
    if ifuncs.is_empty() {
        return Ok(None);
    }
    let resolve = Lowering::new(module, &ifuncs).run(&ifuncs)?;
    for ifunc in ifuncs {
        // What is left are the initialisers, written to by `resolve`.
        ifunc.replace_by(ifunc.null());
        // SAFETY: nothing uses it any more, and no one holds a copy.
        unsafe { LLVMEraseGlobalIFunc(ifunc.raw()) };
    }
    Ok(Some(resolve))
}

struct Lowering<'m> {
    builder: LLVMBuilderRef,
    pointer: LLVMTypeRef,
    index: LLVMTypeRef,
    resolve: Value<'m>,
    /// The variable of each indirect function.
    answers: HashMap<Value<'m>, Value<'m>>,
    /// The indirect functions, and all constants made of them.
    tainted: HashSet<Value<'m>>,
}

impl Drop for Lowering<'_> {
    fn drop(&mut self) {
        // SAFETY: ours, and not used again.
        unsafe { LLVMDisposeBuilder(self.builder) };
    }
}

impl<'m> Lowering<'m> {
    fn new(module: &'m Module<'_>, ifuncs: &[Value<'m>]) -> Self {
        // SAFETY: a live module; types and values are of its context.
        unsafe {
            let context = LLVMGetModuleContext(module.as_mut_ptr());
            let pointer = LLVMPointerTypeInContext(context, 0);
            let ty = LLVMFunctionType(LLVMVoidTypeInContext(context), std::ptr::null_mut(), 0, 0);
            let resolve = ir::add_function(module, RESOLVE, ty);
            LLVMAppendBasicBlockInContext(context, resolve.raw(), c"".as_ptr());
            let answer = |(index, ifunc): (usize, &Value<'m>)| {
                let variable = ir::add_variable(module, &format!("run_ir.ifunc.{index}"), pointer);
                variable.set_initialiser(Some(variable.null()));
                variable.set_linkage(LLVMLinkage::LLVMInternalLinkage);
                (*ifunc, variable)
            };
            Lowering {
                builder: LLVMCreateBuilderInContext(context),
                pointer,
                index: LLVMInt32TypeInContext(context),
                resolve,
                answers: ifuncs.iter().enumerate().map(answer).collect(),
                tainted: ifuncs.iter().copied().collect(),
            }
        }
    }

    fn run(mut self, ifuncs: &[Value<'m>]) -> Result<Value<'m>, String> {
        let (instructions, variables) = self.uses(ifuncs)?;
        self.at_end();
        for ifunc in ifuncs {
            self.ask(*ifunc);
        }
        for variable in variables {
            // SAFETY: a global variable, written to now.
            unsafe { LLVMSetGlobalConstant(variable.raw(), 0) };
            if let Some(initialiser) = variable.initialiser() {
                self.write(variable, &mut vec![0], variable.value_type(), initialiser)?;
            }
        }
        // SAFETY: the builder stands at the end of `resolve`, whose result is void.
        unsafe { LLVMBuildRetVoid(self.builder) };
        for instruction in instructions {
            self.rewrite(instruction)?;
        }
        Ok(self.resolve)
    }

    fn at_end(&self) {
        // SAFETY: a live function with one block.
        unsafe {
            LLVMPositionBuilderAtEnd(self.builder, LLVMGetLastBasicBlock(self.resolve.raw()));
        }
    }

    /// All instructions and variables that an indirect function is used in, through constants too.
    fn uses(&mut self, ifuncs: &[Value<'m>]) -> Result<(Vec<Value<'m>>, Vec<Value<'m>>), String> {
        let (mut instructions, mut variables) = (Vec::new(), Vec::new());
        let mut seen = HashSet::new();
        let mut values = ifuncs.to_vec();
        while let Some(value) = values.pop() {
            for user in value.users().into_iter().filter(|user| seen.insert(*user)) {
                if user.is_instruction() {
                    instructions.push(user);
                } else if user.is_global_variable() {
                    variables.push(user);
                } else if user.kind() == LLVMValueKind::LLVMGlobalAliasValueKind {
                    // Nothing uses it any more, but it still has to be an alias of something.
                    // SAFETY: an alias, and a function of the same module.
                    unsafe { LLVMAliasSetAliasee(user.raw(), self.resolve.raw()) };
                } else if user.is_global() {
                    return Err(format!("{} is made of an indirect function", user.name()));
                } else {
                    self.tainted.insert(user);
                    values.push(user);
                }
            }
        }
        Ok((instructions, variables))
    }

    /// Asks a resolver, and keeps the answer.
    fn ask(&self, ifunc: Value<'m>) {
        // SAFETY: the builder stands in `resolve`; resolvers take nothing on this machine, and return a pointer.
        unsafe {
            let resolver = LLVMGetGlobalIFuncResolver(ifunc.raw());
            let ty = LLVMFunctionType(self.pointer, std::ptr::null_mut(), 0, 0);
            let none = std::ptr::null_mut();
            let answer = LLVMBuildCall2(self.builder, ty, resolver, none, 0, c"".as_ptr());
            LLVMBuildStore(self.builder, answer, self.answers[&ifunc].raw());
        }
    }

    /// Writes all parts of an initialiser that are made of indirect functions. `path` leads from the variable to it.
    fn write(
        &self,
        variable: Value<'m>,
        path: &mut Vec<u64>,
        ty: LLVMTypeRef,
        constant: Value<'m>,
    ) -> Result<(), String> {
        if !self.tainted.contains(&constant) {
            return Ok(());
        }
        if !is_aggregate(constant) {
            let value = self.materialise(constant)?;
            // SAFETY: the builder stands in `resolve`; the path leads to an element of the variable's type.
            unsafe {
                let mut indices: Vec<_> = path
                    .iter()
                    .map(|i| LLVMConstInt(self.index, *i, 0))
                    .collect();
                let (first, count) = (indices.as_mut_ptr(), indices.len() as u32);
                let name = c"".as_ptr();
                let place = LLVMBuildGEP2(self.builder, ty, variable.raw(), first, count, name);
                LLVMSetAlignment(LLVMBuildStore(self.builder, value, place), 1);
            }
            return Ok(());
        }
        for index in 0..constant.operand_count() {
            if let Some(element) = constant.operand(index) {
                path.push(index.into());
                self.write(variable, path, ty, element)?;
                path.pop();
            }
        }
        Ok(())
    }

    /// Gives an instruction operands that are computed before it.
    fn rewrite(&self, instruction: Value<'m>) -> Result<(), String> {
        let phi = instruction.opcode() == Some(LLVMOpcode::LLVMPHI);
        // A block that comes twice to a phi must bring the same value.
        let mut brought = HashMap::new();
        for index in 0..instruction.operand_count() {
            let Some(operand) = instruction
                .operand(index)
                .filter(|o| self.tainted.contains(o))
            else {
                continue;
            };
            // SAFETY: a live instruction with this operand; a phi has as many blocks as operands.
            unsafe {
                let before = match phi {
                    true => {
                        LLVMGetBasicBlockTerminator(LLVMGetIncomingBlock(instruction.raw(), index))
                    }
                    false => instruction.raw(),
                };
                let value = match brought.get(&before) {
                    Some(value) if phi => *value,
                    _ => {
                        LLVMPositionBuilderBefore(self.builder, before);
                        self.materialise(operand)?
                    }
                };
                brought.insert(before, value);
                LLVMSetOperand(instruction.raw(), index, value);
            }
        }
        Ok(())
    }

    /// A constant made of indirect functions, computed where the builder stands.
    fn materialise(&self, constant: Value<'m>) -> Result<LLVMValueRef, String> {
        if !self.tainted.contains(&constant) {
            return Ok(constant.raw());
        }
        if let Some(answer) = self.answers.get(&constant) {
            // SAFETY: the builder stands in a function of the module.
            return Ok(unsafe {
                LLVMBuildLoad2(self.builder, self.pointer, answer.raw(), c"".as_ptr())
            });
        }
        let operands: Vec<_> = (0..constant.operand_count())
            .filter_map(|index| constant.operand(index))
            .map(|operand| self.materialise(operand))
            .collect::<Result<_, _>>()?;
        match is_aggregate(constant) {
            true => Ok(self.aggregate(constant, &operands)),
            false => self.expression(constant, operands),
        }
    }

    fn aggregate(&self, constant: Value<'m>, elements: &[LLVMValueRef]) -> LLVMValueRef {
        // SAFETY: as many elements as the type has, each of its type.
        unsafe {
            let ty = LLVMTypeOf(constant.raw());
            let vector = LLVMGetTypeKind(ty) == LLVMTypeKind::LLVMVectorTypeKind;
            let mut whole = LLVMGetPoison(ty);
            for (index, element) in elements.iter().enumerate() {
                let (index, name) = (index as u32, c"".as_ptr());
                whole = match vector {
                    true => {
                        let at = LLVMConstInt(self.index, index.into(), 0);
                        LLVMBuildInsertElement(self.builder, whole, *element, at, name)
                    }
                    false => LLVMBuildInsertValue(self.builder, whole, *element, index, name),
                };
            }
            whole
        }
    }

    fn expression(
        &self,
        constant: Value<'m>,
        mut operands: Vec<LLVMValueRef>,
    ) -> Result<LLVMValueRef, String> {
        use LLVMOpcode::*;
        let opcode = constant.opcode();
        let name = c"".as_ptr();
        // SAFETY: an expression of this opcode, with operands of its operands' types.
        unsafe {
            match opcode {
                Some(LLVMGetElementPtr) => {
                    let ty = LLVMGetGEPSourceElementType(constant.raw());
                    let (indices, count) = (operands[1..].as_mut_ptr(), operands.len() as u32 - 1);
                    Ok(LLVMBuildGEP2(
                        self.builder,
                        ty,
                        operands[0],
                        indices,
                        count,
                        name,
                    ))
                }
                Some(
                    cast @ (LLVMPtrToInt | LLVMIntToPtr | LLVMBitCast | LLVMAddrSpaceCast
                    | LLVMTrunc),
                ) => {
                    let ty = LLVMTypeOf(constant.raw());
                    Ok(LLVMBuildCast(self.builder, cast, operands[0], ty, name))
                }
                Some(binary @ (LLVMAdd | LLVMSub | LLVMXor)) => Ok(LLVMBuildBinOp(
                    self.builder,
                    binary,
                    operands[0],
                    operands[1],
                    name,
                )),
                _ => Err("an unknown constant made of an indirect function".into()),
            }
        }
    }
}

fn is_aggregate(constant: Value<'_>) -> bool {
    matches!(
        constant.kind(),
        LLVMValueKind::LLVMConstantArrayValueKind
            | LLVMValueKind::LLVMConstantStructValueKind
            | LLVMValueKind::LLVMConstantVectorValueKind
    )
}
