//! Which functions their compiler has optimised. LLVM's passes would find little to do in them, and take a third of the
//! time that it takes to compile them.

use crate::ir::Value;
use inkwell::llvm_sys::LLVMOpcode;
use inkwell::llvm_sys::core::LLVMGetVolatile;

/// Whether a function keeps nothing in memory that belongs into a register, which is the first thing that an optimiser
/// sees to, and what no compiler's front end does; and is no coroutine that passes have yet to split.
pub fn is_optimised(function: Value<'_>) -> bool {
    !function
        .instructions()
        .any(|i| belongs_into_a_register(i) || is_of_a_coroutine(i))
}

fn is_of_a_coroutine(instruction: Value<'_>) -> bool {
    instruction.opcode() == Some(LLVMOpcode::LLVMCall)
        && instruction.called_name().starts_with("llvm.coro.")
}

fn belongs_into_a_register(instruction: Value<'_>) -> bool {
    let is_variable = instruction.opcode() == Some(LLVMOpcode::LLVMAlloca);
    is_variable
        && instruction
            .users()
            .into_iter()
            .all(|user| leaves_it_alone(user, instruction))
}

/// Whether the user only reads or writes the variable, and would as well do that to a register.
fn leaves_it_alone(user: Value<'_>, variable: Value<'_>) -> bool {
    // SAFETY: a live load or store.
    let is_plain = || unsafe { LLVMGetVolatile(user.raw()) } == 0;
    match user.opcode() {
        Some(LLVMOpcode::LLVMLoad) => is_plain(),
        Some(LLVMOpcode::LLVMStore) => {
            user.operand_is(1, variable) && !user.operand_is(0, variable) && is_plain()
        }
        Some(LLVMOpcode::LLVMCall) => user.called_name().starts_with("llvm.lifetime."),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir;
    use inkwell::context::Context;
    use inkwell::memory_buffer::MemoryBuffer;

    /// Whether the function `f` of this text is taken for optimised.
    fn tells(body: &str) -> bool {
        let text = format!(
            "define void @f(ptr %p, i32 %n) {{\n{body}\nret void\n}}
            declare void @g(ptr)
            declare void @llvm.lifetime.start.p0(ptr)
            declare i64 @llvm.coro.size.i64()"
        );
        let context = Context::create();
        let text = MemoryBuffer::create_from_memory_range_copy(text.as_bytes(), "text");
        let module = context.create_module_from_ir(text).expect("valid IR");
        is_optimised(ir::function(&module, "f").expect("a function"))
    }

    #[test]
    fn what_passes_have_yet_to_do() {
        for raw in [
            "%v = alloca i32\n store i32 %n, ptr %v\n %x = load i32, ptr %v",
            "%v = alloca i32\n call void @llvm.lifetime.start.p0(ptr %v)\n store i32 1, ptr %v",
            "%v = alloca i32",
            "%s = call i64 @llvm.coro.size.i64()",
        ] {
            assert!(!tells(raw), "{raw}");
        }
    }

    #[test]
    fn variables_that_must_be_in_memory() {
        for fine in [
            "",
            "%x = load i32, ptr %p\n store i32 %n, ptr %p",
            "%v = alloca i32\n store i32 %n, ptr %v\n call void @g(ptr %v)",
            "%v = alloca i32\n store volatile i32 %n, ptr %v\n %x = load i32, ptr %v",
            "%v = alloca i32\n store ptr %v, ptr %p",
            "%v = alloca ptr\n store ptr %v, ptr %v",
            "%v = alloca [4 x i32]\n %e = getelementptr i32, ptr %v, i32 %n\n store i32 1, ptr %e",
        ] {
            assert!(tells(fine), "{fine}");
        }
    }
}
