//! Large variables that are zero at first: they get memory of their own when they are first asked for. A cache's own
//! memory for data is meant for less, and has no room for arrays of hundreds of megabytes.

use crate::ir::{self, Module, Value};
use crate::thread_locals;
use inkwell::llvm_sys::core::{LLVMGetAlignment, LLVMIsNull};
use inkwell::llvm_sys::target::{LLVMABIAlignmentOfType, LLVMGetModuleDataLayout};
use inkwell::llvm_sys::{LLVMLinkage, LLVMOpcode};
use std::ptr;
use std::sync::OnceLock;

/// What is smaller stands with the other globals.
const LARGE: u64 = 1 << 20;

/// A large variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Large {
    pub name: String,
    pub bytes: u64,
    pub align: u64,
}

/// Takes a variable out of the program, which refers to it by name from then on; if it is a large one.
pub fn take_out(module: &Module<'_>, variable: Value<'_>) -> Option<Large> {
    let is_zero = variable
        .initialiser()
        // SAFETY: a live constant.
        .is_some_and(|initialiser| unsafe { LLVMIsNull(initialiser.raw()) } != 0);
    if !is_zero
        || !variable.section().is_empty()
        || thread_locals::is_initial(&variable.name())
        || is_in_difference(variable)
    {
        return None;
    }
    let bytes = ir::size_of(module, variable);
    if bytes < LARGE {
        return None;
    }
    // SAFETY: the module is live, the type is sized: a variable has it.
    let align = unsafe {
        let layout = LLVMGetModuleDataLayout(module.as_mut_ptr());
        let least = LLVMABIAlignmentOfType(layout, variable.value_type());
        LLVMGetAlignment(variable.raw()).max(least).into()
    };
    variable.set_initialiser(None);
    variable.set_linkage(LLVMLinkage::LLVMExternalLinkage);
    let name = variable.name();
    Some(Large { name, bytes, align })
}

/// Whether a constant holds its distance from something, which is known only of what stands together.
fn is_in_difference(value: Value<'_>) -> bool {
    let users = value.users().into_iter();
    let mut constants = users.filter(|user| !user.is_instruction() && !user.is_global());
    constants.any(|user| user.opcode() == Some(LLVMOpcode::LLVMSub) || is_in_difference(user))
}

/// A large variable's memory, in one instance of the program.
#[derive(Default)]
pub struct Memory(OnceLock<Option<usize>>);

impl Memory {
    /// Where it is. `None` if there is no room for it.
    pub fn address(&self, large: &Large) -> Option<*const ()> {
        let address = *self.0.get_or_init(|| map(large.bytes, large.align));
        Some(address? as *const ())
    }
}

/// Zeros, for the rest of the process.
fn map(bytes: u64, align: u64) -> Option<usize> {
    let align = usize::try_from(align).ok()?;
    let bytes = usize::try_from(bytes).ok()?.checked_add(align)?;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    // SAFETY: new memory, wherever there is room.
    let memory = unsafe { libc::mmap(ptr::null_mut(), bytes, protection, flags, -1, 0) };
    (memory != libc::MAP_FAILED).then(|| (memory as usize).next_multiple_of(align.max(1)))
}
