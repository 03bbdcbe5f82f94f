//! MCJIT, as one keeps methods in it that shall go one by one: an engine for each, with the method's module in it.

use std::ffi::CString;
use std::mem::{forget, size_of};
use std::ptr::null_mut;
use std::time::Instant;

use inkpot::inkwell::llvm_sys::execution_engine::{
    LLVMAddGlobalMapping, LLVMCreateMCJITCompilerForModule, LLVMDisposeExecutionEngine,
    LLVMExecutionEngineRef, LLVMGetFunctionAddress, LLVMInitializeMCJITCompilerOptions,
    LLVMLinkInMCJIT, LLVMMCJITCompilerOptions,
};
use inkpot::inkwell::module::Module;
use inkpot::inkwell::values::AsValueRef;

use crate::batch::Bare;
use crate::methods::{self, Size};

/// A module's code, which goes when this is dropped.
struct Engine(LLVMExecutionEngineRef);

impl Engine {
    /// Generates code at O1, links it, and looks the symbol up.
    fn new(module: Module<'_>, symbol: &str) -> Self {
        let (mut engine, mut error) = (null_mut(), null_mut());
        let imported = methods::imports()
            .into_iter()
            .filter_map(|(name, to)| Some((module.get_function(name)?, to)));
        let imported: Vec<_> = imported.collect();
        let raw = module.as_mut_ptr();
        forget(module);
        // SAFETY: the module passes to the engine, which is new; its functions live as long as it.
        unsafe {
            LLVMLinkInMCJIT();
            let mut options: LLVMMCJITCompilerOptions = std::mem::zeroed();
            let size = size_of::<LLVMMCJITCompilerOptions>();
            LLVMInitializeMCJITCompilerOptions(&mut options, size);
            options.OptLevel = 1;
            let failed =
                LLVMCreateMCJITCompilerForModule(&mut engine, raw, &mut options, size, &mut error);
            assert_eq!(failed, 0, "there is an engine for this processor");
            for (function, to) in imported {
                LLVMAddGlobalMapping(engine, function.as_value_ref(), to.cast_mut().cast());
            }
            let symbol = CString::new(symbol).expect("a name");
            let address = LLVMGetFunctionAddress(engine, symbol.as_ptr());
            assert_ne!(address, 0, "it is linked");
        }
        Self(engine)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        // SAFETY: it is this one's, and nobody is in the code.
        unsafe { LLVMDisposeExecutionEngine(self.0) };
    }
}

/// Methods a second of a burst, until all could be called.
pub fn rate(size: Size, burst: u64) -> f64 {
    let mut bare = Bare::new(size, burst);
    let mut engines = Vec::new();
    let started = Instant::now();
    let contexts = bare.modules(|module, symbol| engines.push(Engine::new(module, symbol)));
    let took = started.elapsed().as_secs_f64();
    drop(engines);
    drop(contexts);
    burst as f64 / took
}
