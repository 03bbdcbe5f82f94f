//! Which passes a batch goes through.
//!
//! LLVM's `default<O1>` is made for modules whose functions call each other. Methods don't: each call of another
//! one is a load of its cell. So the inliner, and what carries facts from function to function, look at
//! a batch and find nothing, and the cleaning up after them is done for nothing. A batch of methods alone goes through
//! the same passes over functions, each as often as it still finds something. What this gains, and that the
//! code is as good, is measured in `design/08-compiling.md`.

use inkwell::llvm_sys::LLVMAttributeFunctionIndex;
use inkwell::llvm_sys::core::*;
use inkwell::llvm_sys::prelude::LLVMValueRef;
use inkwell::module::Module;

use super::lower::{enum_attribute, is_local, list};
use super::machine::OptLevel;

/// For methods alone at [`OptLevel::O1`]. Every pass is one of `default<O1>` (LLVM's `PassBuilderPipelines.cpp`), in
/// its order, by its options; LLVM 19 to 22 have them all.
pub(super) const METHODS_O1: &str = concat!(
    "inferattrs,",
    "function<eager-inv>(",
    "lower-expect,simplifycfg,sroa<modify-cfg>,early-cse<memssa>,",
    "instcombine<max-iterations=1;no-verify-fixpoint>,simplifycfg<switch-range-to-icmp>,",
    "libcalls-shrinkwrap,reassociate,",
    "loop-mssa(loop-instsimplify,loop-simplifycfg,licm<no-allowspeculation>,",
    "loop-rotate<header-duplication>,licm<allowspeculation>,simple-loop-unswitch<no-nontrivial;trivial>),",
    "loop(loop-idiom,indvars,loop-deletion,loop-unroll-full),",
    "sroa<modify-cfg>,memcpyopt,sccp,bdce,adce,",
    "instcombine<max-iterations=1;no-verify-fixpoint>,",
    "simplifycfg<forward-switch-cond;switch-range-to-icmp;switch-to-lookup;no-keep-loops;",
    "hoist-common-insts;sink-common-insts>,",
    "float2int,lower-constant-intrinsics,",
    "loop-distribute,inject-tli-mappings,",
    "loop-vectorize<no-interleave-forced-only;vectorize-forced-only>,",
    "loop-unroll<O1>,instsimplify,div-rem-pairs,tailcallelim",
    "),",
    "globaldce,constmerge",
);

impl OptLevel {
    /// LLVM's own pipeline of this name, for any module.
    pub(super) fn whole(self) -> &'static str {
        match self {
            OptLevel::O0 => "default<O0>",
            OptLevel::O1 => "default<O1>",
            OptLevel::O2 => "default<O2>",
            OptLevel::O3 => "default<O3>",
        }
    }

    /// The passes for this module.
    pub(super) fn pipeline(self, module: &Module<'_>) -> &'static str {
        if self == OptLevel::O1 && has_methods_alone(module) {
            METHODS_O1
        } else {
            self.whole()
        }
    }
}

/// Whether no function of the module has a use for passes over all of it: none is local, so there is nothing to inline
/// and nothing known of who calls, no variable is written, and none is a coroutine, which is split in several.
fn has_methods_alone(module: &Module<'_>) -> bool {
    let raw = module.as_mut_ptr();
    // SAFETY: `raw` is a live module of the calling thread, and the lists hold its live values.
    unsafe {
        let defined = |value: &LLVMValueRef| LLVMIsDeclaration(*value) == 0;
        let functions = list(LLVMGetFirstFunction(raw), LLVMGetNextFunction);
        let variables = list(LLVMGetFirstGlobal(raw), LLVMGetNextGlobal);
        functions
            .into_iter()
            .filter(defined)
            .all(|f| !is_local(f) && !is_coroutine(f))
            && variables
                .into_iter()
                .filter(defined)
                .all(|v| LLVMIsGlobalConstant(v) != 0)
    }
}

/// # Safety
/// `function` is a live function.
pub(super) unsafe fn is_coroutine(function: LLVMValueRef) -> bool {
    let kind = enum_attribute("presplitcoroutine");
    // SAFETY: the caller's promise.
    unsafe { !LLVMGetEnumAttributeAtIndex(function, LLVMAttributeFunctionIndex, kind).is_null() }
}

#[cfg(test)]
mod tests {
    use inkwell::context::Context;
    use inkwell::memory_buffer::MemoryBuffer;

    use super::*;

    fn pipeline(level: OptLevel, text: &str) -> &'static str {
        let context = Context::create();
        let text = MemoryBuffer::create_from_memory_range_copy(text.as_bytes(), "test");
        level.pipeline(&context.create_module_from_ir(text).unwrap())
    }

    #[test]
    fn methods_alone_have_passes_of_their_own() {
        let methods = "
            @table = private constant [2 x i64] [i64 1, i64 2]
            @outside = external global i64
            declare i64 @host(i64)
            define i64 @a(i64 %x) { %r = call i64 @host(i64 %x) ret i64 %r }
            define i64 @b(i64 %x) { %r = load i64, ptr @table ret i64 %r }";
        assert_eq!(pipeline(OptLevel::O1, methods), METHODS_O1);
        assert_eq!(pipeline(OptLevel::O0, methods), "default<O0>");
        assert_eq!(pipeline(OptLevel::O2, methods), "default<O2>");
        for more in [
            "define internal i64 @part(i64 %x) { ret i64 %x }",
            "@written = internal global i64 0",
            "define void @split() presplitcoroutine { ret void }",
        ] {
            let text = format!("{methods}\n{more}");
            assert_eq!(pipeline(OptLevel::O1, &text), "default<O1>", "{more}");
        }
    }
}
