//! What a call of an empty cell runs: it waits for the code, then goes there as if nothing had
//! been.
//!
//! The caller is jitted code in the middle of a call, by any prototype of the C convention: so
//! every register that may carry an argument (the count of vector registers in al and the static
//! chain in r10 too), the whole vector and x87 state and errno are the callee's to find as they
//! were. The state is saved by XSAVE at the size that the processor states for what the system
//! enabled, or FXSAVE where there is no XSAVE.
//!
//! One file per processor would be the rule; this one holds the little that is not portable.

use std::arch::global_asm;
use std::arch::x86_64::CpuidResult;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

/// What a cache's thunks hand to the resolver. The assembly below knows the first three fields.
#[repr(C)]
pub(crate) struct ResolveContext {
    /// Bytes for XSAVE, or 0 for FXSAVE.
    xsave_size: usize,
    resolve: unsafe extern "C" fn(*const ResolveContext, u64) -> usize,
    /// The cache, for `resolve`.
    owner: AtomicPtr<()>,
}

impl ResolveContext {
    /// `resolve` gets this context and the cell's number, on a pinned thread, below frames of
    /// jitted code: it must not unwind, and returns the address to go on at.
    pub(crate) fn new(resolve: unsafe extern "C" fn(*const ResolveContext, u64) -> usize) -> Self {
        Self {
            xsave_size: xsave_size(),
            resolve,
            owner: AtomicPtr::default(),
        }
    }

    /// Says whose thunks these are, before there is any.
    pub(crate) fn set_owner(&self, owner: *const ()) {
        self.owner.store(owner.cast_mut(), Ordering::Release);
    }

    pub(crate) fn owner(&self) -> *const () {
        self.owner.load(Ordering::Acquire)
    }
}

fn xsave_size() -> usize {
    static SIZE: OnceLock<usize> = OnceLock::new();
    *SIZE.get_or_init(|| {
        if !has_xsave() {
            return 0;
        }
        // Leaf 13: bytes for all that the system has enabled in XCR0.
        let size = cpuid(13).ebx as usize;
        size.next_multiple_of(64)
    })
}

pub(super) fn cpuid(leaf: u32) -> CpuidResult {
    #[allow(
        unused_unsafe,
        reason = "safe to call in newer compilers than we ask for"
    )]
    // SAFETY: every x86-64 processor has the instruction.
    unsafe {
        std::arch::x86_64::__cpuid_count(leaf, 0)
    }
}

/// Whether the system has XSAVE enabled (OSXSAVE).
pub(super) fn has_xsave() -> bool {
    cpuid(1).ecx & 1 << 27 != 0
}

/// The address that the stub jumps to, with the context in r11 and the number on the stack.
pub(crate) fn entry_point() -> usize {
    unsafe extern "C" {
        fn inkpot_resolve_entry();
    }
    inkpot_resolve_entry as *const () as usize
}

/// Where calls of empty cells come to, for a test that plays the processor.
#[cfg(feature = "_checked")]
#[allow(dead_code, reason = "for tests that play the processor")]
pub fn resolver() -> u64 {
    entry_point() as u64
}

/// What the assembly below does, for a test that plays the processor.
///
/// # Safety
/// As for what [`ResolveContext::new`] was given.
#[cfg(feature = "_checked")]
#[allow(dead_code, reason = "for tests that play the processor")]
pub unsafe fn resolve(context: u64, number: u64) -> u64 {
    let context = context as *const ResolveContext;
    // SAFETY: a cache's thunks have its context, which lives as long as they can be called.
    unsafe { ((*context).resolve)(context, number) as u64 }
}

global_asm!(
    // On entry: [rsp] = cell number, [rsp + 8] = the return address of the jitted call.
    ".pushsection .text.inkpot_resolve_entry,\"ax\",@progbits",
    ".p2align 4",
    ".hidden inkpot_resolve_entry",
    ".globl inkpot_resolve_entry",
    ".type inkpot_resolve_entry,@function",
    "inkpot_resolve_entry:",
    ".cfi_startproc",
    ".cfi_def_cfa rsp, 16",
    "endbr64",
    "push rbp",
    ".cfi_adjust_cfa_offset 8",
    ".cfi_offset rbp, -24",
    "mov rbp, rsp",
    ".cfi_def_cfa rbp, 24",
    "push rax",
    "push rcx",
    "push rdx",
    "push rsi",
    "push rdi",
    "push r8",
    "push r9",
    "push r10",
    "push r11", // the context: needed again after the call
    "and rsp, -64",
    "mov rcx, [r11]",
    "mov rdi, r11",
    "mov rsi, [rbp + 8]",
    "test rcx, rcx",
    "jz 2f",
    "sub rsp, rcx",
    "xor eax, eax",
    // XRSTOR wants a clean header; XSAVE writes only part of it.
    "mov [rsp + 512], rax",
    "mov [rsp + 520], rax",
    "mov [rsp + 528], rax",
    "mov [rsp + 536], rax",
    "mov [rsp + 544], rax",
    "mov [rsp + 552], rax",
    "mov [rsp + 560], rax",
    "mov [rsp + 568], rax",
    "mov eax, -1",
    "mov edx, -1",
    "xsave64 [rsp]",
    "cld",
    "call [r11 + 8]",
    "mov r11, rax",
    "mov eax, -1",
    "mov edx, -1",
    "xrstor64 [rsp]",
    "jmp 3f",
    "2:",
    "sub rsp, 512",
    "fxsave64 [rsp]",
    "call [r11 + 8]",
    "mov r11, rax",
    "fxrstor64 [rsp]",
    "3:",
    "lea rsp, [rbp - 64]",
    "pop r10",
    "pop r9",
    "pop r8",
    "pop rdi",
    "pop rsi",
    "pop rdx",
    "pop rcx",
    "pop rax",
    "pop rbp",
    ".cfi_def_cfa rsp, 16",
    ".cfi_restore rbp",
    "add rsp, 8",
    ".cfi_adjust_cfa_offset -8",
    "jmp r11",
    ".cfi_endproc",
    ".size inkpot_resolve_entry, . - inkpot_resolve_entry",
    ".popsection",
);
