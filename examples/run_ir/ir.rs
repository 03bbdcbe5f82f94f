//! A thin layer over LLVM's C interface: values, their users and operands.
//!
//! inkwell's typed wrappers serve those who *build* IR. `run_ir` walks over IR that others built, through
//! constants, aliases and labels, where one untyped value with a kind is simpler and misses no case.

use inkwell::llvm_sys::core::*;
use inkwell::llvm_sys::prelude::*;
use inkwell::llvm_sys::target::{LLVMABISizeOfType, LLVMGetModuleDataLayout};
use inkwell::llvm_sys::{
    LLVMAttributeFunctionIndex, LLVMCallConv, LLVMLinkage, LLVMOpcode, LLVMValueKind,
};
pub use inkwell::module::Module;
use std::collections::HashSet;
use std::ffi::CStr;
use std::marker::PhantomData;
use std::ptr;

/// Any LLVM value of one module: a global, a constant, an instruction, a basic block.
///
/// Borrows the module; only [`Value::delete`] can leave one dangling, and is unsafe for that.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Value<'m> {
    raw: LLVMValueRef,
    module: PhantomData<&'m ()>,
}

/// Steps through one of LLVM's linked lists.
struct List<'m> {
    next: LLVMValueRef,
    step: unsafe extern "C" fn(LLVMValueRef) -> LLVMValueRef,
    module: PhantomData<&'m ()>,
}

impl<'m> Iterator for List<'m> {
    type Item = Value<'m>;

    fn next(&mut self) -> Option<Value<'m>> {
        let current = Value::new(self.next)?;
        // SAFETY: `current` is a live element of the list that `step` belongs to.
        self.next = unsafe { (self.step)(current.raw) };
        Some(current)
    }
}

/// The bytes of what a variable of the module's holds.
pub fn size_of(module: &Module<'_>, variable: Value<'_>) -> u64 {
    // SAFETY: the module is live, the type is sized: a variable has it.
    unsafe {
        let layout = LLVMGetModuleDataLayout(module.as_mut_ptr());
        LLVMABISizeOfType(layout, variable.value_type())
    }
}

/// A list of a module's globals, collected first: the caller may delete or add some while it goes on.
fn collect<'m>(
    first: LLVMValueRef,
    step: unsafe extern "C" fn(LLVMValueRef) -> LLVMValueRef,
) -> Vec<Value<'m>> {
    List {
        next: first,
        step,
        module: PhantomData,
    }
    .collect()
}

/// All functions, defined or declared.
pub fn functions<'m>(module: &'m Module<'_>) -> Vec<Value<'m>> {
    // SAFETY: the module is live.
    collect(
        unsafe { LLVMGetFirstFunction(module.as_mut_ptr()) },
        LLVMGetNextFunction,
    )
}

/// All global variables, defined or declared.
pub fn globals<'m>(module: &'m Module<'_>) -> Vec<Value<'m>> {
    // SAFETY: the module is live.
    collect(
        unsafe { LLVMGetFirstGlobal(module.as_mut_ptr()) },
        LLVMGetNextGlobal,
    )
}

/// All aliases.
pub fn aliases<'m>(module: &'m Module<'_>) -> Vec<Value<'m>> {
    // SAFETY: the module is live.
    collect(
        unsafe { LLVMGetFirstGlobalAlias(module.as_mut_ptr()) },
        LLVMGetNextGlobalAlias,
    )
}

/// All indirect functions.
pub fn ifuncs<'m>(module: &'m Module<'_>) -> Vec<Value<'m>> {
    // SAFETY: the module is live.
    collect(
        unsafe { LLVMGetFirstGlobalIFunc(module.as_mut_ptr()) },
        LLVMGetNextGlobalIFunc,
    )
}

/// The function of this name.
pub fn function<'m>(module: &'m Module<'_>, name: &str) -> Option<Value<'m>> {
    let name = std::ffi::CString::new(name).ok()?;
    // SAFETY: the module is live, the name NUL-terminated.
    Value::new(unsafe { LLVMGetNamedFunction(module.as_mut_ptr(), name.as_ptr()) })
}

/// The global variable of this name.
pub fn global<'m>(module: &'m Module<'_>, name: &str) -> Option<Value<'m>> {
    let name = std::ffi::CString::new(name).ok()?;
    // SAFETY: the module is live, the name NUL-terminated.
    Value::new(unsafe { LLVMGetNamedGlobal(module.as_mut_ptr(), name.as_ptr()) })
}

/// What a value does for the walks in this example.
impl<'m> Value<'m> {
    /// Wraps what the C interface returned of the module; `None` for its null.
    pub fn new(raw: LLVMValueRef) -> Option<Self> {
        (!raw.is_null()).then_some(Value {
            raw,
            module: PhantomData,
        })
    }

    /// The bare reference, for calls of the C interface that only one place needs.
    pub fn raw(self) -> LLVMValueRef {
        self.raw
    }

    /// The name, empty if it has none.
    pub fn name(self) -> String {
        let mut length = 0;
        // SAFETY: the value is live; LLVM gives a pointer to `length` bytes that live as long as the name.
        let bytes = unsafe {
            let start = LLVMGetValueName2(self.raw, &mut length);
            if length == 0 {
                &[]
            } else {
                std::slice::from_raw_parts(start.cast::<u8>(), length)
            }
        };
        String::from_utf8_lossy(bytes).into_owned()
    }

    /// Renames; LLVM adds a number if another global has the name.
    pub fn set_name(self, name: &str) {
        // SAFETY: the value is live, the name has a length.
        unsafe { LLVMSetValueName2(self.raw, name.as_ptr().cast(), name.len()) }
    }

    /// What sort of value this is.
    pub fn kind(self) -> LLVMValueKind {
        // SAFETY: the value is live.
        unsafe { LLVMGetValueKind(self.raw) }
    }

    /// Whether this is an instruction.
    pub fn is_instruction(self) -> bool {
        self.kind() == LLVMValueKind::LLVMInstructionValueKind
    }

    /// Whether this is a global variable.
    pub fn is_global_variable(self) -> bool {
        self.kind() == LLVMValueKind::LLVMGlobalVariableValueKind
    }

    /// Whether this is a global of any kind.
    pub fn is_global(self) -> bool {
        // SAFETY: any value may be asked what it is.
        unsafe { !LLVMIsAGlobalValue(self.raw).is_null() }
    }

    /// Whether this is a function.
    pub fn is_function(self) -> bool {
        self.kind() == LLVMValueKind::LLVMFunctionValueKind
    }

    /// The opcode of an instruction or a constant expression.
    pub fn opcode(self) -> Option<LLVMOpcode> {
        // SAFETY: each is asked of its own kind.
        unsafe {
            match self.kind() {
                LLVMValueKind::LLVMInstructionValueKind => Some(LLVMGetInstructionOpcode(self.raw)),
                LLVMValueKind::LLVMConstantExprValueKind => Some(LLVMGetConstOpcode(self.raw)),
                _ => None,
            }
        }
    }

    /// Those who use this value, each once.
    pub fn users(self) -> Vec<Value<'m>> {
        let mut users = Vec::new();
        let mut seen = HashSet::new();
        // SAFETY: the value is live, and nothing is changed while the list of uses is walked.
        unsafe {
            let mut at = LLVMGetFirstUse(self.raw);
            while !at.is_null() {
                users.extend(Value::new(LLVMGetUser(at)).filter(|user| seen.insert(*user)));
                at = LLVMGetNextUse(at);
            }
        }
        users
    }

    /// Whether anything uses this value.
    pub fn is_used(self) -> bool {
        // SAFETY: the value is live.
        unsafe { !LLVMGetFirstUse(self.raw).is_null() }
    }

    /// How many operands a user has.
    pub fn operand_count(self) -> u32 {
        // SAFETY: the value is live; LLVM answers a negative number for what has no operands.
        unsafe { LLVMGetNumOperands(self.raw) }.max(0) as u32
    }

    /// An operand of an instruction or constant.
    pub fn operand(self, index: u32) -> Option<Value<'m>> {
        if index >= self.operand_count() {
            return None;
        }
        // SAFETY: the value is live and has this operand.
        Value::new(unsafe { LLVMGetOperand(self.raw, index) })
    }

    /// Whether `value` stands at operand `index`.
    pub fn operand_is(self, index: u32, value: Value<'m>) -> bool {
        self.operand(index) == Some(value)
    }

    /// The function that an instruction stands in.
    pub fn parent(self) -> Option<Value<'m>> {
        debug_assert!(self.is_instruction());
        // SAFETY: an instruction of a block of a function.
        Value::new(unsafe { LLVMGetBasicBlockParent(LLVMGetInstructionParent(self.raw)) })
    }

    /// Whether an instruction is inline assembly, and not just a barrier without any text.
    pub fn is_assembly(self) -> bool {
        use LLVMOpcode::{LLVMCall, LLVMCallBr, LLVMInvoke};
        if !matches!(self.opcode(), Some(LLVMCall | LLVMInvoke | LLVMCallBr)) {
            return false;
        }
        // SAFETY: a call; its text is asked for only if it is assembly.
        unsafe {
            let called = LLVMGetCalledValue(self.raw);
            let mut length = 0;
            if !LLVMIsAInlineAsm(called).is_null() {
                LLVMGetInlineAsmAsmString(called, &mut length);
            }
            length > 0
        }
    }

    /// The name of the function that a call calls directly, empty otherwise.
    pub fn called_name(self) -> String {
        // SAFETY: asked of calls only.
        let called = Value::new(unsafe { LLVMGetCalledValue(self.raw) });
        called
            .filter(|called| called.is_function())
            .map(Value::name)
            .unwrap_or_default()
    }
}

/// What globals have.
impl<'m> Value<'m> {
    /// Whether a global has no body or initialiser here.
    pub fn is_declaration(self) -> bool {
        // SAFETY: asked of globals only.
        unsafe { LLVMIsDeclaration(self.raw) != 0 }
    }

    /// How a global is linked.
    pub fn linkage(self) -> LLVMLinkage {
        // SAFETY: asked of globals only.
        unsafe { LLVMGetLinkage(self.raw) }
    }

    /// Changes how a global is linked.
    pub fn set_linkage(self, linkage: LLVMLinkage) {
        // SAFETY: asked of globals only.
        unsafe { LLVMSetLinkage(self.raw, linkage) }
    }

    /// Whether no other module could name this global.
    pub fn is_local(self) -> bool {
        matches!(
            self.linkage(),
            LLVMLinkage::LLVMInternalLinkage | LLVMLinkage::LLVMPrivateLinkage
        )
    }

    /// Whether a global variable is never written.
    pub fn is_constant(self) -> bool {
        // SAFETY: asked of global variables only.
        unsafe { LLVMIsGlobalConstant(self.raw) != 0 }
    }

    /// The initialiser of a global variable.
    pub fn initialiser(self) -> Option<Value<'m>> {
        // SAFETY: asked of global variables only.
        Value::new(unsafe { LLVMGetInitializer(self.raw) })
    }

    /// Gives a global variable another initialiser, or makes it a declaration.
    pub fn set_initialiser(self, initialiser: Option<Value<'m>>) {
        let raw = initialiser.map_or(ptr::null_mut(), Value::raw);
        // SAFETY: asked of global variables only, with a constant of their type.
        unsafe { LLVMSetInitializer(self.raw, raw) }
    }

    /// The type of what a global holds, or of a function.
    pub fn value_type(self) -> LLVMTypeRef {
        // SAFETY: asked of globals only.
        unsafe { LLVMGlobalGetValueType(self.raw) }
    }

    /// The section that a global asks for, empty if none.
    pub fn section(self) -> String {
        // SAFETY: asked of globals only; LLVM gives null or a string that lives as long as the global.
        unsafe {
            let section = LLVMGetSection(self.raw);
            if section.is_null() {
                return String::new();
            }
            CStr::from_ptr(section).to_string_lossy().into_owned()
        }
    }

    /// Puts `other` wherever this value is used.
    pub fn replace_by(self, other: Value<'m>) {
        // SAFETY: both are live, and of one type: callers pass pointers in the default address space.
        unsafe { LLVMReplaceAllUsesWith(self.raw, other.raw) }
    }

    /// Removes a function or global variable from its module.
    ///
    /// # Safety
    /// Nothing uses it any more, and no copy of this value is asked anything again.
    pub unsafe fn delete(self) {
        // SAFETY: by contract.
        unsafe {
            match self.is_function() {
                true => LLVMDeleteFunction(self.raw),
                false => LLVMDeleteGlobal(self.raw),
            }
        }
    }

    /// The null pointer of this value's type.
    pub fn null(self) -> Value<'m> {
        // SAFETY: a global's type is a pointer type, which has a null.
        let raw = unsafe { LLVMConstNull(LLVMTypeOf(self.raw)) };
        Value {
            raw,
            module: PhantomData,
        }
    }
}

/// What functions have.
impl<'m> Value<'m> {
    /// The basic blocks of a function, as values.
    pub fn blocks(self) -> Vec<Value<'m>> {
        let mut blocks = Vec::new();
        // SAFETY: asked of functions only; nothing is changed while the list is walked.
        unsafe {
            let mut at = LLVMGetFirstBasicBlock(self.raw);
            while !at.is_null() {
                blocks.extend(Value::new(LLVMBasicBlockAsValue(at)));
                at = LLVMGetNextBasicBlock(at);
            }
        }
        blocks
    }

    /// The instructions of a function.
    pub fn instructions(self) -> impl Iterator<Item = Value<'m>> {
        self.blocks().into_iter().flat_map(|block| {
            // SAFETY: `blocks` gives basic blocks.
            let next = unsafe { LLVMGetFirstInstruction(LLVMValueAsBasicBlock(block.raw)) };
            List {
                next,
                step: LLVMGetNextInstruction,
                module: PhantomData,
            }
        })
    }

    /// The calling convention of a function.
    pub fn convention(self) -> u32 {
        // SAFETY: asked of functions only.
        unsafe { LLVMGetFunctionCallConv(self.raw) }
    }

    /// The calling convention of a call.
    pub fn call_convention(self) -> u32 {
        // SAFETY: asked of calls only.
        unsafe { LLVMGetInstructionCallConv(self.raw) }
    }

    /// Gives a function the C calling convention.
    pub fn set_c_convention(self) {
        // SAFETY: asked of functions only.
        unsafe { LLVMSetFunctionCallConv(self.raw, LLVMCallConv::LLVMCCallConv as u32) }
    }

    /// Gives a call the C calling convention.
    pub fn set_c_call(self) {
        // SAFETY: asked of calls only.
        unsafe { LLVMSetInstructionCallConv(self.raw, LLVMCallConv::LLVMCCallConv as u32) }
    }

    /// Gives a function an attribute that LLVM knows by its text.
    pub fn add_attribute(self, name: &str) {
        // SAFETY: a live function; name and value have lengths.
        unsafe {
            let context = LLVMGetModuleContext(LLVMGetGlobalParent(self.raw));
            let (name, length) = (name.as_ptr().cast(), name.len() as u32);
            let attribute = LLVMCreateStringAttribute(context, name, length, c"".as_ptr(), 0);
            LLVMAddAttributeAtIndex(self.raw, LLVMAttributeFunctionIndex, attribute);
        }
    }

    /// Takes an attribute off a function.
    pub fn remove_attribute(self, name: &str) {
        // SAFETY: the name has a length; asked of functions only; a missing attribute is no error.
        unsafe {
            let kind = LLVMGetEnumAttributeKindForName(name.as_ptr().cast(), name.len());
            LLVMRemoveEnumAttributeAtIndex(self.raw, LLVMAttributeFunctionIndex, kind);
        }
    }
}

/// A new function of this name, without a body.
///
/// # Safety
/// `ty` is a function type of the module's context.
pub unsafe fn add_function<'m>(module: &'m Module<'_>, name: &str, ty: LLVMTypeRef) -> Value<'m> {
    // SAFETY: the module is live; by contract the type is of its context.
    let raw = unsafe { LLVMAddFunction(module.as_mut_ptr(), c"".as_ptr(), ty) };
    named(raw, name)
}

/// A new global variable of this name, without an initialiser.
///
/// # Safety
/// `ty` is a sized type of the module's context.
pub unsafe fn add_variable<'m>(module: &'m Module<'_>, name: &str, ty: LLVMTypeRef) -> Value<'m> {
    // SAFETY: the module is live; by contract the type is of its context.
    let raw = unsafe { LLVMAddGlobal(module.as_mut_ptr(), ty, c"".as_ptr()) };
    named(raw, name)
}

fn named<'m>(raw: LLVMValueRef, name: &str) -> Value<'m> {
    let value = Value {
        raw,
        module: PhantomData,
    };
    value.set_name(name);
    value
}

/// A declaration like `of`, with no name yet.
///
/// Only a *new* declaration is free of `dso_local`: LLVM's C interface cannot take that mark away, and with it
/// code would reach the symbol by a 32-bit distance, which libc's and the program's own data lie beyond.
pub fn declare_like<'m>(module: &'m Module<'_>, of: Value<'_>) -> Value<'m> {
    match of.is_function() {
        true => declare_function(module, of),
        false => declare_global(module, of),
    }
}

fn declare_function<'m>(module: &'m Module<'_>, of: Value<'_>) -> Value<'m> {
    let anew = add_function_like(module, of);
    for unfit in ["naked", "optnone", "alwaysinline"] {
        anew.remove_attribute(unfit);
    }
    anew
}

/// A function of the type and the attributes of `of`, with no name and no body.
pub fn add_function_like<'m>(module: &'m Module<'_>, of: Value<'_>) -> Value<'m> {
    // SAFETY: `of` is a live function of this module's context; the attributes are copied index by index, from "the
    // function itself" (-1) over the result (0) to the last parameter.
    let raw = unsafe {
        let raw = LLVMAddFunction(module.as_mut_ptr(), c"".as_ptr(), of.value_type());
        for index in 0..LLVMCountParams(of.raw) + 2 {
            let index = index.wrapping_sub(1);
            let count = LLVMGetAttributeCountAtIndex(of.raw, index) as usize;
            let mut attributes = vec![ptr::null_mut(); count];
            LLVMGetAttributesAtIndex(of.raw, index, attributes.as_mut_ptr());
            for attribute in attributes {
                LLVMAddAttributeAtIndex(raw, index, attribute);
            }
        }
        raw
    };
    Value {
        raw,
        module: PhantomData,
    }
}

fn declare_global<'m>(module: &'m Module<'_>, of: Value<'_>) -> Value<'m> {
    // SAFETY: `of` is a live global variable of this module's context.
    let raw = unsafe {
        let raw = LLVMAddGlobal(module.as_mut_ptr(), of.value_type(), c"".as_ptr());
        LLVMSetGlobalConstant(raw, LLVMIsGlobalConstant(of.raw));
        LLVMSetThreadLocalMode(raw, LLVMGetThreadLocalMode(of.raw));
        let alignment = LLVMGetAlignment(of.raw);
        if alignment != 0 {
            LLVMSetAlignment(raw, alignment);
        }
        raw
    };
    Value {
        raw,
        module: PhantomData,
    }
}
