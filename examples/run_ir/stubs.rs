//! Stubs between the program and functions of the host: each looks whether a signal was noted, and goes on.
//!
//! Only programs with signal handlers get them.

use crate::signals::{NOTED, run_noted};
use memmap2::MmapMut;
use std::arch::global_asm;

/// Bytes of a stub.
const STUB: usize = 48;

/// A stub before each of these functions, in their order; the functions themselves where there is no memory.
///
/// The stubs live as long as the process.
pub fn before(targets: Vec<usize>) -> Vec<usize> {
    match write(&targets) {
        Ok(first) => (0..targets.len()).map(|i| first + i * STUB).collect(),
        Err(_) => targets,
    }
}

fn write(targets: &[usize]) -> std::io::Result<usize> {
    let mut memory = MmapMut::map_anon((targets.len() * STUB).max(1))?;
    for (stub, target) in memory.chunks_exact_mut(STUB).zip(targets) {
        stub.copy_from_slice(&code(*target));
    }
    let memory = memory.make_exec()?;
    let first = memory.as_ptr() as usize;
    std::mem::forget(memory);
    Ok(first)
}

/// Goes on to the function if nothing was noted. `r11` is no function's argument.
fn code(target: usize) -> [u8; STUB] {
    let mut code = [0xcc; STUB];
    let mut at = 0;
    let mut push = |bytes: &[u8]| {
        code[at..at + bytes.len()].copy_from_slice(bytes);
        at += bytes.len();
    };
    push(&[0x49, 0xbb]); // movabs r11, NOTED
    push(&((&raw const NOTED) as u64).to_le_bytes());
    push(&[0x41, 0x83, 0x3b, 0x00]); // cmp dword [r11], 0
    push(&[0x49, 0xbb]); // movabs r11, target
    push(&(target as u64).to_le_bytes());
    push(&[0x75, 0x03]); // jne over the next
    push(&[0x41, 0xff, 0xe3]); // jmp r11
    push(&[0xff, 0x25, 0, 0, 0, 0]); // jmp [rip]
    push(&(run_ir_stub_slow as *const () as u64).to_le_bytes());
    code
}

unsafe extern "C" {
    /// Runs the noted handlers, and goes on to the function in `r11`.
    fn run_ir_stub_slow();
}

// All that a function may be given is kept: six integers, vectors of all sizes, how many of these in rax, the static
// chain in r10; and the target in r11. 2752 bytes are XSAVE's area for the vectors of the largest processor.
global_asm!(
    ".globl run_ir_stub_slow",
    ".hidden run_ir_stub_slow",
    "run_ir_stub_slow:",
    "push rbp",
    "mov rbp, rsp",
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
    "jmp r11",
    run = sym run_noted,
);
