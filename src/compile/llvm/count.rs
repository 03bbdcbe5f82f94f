//! Counting: code of a tier that promotes adds to its thread's counter, and calls the cache when that is full.
//!
//! Where it counts, and when that comes in, is said in [`super::places`]; where the counters are, in
//! [`crate::tier::counts`].

use std::collections::HashMap;

use inkwell::llvm_sys::core::*;
use inkwell::llvm_sys::prelude::{LLVMBuilderRef, LLVMTypeRef, LLVMValueRef};
use inkwell::llvm_sys::{LLVMAttributeFunctionIndex, LLVMCallConv, LLVMIntPredicate};
use inkwell::module::Module;

use super::job::Counting;
use super::lower::{enum_attribute, name_bytes};
use super::machine::OptLevel;
use super::places::{self, Look, PRESERVE_ALL, Place, Places};
use crate::compile::symbols::{COUNTER_FULL, COUNTER_ROUND};
use crate::method::FULL;
use crate::method::targets::ENDBR64;
use crate::tier::{CALL, counts};

/// The address space of what is found from the thread pointer (fs) on.
const OF_THREAD: u32 = 257;

/// Makes every function of the module count for its method. `level` is that of the code generator.
///
/// LLVM's fast instruction selector knows no thread-local variables, nor the convention of our stubs, and what it does not
/// know costs as much as all the rest of a small function. So where it is used a way round a loop is a plain call; and
/// the entry, wherever LLVM generates the code, is bytes in front of the function that nobody has to compile.
pub(super) fn add(module: &Module<'_>, counting: &Counting<'_>, level: OptLevel) {
    let methods: HashMap<u32, u64> = counting.methods.iter().copied().collect();
    // SAFETY: a live module of this thread, and its functions.
    unsafe {
        let functions = places::functions(module);
        let (shared, places) = (Shared::new(module, counting), Places::new(module));
        for function in functions {
            let cell = owner(name_bytes(function));
            let Some(method) = cell.and_then(|cell| methods.get(&cell).copied()) else {
                continue;
            };
            let counter = Counter {
                shared: &shared,
                method,
            };
            if !counting.by_bytes {
                places.add(function, &counter);
                continue;
            }
            if leaves_r11_alone(function) && LLVMHasPrologueData(function) == 0 {
                LLVMSetPrologueData(function, shared.bytes(&prologue(counting, method)));
            }
            match level {
                OptLevel::O0 => places.call_on_rounds(function, |builder| counter.round(builder)),
                _ => places.add_rounds(function, &counter),
            }
        }
    }
}

/// Whether a function finds nothing in r11, and may change it: by its convention, unless it keeps all registers.
///
/// # Safety
/// `function` is live.
unsafe fn leaves_r11_alone(function: LLVMValueRef) -> bool {
    use LLVMCallConv::*;
    const KEEPS_ALL: &str = "no_caller_saved_registers";
    let (name, len) = (KEEPS_ALL.as_ptr().cast(), KEEPS_ALL.len() as u32);
    // SAFETY: the caller's promise; the name is as long as that.
    let (convention, keeps_all) = unsafe {
        let attribute =
            LLVMGetStringAttributeAtIndex(function, LLVMAttributeFunctionIndex, name, len);
        (LLVMGetFunctionCallConv(function), !attribute.is_null())
    };
    if keeps_all {
        return false;
    }
    let those = [LLVMCCallConv, LLVMFastCallConv, LLVMColdCallConv];
    those.into_iter().any(|known| known as u32 == convention)
}

/// What counts a call, before the function's first instruction: it changes r11 and the flags.
fn prologue(counting: &Counting<'_>, method: u64) -> Vec<u8> {
    let place = (counts::place(method) as u32).to_le_bytes();
    let mut bytes = Vec::with_capacity(68);
    if counting.branch_targets {
        bytes.extend(ENDBR64);
    }
    bytes.extend([0x64, 0x4c, 0x8b, 0x1c, 0x25]); // mov r11, fs:[table]
    bytes.extend((counting.table as i32).to_le_bytes());
    bytes.extend([0x41, 0x83, 0x83]); // add dword ptr [r11 + place], CALL
    bytes.extend(place);
    bytes.push(CALL as u8);
    bytes.extend([0x41, 0x81, 0xbb]); // cmp dword ptr [r11 + place], threshold
    bytes.extend(place);
    bytes.extend(counting.threshold.to_le_bytes());
    bytes.extend([0x72, FULL_BYTES]); // jb to the function
    bytes.extend([0x4c, 0x8d, 0x1d, FULL_BYTES - 7, 0, 0, 0]); // lea r11, [the function]
    bytes.extend([0x41, 0x53]); // push r11
    bytes.extend([0x49, 0xbb]); // movabs r11, method
    bytes.extend((method | FULL).to_le_bytes());
    bytes.extend([0x41, 0x53]); // push r11
    bytes.extend([0x49, 0xbb]); // movabs r11, stub
    bytes.extend(counting.stub.to_le_bytes());
    bytes.extend([0x41, 0xff, 0xe3]); // jmp r11
    bytes
}

/// Of these, the ones that are executed when the counter is full.
const FULL_BYTES: u8 = 34;

/// The cell of the method that a function of the module belongs to, by its name: `inkpot.method.N`, or
/// `inkpot.local.N.NAME`, and what passes have split off from these.
pub(super) fn owner(name: &[u8]) -> Option<u32> {
    let name = std::str::from_utf8(name).ok()?;
    let name = name.strip_prefix("inkpot.")?;
    let number = name
        .strip_prefix("method.")
        .or_else(|| name.strip_prefix("local."))?;
    number.split('.').next()?.parse().ok()
}

/// What all counters of a module are made of.
struct Shared {
    word: LLVMTypeRef,
    long: LLVMTypeRef,
    byte: LLVMTypeRef,
    pointer: LLVMTypeRef,
    /// Where the thread's table is.
    table: LLVMValueRef,
    full: LLVMValueRef,
    full_type: LLVMTypeRef,
    nest: u32,
    round: LLVMValueRef,
    round_type: LLVMTypeRef,
    threshold: u32,
}

impl Shared {
    /// # Safety
    /// A live module of this thread.
    unsafe fn new(module: &Module<'_>, counting: &Counting<'_>) -> Self {
        // SAFETY: the caller's promise; types of the module's context.
        unsafe {
            let context = LLVMGetModuleContext(module.as_mut_ptr());
            let long = LLVMInt64TypeInContext(context);
            let pointer = LLVMPointerTypeInContext(context, 0);
            let (full, full_type) = places::declare_stub(module, COUNTER_FULL, &mut [pointer]);
            let word = LLVMInt32TypeInContext(context);
            let (round, round_type) =
                places::declare(module, COUNTER_ROUND, &mut [long, word, long]);
            let offset = LLVMConstInt(long, counting.table as u64, 1);
            let of_thread = LLVMPointerTypeInContext(context, OF_THREAD);
            Self {
                word,
                long,
                byte: LLVMInt8TypeInContext(context),
                pointer,
                table: LLVMConstIntToPtr(offset, of_thread),
                full,
                full_type,
                nest: enum_attribute("nest"),
                round,
                round_type,
                threshold: counting.threshold,
            }
        }
    }
}

impl Shared {
    /// # Safety
    /// The module is live.
    unsafe fn bytes(&self, bytes: &[u8]) -> LLVMValueRef {
        let (start, len) = (bytes.as_ptr().cast(), bytes.len());
        // SAFETY: the caller's promise; the bytes are copied.
        unsafe { LLVMConstStringInContext2(LLVMGetTypeContext(self.long), start, len, 1) }
    }
}

/// One method's.
struct Counter<'s> {
    shared: &'s Shared,
    method: u64,
}

impl Counter<'_> {
    /// Emits the call that counts a way round a loop.
    ///
    /// # Safety
    /// The builder is in a function of the module.
    unsafe fn round(&self, builder: LLVMBuilderRef) {
        let shared = self.shared;
        // SAFETY: the caller's promise: values and types of the module.
        unsafe {
            let long = |n| LLVMConstInt(shared.long, n, 0);
            let threshold = LLVMConstInt(shared.word, shared.threshold.into(), 0);
            let mut arguments = [
                long(counts::place(self.method)),
                threshold,
                long(self.method | FULL),
            ];
            let (first, count) = (arguments.as_mut_ptr(), arguments.len() as u32);
            LLVMBuildCall2(
                builder,
                shared.round_type,
                shared.round,
                first,
                count,
                c"".as_ptr(),
            );
        }
    }
}

impl Look for Counter<'_> {
    unsafe fn condition(&self, builder: LLVMBuilderRef, place: Place) -> LLVMValueRef {
        let unnamed = c"".as_ptr();
        let shared = self.shared;
        let weight = match place {
            Place::Entry => CALL,
            Place::Round => 1,
        };
        // SAFETY: the caller's promise: values and types of the module. Volatile, as the thread may be another one at
        // the next count, for all that LLVM knows.
        unsafe {
            let table = LLVMBuildLoad2(builder, shared.pointer, shared.table, unnamed);
            LLVMSetVolatile(table, 1);
            let at = LLVMConstInt(shared.long, counts::place(self.method), 0);
            let counter = LLVMBuildGEP2(builder, shared.byte, table, [at].as_mut_ptr(), 1, unnamed);
            let before = LLVMBuildLoad2(builder, shared.word, counter, unnamed);
            LLVMSetVolatile(before, 1);
            let weight = LLVMConstInt(shared.word, weight.into(), 0);
            let after = LLVMBuildAdd(builder, before, weight, unnamed);
            LLVMSetVolatile(LLVMBuildStore(builder, after, counter), 1);
            let threshold = LLVMConstInt(shared.word, shared.threshold.into(), 0);
            LLVMBuildICmp(
                builder,
                LLVMIntPredicate::LLVMIntULT,
                after,
                threshold,
                unnamed,
            )
        }
    }

    unsafe fn otherwise(&self, builder: LLVMBuilderRef) {
        let shared = self.shared;
        // SAFETY: the caller's promise.
        unsafe {
            let number = LLVMConstInt(shared.long, self.method | FULL, 0);
            let mut argument = [LLVMConstIntToPtr(number, shared.pointer)];
            let (stub, ty) = (shared.full, shared.full_type);
            let call = LLVMBuildCall2(builder, ty, stub, argument.as_mut_ptr(), 1, c"".as_ptr());
            LLVMSetInstructionCallConv(call, PRESERVE_ALL);
            let context = LLVMGetTypeContext(shared.long);
            LLVMAddCallSiteAttribute(call, 1, LLVMCreateEnumAttribute(context, shared.nest, 0));
        }
    }
}
