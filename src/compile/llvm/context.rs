//! A generation's LLVM context: the prelude's module, and a handler for diagnostics.

use std::ffi::{CStr, c_void};
use std::mem::ManuallyDrop;
use std::sync::PoisonError;

use inkwell::context::{AsContextRef, Context};
use inkwell::llvm_sys::LLVMDiagnosticSeverity;
use inkwell::llvm_sys::core::{
    LLVMContextSetDiagnosticHandler, LLVMDisposeMessage, LLVMDisposeModule,
    LLVMGetDiagInfoDescription, LLVMGetDiagInfoSeverity,
};
use inkwell::llvm_sys::prelude::{LLVMContextRef, LLVMDiagnosticInfoRef, LLVMModuleRef};
use inkwell::module::Module;

use crate::sync::plain::Mutex;

/// Errors that LLVM reported. Without a handler it prints them and ends the process.
#[derive(Default)]
struct Diagnostics(Mutex<Vec<String>>);

/// An LLVM context with its prelude.
pub(crate) struct LlvmContext {
    /// Disposed of before the context, by `drop`.
    prelude: LLVMModuleRef,
    context: Context,
    /// The context's handler points to it, so it is boxed, and dropped last.
    diagnostics: Box<Diagnostics>,
    /// Bytes that it takes, as measured.
    pub(super) bytes: i64,
}

// SAFETY: a context and all that belongs to it may be used by any one thread at a time; the value
// owns all of it, nothing of it escapes (`'ctx` of a front end's `emit` is any lifetime), and it
// is used through `&mut` by one compile worker.
unsafe impl Send for LlvmContext {}

impl LlvmContext {
    pub(super) fn new() -> Self {
        let context = Context::create();
        let prelude = ManuallyDrop::new(context.create_module("inkpot.prelude")).as_mut_ptr();
        let new = Self {
            prelude,
            context,
            diagnostics: Box::default(),
            bytes: 0,
        };
        new.listen();
        new
    }

    /// Sets the handler for diagnostics (again), and forgets what it was told so far.
    ///
    /// To be called whenever a front end had the context: what it ran into is its own business,
    /// and inkwell's `Module::link_in_module` leaves a handler behind that writes to the stack
    /// frame of that call, which is gone.
    pub(super) fn listen(&self) {
        let sink: *const Diagnostics = &*self.diagnostics;
        // SAFETY: the handler gets `sink`, which lives as long as the context (field order).
        unsafe {
            LLVMContextSetDiagnosticHandler(
                self.raw(),
                Some(note_diagnostic),
                sink.cast_mut().cast(),
            );
        }
        drop(self.take_errors());
    }

    pub(super) fn llvm(&self) -> &Context {
        &self.context
    }

    pub(super) fn raw(&self) -> LLVMContextRef {
        (&self.context).as_ctx_ref()
    }

    pub(super) fn module(&self, name: &str) -> Module<'_> {
        self.context.create_module(name)
    }

    /// Runs `f` with the prelude's module.
    pub(super) fn with_prelude<'ctx, R>(
        &'ctx self,
        f: impl FnOnce(&'ctx Context, &Module<'ctx>) -> R,
    ) -> R {
        // SAFETY: the module lives as long as `self`; `ManuallyDrop` leaves disposing to `drop`.
        let module = ManuallyDrop::new(unsafe { Module::new(self.prelude) });
        f(&self.context, &module)
    }

    /// The errors reported since the last call.
    pub(super) fn take_errors(&self) -> Option<String> {
        let mut said = self
            .diagnostics
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let text = std::mem::take(&mut *said).join("; ");
        Some(text).filter(|t| !t.is_empty())
    }
}

impl Drop for LlvmContext {
    fn drop(&mut self) {
        // SAFETY: ours, and disposed of once; the context is still there.
        unsafe { LLVMDisposeModule(self.prelude) };
    }
}

extern "C" fn note_diagnostic(info: LLVMDiagnosticInfoRef, sink: *mut c_void) {
    // SAFETY: LLVM calls this with a diagnostic that is valid for the call, and with the pointer
    // that `LlvmContext::listen` set.
    unsafe {
        if !matches!(
            LLVMGetDiagInfoSeverity(info),
            LLVMDiagnosticSeverity::LLVMDSError
        ) {
            return;
        }
        let text = LLVMGetDiagInfoDescription(info);
        let message = CStr::from_ptr(text).to_string_lossy().trim().to_owned();
        LLVMDisposeMessage(text);
        let diagnostics = &*sink.cast::<Diagnostics>();
        diagnostics
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(message);
    }
}
