//! From a file to a verified module in the program's own context.

use crate::ir::Module;
use inkwell::OptimizationLevel;
use inkwell::context::Context;
use inkwell::llvm_sys::LLVMDiagnosticSeverity;
use inkwell::llvm_sys::core::{
    LLVMContextSetDiagnosticHandler, LLVMDisposeMessage, LLVMGetDiagInfoDescription,
    LLVMGetDiagInfoSeverity,
};
use inkwell::llvm_sys::debuginfo::LLVMStripModuleDebugInfo;
use inkwell::llvm_sys::prelude::LLVMDiagnosticInfoRef;
use inkwell::memory_buffer::MemoryBuffer;
use inkwell::targets::{CodeModel, InitializationConfig, RelocMode, Target, TargetMachine};
use std::ffi::{CStr, c_void};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// What LLVM had to say about the file: the reason, where the reader itself only says that there is one.
static DIAGNOSTICS: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Reads and verifies a program. The message tells what is wrong with the file.
///
/// The context is leaked: the program lives as long as the process. `debug_info`: whether it is kept.
pub fn load(path: &Path, debug_info: bool) -> Result<Module<'static>, String> {
    let shown = path.display();
    let bytes = std::fs::read(path).map_err(|error| format!("{shown}: {error}"))?;
    read(&bytes, &shown.to_string(), debug_info).map_err(|reason| {
        let mut reason = reason.trim_end().to_owned();
        if reason.is_empty() {
            reason = take_diagnostics();
        }
        match reason.starts_with(shown.to_string().as_str()) {
            true => format!("not a valid program: {reason}"),
            false => format!("{shown} is not a valid program: {reason}"),
        }
    })
}

fn read(bytes: &[u8], name: &str, debug_info: bool) -> Result<Module<'static>, String> {
    let context: &'static Context = Box::leak(Box::new(Context::create()));
    keep_diagnostics(context);
    // LLVM would take an empty file for an empty program.
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err("the file is empty".into());
    }
    let buffer = MemoryBuffer::create_from_memory_range_copy(bytes, name);
    let module = context
        .create_module_from_ir(buffer)
        .map_err(|reason| reason.to_string())?;
    if !debug_info {
        // SAFETY: the module is live.
        unsafe { LLVMStripModuleDebugInfo(module.as_mut_ptr()) };
    }
    module.verify().map_err(|reason| reason.to_string())?;
    Ok(module)
}

/// Gives the module this machine's triple and data layout, if it says none or another form of the same.
pub fn fit_to_host(module: &Module<'_>) -> Result<(), String> {
    Target::initialize_x86(&InitializationConfig::default());
    let triple = TargetMachine::get_default_triple();
    let target = Target::from_triple(&triple).map_err(|reason| reason.to_string())?;
    let machine = target
        .create_target_machine(
            &triple,
            "x86-64",
            "",
            OptimizationLevel::None,
            RelocMode::PIC,
            CodeModel::Small,
        )
        .ok_or("LLVM knows no machine like this one")?;
    module.set_triple(&triple);
    module.set_data_layout(&machine.get_target_data().get_data_layout());
    Ok(())
}

/// Keeps LLVM's messages about what is in this context; without a handler an error would end the process.
pub fn keep_diagnostics(context: &Context) {
    // SAFETY: the context is live, and the handler needs no state of its own.
    unsafe {
        LLVMContextSetDiagnosticHandler(context.raw(), Some(diagnose), std::ptr::null_mut());
    }
}

/// What LLVM has said since the last time.
pub fn take_diagnostics() -> String {
    let mut kept = DIAGNOSTICS.lock().unwrap_or_else(PoisonError::into_inner);
    std::mem::take(&mut *kept).join("; ")
}

extern "C" fn diagnose(info: LLVMDiagnosticInfoRef, _state: *mut c_void) {
    // SAFETY: LLVM calls with a live diagnostic; the description is ours to dispose of.
    unsafe {
        if !matches!(
            LLVMGetDiagInfoSeverity(info),
            LLVMDiagnosticSeverity::LLVMDSError | LLVMDiagnosticSeverity::LLVMDSWarning
        ) {
            return;
        }
        let description = LLVMGetDiagInfoDescription(info);
        let text = CStr::from_ptr(description).to_string_lossy().into_owned();
        LLVMDisposeMessage(description);
        if let Ok(mut diagnostics) = DIAGNOSTICS.lock() {
            diagnostics.push(text);
        }
    }
}
