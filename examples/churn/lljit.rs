//! As much of LLVM's LLJIT as the strategies without a cache need: objects in, addresses out.

use std::ffi::{CStr, CString};
use std::mem::forget;
use std::ptr::null_mut;

use inkwell::llvm_sys::error::{LLVMDisposeErrorMessage, LLVMErrorRef, LLVMGetErrorMessage};
use inkwell::llvm_sys::orc2::lljit::{
    LLVMOrcCreateLLJIT, LLVMOrcCreateLLJITBuilder, LLVMOrcLLJITAddObjectFile,
    LLVMOrcLLJITGetMainJITDylib, LLVMOrcLLJITLookup, LLVMOrcLLJITMangleAndIntern, LLVMOrcLLJITRef,
};
use inkwell::llvm_sys::orc2::{
    LLVMJITEvaluatedSymbol, LLVMJITSymbolFlags, LLVMJITSymbolGenericFlags, LLVMOrcAbsoluteSymbols,
    LLVMOrcCSymbolMapPair, LLVMOrcJITDylibDefine,
};
use inkwell::memory_buffer::MemoryBuffer;

use crate::strategy::Fallible;

/// One LLJIT, which is never disposed of: threads may be in its code until the process ends.
pub struct Lljit(pub LLVMOrcLLJITRef);

impl Lljit {
    pub fn new() -> Fallible<Self> {
        let mut jit = null_mut();
        // SAFETY: the builder is new, and is consumed; the result goes to a place of ours.
        check(unsafe { LLVMOrcCreateLLJIT(&mut jit, LLVMOrcCreateLLJITBuilder()) })?;
        Ok(Self(jit))
    }

    /// Says where a function of the runtime is.
    pub fn define(&self, name: &str, address: *const ()) -> Fallible<()> {
        let name = CString::new(name)?;
        let exported = LLVMJITSymbolGenericFlags::LLVMJITSymbolGenericFlagsExported as u8;
        let callable = LLVMJITSymbolGenericFlags::LLVMJITSymbolGenericFlagsCallable as u8;
        let flags = LLVMJITSymbolFlags {
            GenericFlags: exported | callable,
            TargetFlags: 0,
        };
        let symbol = LLVMJITEvaluatedSymbol {
            Address: address.expose_provenance() as u64,
            Flags: flags,
        };
        // SAFETY: the JIT is alive; the name's reference passes to the pair, the pair is read
        // before the call ends, and the unit passes to the library.
        check(unsafe {
            let name = LLVMOrcLLJITMangleAndIntern(self.0, name.as_ptr());
            let mut pair = LLVMOrcCSymbolMapPair {
                Name: name,
                Sym: symbol,
            };
            let unit = LLVMOrcAbsoluteSymbols(&mut pair, 1);
            LLVMOrcJITDylibDefine(LLVMOrcLLJITGetMainJITDylib(self.0), unit)
        })
    }

    /// Adds an object. Names that it does not define are looked up among those known.
    pub fn add(&self, object: MemoryBuffer) -> Fallible<()> {
        let raw = object.as_mut_ptr();
        forget(object);
        // SAFETY: the JIT is alive, and the buffer, which nobody else has any more, passes to it.
        check(unsafe {
            LLVMOrcLLJITAddObjectFile(self.0, LLVMOrcLLJITGetMainJITDylib(self.0), raw)
        })
    }

    /// The address of a name, once what it needs has been linked.
    pub fn address(&self, name: &str) -> Fallible<*const ()> {
        let name = CString::new(name)?;
        let mut address = 0;
        // SAFETY: the JIT is alive, and the result goes to a place of ours.
        check(unsafe { LLVMOrcLLJITLookup(self.0, &mut address, name.as_ptr()) })?;
        Ok(std::ptr::with_exposed_provenance(usize::try_from(address)?))
    }
}

/// What LLVM says went wrong, if anything did.
pub fn check(error: LLVMErrorRef) -> Fallible<()> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: an error that is no success has a message, which is ours to dispose of.
    let message = unsafe {
        let raw = LLVMGetErrorMessage(error);
        let message = CStr::from_ptr(raw).to_string_lossy().into_owned();
        LLVMDisposeErrorMessage(raw);
        message
    };
    Err(message.into())
}
