//! Bodies of other methods, for those that call them: where a front end allows it, LLVM may inline them.
//!
//! A body comes from the IR that was kept of its method, as a function that only is there to be inlined
//! (`available_externally`). Calls that are left when the passes are done are lowered as all calls between methods are. Who
//! calls it relies on the method being what it is, and on what that relies on: when one of these falls it goes too.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use inkwell::llvm_sys::core::*;
use inkwell::llvm_sys::prelude::LLVMValueRef;
use inkwell::module::{Linkage, Module};
use inkwell::values::{AsValueRef, FunctionValue};

use super::context::LlvmContext;
use super::count::owner;
use super::kept;
use super::lower::{self, calls_directly, name_bytes, name_of, rename, users_of};
use crate::compile::source::Bitcode;
use crate::compile::symbols::{OwnSymbol, parse_symbol};
use crate::compile::{Batch, Source};
use crate::method::Key;

/// Bodies that one batch takes in, at most; and how deep: those that bodies call, and so on.
const MOST: usize = 256;
const DEPTH: usize = 3;

const BODY: &str = "inkpot.body.";

/// A body that was taken in.
struct Taken<'ctx, K: Key> {
    bitcode: Arc<Bitcode<K>>,
    function: FunctionValue<'ctx>,
    /// The batch's methods that have it in theirs, directly or not.
    callers: BTreeSet<usize>,
}

/// Takes in the bodies of what the batch's methods call.
pub(super) fn bodies<'ctx, K: Key>(
    context: &'ctx LlvmContext,
    module: &Module<'ctx>,
    batch: &mut Batch<'_, K>,
) {
    // Those that cannot be had too.
    let mut known: HashMap<u32, Option<Taken<'ctx, K>>> = HashMap::new();
    for _ in 0..DEPTH {
        let declared: Vec<_> = module.get_functions().collect();
        for declaration in declared {
            let name = name_of(declaration.as_value_ref());
            let Some(OwnSymbol::Address(number)) = parse_symbol(&name) else {
                continue;
            };
            let calls = direct_calls(declaration);
            if calls.is_empty() || (known.len() == MOST && !known.contains_key(&number)) {
                continue;
            }
            let callers: BTreeSet<usize> = calls
                .iter()
                .flat_map(|&call| callers_of(call, batch, &known))
                .collect();
            let source = relied_on(batch, number, &callers);
            let taken = known.entry(number).or_insert_with(|| {
                let bitcode = source.as_ref()?.bitcode.clone();
                let function = take_in(context, module, batch, number, &bitcode)?;
                let callers = BTreeSet::new();
                Some(Taken {
                    bitcode,
                    function,
                    callers,
                })
            });
            let (Some(taken), Some(source)) = (taken, source) else {
                continue;
            };
            if !Arc::ptr_eq(&taken.bitcode, &source.bitcode)
                || taken.function.get_type() != declaration.get_type()
            {
                continue;
            }
            taken.callers.extend(callers);
            for call in calls {
                // SAFETY: a live call of the declaration, whose type the body has.
                unsafe {
                    redirect(
                        call,
                        declaration.as_value_ref(),
                        taken.function.as_value_ref(),
                    )
                };
            }
        }
    }
}

/// Lowers the calls of bodies that are left, and takes the bodies out.
pub(super) fn lower_rest(module: &Module<'_>) {
    let functions: Vec<_> = module.get_functions().collect();
    for function in functions {
        let name = name_of(function.as_value_ref());
        let number = name
            .strip_prefix(BODY)
            .and_then(|rest| rest.split('.').next());
        let Some(number) = number.and_then(|n| n.parse().ok()) else {
            continue;
        };
        // SAFETY: a live function of a live module. What still refers to it is not a call: the canonical address will do.
        unsafe {
            let function = function.as_value_ref();
            lower::callee(module.as_mut_ptr(), function, number);
            if users_of(function)
                .into_iter()
                .any(|user| !lower::is_dead(user))
            {
                let name = format!("inkpot.address.{number}.body");
                let ty = LLVMGlobalGetValueType(function);
                let address = lower::declare(module.as_mut_ptr(), &name, ty);
                LLVMReplaceAllUsesWith(function, address);
            }
            LLVMDeleteFunction(function);
        }
    }
}

/// Calls of a method by the type and convention that it was declared with.
fn direct_calls(declaration: FunctionValue<'_>) -> Vec<LLVMValueRef> {
    let function = declaration.as_value_ref();
    // SAFETY: a live declaration, and its users.
    unsafe {
        let mut users = users_of(function);
        users.retain(|&user| {
            calls_directly(user, function)
                && LLVMGetCalledFunctionType(user) == LLVMGlobalGetValueType(function)
        });
        users
    }
}

/// The batch's methods that a call is in: one, or all that have the body in theirs.
fn callers_of<K: Key>(
    call: LLVMValueRef,
    batch: &Batch<'_, K>,
    known: &HashMap<u32, Option<Taken<'_, K>>>,
) -> Vec<usize> {
    // SAFETY: a live call in a block of a function.
    let function = unsafe {
        let function = LLVMGetBasicBlockParent(LLVMGetInstructionParent(call));
        String::from_utf8_lossy(name_bytes(function)).into_owned()
    };
    let of = |cell: u32| batch.methods.iter().position(|m| m.cell == cell);
    match function
        .strip_prefix(BODY)
        .and_then(|rest| rest.parse().ok())
    {
        Some(body) => {
            let taken = known.get(&body).and_then(Option::as_ref);
            taken.map_or_else(Vec::new, |taken| taken.callers.iter().copied().collect())
        }
        // A private function of a body's: nobody knows who calls it.
        None => owner(function.as_bytes())
            .and_then(of)
            .into_iter()
            .collect(),
    }
}

/// Makes methods of the batch rely on a callee, and on what that relies on. Its IR, if it may be in theirs.
fn relied_on<K: Key>(
    batch: &mut Batch<'_, K>,
    callee: u32,
    callers: &BTreeSet<usize>,
) -> Option<Source<K>> {
    if callers.is_empty() {
        return None;
    }
    let method = batch.referred_to(callee)?.clone();
    let library = batch.supplies.library;
    let source = library.inlinable(&method, &mut |assumption| {
        for &i in callers {
            batch.assume(i, assumption);
        }
    })?;
    for &i in callers {
        batch.assumed[i].extend(source.bonds.iter().cloned());
    }
    Some(source)
}

/// Links a method's function into the module, under a name of its own.
fn take_in<'ctx, K: Key>(
    context: &'ctx LlvmContext,
    module: &Module<'ctx>,
    batch: &mut Batch<'_, K>,
    number: u32,
    bitcode: &Bitcode<K>,
) -> Option<FunctionValue<'ctx>> {
    let piece = kept::read(context, &bitcode.bytes)?;
    let symbol = format!("inkpot.method.{number}");
    let body = piece.get_function(&symbol).filter(kept::is_defined)?;
    let name = format!("{BODY}{number}");
    rename(body.as_value_ref(), &name);
    kept::leave_out(&piece, |function| function == name);
    kept::settle_names(&piece, module);
    if !kept::link(context, module, piece) {
        return None;
    }
    let body = module.get_function(&name)?;
    body.set_linkage(Linkage::AvailableExternally);
    kept::refer(module, batch, bitcode);
    Some(body)
}

/// # Safety
/// `call` is a live call of `from`, and `to` is a function of the same type.
unsafe fn redirect(call: LLVMValueRef, from: LLVMValueRef, to: LLVMValueRef) {
    // SAFETY: the caller's promise; what a call calls is its last operand.
    unsafe {
        lower::copy_call_attributes(from, call);
        LLVMSetOperand(call, LLVMGetNumOperands(call) as u32 - 1, to);
    }
}
