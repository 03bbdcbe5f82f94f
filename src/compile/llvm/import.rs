//! Bodies of other methods, for those that call them: where a front end allows it, LLVM may inline them.
//!
//! A body comes from the IR that was kept of its method, as a function that only is there to be inlined
//! (`available_externally`). Calls that are left when the passes are done are lowered as all calls between methods are. Who
//! calls it relies on the method being what it is, and on what that relies on: when one of these falls it goes too.

use std::collections::{BTreeMap, BTreeSet};

use inkwell::llvm_sys::core::*;
use inkwell::llvm_sys::prelude::LLVMValueRef;
use inkwell::module::{Linkage, Module};
use inkwell::values::{AsValueRef, FunctionValue};

use super::census::Additions;
use super::context::LlvmContext;
use super::count::owner;
use super::kept;
use super::lower::{self, calls_directly, name_bytes, name_of, rename, users_of};
use super::pipeline::is_coroutine;
use crate::compile::Batch;
use crate::compile::symbols::{OwnSymbol, parse_symbol};
use crate::invalidate::{Assumption, Bond};
use crate::method::Key;

/// Bodies that one batch takes in, at most; and how deep: those that bodies call, and so on.
const MOST: usize = 256;
const DEPTH: usize = 3;

const BODY: &str = "inkpot.body.";

/// A body that was taken in.
struct Taken<'ctx> {
    function: FunctionValue<'ctx>,
    /// What who has it in his own relies on: that the method is what it is, and what the method itself relies on.
    bonds: Vec<Bond>,
    /// Who calls it.
    callers: BTreeSet<Caller>,
}

/// Who calls a body: a method of the batch, or another body.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Caller {
    Method(usize),
    Body(u32),
}

/// Whether a method can be in others: what it added besides its own function is constants, and that is split into no other
/// functions.
///
/// # Safety
/// What was added is alive.
pub(super) unsafe fn fits(added: &Additions, own: Option<LLVMValueRef>) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let defined = |&&function: &&LLVMValueRef| LLVMIsDeclaration(function) == 0;
        let mut functions = added.functions.iter().filter(defined);
        functions.all(|&function| Some(function) == own && !is_coroutine(function))
    }
}

/// Takes in the bodies of what the batch's methods call. False if one did not fit: then the module is spoiled.
pub(super) fn bodies<'ctx, K: Key>(
    context: &'ctx LlvmContext,
    module: &Module<'ctx>,
    batch: &mut Batch<'_, K>,
) -> bool {
    // Nothing, for those that cannot be had.
    let mut known: BTreeMap<u32, Option<Taken<'ctx>>> = BTreeMap::new();
    for _ in 0..DEPTH {
        let declared: Vec<_> = module.get_functions().collect();
        for declaration in declared {
            let name = name_of(declaration.as_value_ref());
            let Some(OwnSymbol::Address(number)) = parse_symbol(&name) else {
                continue;
            };
            let calls = direct_calls(declaration);
            if calls.is_empty() {
                continue;
            }
            if !known.contains_key(&number) {
                if known.len() == MOST {
                    continue;
                }
                let Ok(taken) = take_in(context, module, batch, number) else {
                    return false;
                };
                known.insert(number, taken);
            }
            let Some(Some(taken)) = known.get_mut(&number) else {
                continue;
            };
            if taken.function.get_type() != declaration.get_type() {
                continue;
            }
            for call in calls {
                let Some(caller) = caller(call, batch) else {
                    continue;
                };
                taken.callers.insert(caller);
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
    let known: BTreeMap<u32, Taken<'_>> = known
        .into_iter()
        .filter_map(|(number, taken)| Some((number, taken?)))
        .collect();
    for (number, taken) in &known {
        for i in methods_with(*number, &known) {
            batch.assumed[i].extend(taken.bonds.iter().cloned());
        }
    }
    true
}

/// The batch's methods that may have a body in theirs: they call it, or a body that may have it.
fn methods_with(number: u32, known: &BTreeMap<u32, Taken<'_>>) -> BTreeSet<usize> {
    let mut methods = BTreeSet::new();
    let mut seen = BTreeSet::from([number]);
    let mut coming = vec![number];
    while let Some(next) = coming.pop() {
        let callers = known
            .get(&next)
            .into_iter()
            .flat_map(|taken| &taken.callers);
        for caller in callers {
            match *caller {
                Caller::Method(i) => {
                    methods.insert(i);
                }
                Caller::Body(body) if seen.insert(body) => coming.push(body),
                Caller::Body(_) => {}
            }
        }
    }
    methods
}

/// The number of the method whose body a function is. (What passes have made of a body is none.)
fn body_of(name: &str) -> Option<u32> {
    name.strip_prefix(BODY)?.parse().ok()
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

/// Who a call is made by. Nobody for what belongs to none of the batch.
fn caller<K: Key>(call: LLVMValueRef, batch: &Batch<'_, K>) -> Option<Caller> {
    // SAFETY: a live call in a block of a function.
    let function = unsafe {
        let function = LLVMGetBasicBlockParent(LLVMGetInstructionParent(call));
        String::from_utf8_lossy(name_bytes(function)).into_owned()
    };
    let of = |cell: u32| batch.methods.iter().position(|m| m.cell == cell);
    match body_of(&function) {
        Some(body) => Some(Caller::Body(body)),
        None => owner(function.as_bytes()).and_then(of).map(Caller::Method),
    }
}

/// Links a method's function into the module, under a name of its own: nothing if there is none to be had, an error if the
/// module is spoiled.
fn take_in<'ctx, K: Key>(
    context: &'ctx LlvmContext,
    module: &Module<'ctx>,
    batch: &mut Batch<'_, K>,
    number: u32,
) -> Result<Option<Taken<'ctx>>, Spoiled> {
    let Some(method) = batch.referred_to(number).cloned() else {
        return Ok(None);
    };
    let (library, relying) = (batch.supplies.library, batch.supplies.relying);
    let mut bonds = Vec::new();
    let mut rely_on = |assumption: &Assumption| bonds.push(assumption.bind(relying).0);
    let Some(source) = library.inlinable(&method, &mut rely_on) else {
        return Ok(None);
    };
    bonds.extend(source.bonds.iter().cloned());
    let bitcode = &source.bitcode;
    let piece = kept::read(context, &bitcode.bytes).ok_or(Spoiled)?;
    let symbol = format!("inkpot.method.{number}");
    let body = piece.get_function(&symbol).filter(kept::is_defined);
    let body = body.ok_or(Spoiled)?;
    let name = format!("{BODY}{number}");
    rename(body.as_value_ref(), &name);
    kept::leave_out(&piece, |function| function == name);
    kept::settle_names(&piece, module);
    if !kept::link(context, module, piece) {
        return Err(Spoiled);
    }
    let function = module.get_function(&name).ok_or(Spoiled)?;
    function.set_linkage(Linkage::AvailableExternally);
    kept::refer(module, batch, bitcode);
    Ok(Some(Taken {
        function,
        bonds,
        callers: BTreeSet::new(),
    }))
}

/// The module has half of something, or LLVM has said something of what it was given.
struct Spoiled;

/// # Safety
/// `call` is a live call of `from`, and `to` is a function of the same type.
unsafe fn redirect(call: LLVMValueRef, from: LLVMValueRef, to: LLVMValueRef) {
    // SAFETY: the caller's promise; what a call calls is its last operand.
    unsafe {
        lower::copy_call_attributes(from, call);
        LLVMSetOperand(call, LLVMGetNumOperands(call) as u32 - 1, to);
    }
}
