//! Moves functions and variables from one module to another of the same context.
//!
//! LLVM's C interface has no copy of a single function. But blocks can be taken out of one function and put into
//! another: their instructions stay what they are, and only what refers to globals must be made to refer to those of
//! the new module.

use crate::constants;
use crate::ir::{self, Module, Value};
use inkwell::llvm_sys::core::*;
use inkwell::llvm_sys::{LLVMLinkage, LLVMValueKind};
use std::collections::HashMap;

/// Moves functions and variables into a module of their own; declarations are left.
///
/// Private variables that these refer to are copied; everything else is declared.
pub fn take_out<'ctx>(
    program: &Module<'ctx>,
    functions: &[Value<'_>],
    variables: &[Value<'_>],
) -> Result<Module<'ctx>, String> {
    let piece = program.get_context().create_module("");
    piece.set_triple(&program.get_triple());
    piece.set_data_layout(&program.get_data_layout());
    copy_flags(program, &piece);
    let mut moving = Moving {
        to: &piece,
        known: HashMap::new(),
    };
    // All are there before anything that may refer to them.
    let variables: Vec<_> = variables
        .iter()
        .map(|variable| (*variable, moving.declare(*variable)))
        .collect();
    let functions: Vec<_> = functions
        .iter()
        .map(|function| moving.move_blocks(*function))
        .collect();
    for function in functions {
        moving.correct(function)?;
    }
    for (variable, anew) in variables {
        moving.initialise(variable, anew)?;
        variable.set_initialiser(None);
        variable.set_linkage(LLVMLinkage::LLVMExternalLinkage);
    }
    Ok(piece)
}

/// A move under way.
struct Moving<'m, 'ctx> {
    to: &'m Module<'ctx>,
    /// What stands in the new module for a global of the program's.
    known: HashMap<Value<'m>, Value<'m>>,
}

impl<'m> Moving<'m, '_> {
    fn declare(&mut self, global: Value<'m>) -> Value<'m> {
        let anew = ir::declare_like(self.to, global);
        self.introduce(global, anew);
        anew
    }

    fn introduce(&mut self, global: Value<'m>, anew: Value<'m>) {
        anew.set_name(&global.name());
        self.known.insert(global, anew);
    }

    /// Gives a variable the initialiser that it has in the program.
    fn initialise(&mut self, variable: Value<'m>, anew: Value<'m>) -> Result<(), String> {
        if let Some(initialiser) = variable.initialiser() {
            anew.set_initialiser(Some(self.constant(initialiser)?));
        }
        anew.set_linkage(variable.linkage());
        // SAFETY: two global variables.
        unsafe { LLVMSetUnnamedAddress(anew.raw(), LLVMGetUnnamedAddress(variable.raw())) };
        Ok(())
    }

    /// Moves a body; what it refers to is still the program's.
    fn move_blocks(&mut self, function: Value<'m>) -> Value<'m> {
        let anew = function_like(self.to, function);
        self.introduce(function, anew);
        anew.set_linkage(function.linkage());
        take_body(anew, function);
        function.set_linkage(LLVMLinkage::LLVMExternalLinkage);
        anew
    }

    /// Makes a moved body refer to what is in its own module.
    fn correct(&mut self, function: Value<'m>) -> Result<(), String> {
        if let Some(personality) = personality(function) {
            let anew = self.constant(personality)?;
            // SAFETY: a function, and a constant of its module.
            unsafe { LLVMSetPersonalityFn(function.raw(), anew.raw()) };
        }
        for instruction in function.instructions() {
            for index in 0..instruction.operand_count() {
                let Some(operand) = instruction.operand(index).filter(is_constant) else {
                    continue;
                };
                let anew = self.constant(operand)?;
                if anew != operand {
                    // SAFETY: an instruction that has this operand, and a constant of the same type.
                    unsafe { LLVMSetOperand(instruction.raw(), index, anew.raw()) };
                }
            }
            forget_callees(instruction);
        }
        Ok(())
    }

    fn constant(&mut self, constant: Value<'m>) -> Result<Value<'m>, String> {
        constants::replace(constant, &mut |of| self.replacement(of))
    }

    /// What stands for a global or a label.
    fn replacement(&mut self, of: Value<'m>) -> Result<Value<'m>, String> {
        if let Some((function, block)) = label(of) {
            let function = self.replacement(function)?;
            // SAFETY: the block is in that function now: labels are named by their own function, and by data that
            // goes with it.
            let anew =
                unsafe { LLVMBlockAddress(function.raw(), LLVMValueAsBasicBlock(block.raw())) };
            return Value::new(anew).ok_or_else(|| "a label got lost".to_owned());
        }
        if let Some(known) = self.known.get(&of) {
            return Ok(*known);
        }
        let anew = self.declare(of);
        if of.is_global_variable() && of.linkage() == LLVMLinkage::LLVMPrivateLinkage {
            self.initialise(of, anew)?;
        }
        Ok(anew)
    }
}

/// Copies what is said of a module as a whole, for the code generator and the optimiser.
fn copy_flags(from: &Module<'_>, to: &Module<'_>) {
    let mut count = 0;
    // SAFETY: two live modules of one context; the list is as long as LLVM says, and disposed of here.
    unsafe {
        let flags = LLVMCopyModuleFlagsMetadata(from.as_mut_ptr(), &mut count);
        for index in 0..count as u32 {
            let mut length = 0;
            let key = LLVMModuleFlagEntriesGetKey(flags, index, &mut length);
            let behaviour = LLVMModuleFlagEntriesGetFlagBehavior(flags, index);
            let value = LLVMModuleFlagEntriesGetMetadata(flags, index);
            LLVMAddModuleFlag(to.as_mut_ptr(), behaviour, key, length, value);
        }
        LLVMDisposeModuleFlagsMetadata(flags);
    }
}

/// What is attached to functions and may go along: any other kind may name values of the program's module, which
/// LLVM could not write down in another.
const ATTACHED: [&str; 2] = ["dbg", "prof"];

/// A function of the same type, attributes and metadata, without a body.
fn function_like<'m>(module: &'m Module<'_>, of: Value<'m>) -> Value<'m> {
    let anew = ir::add_function_like(module, of);
    // SAFETY: two live functions of one context; the list is as long as LLVM says, and disposed of here.
    unsafe {
        LLVMSetAlignment(anew.raw(), LLVMGetAlignment(of.raw()));
        if LLVMHasPersonalityFn(of.raw()) != 0 {
            LLVMSetPersonalityFn(anew.raw(), LLVMGetPersonalityFn(of.raw()));
        }
        let context = LLVMGetModuleContext(module.as_mut_ptr());
        let kept = ATTACHED
            .map(|name| LLVMGetMDKindIDInContext(context, name.as_ptr().cast(), name.len() as u32));
        let mut count = 0;
        let entries = LLVMGlobalCopyAllMetadata(of.raw(), &mut count);
        for index in 0..count as u32 {
            let kind = LLVMValueMetadataEntriesGetKind(entries, index);
            let node = LLVMValueMetadataEntriesGetMetadata(entries, index);
            if kept.contains(&kind) {
                LLVMGlobalSetMetadata(anew.raw(), kind, node);
            }
        }
        LLVMDisposeValueMetadataEntries(entries);
    }
    anew
}

/// Gives `to` the blocks and parameters of `from`, which is left a declaration.
fn take_body(to: Value<'_>, from: Value<'_>) {
    // SAFETY: two live functions of one type. A block that was removed is put in again at once.
    unsafe {
        for index in 0..LLVMCountParams(from.raw()) {
            let (was, is) = (
                LLVMGetParam(from.raw(), index),
                LLVMGetParam(to.raw(), index),
            );
            LLVMReplaceAllUsesWith(was, is);
        }
        for block in from.blocks() {
            let block = LLVMValueAsBasicBlock(block.raw());
            LLVMRemoveBasicBlockFromParent(block);
            LLVMAppendExistingBasicBlock(to.raw(), block);
        }
        // A declaration has neither.
        LLVMGlobalClearMetadata(from.raw());
        if LLVMHasPersonalityFn(from.raw()) != 0 {
            LLVMSetPersonalityFn(from.raw(), std::ptr::null_mut());
        }
    }
}

/// Whether this is a constant of any kind, which may have globals in it.
fn is_constant(value: &Value<'_>) -> bool {
    // SAFETY: any value may be asked.
    unsafe { LLVMIsConstant(value.raw()) != 0 }
}

fn personality(function: Value<'_>) -> Option<Value<'_>> {
    // SAFETY: a function; asked for only if it has one.
    unsafe {
        let has = LLVMHasPersonalityFn(function.raw()) != 0;
        has.then(|| LLVMGetPersonalityFn(function.raw()))
            .and_then(Value::new)
    }
}

/// The function and block of a label's address.
fn label(of: Value<'_>) -> Option<(Value<'_>, Value<'_>)> {
    if of.kind() != LLVMValueKind::LLVMBlockAddressValueKind {
        return None;
    }
    // SAFETY: the address of a label.
    unsafe {
        let block = LLVMBasicBlockAsValue(LLVMGetBlockAddressBasicBlock(of.raw()));
        Value::new(LLVMGetBlockAddressFunction(of.raw())).zip(Value::new(block))
    }
}

/// Drops the list of functions that a call by pointer may call: it is for optimisers of whole programs, and names
/// functions of the old module.
fn forget_callees(call: Value<'_>) {
    // SAFETY: an instruction; a kind that it has no node of is no error.
    unsafe {
        if LLVMHasMetadata(call.raw()) != 0 {
            let kind = LLVMGetMDKindIDInContext(
                LLVMGetTypeContext(LLVMTypeOf(call.raw())),
                c"callees".as_ptr(),
                7,
            );
            LLVMSetMetadata(call.raw(), kind, std::ptr::null_mut());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use inkwell::context::Context;
    use inkwell::memory_buffer::MemoryBuffer;

    const PROGRAM: &str = r#"
        %pair = type { ptr, i64 }
        @data = global [8 x i32] zeroinitializer
        @other = external global i8
        @own = private unnamed_addr constant [2 x %pair] [
          %pair { ptr @callee, i64 1 },
          %pair { ptr getelementptr inbounds ([8 x i32], ptr @data, i64 0, i64 3), i64 ptrtoint (ptr @moved to i64) }]
        @labels = private constant [2 x ptr] [ptr blockaddress(@moved, %a), ptr null]
        declare i32 @callee(ptr, i64)
        declare i32 @personality(...)
        declare <2 x ptr> @vectors(<2 x ptr>)
        define i64 @moved(ptr %p, i64 %n) nounwind alwaysinline align 32 personality ptr @personality !prof !1 {
          %f = load ptr, ptr @own
          %r = invoke i32 %f(ptr %p, i64 sub (i64 ptrtoint (ptr @data to i64), i64 ptrtoint (ptr @other to i64)))
            to label %fine unwind label %pad, !callees !0
        fine:
          %v = call <2 x ptr> @vectors(<2 x ptr> <ptr @data, ptr getelementptr (i8, ptr @other, i64 1)>)
          %s = call i32 @callee(ptr @moved, i64 xor (i64 ptrtoint (ptr @other to i64), i64 -1))
          %l = load ptr, ptr @labels
          indirectbr ptr %l, [label %a]
        a:
          %again = call i64 @moved(ptr %p, i64 7)
          ret i64 %again
        pad:
          %e = landingpad { ptr, i32 } catch ptr @other
          resume { ptr, i32 } %e
        }
        define i32 @stays() { ret i32 ptrtoint (ptr blockaddress(@stays, %a) to i32)
        a: ret i32 2 }
        !llvm.module.flags = !{!2}
        !0 = !{ptr @callee, ptr @stays}
        !1 = !{!"function_entry_count", i64 12}
        !2 = !{i32 1, !"wchar_size", i32 4}
    "#;

    fn parse(context: &Context) -> Module<'_> {
        let text = MemoryBuffer::create_from_memory_range_copy(PROGRAM.as_bytes(), "test");
        let module = context.create_module_from_ir(text).unwrap();
        module.verify().unwrap();
        module
    }

    #[test]
    fn a_function_takes_along_what_is_its_own() {
        let context = Context::create();
        let program = parse(&context);
        let moved = ir::function(&program, "moved").unwrap();
        let piece = take_out(&program, &[moved], &[]).unwrap();
        piece.verify().unwrap();
        let text = piece.print_to_string().to_string();
        for line in [
            "@own = private unnamed_addr constant [2 x %pair] [%pair { ptr @callee, i64 1 }, %pair { ptr getelementptr \
             inbounds ([8 x i32], ptr @data, i64 0, i64 3), i64 ptrtoint (ptr @moved to i64) }]",
            "@labels = private constant [2 x ptr] [ptr blockaddress(@moved, %a), ptr null]",
            "@data = external global [8 x i32]",
            "define i64 @moved(ptr %0, i64 %1) #0 align 32 personality ptr @personality !prof !1",
            "i64 sub (i64 ptrtoint (ptr @data to i64), i64 ptrtoint (ptr @other to i64))",
            "<2 x ptr> <ptr @data, ptr getelementptr (i8, ptr @other, i64 1)>",
            "call i32 @callee(ptr @moved, i64 xor (i64 ptrtoint (ptr @other to i64), i64 -1))",
            "%again = call i64 @moved(ptr %0, i64 7)",
            "alwaysinline",
            "wchar_size",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
        assert!(
            !text.contains("callees") && !text.contains("@stays"),
            "{text}"
        );
    }

    /// What is left can still be used, and the moved function is declared in it.
    #[test]
    fn declarations_are_left() {
        let context = Context::create();
        let program = parse(&context);
        let (moved, stays) = (
            ir::function(&program, "moved").unwrap(),
            ir::function(&program, "stays").unwrap(),
        );
        let data = ir::global(&program, "data").unwrap();
        drop(take_out(&program, &[moved], &[data]).unwrap());
        program.verify().unwrap();
        assert!(moved.is_declaration() && data.is_declaration());
        let piece = take_out(&program, &[stays], &[]).unwrap();
        let text = piece.print_to_string().to_string();
        assert!(text.contains("blockaddress(@stays, %a)"), "{text}");
    }
}
