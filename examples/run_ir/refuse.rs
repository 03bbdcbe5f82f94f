//! What `run_ir` cannot run, found before anything runs.
//!
//! A program that ran half its way and then died would be worse than one refused: the list names every construct
//! and where it stands.

use crate::ir::{self, Module, Value};
use crate::lifecycle;
use crate::sets;
use crate::symbols;
use inkwell::llvm_sys::LLVMOpcode;
use inkwell::llvm_sys::core::*;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Calling conventions that are C's on this machine once caller and callee agree: C, fast, cold, System V.
pub const LIKE_C: [u32; 4] = [0, 8, 9, 78];

/// libc functions whose callbacks come at any time, on any thread, or in a process without our workers.
const FOREIGN: [(&str, &str); 22] = [
    ("clone", "threads"),
    ("aio_read", "threads of libc's own"),
    ("aio_read64", "threads of libc's own"),
    ("aio_write", "threads of libc's own"),
    ("aio_write64", "threads of libc's own"),
    ("aio_fsync", "threads of libc's own"),
    ("aio_fsync64", "threads of libc's own"),
    ("lio_listio", "threads of libc's own"),
    ("lio_listio64", "threads of libc's own"),
    ("getaddrinfo_a", "threads of libc's own"),
    ("pthread_setcanceltype", "cancellation at any time"),
    ("mq_notify", "threads"),
    ("fork", CHILDREN),
    ("_Fork", CHILDREN),
    ("__fork", CHILDREN),
    ("__libc_fork", CHILDREN),
    ("forkpty", CHILDREN),
    ("daemon", CHILDREN),
    ("sigvec", "signal handlers of old"),
    ("sigset", "signal handlers of old"),
    ("sysv_signal", "signal handlers of old"),
    ("__sysv_signal", "signal handlers of old"),
];

/// A child has none of the threads that compile.
const CHILDREN: &str = "child processes that share the program's code";

/// System calls that do the same, by number.
const SYSTEM_CALLS: [(i64, &str); 4] = [
    (libc::SYS_fork, CHILDREN),
    (libc::SYS_vfork, CHILDREN),
    (libc::SYS_clone, "threads"),
    (libc::SYS_clone3, "threads"),
];

/// The largest alignment that there is room for.
const MOST_ALIGNED: u32 = 2 << 20;

/// Intrinsics that need more of a runtime than there is, by the start of their names.
const INTRINSICS: [(&str, &str); 9] = [
    ("llvm.eh.sjlj.", "exception handling by setjmp"),
    ("llvm.eh.unwind.init", "unwinders"),
    ("llvm.eh.return.", "unwinders"),
    ("llvm.coro.", "coroutines"),
    ("llvm.localescape", "structured exception handling"),
    ("llvm.localrecover", "structured exception handling"),
    ("llvm.experimental.gc.", "garbage collection"),
    ("llvm.init.trampoline", "trampolines on the stack"),
    ("llvm.experimental.deoptimize", "deoptimisation"),
];

/// The reasons to refuse, each with the places it stands at.
#[derive(Default, Debug)]
pub struct Refusal {
    reasons: BTreeMap<String, BTreeSet<String>>,
}

impl Refusal {
    fn add(&mut self, reason: impl Into<String>, place: impl Into<String>) {
        self.reasons
            .entry(reason.into())
            .or_default()
            .insert(place.into());
    }

    /// What LLVM says of the inline assembly in one of these functions.
    pub fn of_assembly(said: &str, functions: &[&String]) -> Self {
        let mut refusal = Refusal::default();
        let mut lines = said.lines().map(str::trim);
        let reason = lines.next().unwrap_or_default();
        for function in functions {
            refusal.add(format!("inline assembly ({reason})"), function.as_str());
        }
        refusal
    }

    /// One line a reason.
    pub fn lines(&self) -> impl Iterator<Item = String> {
        self.reasons.iter().map(|(reason, places)| {
            let places: Vec<_> = places.iter().map(String::as_str).collect();
            match places.join(", ").as_str() {
                "" => reason.clone(),
                places => format!("{reason}: {places}"),
            }
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines().try_for_each(|line| writeln!(f, "  {line}"))
    }
}

impl std::error::Error for Refusal {}

/// Ok if the program can run.
pub fn check(module: &Module<'_>) -> Result<(), Refusal> {
    let mut refusal = Refusal::default();
    module_level(module, &mut refusal);
    for global in ir::globals(module) {
        variable(module, global, &mut refusal);
    }
    for function in ir::functions(module) {
        if function.is_declaration() {
            declaration(module, function, &mut refusal);
        } else {
            body(function, &mut refusal);
        }
    }
    entry(module, &mut refusal);
    match refusal.reasons.is_empty() {
        true => Ok(()),
        false => Err(refusal),
    }
}

fn module_level(module: &Module<'_>, refusal: &mut Refusal) {
    let triple = module.get_triple().as_str().to_string_lossy().into_owned();
    let host = triple.starts_with("x86_64") && triple.contains("linux") && !triple.contains("x32");
    if !triple.is_empty() && !host {
        refusal.add("another machine's target triple", triple);
    }
    let mut length = 0;
    // SAFETY: the module is live.
    unsafe { LLVMGetModuleInlineAsm(module.as_mut_ptr(), &mut length) };
    if length != 0 {
        refusal.add("module-level assembly", "");
    }
}

fn variable(module: &Module<'_>, global: Value<'_>, refusal: &mut Refusal) {
    // SAFETY: a global variable.
    let thread_local = unsafe { LLVMIsThreadLocal(global.raw()) } != 0;
    if thread_local && global.is_declaration() && symbols::find(&global.name()).is_none() {
        refusal.add("thread-local variables of other modules", global.name());
        return;
    }
    if global.is_declaration() && !global.name().starts_with("llvm.") {
        unresolved(module, global, refusal);
    }
    alignment(global, refusal);
    if lifecycle::LISTS.contains(&&*global.name()) {
        for function in lifecycle::listed(global) {
            if function.is_declaration() {
                refusal.add(
                    "constructors or destructors of other modules",
                    function.name(),
                );
            } else if !function.is_function() {
                let reason = "constructors or destructors that are indirect functions";
                refusal.add(reason, function.name());
            }
        }
    }
}

fn alignment(global: Value<'_>, refusal: &mut Refusal) {
    // SAFETY: a global.
    if unsafe { LLVMGetAlignment(global.raw()) } > MOST_ALIGNED {
        let reason = format!("an alignment of more than {MOST_ALIGNED}");
        refusal.add(reason, global.name());
    }
}

fn declaration(module: &Module<'_>, function: Value<'_>, refusal: &mut Refusal) {
    let name = function.name();
    if name.starts_with("llvm.") {
        let known = INTRINSICS.iter().find(|(start, _)| name.starts_with(start));
        if let Some((_, reason)) = known {
            for place in places(function) {
                refusal.add(*reason, place);
            }
        }
        return;
    }
    if name == "syscall" {
        system_calls(function, refusal);
    }
    if let Some((_, reason)) = FOREIGN.iter().find(|(foreign, _)| *foreign == name) {
        refusal.add(format!("{reason} ({name})"), places(function).join(", "));
    } else {
        unresolved(module, function, refusal);
    }
}

fn system_calls(syscall: Value<'_>, refusal: &mut Refusal) {
    for call in syscall
        .users()
        .into_iter()
        .filter(|user| user.is_instruction())
    {
        // SAFETY: an instruction; of the operand only if it is a constant integer.
        let number = call.operand(0).and_then(|number| unsafe {
            let constant = !LLVMIsAConstantInt(number.raw()).is_null();
            constant.then(|| LLVMConstIntGetSExtValue(number.raw()))
        });
        let known = SYSTEM_CALLS.iter().find(|(of, _)| Some(*of) == number);
        if let (Some((number, reason)), Some(place)) = (known, call.parent()) {
            refusal.add(format!("{reason} (system call {number})"), place.name());
        }
    }
}

fn unresolved(module: &Module<'_>, global: Value<'_>, refusal: &mut Refusal) {
    let weak = global.linkage() == inkwell::llvm_sys::LLVMLinkage::LLVMExternalWeakLinkage;
    let name = global.name();
    let symbol = name.trim_start_matches('\u{1}');
    if is_bound_of_set(module, symbol) {
        return;
    }
    if global.is_used() && !weak && symbols::find(symbol).is_none() {
        let places = places(global);
        let by = if places.is_empty() {
            String::new()
        } else {
            format!(" (used by {})", places.join(", "))
        };
        refusal.add("unresolved external symbols", format!("{symbol}{by}"));
    }
}

/// Whether a name means the start or stop of a section with variables in it.
fn is_bound_of_set(module: &Module<'_>, name: &str) -> bool {
    let section = sets::section_of(name);
    section.is_some_and(|section| !sets::members(module, section).is_empty())
}

/// The functions that a global is used in, directly.
fn places(global: Value<'_>) -> Vec<String> {
    let users = global
        .users()
        .into_iter()
        .filter(|user| user.is_instruction());
    let names: BTreeSet<_> = users.filter_map(Value::parent).map(Value::name).collect();
    names.into_iter().collect()
}

fn body(function: Value<'_>, refusal: &mut Refusal) {
    let name = function.name();
    // SAFETY: a function.
    unsafe {
        if !LLVMGetGC(function.raw()).is_null() {
            refusal.add("garbage collection", &*name);
        }
        if LLVMHasPrefixData(function.raw()) != 0 || LLVMHasPrologueData(function.raw()) != 0 {
            refusal.add("prefix or prologue data", &*name);
        }
    }
    alignment(function, refusal);
    if !LIKE_C.contains(&function.convention()) {
        refusal.add(convention(function.convention()), &*name);
    }
    for instruction in function.instructions() {
        if let Some(reason) = instruction_reason(instruction) {
            refusal.add(reason, &*name);
        }
    }
}

fn instruction_reason(instruction: Value<'_>) -> Option<String> {
    use LLVMOpcode::*;
    let exception = |what: &str| Some(format!("exception handling ({what})"));
    match instruction.opcode()? {
        LLVMCleanupPad | LLVMCleanupRet => exception("cleanuppad"),
        LLVMCatchPad | LLVMCatchRet | LLVMCatchSwitch => exception("catchpad"),
        LLVMCall | LLVMInvoke | LLVMCallBr if !LIKE_C.contains(&instruction.call_convention()) => {
            Some(convention(instruction.call_convention()))
        }
        _ => None,
    }
}

fn convention(number: u32) -> String {
    let name = match number {
        10 => "GHC's",
        13 => "anyregcc",
        14 => "preserve_mostcc",
        15 => "preserve_allcc",
        16 => "swiftcc",
        18 => "tailcc",
        20 => "swifttailcc",
        79 => "win64cc",
        other => return format!("calling convention {other}"),
    };
    format!("calling convention {name}")
}

fn entry(module: &Module<'_>, refusal: &mut Refusal) {
    let Some(main) = ir::function(module, "main").filter(|main| !main.is_declaration()) else {
        refusal.add("no function main", "");
        return;
    };
    // SAFETY: a function; its type is a function type.
    let parameters = unsafe { LLVMCountParams(main.raw()) };
    if parameters > 3 {
        refusal.add(format!("a main of {parameters} parameters"), "main");
    }
}
