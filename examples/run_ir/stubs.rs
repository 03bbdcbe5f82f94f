//! Stubs: a few instructions before functions of the host, which put the function's address into `r11` (no function's
//! argument) and go on to code that is the same for all stubs of a kind.

use crate::signals::{NOTED, run_noted};
use crate::waits::run_ir_wait;
use memmap2::MmapMut;
use std::arch::global_asm;

/// Bytes of a stub.
const STUB: usize = 48;

/// What a stub does, and before which function.
#[derive(Clone, Copy)]
pub enum Stub {
    /// Runs the handlers of signals that were noted, if any, and goes on.
    Looks(usize),
    /// Calls a function that waits, as [`crate::waits`] has it.
    Waits(usize),
}

/// Writes stubs, which live as long as the process. The functions themselves where there is no memory.
pub fn before(stubs: &[Stub]) -> Vec<usize> {
    if stubs.is_empty() {
        return Vec::new();
    }
    let code: Vec<_> = stubs.iter().map(|stub| stub.code()).collect();
    match place(&code.concat()) {
        Ok(first) => (0..stubs.len()).map(|i| first + i * STUB).collect(),
        Err(_) => stubs.iter().map(|stub| stub.target()).collect(),
    }
}

fn place(code: &[u8]) -> std::io::Result<usize> {
    let mut memory = MmapMut::map_anon(code.len())?;
    memory.copy_from_slice(code);
    let memory = memory.make_exec()?;
    let first = memory.as_ptr() as usize;
    std::mem::forget(memory);
    Ok(first)
}

impl Stub {
    fn target(self) -> usize {
        let (Stub::Looks(target) | Stub::Waits(target)) = self;
        target
    }

    fn code(self) -> [u8; STUB] {
        match self {
            Stub::Looks(target) => looks(target),
            Stub::Waits(target) => waits(target),
        }
    }
}

/// Puts instructions into a stub.
fn assemble(parts: &[&[u8]]) -> [u8; STUB] {
    let mut code = [0xcc; STUB];
    let mut at = 0;
    for part in parts {
        code[at..at + part.len()].copy_from_slice(part);
        at += part.len();
    }
    code
}

const MOVABS_R11: &[u8] = &[0x49, 0xbb];
/// `jmp [rip]`: the address follows.
const JUMP: &[u8] = &[0xff, 0x25, 0, 0, 0, 0];

fn waits(target: usize) -> [u8; STUB] {
    assemble(&[
        MOVABS_R11,
        &(target as u64).to_le_bytes(),
        JUMP,
        &(run_ir_wait as *const () as u64).to_le_bytes(),
    ])
}

fn looks(target: usize) -> [u8; STUB] {
    assemble(&[
        MOVABS_R11,
        &((&raw const NOTED) as u64).to_le_bytes(),
        &[0x41, 0x83, 0x3b, 0x00], // cmp dword [r11], 0
        MOVABS_R11,
        &(target as u64).to_le_bytes(),
        &[0x75, 0x03],       // jne over the next
        &[0x41, 0xff, 0xe3], // jmp r11
        JUMP,
        &(run_ir_stub_looks as *const () as u64).to_le_bytes(),
    ])
}

unsafe extern "C" {
    /// Runs the noted handlers, and goes on to the function in `r11`.
    fn run_ir_stub_looks();
}

// All that a function may be given is kept: six integers, vectors of all sizes, how many of these in rax, the static
// chain in r10; and the target in r11. 2752 bytes are XSAVE's area for the vectors of the largest processor. A handler
// may end the thread, which unwinds this frame: so there is a record for it.
global_asm!(
    ".hidden run_ir_stub_looks",
    ".globl run_ir_stub_looks",
    ".type run_ir_stub_looks,@function",
    "run_ir_stub_looks:",
    ".cfi_startproc",
    "push rbp",
    ".cfi_def_cfa_offset 16",
    ".cfi_offset rbp, -16",
    "mov rbp, rsp",
    ".cfi_def_cfa_register rbp",
    "push rdi",
    "push rsi",
    "push rdx",
    "push rcx",
    "push r8",
    "push r9",
    "push rax",
    "push r10",
    "push r11",
    "and rsp, -64",
    "sub rsp, 2752",
    "xor eax, eax",
    "mov ecx, 8",
    "lea rdi, [rsp + 512]", // XSAVE's header must be zero
    "rep stosq",
    "mov eax, 0xe6", // SSE, AVX, AVX-512
    "xor edx, edx",
    "xsave64 [rsp]",
    "call {run}",
    "mov eax, 0xe6",
    "xor edx, edx",
    "xrstor64 [rsp]",
    "lea rsp, [rbp - 72]",
    "pop r11",
    "pop r10",
    "pop rax",
    "pop r9",
    "pop r8",
    "pop rcx",
    "pop rdx",
    "pop rsi",
    "pop rdi",
    "pop rbp",
    ".cfi_def_cfa rsp, 8",
    ".cfi_restore rbp",
    "jmp r11",
    ".cfi_endproc",
    ".size run_ir_stub_looks, . - run_ir_stub_looks",
    run = sym run_noted,
);
