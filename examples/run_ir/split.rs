//! Cuts a program into its functions.
//!
//! A clone of the module for each function would cost n times n. Instead the program's bitcode is cut into parts of
//! a sixteenth each, these again, down to single functions: each level costs one walk over the program, and there
//! are log n. Only the way to a function that is asked for is cut. LLVM reads bitcode lazily: a body that is
//! dropped before it was read costs nothing, so that the first call waits for the reading of a fifteenth of the
//! program, while each halving of a cloned module would take a walk over all of it.
//!
//! All that is kept between two cuts is bitcode, each with a context for as long as the cut takes: no module, and
//! nothing that only one thread may touch.

use crate::ir::{self, Module};
use crate::load;
use crate::normalise::{DROP_BODIES, DROP_UNUSED, run_passes};
use inkwell::context::Context;
use inkwell::llvm_sys::LLVMLinkage;
use inkwell::llvm_sys::bit_reader::LLVMGetBitcodeModuleInContext2;
use inkwell::llvm_sys::bit_writer::LLVMWriteBitcodeToMemoryBuffer;
use inkwell::llvm_sys::core::LLVMCreateMemoryBufferWithMemoryRangeCopy;
use inkwell::llvm_sys::linker::LLVMLinkModules2;
use inkwell::memory_buffer::MemoryBuffer;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

/// The bitcode of a module. That of a single function is kept, for compiling it again.
pub type Bitcode = Arc<[u8]>;

/// Into how many parts a cut divides.
const PARTS: usize = 16;

/// The functions of a program, each cut out when first asked for.
pub struct Pieces {
    names: Vec<String>,
    indices: HashMap<String, usize>,
    labelled: HashSet<String>,
    root: Node,
}

/// A run of functions.
struct Node {
    /// All of the run; gone when all its parts have been cut out.
    bitcode: Option<Bitcode>,
    /// The parts, if it has been cut, in the order of the functions.
    parts: Vec<Option<Node>>,
}

impl Pieces {
    /// The pieces of a module which defines the functions `names` and no others.
    ///
    /// `labelled`: those of them whose labels stand in tables of constants. Such a table is read with the module,
    /// and demands the body of its function; that can only be dropped later.
    pub fn new(bitcode: Bitcode, names: Vec<String>, labelled: HashSet<String>) -> Self {
        let indices = names
            .iter()
            .enumerate()
            .map(|(index, name)| (name.clone(), index))
            .collect();
        Pieces {
            names,
            indices,
            labelled,
            root: Node::uncut(bitcode),
        }
    }

    /// The piece of one function.
    pub fn get(&mut self, name: &str) -> Result<Bitcode, String> {
        let wanted = *self
            .indices
            .get(name)
            .ok_or_else(|| format!("no function {name}"))?;
        let mut run = 0..self.names.len();
        let mut node = &mut self.root;
        while run.len() > 1 {
            let size = run.len().div_ceil(PARTS);
            let index = (wanted - run.start) / size;
            let start = run.start + index * size;
            let part = start..run.end.min(start + size);
            let count = run.len().div_ceil(size);
            if node.parts.is_empty() {
                node.parts.resize_with(count, || None);
            }
            if node.parts[index].is_none() {
                let whole = node.bitcode.as_ref().ok_or("a part got lost")?;
                let cut = cut(whole, &self.names, &run, &part, &self.labelled)?;
                node.parts[index] = Some(Node::uncut(cut));
                if node.parts.iter().all(Option::is_some) {
                    node.bitcode = None;
                }
            }
            node = node.parts[index].as_mut().ok_or("a part got lost")?;
            run = part;
        }
        node.bitcode
            .clone()
            .ok_or_else(|| "a piece got lost".into())
    }
}

impl Node {
    fn uncut(bitcode: Bitcode) -> Self {
        Node {
            bitcode: Some(bitcode),
            parts: Vec::new(),
        }
    }
}

/// Cuts the functions `part` out of the functions `run`.
fn cut(
    whole: &[u8],
    names: &[String],
    run: &Range<usize>,
    part: &Range<usize>,
    labelled: &HashSet<String>,
) -> Result<Bitcode, String> {
    let context = Context::create();
    load::keep_diagnostics(&context);
    let source = read_lazily(&context, whole)?;
    let others = || {
        run.clone()
            .filter(|index| !part.contains(index))
            .map(|index| &names[index])
    };
    let (later, now): (Vec<_>, Vec<_>) = others().partition(|name| labelled.contains(*name));
    forget(&source, &now);
    run_passes(&source, DROP_BODIES)?;
    // Linking into an empty module reads the bodies that are left, and takes over only what they use.
    let piece = context.create_module("");
    // SAFETY: both modules are live and of one context; the source is consumed.
    let failed = unsafe {
        let source = std::mem::ManuallyDrop::new(source);
        LLVMLinkModules2(piece.as_mut_ptr(), source.as_mut_ptr()) != 0
    };
    if failed {
        return Err(load::take_diagnostics());
    }
    if !later.is_empty() {
        forget(&piece, &later);
        run_passes(&piece, DROP_UNUSED)?;
    }
    Ok(bitcode(&piece))
}

/// Marks bodies to be dropped.
fn forget(module: &Module<'_>, names: &[&String]) {
    for function in names.iter().filter_map(|name| ir::function(module, name)) {
        function.set_linkage(LLVMLinkage::LLVMAvailableExternallyLinkage);
    }
}

fn read_lazily<'ctx>(context: &'ctx Context, bytes: &[u8]) -> Result<Module<'ctx>, String> {
    let mut module = std::ptr::null_mut();
    // SAFETY: the buffer is a copy, as the module reads on in it as long as it lives, and owns it; the context
    // outlives the module by the result's type.
    unsafe {
        let buffer = LLVMCreateMemoryBufferWithMemoryRangeCopy(
            bytes.as_ptr().cast(),
            bytes.len(),
            c"program".as_ptr(),
        );
        if LLVMGetBitcodeModuleInContext2(context.raw(), buffer, &mut module) != 0 {
            return Err(load::take_diagnostics());
        }
        Ok(Module::new(module))
    }
}

/// Writes a module out, and sees whether LLVM reads it again: not all that is valid in memory (an attribute with a NUL
/// in its text) comes back.
pub fn checked_bitcode(module: &Module<'_>) -> Result<Bitcode, String> {
    let bitcode = bitcode(module);
    let context = Context::create();
    load::keep_diagnostics(&context);
    match read_lazily(&context, &bitcode) {
        Ok(_) => Ok(bitcode),
        Err(reason) => Err(format!("not a valid program: {reason}")),
    }
}

/// Writes a module out.
fn bitcode(module: &Module<'_>) -> Bitcode {
    // SAFETY: the module is live; the buffer is owned by the result.
    let buffer = unsafe { MemoryBuffer::new(LLVMWriteBitcodeToMemoryBuffer(module.as_mut_ptr())) };
    buffer.as_slice().into()
}
