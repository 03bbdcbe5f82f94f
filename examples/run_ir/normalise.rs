//! Brings a program into the one form that the other parts know.
//!
//! Afterwards every global has a name; no aliases, indirect functions, comdats,
//! sections or conventions other than C's are left; every
//! defined function is external, so that the pieces of the program can name it.

use crate::indirect;
use crate::ir::{self, Module, Value};
use crate::lifecycle::{self, Lifecycle};
use crate::refuse::LIKE_C;
use crate::sets;
use crate::symbols;
use crate::thread_locals::{self, ThreadLocals};
use inkwell::llvm_sys::comdat::LLVMSetComdat;
use inkwell::llvm_sys::core::*;
use inkwell::llvm_sys::transforms::pass_builder::*;
use inkwell::llvm_sys::{LLVMDLLStorageClass, LLVMLinkage, LLVMOpcode, LLVMVisibility};
use std::ffi::CStr;

/// Drops bodies that are said to be copies of some other module's, and then all that nothing uses.
const DROP_UNUSED: &CStr = c"elim-avail-extern,globaldce";

/// Normalises a program that [`crate::refuse::check`] lets pass.
///
/// `optimise`: takes off the marks by which clang's `-O0` forbids any later optimisation.
pub fn normalise(module: &Module<'_>, optimise: bool) -> Result<Apart, String> {
    let mut listed = lifecycle::take(module);
    drop_bookkeeping(module);
    dissolve_aliases(module);
    name_all(module);
    let thread_locals = thread_locals::take(module);
    if let Some(resolve) = indirect::take(module)? {
        listed.begin_with(resolve);
    }
    sets::join(module);
    for global in ir::functions(module).into_iter().chain(ir::globals(module)) {
        unify(global);
    }
    for function in ir::functions(module)
        .into_iter()
        .filter(|function| !function.is_declaration())
    {
        unify_function(function, optimise);
    }
    run_passes(module, DROP_UNUSED)?;
    let imports = declare_imports(module);
    Ok(Apart {
        lifecycle: listed.named(),
        thread_locals,
        imports,
    })
}

/// What was taken out of the program, because the host sees to it.
pub struct Apart {
    pub lifecycle: Lifecycle,
    pub thread_locals: ThreadLocals,
    /// Functions that the program calls, or takes the address of, and does not define.
    pub imports: Vec<String>,
}

/// Runs passes that need no target.
pub fn run_passes(module: &Module<'_>, passes: &CStr) -> Result<(), String> {
    // SAFETY: the module is live; options and error message are disposed of here.
    unsafe {
        let options = LLVMCreatePassBuilderOptions();
        let error = LLVMRunPasses(
            module.as_mut_ptr(),
            passes.as_ptr(),
            std::ptr::null_mut(),
            options,
        );
        LLVMDisposePassBuilderOptions(options);
        if error.is_null() {
            return Ok(());
        }
        let message = inkwell::llvm_sys::error::LLVMGetErrorMessage(error);
        let text = CStr::from_ptr(message).to_string_lossy().into_owned();
        inkwell::llvm_sys::error::LLVMDisposeErrorMessage(message);
        Err(text)
    }
}

/// `llvm.used` and its like speak to linkers, and would make every global that they list look used.
fn drop_bookkeeping(module: &Module<'_>) {
    for global in ir::globals(module) {
        if global.name().starts_with("llvm.") && !global.is_used() {
            // SAFETY: unused, and not asked again.
            unsafe { global.delete() };
        }
    }
}

/// What was named by an alias is named directly. The alias itself goes with [`DROP_UNUSED`].
fn dissolve_aliases(module: &Module<'_>) {
    for alias in ir::aliases(module) {
        let Some(aliasee) = alias.operand(0) else {
            continue;
        };
        alias.replace_by(aliasee);
        alias.set_linkage(LLVMLinkage::LLVMInternalLinkage);
    }
}

fn name_all(module: &Module<'_>) {
    let globals = ir::functions(module).into_iter().chain(ir::globals(module));
    for (index, global) in globals.enumerate() {
        let name = global.name();
        // \1 says "do not mangle": on this machine names are not mangled anyway, but are looked up without it.
        let plain = name.trim_start_matches('\u{1}');
        let odd = plain.is_empty() || plain.contains(['\0', char::REPLACEMENT_CHARACTER]);
        if odd {
            global.set_name(&format!("unnamed.{index}"));
        } else if plain.len() < name.len() {
            rename(module, global, plain);
        }
    }
}

/// Gives `global` a name that another may have already: then both are the same symbol.
fn rename(module: &Module<'_>, global: Value<'_>, name: &str) {
    let other = ir::function(module, name).or_else(|| ir::global(module, name));
    match other {
        Some(other) if global.is_declaration() => {
            global.replace_by(other);
        }
        Some(other) if other.is_declaration() => {
            other.replace_by(global);
            other.set_name("");
            global.set_name(name);
        }
        _ => global.set_name(name),
    }
}

fn unify(global: Value<'_>) {
    if global.name().starts_with("llvm.") {
        return;
    }
    // SAFETY: a global; null takes a comdat away; the name of the section is NUL-terminated.
    unsafe {
        LLVMSetComdat(global.raw(), std::ptr::null_mut());
        LLVMSetVisibility(global.raw(), LLVMVisibility::LLVMDefaultVisibility);
        LLVMSetDLLStorageClass(global.raw(), LLVMDLLStorageClass::LLVMDefaultStorageClass);
        if !global.section().is_empty() {
            LLVMSetSection(global.raw(), c"".as_ptr());
        }
    }
    if global.linkage() == LLVMLinkage::LLVMExternalWeakLinkage {
        match symbols::find(&global.name()) {
            Some(_) => global.set_linkage(LLVMLinkage::LLVMExternalLinkage),
            None => global.replace_by(global.null()),
        }
    }
}

/// Library functions that the optimiser makes calls of: from loops, and from calls of others. In a function of this
/// name it would make it call itself, did it not know the function by its name; and as a method it has another.
pub const LIBRARY: &str = "
    bcmp calloc exp10 exp10f exp10l exp2 exp2f exp2l fabs fabsf fabsl fiprintf fprintf fputc fputs fwrite
    fwrite_unlocked iprintf ldexp ldexpf ldexpl malloc memccpy memchr memcmp memcpy memmove mempcpy
    memrchr memset pow powf powl printf putchar puts realloc sincos sincosf sincosl siprintf snprintf
    sprintf sqrt sqrtf sqrtl stpcpy stpncpy strcat strchr strcmp strcpy strdup strlcat strlcpy strlen
    strncat strncmp strncpy strndup strnlen strrchr vsnprintf vsprintf wcslen";

fn unify_function(function: Value<'_>, optimise: bool) {
    if function.linkage() != LLVMLinkage::LLVMAvailableExternallyLinkage {
        function.set_linkage(LLVMLinkage::LLVMExternalLinkage);
    }
    function.set_c_convention();
    if LIBRARY
        .split_whitespace()
        .any(|name| name == function.name())
    {
        function.add_attribute("no-builtins");
    }
    if optimise {
        function.remove_attribute("optnone");
    }
    for instruction in function.instructions() {
        let calls = matches!(
            instruction.opcode(),
            Some(LLVMOpcode::LLVMCall | LLVMOpcode::LLVMInvoke | LLVMOpcode::LLVMCallBr)
        );
        if calls && LIKE_C.contains(&instruction.call_convention()) {
            instruction.set_c_call();
        }
    }
}

/// See [`ir::declare_like`]: code must not expect libc within 2 GiB. Returns the names of the functions.
fn declare_imports(module: &Module<'_>) -> Vec<String> {
    let mut imports = Vec::new();
    for global in ir::functions(module).into_iter().chain(ir::globals(module)) {
        let name = global.name();
        if global.is_declaration() && !name.starts_with("llvm.") {
            let anew = ir::declare_like(module, global);
            global.replace_by(anew);
            // SAFETY: all uses have been taken over; the list was collected before, and no one holds a copy.
            unsafe { global.delete() };
            anew.set_name(&name);
            if anew.is_function() {
                imports.push(name);
            }
        }
    }
    imports
}
