//! The program's thread-local variables: where each thread has them, and what they begin with.
//!
//! All of them stand in one block for each thread, which is made when the thread first asks for one. Code asks for
//! an address by the variable's offset in the block: [`inkpot::Unit::thread_locals`].

use crate::instance::{self, Instance};
use crate::ir::{self, Module, Value};
use crate::symbols;
use inkwell::llvm_sys::LLVMLinkage;
use inkwell::llvm_sys::core::*;
use inkwell::llvm_sys::target::{
    LLVMABISizeOfType, LLVMGetModuleDataLayout, LLVMPreferredAlignmentOfGlobal,
};
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::Cell;

/// The host function that code asks.
pub const RUNTIME: &str = "run_ir.thread_local";

/// By what the names of the constants begin that variables begin with.
const INITIAL: &str = "run_ir.initial.";

/// A number of this and above is a variable of a library's.
const OF_LIBRARIES: u64 = 1 << 32;

/// A variable, in the block of each thread.
#[derive(Debug)]
pub struct Variable {
    pub name: String,
    pub offset: u64,
    size: u64,
    /// The constant that it begins with; `None` for zeros.
    initial: Option<String>,
}

/// All variables, by ascending offset.
#[derive(Debug, Default)]
pub struct ThreadLocals {
    pub variables: Vec<Variable>,
    /// Those that a library defines.
    pub of_libraries: Vec<String>,
    size: u64,
    align: u64,
}

/// Whether a global is what a variable begins with.
pub fn is_initial(name: &str) -> bool {
    name.starts_with(INITIAL)
}

/// Takes the definitions out of the module: declarations are left, and constants with the initial values.
pub fn take(module: &Module<'_>) -> ThreadLocals {
    let mut all = ThreadLocals {
        align: 1,
        ..ThreadLocals::default()
    };
    for global in ir::globals(module) {
        // SAFETY: a global variable.
        let local = unsafe { LLVMIsThreadLocal(global.raw()) } != 0;
        match global.is_declaration() {
            true if local => all.of_libraries.push(global.name()),
            false if local => all.take(module, global),
            _ => {}
        }
    }
    all
}

impl ThreadLocals {
    /// By which number code asks for each.
    pub fn numbers(&self) -> impl Iterator<Item = (String, u64)> {
        let own = self.variables.iter().map(|v| (v.name.clone(), v.offset));
        let others = self.of_libraries.iter().cloned();
        own.chain(others.zip(OF_LIBRARIES..))
    }

    fn take(&mut self, module: &Module<'_>, global: Value<'_>) {
        // SAFETY: the module and the variable are live; its type is sized.
        let (size, align) = unsafe {
            let layout = LLVMGetModuleDataLayout(module.as_mut_ptr());
            let align = LLVMPreferredAlignmentOfGlobal(layout, global.raw());
            let asked = LLVMGetAlignment(global.raw());
            (
                LLVMABISizeOfType(layout, global.value_type()),
                u64::from(align.max(asked).max(1)),
            )
        };
        let offset = self.size.next_multiple_of(align);
        self.size = offset + size;
        self.align = self.align.max(align);
        let name = global.name();
        let declaration = ir::declare_like(module, global);
        global.replace_by(declaration);
        let initial = global.initialiser().filter(|value| {
            // SAFETY: any constant may be asked whether it is zero.
            unsafe { LLVMIsNull(value.raw()) == 0 && LLVMIsUndef(value.raw()) == 0 }
        });
        let initial = initial.map(|_| {
            // The variable itself becomes the constant.
            // SAFETY: a global variable that nothing uses any more.
            unsafe {
                LLVMSetThreadLocal(global.raw(), 0);
                LLVMSetGlobalConstant(global.raw(), 1);
            }
            global.set_linkage(LLVMLinkage::LLVMExternalLinkage);
            global.set_name(&format!("{INITIAL}{name}"));
            global.name()
        });
        if initial.is_none() {
            // SAFETY: nothing uses it, and it is not asked again.
            unsafe { global.delete() };
        }
        declaration.set_name(&name);
        self.variables.push(Variable {
            name,
            offset,
            size,
            initial,
        });
    }
}

/// What every block begins with.
#[derive(Debug)]
pub struct Block {
    layout: Layout,
    /// Offset, address and size of each initial value that is not zero.
    parts: Vec<(usize, usize, usize)>,
}

thread_local! {
    static BASE: Cell<*mut u8> = const { Cell::new(std::ptr::null_mut()) };
}

/// Learns where the instance's initial values are. Before it starts.
pub fn place(instance: &Instance) -> Result<(), String> {
    let all = &instance.source.apart.thread_locals;
    let layout = Layout::from_size_align(all.size.max(1) as usize, all.align.max(1) as usize)
        .map_err(|error| format!("thread-local variables: {error}"))?;
    let parts = all.variables.iter().filter_map(|variable| {
        let from = instance.address(variable.initial.as_ref()?)?;
        Some((
            variable.offset as usize,
            from as usize,
            variable.size as usize,
        ))
    });
    let parts = parts.collect();
    // The first stays: an instance starts once.
    let _ = instance.block.set(Block { layout, parts });
    Ok(())
}

/// The address of the calling thread's variable with this number: an offset in the block, or a library's.
pub extern "C" fn address(offset: u64) -> *mut u8 {
    if offset >= OF_LIBRARIES {
        return of_library(offset);
    }
    let mut base = BASE.get();
    if base.is_null() {
        base = begin();
    }
    base.wrapping_add(offset as usize)
}

/// The dynamic linker says where the calling thread has it.
#[cold]
fn of_library(number: u64) -> *mut u8 {
    let names = &instance::of_program()
        .source
        .apart
        .thread_locals
        .of_libraries;
    let name = names.get((number - OF_LIBRARIES) as usize);
    let address = name.and_then(|name| symbols::find(name));
    address.unwrap_or(std::ptr::null()).cast_mut().cast()
}

/// Makes the thread's block. Destructors may use it to the thread's very end.
#[cold]
fn begin() -> *mut u8 {
    // Code takes the call for one without side effects.
    // SAFETY: errno is this thread's own.
    let errno = unsafe { *libc::__errno_location() };
    let block = instance::of_program().block.get();
    let block = block.expect("placed before the instance starts");
    // SAFETY: the layout is not empty; the initial values are constants of these sizes, which live as long as the
    // program, and lie within the block by how it was laid out.
    unsafe {
        let base = alloc_zeroed(block.layout);
        if base.is_null() {
            handle_alloc_error(block.layout);
        }
        for &(offset, from, size) in &block.parts {
            std::ptr::copy_nonoverlapping(from as *const u8, base.add(offset), size);
        }
        BASE.set(base);
        *libc::__errno_location() = errno;
        base
    }
}

/// The calling thread ends, and runs no code of the program's any more.
pub fn free() {
    let base = BASE.replace(std::ptr::null_mut());
    let block = instance::current().and_then(|instance| instance.block.get());
    if let Some(block) = block.filter(|_| !base.is_null()) {
        // SAFETY: from `begin`, with this layout; no code is left that could have its address.
        unsafe { dealloc(base, block.layout) };
    }
}
