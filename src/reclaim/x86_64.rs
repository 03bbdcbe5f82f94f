//! What a scan needs to know of the processor.

use std::arch::asm;

/// Calls `f` with an address below everything that the caller's frames, and the registers that
/// calls preserve, hold: these are on the stack above it.
#[inline(never)]
pub(super) fn with_registers_on_stack<R>(f: impl FnOnce(usize) -> R) -> R {
    // Vector registers are nobody's over a call, in the convention of this system.
    let mut registers = [0usize; 6];
    // SAFETY: six stores to an array of six words; nothing else is touched.
    unsafe {
        asm!(
            "mov [{to}], rbx",
            "mov [{to} + 8], rbp",
            "mov [{to} + 16], r12",
            "mov [{to} + 24], r13",
            "mov [{to} + 32], r14",
            "mov [{to} + 40], r15",
            to = in(reg) registers.as_mut_ptr(),
            options(nostack, preserves_flags),
        );
    }
    let result = f(registers.as_ptr() as usize);
    // They stay where they are until `f` is done.
    std::hint::black_box(&registers);
    result
}
