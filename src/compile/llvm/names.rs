//! Names of declarations. Methods of one batch may declare one thing by different types, which are different things to
//! LLVM's builder: each type gets a name of its own, of which the linker knows what it means.

use inkwell::llvm_sys::core::{LLVMCountParams, LLVMGetFunctionCallConv};
use inkwell::module::Module;
use inkwell::types::FunctionType;
use inkwell::values::{AsValueRef, FunctionValue};

use super::lower::attributes_at;

/// For the canonical symbol of a method: the linker ignores what follows the number.
pub(super) fn of_method<'ctx>(
    module: &Module<'ctx>,
    name: &str,
    ty: FunctionType<'ctx>,
    is_free: impl Fn(&str) -> bool,
    fits: impl Fn(FunctionValue<'ctx>) -> bool,
) -> String {
    let others = (1..).map(|n| format!("{name}.{n}"));
    first_fit(module, name, others, ty, is_free, fits)
}

/// Whether two functions of one type and context are called alike: by the same convention, and with the same attributes of
/// parameters and result, which may be part of it.
pub(super) fn alike(one: FunctionValue<'_>, other: FunctionValue<'_>) -> bool {
    let of = |function: FunctionValue<'_>| {
        let function = function.as_value_ref();
        // SAFETY: a live function. Attributes of one context are the same if their addresses are.
        unsafe {
            let at = |index| {
                let mut all = attributes_at(function, index);
                all.sort_unstable();
                all
            };
            let attributes: Vec<_> = (0..=LLVMCountParams(function)).map(at).collect();
            (LLVMGetFunctionCallConv(function), attributes)
        }
    };
    of(one) == of(other)
}

/// For something of the host's: the linker takes the import's name from these.
pub(super) fn of_import<'ctx>(
    module: &Module<'ctx>,
    name: &str,
    ty: FunctionType<'ctx>,
    is_free: impl Fn(&str) -> bool,
    fits: impl Fn(FunctionValue<'ctx>) -> bool,
) -> String {
    let others = (1..).map(|n| format!("inkpot.import.{n}.{name}"));
    first_fit(module, name, others, ty, is_free, fits)
}

/// The first of these names that `is_free` for the caller, and that nothing of the module has but a declaration of this
/// type that `fits`.
fn first_fit<'ctx>(
    module: &Module<'ctx>,
    name: &str,
    others: impl Iterator<Item = String>,
    ty: FunctionType<'ctx>,
    is_free: impl Fn(&str) -> bool,
    fits: impl Fn(FunctionValue<'ctx>) -> bool,
) -> String {
    std::iter::once(name.to_owned())
        .chain(others)
        .filter(|name| is_free(name))
        .find(|name| match module.get_function(name) {
            Some(present) => {
                let declared = present.count_basic_blocks() == 0;
                declared && present.get_type() == ty && fits(present)
            }
            None => module.get_global(name).is_none(),
        })
        .expect("names do not end")
}
