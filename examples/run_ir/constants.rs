//! Constants, made anew where globals in them become others.
//!
//! LLVM's constants are shared by all of a context: one that names a global cannot be changed for one user alone.

use crate::ir::Value;
use inkwell::llvm_sys::core::*;
use inkwell::llvm_sys::prelude::LLVMValueRef;
use inkwell::llvm_sys::{LLVMOpcode, LLVMValueKind};

/// The constant with each global and each label in it replaced by what `with` says; the constant itself if there
/// are none.
pub fn replace<'m>(
    constant: Value<'m>,
    with: &mut dyn FnMut(Value<'m>) -> Result<Value<'m>, String>,
) -> Result<Value<'m>, String> {
    use LLVMValueKind::*;
    let kind = constant.kind();
    if constant.is_global() || kind == LLVMBlockAddressValueKind {
        return with(constant);
    }
    let before: Vec<_> = operands(constant).collect();
    let after = before
        .iter()
        .map(|operand| replace(*operand, with))
        .collect::<Result<Vec<_>, _>>()?;
    if before == after {
        return Ok(constant);
    }
    match kind {
        LLVMConstantExprValueKind => expression(constant, &after),
        LLVMConstantArrayValueKind | LLVMConstantStructValueKind | LLVMConstantVectorValueKind => {
            aggregate(constant, &after)
        }
        // `dso_local_equivalent` and `no_cfi`, for which the C interface has no name: the function itself is as good.
        _ => Ok(after[0]),
    }
}

fn operands(constant: Value<'_>) -> impl Iterator<Item = Value<'_>> {
    (0..constant.operand_count()).filter_map(move |index| constant.operand(index))
}

fn raw(values: &[Value<'_>]) -> Vec<LLVMValueRef> {
    values.iter().map(|value| value.raw()).collect()
}

/// An array, structure or vector of the same type.
fn aggregate<'m>(of: Value<'m>, elements: &[Value<'m>]) -> Result<Value<'m>, String> {
    let mut raw = raw(elements);
    let (first, count) = (raw.as_mut_ptr(), raw.len() as u32);
    // SAFETY: as many elements as `of` has, of the same types.
    let anew = unsafe {
        let ty = LLVMTypeOf(of.raw());
        match of.kind() {
            LLVMValueKind::LLVMConstantArrayValueKind => {
                LLVMConstArray2(LLVMGetElementType(ty), first, u64::from(count))
            }
            LLVMValueKind::LLVMConstantStructValueKind => LLVMConstNamedStruct(ty, first, count),
            _ => LLVMConstVector(first, count),
        }
    };
    Value::new(anew).ok_or_else(|| "a constant got lost".to_owned())
}

/// The same operation on other operands. What the flags of an addition promise is given up.
fn expression<'m>(of: Value<'m>, operands: &[Value<'m>]) -> Result<Value<'m>, String> {
    use LLVMOpcode::*;
    let opcode = of.opcode();
    let mut raw = raw(operands);
    // SAFETY: the operation of a live expression, on operands of the same number and types.
    let anew = unsafe {
        let ty = LLVMTypeOf(of.raw());
        match opcode {
            Some(LLVMGetElementPtr) => LLVMConstGEPWithNoWrapFlags(
                LLVMGetGEPSourceElementType(of.raw()),
                raw[0],
                raw[1..].as_mut_ptr(),
                raw.len() as u32 - 1,
                LLVMGEPGetNoWrapFlags(of.raw()),
            ),
            // On this machine an address is all there is to a pointer.
            Some(LLVMPtrToInt | LLVMPtrToAddr) => LLVMConstPtrToInt(raw[0], ty),
            Some(LLVMIntToPtr) => LLVMConstIntToPtr(raw[0], ty),
            Some(LLVMBitCast) => LLVMConstBitCast(raw[0], ty),
            Some(LLVMAddrSpaceCast) => LLVMConstAddrSpaceCast(raw[0], ty),
            Some(LLVMTrunc) => LLVMConstTrunc(raw[0], ty),
            Some(LLVMAdd) => LLVMConstAdd(raw[0], raw[1]),
            Some(LLVMSub) => LLVMConstSub(raw[0], raw[1]),
            Some(LLVMXor) => LLVMConstXor(raw[0], raw[1]),
            Some(LLVMExtractElement) => LLVMConstExtractElement(raw[0], raw[1]),
            Some(LLVMInsertElement) => LLVMConstInsertElement(raw[0], raw[1], raw[2]),
            _ => {
                return Err(format!(
                    "a constant expression of an unknown kind: {opcode:?}"
                ));
            }
        }
    };
    Value::new(anew).ok_or_else(|| "a constant got lost".to_owned())
}
