//! Cuts a program into its functions.
//!
//! A clone of the module for each function would cost n times n, and clones that are halved again and again still
//! walk over each body log n times. Instead a function's blocks are *moved* into a module of its own when it is
//! first asked for, in the program's context, and what they refer to is declared there: each body is walked over
//! once, and a function that is never called costs nothing.
//!
//! What is moved is written out as bitcode, and kept: a function is cut out once, however often it is compiled.

use crate::ir::{self, Module};
use crate::load;
use crate::moving::take_out;
use crate::optimised::is_optimised;
use inkwell::context::Context;
use inkwell::llvm_sys::bit_reader::LLVMGetBitcodeModuleInContext2;
use inkwell::llvm_sys::bit_writer::LLVMWriteBitcodeToMemoryBuffer;
use inkwell::llvm_sys::core::LLVMCreateMemoryBufferWithMemoryRangeCopy;
use inkwell::memory_buffer::MemoryBuffer;
use std::collections::HashMap;
use std::sync::Arc;

/// The bitcode of a module.
pub type Bitcode = Arc<[u8]>;

/// One function of a program, kept for compiling it again.
#[derive(Clone)]
pub struct Piece {
    pub bitcode: Bitcode,
    /// Whether its compiler has optimised it.
    pub optimised: bool,
}

/// The functions of a program, each cut out when first asked for.
pub struct Pieces {
    program: Module<'static>,
    cut: HashMap<String, Piece>,
}

// SAFETY: the program's context is leaked, and `Pieces` is given the only module of it that is used from then on:
// whoever has `Pieces` is alone with both.
unsafe impl Send for Pieces {}

impl Pieces {
    /// The pieces of a module. What each function may have for itself are the module's private variables.
    ///
    /// # Safety
    /// Nothing of the module's context is used by anybody else from now on.
    pub unsafe fn new(program: Module<'static>) -> Self {
        Pieces {
            program,
            cut: HashMap::new(),
        }
    }

    /// The piece of one function.
    pub fn get(&mut self, name: &str) -> Result<Piece, String> {
        if let Some(piece) = self.cut.get(name) {
            return Ok(piece.clone());
        }
        let function = ir::function(&self.program, name)
            .filter(|function| !function.is_declaration())
            .ok_or_else(|| format!("no function {name}"))?;
        let piece = Piece {
            optimised: is_optimised(function),
            bitcode: bitcode(&take_out(&self.program, &[function], &[])?),
        };
        self.cut.insert(name.to_owned(), piece.clone());
        Ok(piece)
    }
}

fn read_lazily<'ctx>(context: &'ctx Context, bytes: &[u8]) -> Result<Module<'ctx>, String> {
    let mut module = std::ptr::null_mut();
    // SAFETY: the buffer is a copy, as the module reads on in it as long as it lives, and owns it; the context
    // outlives the module by the result's type.
    unsafe {
        let buffer = LLVMCreateMemoryBufferWithMemoryRangeCopy(
            bytes.as_ptr().cast(),
            bytes.len(),
            c"program".as_ptr(),
        );
        if LLVMGetBitcodeModuleInContext2(context.raw(), buffer, &mut module) != 0 {
            return Err(load::take_diagnostics());
        }
        Ok(Module::new(module))
    }
}

/// Writes a module out, and sees whether LLVM reads it again: not all that is valid in memory (an attribute with a NUL
/// in its text) comes back.
pub fn checked_bitcode(module: &Module<'_>) -> Result<Bitcode, String> {
    let bitcode = bitcode(module);
    let context = Context::create();
    load::keep_diagnostics(&context);
    match read_lazily(&context, &bitcode) {
        Ok(_) => Ok(bitcode),
        Err(reason) => Err(format!("not a valid program: {reason}")),
    }
}

/// Writes a module out.
fn bitcode(module: &Module<'_>) -> Bitcode {
    // SAFETY: the module is live; the buffer is owned by the result.
    let buffer = unsafe { MemoryBuffer::new(LLVMWriteBitcodeToMemoryBuffer(module.as_mut_ptr())) };
    buffer.as_slice().into()
}
