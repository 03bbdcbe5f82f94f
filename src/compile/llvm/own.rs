//! A method's own address.
//!
//! Direct calls of a method by itself stay as they are. Every other use of its function is made its canonical
//! address, which is the same before and after an eviction.

use std::collections::{HashMap, HashSet};

use inkwell::llvm_sys::core::*;
use inkwell::llvm_sys::prelude::{LLVMTypeRef, LLVMValueRef};
use inkwell::llvm_sys::{LLVMOpcode, LLVMTypeKind};

use super::check::Refusal;
use super::lower::{calls_directly, declare, is_dead, users_of};

/// Makes every use of a method's own function, but direct calls of itself, its canonical address.
pub(super) fn address(own: Option<LLVMValueRef>, name: &str) -> Result<(), Refusal> {
    let Some(own) = own else { return Ok(()) };
    // SAFETY: `own` is a live function of a live module.
    unsafe {
        let uses = Uses::of(own);
        if uses.instructions.is_empty() && uses.variables.is_empty() {
            return Ok(());
        }
        let module = LLVMGetGlobalParent(own);
        let canonical = declare(module, name, LLVMGlobalGetValueType(own));
        let mut anew = Anew {
            own,
            made: HashMap::from([(own, canonical)]),
            of_own: uses.constants,
        };
        let changes = anew.changes(&uses.instructions, &uses.variables);
        let refused = || Refusal {
            construct: "its own address in a constant of a rare kind",
            name: super::lower::name_of(own),
            advice: "store the address at run time",
        };
        changes
            .ok_or_else(refused)?
            .into_iter()
            .for_each(Change::apply);
    }
    Ok(())
}

/// Where a function is used, but for its labels and direct calls.
struct Uses {
    instructions: Vec<LLVMValueRef>,
    /// Global variables with it in their initialisers.
    variables: Vec<LLVMValueRef>,
    /// It, and the constants that it is in.
    constants: HashSet<LLVMValueRef>,
}

impl Uses {
    /// # Safety
    /// `own` is a live function.
    unsafe fn of(own: LLVMValueRef) -> Self {
        let mut uses = Uses {
            instructions: Vec::new(),
            variables: Vec::new(),
            constants: HashSet::from([own]),
        };
        let mut values = vec![own];
        let mut seen = HashSet::new();
        // SAFETY: users of live values are live, and nothing is changed meanwhile.
        unsafe {
            while let Some(value) = values.pop() {
                for user in users_of(value) {
                    if is_dead(user) || !LLVMIsABlockAddress(user).is_null() || !seen.insert(user) {
                        continue;
                    }
                    if !LLVMIsAInstruction(user).is_null() {
                        uses.instructions.push(user);
                    } else if !LLVMIsAGlobalVariable(user).is_null() {
                        uses.variables.push(user);
                    } else if LLVMIsAGlobalValue(user).is_null() {
                        uses.constants.insert(user);
                        values.push(user);
                    }
                }
            }
            let only_called = |&call: &LLVMValueRef| {
                let operands = LLVMGetNumOperands(call) as u32;
                calls_directly(call, own)
                    && (0..operands - 1).all(|i| !uses.constants.contains(&LLVMGetOperand(call, i)))
            };
            let called: HashSet<_> = uses
                .instructions
                .iter()
                .copied()
                .filter(only_called)
                .collect();
            uses.instructions.retain(|user| !called.contains(user));
        }
        uses
    }
}

/// What is to be put where.
enum Change {
    Operand(LLVMValueRef, u32, LLVMValueRef),
    Initialiser(LLVMValueRef, LLVMValueRef),
}

impl Change {
    fn apply(self) {
        // SAFETY: a live user, and a constant of the type that was there.
        unsafe {
            match self {
                Change::Operand(user, index, value) => LLVMSetOperand(user, index, value),
                Change::Initialiser(variable, value) => LLVMSetInitializer(variable, value),
            }
        }
    }
}

/// Constants made anew with another address in them. LLVM does that itself where all uses of a value are replaced,
/// but not for a function with labels, nor for some of the uses.
struct Anew {
    own: LLVMValueRef,
    made: HashMap<LLVMValueRef, LLVMValueRef>,
    of_own: HashSet<LLVMValueRef>,
}

impl Anew {
    /// All that must be changed, before anything is: `None` if something cannot be.
    ///
    /// # Safety
    /// Live users of `own`, or of constants with it.
    unsafe fn changes(
        &mut self,
        instructions: &[LLVMValueRef],
        variables: &[LLVMValueRef],
    ) -> Option<Vec<Change>> {
        let mut changes = Vec::new();
        // SAFETY: the caller's promise; operands of live values are live, or null for what is no value.
        unsafe {
            for &user in instructions {
                // The last operand of a call is what it calls.
                let called = u32::from(calls_directly(user, self.own));
                for index in 0..LLVMGetNumOperands(user) as u32 - called {
                    let operand = LLVMGetOperand(user, index);
                    if self.of_own.contains(&operand) {
                        changes.push(Change::Operand(user, index, self.make(operand)?));
                    }
                }
            }
            for &variable in variables {
                let value = LLVMGetInitializer(variable);
                changes.push(Change::Initialiser(variable, self.make(value)?));
            }
        }
        Some(changes)
    }

    /// # Safety
    /// `constant` is live.
    unsafe fn make(&mut self, constant: LLVMValueRef) -> Option<LLVMValueRef> {
        if let Some(made) = self.made.get(&constant) {
            return Some(*made);
        }
        if !self.of_own.contains(&constant) {
            return Some(constant);
        }
        // SAFETY: the caller's promise; constants do not go in circles but through globals, which are not entered.
        unsafe {
            let count = LLVMGetNumOperands(constant) as u32;
            let operands = (0..count).map(|i| self.make(LLVMGetOperand(constant, i)));
            let operands: Vec<_> = operands.collect::<Option<_>>()?;
            let made = match LLVMIsAConstantExpr(constant).is_null() {
                true => aggregate(LLVMTypeOf(constant), operands)?,
                false => expression(constant, operands)?,
            };
            self.made.insert(constant, made);
            Some(made)
        }
    }
}

/// # Safety
/// As many elements as the type has, each of its type.
unsafe fn aggregate(ty: LLVMTypeRef, mut elements: Vec<LLVMValueRef>) -> Option<LLVMValueRef> {
    let (first, count) = (elements.as_mut_ptr(), elements.len() as u32);
    // SAFETY: the caller's promise.
    unsafe {
        match LLVMGetTypeKind(ty) {
            LLVMTypeKind::LLVMArrayTypeKind => {
                Some(LLVMConstArray2(LLVMGetElementType(ty), first, count.into()))
            }
            LLVMTypeKind::LLVMVectorTypeKind => Some(LLVMConstVector(first, count)),
            LLVMTypeKind::LLVMStructTypeKind if LLVMIsLiteralStruct(ty) != 0 => {
                let context = LLVMGetTypeContext(ty);
                let packed = LLVMIsPackedStruct(ty);
                Some(LLVMConstStructInContext(context, first, count, packed))
            }
            LLVMTypeKind::LLVMStructTypeKind => Some(LLVMConstNamedStruct(ty, first, count)),
            _ => None,
        }
    }
}

/// # Safety
/// `old` is a live constant expression, and the operands are of its operands' types.
unsafe fn expression(old: LLVMValueRef, mut operands: Vec<LLVMValueRef>) -> Option<LLVMValueRef> {
    use LLVMOpcode::*;
    // SAFETY: the caller's promise.
    unsafe {
        let ty = LLVMTypeOf(old);
        let first = operands[0];
        Some(match LLVMGetConstOpcode(old) {
            LLVMGetElementPtr => {
                let source = LLVMGetGEPSourceElementType(old);
                let (indices, count) = (operands[1..].as_mut_ptr(), operands.len() as u32 - 1);
                match LLVMIsInBounds(old) {
                    0 => LLVMConstGEP2(source, first, indices, count),
                    _ => LLVMConstInBoundsGEP2(source, first, indices, count),
                }
            }
            LLVMPtrToInt => LLVMConstPtrToInt(first, ty),
            LLVMIntToPtr => LLVMConstIntToPtr(first, ty),
            LLVMBitCast => LLVMConstBitCast(first, ty),
            LLVMTrunc => LLVMConstTrunc(first, ty),
            LLVMAdd => LLVMConstAdd(first, operands[1]),
            LLVMSub => LLVMConstSub(first, operands[1]),
            LLVMXor => LLVMConstXor(first, operands[1]),
            _ => return None,
        })
    }
}
