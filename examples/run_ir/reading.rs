//! Whether a global is solely read: loaded from, or copied from, and nothing else.
//!
//! Only then may each function have a copy of its own that dies with its code. As soon as the *address* is stored,
//! passed, returned or compared, someone may hold it after the function has been evicted.

use crate::ir::Value;
use inkwell::llvm_sys::{LLVMOpcode, LLVMValueKind};
use std::collections::{BTreeSet, HashSet};

/// How a solely read global is read.
#[derive(Default)]
pub struct Reading<'m> {
    /// The loads from it.
    pub loads: Vec<Value<'m>>,
    /// The calls that copy out of it, by `llvm.memcpy` and its kin.
    pub copies: Vec<Value<'m>>,
    /// The functions that do either.
    pub functions: BTreeSet<Value<'m>>,
}

/// What a use of an address does.
enum Use {
    /// Makes another address from it.
    Derives,
    Loads,
    Copies,
    /// Anything else.
    Leaks,
    /// A constant that nothing uses any more; LLVM collects such late.
    Dead,
}

/// `None` if the address of `global` can leave the functions that use it.
pub fn solely_read(global: Value<'_>) -> Option<Reading<'_>> {
    let mut reading = Reading::default();
    let mut seen = HashSet::from([global]);
    let mut addresses = vec![global];
    while let Some(address) = addresses.pop() {
        for user in address.users() {
            match classify(user, address) {
                Use::Derives if seen.insert(user) => addresses.push(user),
                Use::Derives | Use::Dead => {}
                Use::Loads => reading.loads.push(user),
                Use::Copies => reading.copies.push(user),
                Use::Leaks => return None,
            }
            if user.is_instruction() {
                reading.functions.extend(user.parent());
            }
        }
    }
    Some(reading)
}

fn classify<'m>(user: Value<'m>, address: Value<'m>) -> Use {
    use LLVMOpcode::*;
    match user.opcode() {
        Some(LLVMGetElementPtr | LLVMBitCast | LLVMAddrSpaceCast | LLVMPHI | LLVMFreeze) => {
            Use::Derives
        }
        Some(LLVMSelect) => Use::Derives,
        Some(LLVMLoad) => Use::Loads,
        Some(LLVMCall) if copies_from(user, address) => Use::Copies,
        _ if is_dead(user) => Use::Dead,
        _ => Use::Leaks,
    }
}

/// Whether a call is of `llvm.memcpy` or the like, and `address` its source only.
fn copies_from<'m>(call: Value<'m>, address: Value<'m>) -> bool {
    copies(call) && call.operand_is(1, address) && !call.operand_is(0, address)
}

/// Whether a call is of an intrinsic that copies memory.
pub fn copies(call: Value<'_>) -> bool {
    let name = call.called_name();
    name.starts_with("llvm.memcpy.") || name.starts_with("llvm.memmove.")
}

/// Whether a user is a constant without users of its own, at any depth.
pub fn is_dead(user: Value<'_>) -> bool {
    let constant = !matches!(
        user.kind(),
        LLVMValueKind::LLVMInstructionValueKind
            | LLVMValueKind::LLVMGlobalVariableValueKind
            | LLVMValueKind::LLVMGlobalAliasValueKind
            | LLVMValueKind::LLVMFunctionValueKind
    );
    constant && user.users().into_iter().all(is_dead)
}
