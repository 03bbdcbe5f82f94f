//! Loads through the GOT, rewritten where the target is near: each form, with
//! the bytes before and after.

use ::object::elf::{self, RelocationType};

use super::{Assembler, NEAR, Part, link_at};

const X: RelocationType = elf::R_X86_64_GOTPCRELX;
const REX: RelocationType = elf::R_X86_64_REX_GOTPCRELX;

/// Bytes before the instruction, so that nothing is at the section's edge.
const LEAD: usize = 4;

/// Links `op` + four bytes of field against a symbol at `target`; returns the
/// instruction, and how many bytes of GOT it took.
fn relaxed(op: &[u8], kind: RelocationType, target: u64) -> (Vec<u8>, u64) {
    let mut code = vec![0x90; LEAD];
    code.extend(op);
    code.extend([0; 4]);
    let end = code.len();
    code.extend([0x90; 8]);
    let mut object = Assembler::default();
    let at = (LEAD + op.len()) as u64;
    let text = object.part(Part::text(&code).at(at, kind, 2, -4));
    object.function("f", text, 0, code.len() as u64);
    object.import("s");
    let (linked, memory) = link_at(&object.finish(), NEAR, &[("s", target)]);
    assert!(linked.failed.is_empty());
    let text = memory.text();
    assert!(text[..LEAD].iter().all(|&byte| byte == 0x90));
    assert!(text[end..end + 8].iter().all(|&byte| byte == 0x90));
    (text[LEAD..end].to_vec(), linked.used.constants)
}

/// The distance to `target` from the end of an instruction of `len` bytes.
fn distance(target: u64, len: usize) -> [u8; 4] {
    let end = NEAR.text + (LEAD + len) as u64;
    (target.wrapping_sub(end) as u32).to_le_bytes()
}

/// Beyond 2 GiB from the code, but not within 32 bits.
const FAR: u64 = 0x1234_5678_9ABC_DEF0;
/// Beyond 2 GiB from the code, within 32 bits.
const LOW: u64 = 0x1234_5678;
const CLOSE: u64 = NEAR.text + 0x12_3456;

fn with(head: &[u8], tail: [u8; 4]) -> Vec<u8> {
    [head, &tail].concat()
}

#[test]
fn loads_become_addresses() {
    // mov r12, [rip+s] -> lea r12, [rip+s]
    let (code, got) = relaxed(&[0x4C, 0x8B, 0x25], REX, CLOSE);
    assert_eq!(code, with(&[0x4C, 0x8D, 0x25], distance(CLOSE, 7)));
    assert_eq!(got, 0);
    // mov eax, [rip+s] -> lea eax, [rip+s]
    let (code, got) = relaxed(&[0x8B, 0x05], X, CLOSE);
    assert_eq!(code, with(&[0x8D, 0x05], distance(CLOSE, 6)));
    assert_eq!(got, 0);
}

#[test]
fn loads_of_low_addresses_become_immediates() {
    let imm = (LOW as u32).to_le_bytes();
    // mov r12, [rip+s] -> mov r12, imm: the register goes from REX.R to REX.B.
    let (code, got) = relaxed(&[0x4C, 0x8B, 0x25], REX, LOW);
    assert_eq!(code, with(&[0x49, 0xC7, 0xC4], imm));
    assert_eq!(got, 0);
    // mov rdx, [rip+s] -> mov rdx, imm
    let (code, _) = relaxed(&[0x48, 0x8B, 0x15], REX, LOW);
    assert_eq!(code, with(&[0x48, 0xC7, 0xC2], imm));
    // mov edx, [rip+s] -> mov edx, imm
    let (code, _) = relaxed(&[0x8B, 0x15], X, LOW);
    assert_eq!(code, with(&[0xC7, 0xC2], imm));
    // mov r9d, [rip+s] -> mov r9d, imm
    let (code, _) = relaxed(&[0x44, 0x8B, 0x0D], REX, LOW);
    assert_eq!(code, with(&[0x41, 0xC7, 0xC1], imm));
}

#[test]
fn branches_become_direct() {
    // call [rip+s] -> addr32 call s
    let (code, got) = relaxed(&[0xFF, 0x15], X, CLOSE);
    assert_eq!(code, with(&[0x67, 0xE8], distance(CLOSE, 6)));
    assert_eq!(got, 0);
    // jmp [rip+s] -> jmp s; nop. The distance counts from the jump's own end.
    let (code, got) = relaxed(&[0xFF, 0x25], X, CLOSE);
    let mut expected = with(&[0xE9], distance(CLOSE, 5));
    expected.push(0x90);
    assert_eq!(code, expected);
    assert_eq!(got, 0);
}

#[test]
fn tests_compare_with_immediates() {
    let imm = (LOW as u32).to_le_bytes();
    // test r12, [rip+s] -> test r12, imm
    let (code, got) = relaxed(&[0x4C, 0x85, 0x25], REX, LOW);
    assert_eq!(code, with(&[0x49, 0xF7, 0xC4], imm));
    assert_eq!(got, 0);
    // test ecx, [rip+s] -> test ecx, imm
    let (code, _) = relaxed(&[0x85, 0x0D], X, LOW);
    assert_eq!(code, with(&[0xF7, 0xC1], imm));
}

#[test]
fn arithmetic_takes_immediates() {
    let imm = (LOW as u32).to_le_bytes();
    // add or adc sbb and sub xor cmp
    for digit in 0..8 {
        // op r12, [rip+s] -> op r12, imm
        let (code, got) = relaxed(&[0x4C, digit << 3 | 3, 0x25], REX, LOW);
        assert_eq!(code, with(&[0x49, 0x81, 0xC4 | digit << 3], imm));
        assert_eq!(got, 0);
        // op esi, [rip+s] -> op esi, imm
        let (code, _) = relaxed(&[digit << 3 | 3, 0x35], X, LOW);
        assert_eq!(code, with(&[0x81, 0xC6 | digit << 3], imm));
    }
}

/// What is too far stays as it is, and takes a slot.
#[test]
fn far_targets_are_loaded_from_the_got() {
    let forms: [(&[u8], RelocationType, u64); 7] = [
        (&[0x4C, 0x8B, 0x25], REX, FAR),
        (&[0x8B, 0x05], X, FAR),
        (&[0xFF, 0x15], X, FAR),
        (&[0xFF, 0x25], X, LOW),
        (&[0x4C, 0x85, 0x25], REX, CLOSE),
        (&[0x48, 0x3B, 0x05], REX, CLOSE),
        // The first address that does not fit a sign-extended immediate.
        (&[0x48, 0x3B, 0x05], REX, 1 << 31),
    ];
    for (op, kind, target) in forms {
        let (code, got) = relaxed(op, kind, target);
        let slot = distance(NEAR.constants, op.len() + 4);
        assert_eq!(code, with(op, slot));
        assert_eq!(got, 8);
    }
}

/// Instructions and kinds that are no known form: the GOT always works.
#[test]
fn unknown_forms_are_loaded_from_the_got() {
    let forms: [(&[u8], RelocationType); 8] = [
        // Not relative to rip.
        (&[0x48, 0x8B, 0x80], REX),
        // push [rip+s]; an opcode that is none of them; one without its prefix.
        (&[0xFF, 0x35], X),
        (&[0x48, 0x89, 0x05], REX),
        (&[0x90, 0x8B, 0x05], REX),
        // A call with a prefix that does not belong to it.
        (&[0x48, 0xFF, 0x15], REX),
        // Never to be relaxed.
        (&[0x48, 0x8B, 0x05], elf::R_X86_64_GOTPCREL),
        (&[0xD5, 0x48, 0x8B, 0x05], elf::R_X86_64_CODE_4_GOTPCRELX),
        (&[0xFF, 0x15], elf::R_X86_64_GOTPCREL),
    ];
    for (op, kind) in forms {
        let (code, got) = relaxed(op, kind, CLOSE);
        let slot = distance(NEAR.constants, op.len() + 4);
        assert_eq!(code, with(op, slot));
        assert_eq!(got, 8);
    }
}

/// At the beginning of a section there is no instruction before the field.
#[test]
fn nothing_is_relaxed_across_the_edge() {
    for at in 0..3 {
        let mut code = vec![0x8B; 16];
        code[..at as usize].fill(0x05);
        let mut object = Assembler::default();
        let text = object.part(Part::text(&code).at(at, REX, 2, -4));
        object.function("f", text, 0, 16);
        object.import("s");
        let (linked, memory) = link_at(&object.finish(), NEAR, &[("s", CLOSE)]);
        assert_eq!(linked.used.constants, 8);
        assert_eq!(memory.text()[..at as usize], code[..at as usize]);
    }
}
