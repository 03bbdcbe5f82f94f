//! Whether a global is solely read: loaded from, or copied from, and nothing else.
//!
//! Only then may each function have a copy of its own that dies with its code. As soon as the *address* is stored,
//! passed, returned or compared, someone may hold it after the function has been evicted.

use crate::ir::Value;
use inkwell::llvm_sys::{LLVMOpcode, LLVMValueKind};
use std::collections::{BTreeSet, HashSet};

/// What a use of an address does.
enum Use {
    /// Makes another address from it.
    Derives,
    /// Loads, or copies, what is there.
    Reads,
    /// Anything else.
    Leaks,
    /// A constant that nothing uses any more; LLVM collects such late.
    Dead,
}

/// The functions that read `global`; `None` if its address can leave them.
pub fn solely_read(global: Value<'_>) -> Option<BTreeSet<Value<'_>>> {
    let mut functions = BTreeSet::new();
    let mut seen = HashSet::from([global]);
    let mut addresses = vec![global];
    while let Some(address) = addresses.pop() {
        for user in address.users() {
            match classify(user, address) {
                Use::Derives if seen.insert(user) => addresses.push(user),
                Use::Derives | Use::Reads | Use::Dead => {}
                Use::Leaks => return None,
            }
            if user.is_instruction() {
                functions.extend(user.parent());
            }
        }
    }
    Some(functions)
}

fn classify<'m>(user: Value<'m>, address: Value<'m>) -> Use {
    use LLVMOpcode::*;
    match user.opcode() {
        Some(LLVMGetElementPtr | LLVMBitCast | LLVMAddrSpaceCast | LLVMPHI | LLVMFreeze) => {
            Use::Derives
        }
        Some(LLVMSelect) => Use::Derives,
        Some(LLVMLoad) => Use::Reads,
        Some(LLVMCall) if copies_from(user, address) => Use::Reads,
        _ if is_dead(user) => Use::Dead,
        _ => Use::Leaks,
    }
}

/// Whether a call is of `llvm.memcpy` or the like, and `address` its source only.
fn copies_from<'m>(call: Value<'m>, address: Value<'m>) -> bool {
    let name = call.called_name();
    (name.starts_with("llvm.memcpy.") || name.starts_with("llvm.memmove."))
        && call.operand_is(1, address)
        && !call.operand_is(0, address)
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
