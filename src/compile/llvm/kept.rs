//! Methods from the IR that was kept of them, into a batch's module.
//!
//! What was kept is the module of the batch that a method was first compiled in. It is read lazily: of
//! its functions only those are parsed that are wanted, and what these refer to.

use std::collections::HashSet;
use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::Arc;

use inkwell::llvm_sys::bit_reader::LLVMGetBitcodeModuleInContext2;
use inkwell::llvm_sys::bit_writer::LLVMWriteBitcodeToMemoryBuffer;
use inkwell::llvm_sys::core::*;
use inkwell::llvm_sys::linker::LLVMLinkModules2;
use inkwell::memory_buffer::MemoryBuffer;
use inkwell::module::{Linkage, Module};
use inkwell::values::{AsValueRef, FunctionValue};

use super::context::LlvmContext;
use super::lower::{name_of, rename};
use super::names;
use crate::compile::Batch;
use crate::compile::source::Bitcode;
use crate::compile::symbols::{OwnSymbol, parse_symbol};
use crate::method::Key;

/// A module as bitcode.
pub(super) fn write(module: &Module<'_>) -> MemoryBuffer<'static> {
    // SAFETY: a live module; the buffer is new, and the caller's.
    unsafe { MemoryBuffer::new(LLVMWriteBitcodeToMemoryBuffer(module.as_mut_ptr())) }
}

/// Reads bitcode; functions when they are first used. `bitcode` outlives the module.
pub(super) fn read<'ctx>(context: &'ctx LlvmContext, bitcode: &[u8]) -> Option<Module<'ctx>> {
    let mut module = ptr::null_mut();
    // SAFETY: the buffer borrows `bitcode`, as the caller knows; it passes to the module, or is disposed of by LLVM; the
    // module is checked before it is used, and is nobody else's.
    unsafe {
        let (start, len) = (bitcode.as_ptr().cast(), bitcode.len());
        let buffer = LLVMCreateMemoryBufferWithMemoryRange(start, len, c"kept".as_ptr(), 0);
        let failed = LLVMGetBitcodeModuleInContext2(context.raw(), buffer, &mut module);
        (failed == 0 && !module.is_null()).then(|| Module::new(module))
    }
}

/// Joins a module with another one of its context. False if LLVM has said that it does not fit: then half of it may be
/// there.
pub(super) fn link(context: &LlvmContext, into: &Module<'_>, piece: Module<'_>) -> bool {
    let piece = ManuallyDrop::new(piece);
    // SAFETY: two live modules of one context; the piece is consumed, also on failure.
    let failed = unsafe { LLVMLinkModules2(into.as_mut_ptr(), piece.as_mut_ptr()) };
    failed == 0 && context.take_errors().is_none()
}

/// Puts all methods of the batch into the module of which IR is kept. False if some of it could not be used: it is
/// forgotten, and the module is spoiled.
pub(super) fn adopt<'ctx, K: Key>(
    context: &'ctx LlvmContext,
    module: &Module<'ctx>,
    batch: &mut Batch<'_, K>,
) -> bool {
    let mut pieces: Vec<(Arc<Bitcode<K>>, Vec<usize>)> = Vec::new();
    for i in 0..batch.len() {
        let Some(source) = batch.sources[i].as_ref().filter(|_| !batch.has_failed(i)) else {
            continue;
        };
        let known = pieces
            .iter()
            .position(|(b, _)| Arc::ptr_eq(b, &source.bitcode));
        match known {
            Some(place) => pieces[place].1.push(i),
            None => pieces.push((source.bitcode.clone(), vec![i])),
        }
    }
    let mut good = true;
    for (bitcode, wanted) in pieces {
        let symbols: Vec<String> = wanted.iter().map(|&i| batch.symbol(i)).collect();
        let is_own = |name: &str| symbols.iter().any(|symbol| symbol == name);
        let there =
            good && read(context, &bitcode.bytes).is_some_and(|piece| {
                leave_out(&piece, is_own);
                settle_names(&piece, module);
                link(context, module, piece)
            }) && symbols.iter().all(|symbol| {
                let own = module.get_function(symbol);
                own.is_some_and(|own| own.count_basic_blocks() > 0)
            });
        good &= there;
        if there {
            refer(module, batch, &bitcode);
        }
        for i in wanted {
            if !there {
                batch.sources[i] = None;
            } else if let Some(source) = &batch.sources[i] {
                batch.optimised &= source.optimised;
                batch.assumed[i] = source.bonds.to_vec();
            }
        }
    }
    good
}

/// Makes what is defined, but for these functions, such that only what they refer to is linked.
pub(super) fn leave_out(piece: &Module<'_>, is_wanted: impl Fn(&str) -> bool) {
    for function in piece.get_functions().filter(is_defined) {
        if !is_wanted(&name_of(function.as_value_ref())) {
            function.set_linkage(Linkage::Internal);
        }
    }
}

/// Whether a function has a body, read or not yet.
pub(super) fn is_defined(function: &FunctionValue<'_>) -> bool {
    // SAFETY: a live function.
    unsafe { LLVMIsDeclaration(function.as_value_ref()) == 0 }
}

/// Declarations of the piece get the names that things of their types have in the module.
pub(super) fn settle_names<'ctx>(piece: &Module<'ctx>, module: &Module<'ctx>) {
    let declared = |f: &FunctionValue<'_>| !is_defined(f) && f.get_intrinsic_id() == 0;
    let all: Vec<_> = piece.get_functions().filter(declared).collect();
    let names: Vec<String> = all.iter().map(|f| name_of(f.as_value_ref())).collect();
    // Out of each other's way first.
    for (i, function) in all.iter().enumerate() {
        rename(function.as_value_ref(), &format!("inkpot.moving.{i}"));
    }
    let mut taken = HashSet::new();
    for (function, name) in all.iter().zip(&names) {
        let name = settled_name(piece, module, function, name, &taken);
        rename(function.as_value_ref(), &name);
        taken.insert(name);
    }
}

/// The name of a declaration in the module, that no other of the piece has been given.
fn settled_name<'ctx>(
    piece: &Module<'ctx>,
    module: &Module<'ctx>,
    function: &FunctionValue<'ctx>,
    name: &str,
    taken: &HashSet<String>,
) -> String {
    let ty = function.get_type();
    let is_free = |name: &str| !taken.contains(name) && piece.get_global(name).is_none();
    let fits = |known: FunctionValue<'ctx>| names::alike(known, *function);
    match parse_symbol(name) {
        Some(OwnSymbol::Address(number)) => {
            let name = format!("inkpot.address.{number}");
            names::of_method(module, &name, ty, is_free, fits)
        }
        Some(OwnSymbol::Import(import)) => names::of_import(module, import, ty, is_free, fits),
        Some(_) => name.to_owned(),
        None => names::of_import(module, name, ty, is_free, fits),
    }
}

/// The methods that the module names are the batch's to refer to, as they were those of the batch whose bitcode this is.
pub(super) fn refer<K: Key>(module: &Module<'_>, batch: &mut Batch<'_, K>, bitcode: &Bitcode<K>) {
    let named: HashSet<u32> = module
        .get_functions()
        .filter_map(|f| match parse_symbol(&name_of(f.as_value_ref())) {
            Some(OwnSymbol::Address(number)) => Some(number),
            _ => None,
        })
        .collect();
    let callees = bitcode.callees.iter().filter(|m| named.contains(&m.cell));
    batch.callees.extend(callees.cloned());
}
