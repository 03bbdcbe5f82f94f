//! Debug information: kept or not.

use inkwell::llvm_sys::core::LLVMGetNamedMetadata;
use inkwell::llvm_sys::debuginfo::LLVMStripModuleDebugInfo;
use inkwell::module::Module;

/// What becomes of debug information (`DICompileUnit` and what hangs on it) in what front ends emit and
/// adopt. Nobody reads it when the code has been linked; whether it is there changes no code.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum DebugInfo {
    /// It is dropped before the code is optimised, that of bitcode before it is linked into its batch:
    /// a piece of a large program may have the types of all the program with it.
    #[default]
    Stripped,
    /// It goes through LLVM to the object, whose `.debug` sections are not loaded. The context keeps what
    /// is unique for as long as it lives, and compilations take longer.
    Kept,
}

/// The list of a module's compile units: without, there is no debug information.
const UNITS: &str = "llvm.dbg.cu";

impl DebugInfo {
    /// Does with a module's debug information what the setting says.
    pub(super) fn apply(self, module: &Module<'_>) {
        if self == DebugInfo::Kept {
            return;
        }
        // SAFETY: a live module of this thread, and a name with its length.
        unsafe {
            let raw = module.as_mut_ptr();
            if !LLVMGetNamedMetadata(raw, UNITS.as_ptr().cast(), UNITS.len()).is_null() {
                LLVMStripModuleDebugInfo(raw);
            }
        }
    }
}
