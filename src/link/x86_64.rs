//! x86-64: what its relocations mean, and the instructions the linker writes.
//!
//! Everything that knows this processor is in this file. The rest of the linker
//! walks over relocations, and for each asks here for a [`Patch`]: the bytes to
//! write, and where. A patch usually covers the relocation's own field; a
//! relaxed one covers the instruction around it. Nothing here touches memory.
//!
//! # Reaching what is far away
//!
//! Code of the small model expects everything within 2 GiB. That holds for what
//! lies in the same region. The host's functions may be anywhere, and are reached
//! in two ways:
//!
//! ```text
//!   text                                  constants
//!   call  stub ────────┐                  ┌─────────────────────┐
//!                      ▼                  │ slot: 8-byte address│──► host function
//!   stub: jmp *[rip + slot] ─────────────►│                     │
//!                                         │                     │
//!   mov   rax, [rip + slot] ─────────────►│ (the same slot)     │
//!                                         └─────────────────────┘
//! ```
//!
//! A call or jump whose target is too far goes to a *stub*, 16 bytes next to the
//! code. What the compiler itself meant to go through the GOT finds the same
//! slot; and where the target turns out to be near, the load is *relaxed* into
//! something that needs no slot:
//!
//! ```text
//!   mov  r, [rip+slot]    8b /r      ->  lea r, [rip+S]      8d /r
//!                                    or  mov r, S            c7 /0  (S fits 32 bits)
//!   call [rip+slot]       ff /2      ->  addr32 call S       67 e8
//!   jmp  [rip+slot]       ff /4      ->  jmp S; nop          e9 .. 90
//!   test r, [rip+slot]    85 /r      ->  test r, S           f7 /0  (S fits 32 bits)
//!   op   r, [rip+slot]    03|8*n /r  ->  op r, S             81 /n  (S fits 32 bits)
//! ```
//!
//! # What LLVM 22 emits
//!
//! | in | PIC: small, medium | PIC: large | not PIC |
//! | --- | --- | --- | --- |
//! | code, `.text` `.ltext` | PC32 PLT32, GOTPCREL(X) and prefixed forms; medium: GOTPC32 GOTOFF64 | GOTPC64 GOT64 GOTOFF64; PLT32 PC32 of section-local code | 32 32S PC32 PLT32, some GOTPCRELX; large: 64 |
//! | constants, data (`.l*`: large) | 64, PC32 PC64 | 64, PC64 | 64 |
//! | `.gcc_except_table` | PC32, through `.data` | PC64 | 32; medium, large: 64 |
//! | `.eh_frame` | PC32; medium: PC64 | PC64 | PC32 32; medium, large: PC64 64 |
//! | thread-locals | TLSGD TLSLD DTPOFF32 GOTTPOFF TPOFF32 and TLSDESC | as small | GOTTPOFF TPOFF32 |
//!
//! All but those of thread-locals are done, and so are the other static ones of the
//! ABI (8, 16, PC8, PC16, GOT32, GOTPLT64, GOTPCREL64, PLTOFF64, SIZE32, SIZE64).
//! What belongs to thread-locals, or to images that are linked already, is refused
//! by name. Code that is not PIC, but for the large model, has to lie below 2 GiB
//! with all that it refers to; elsewhere it is out of range, by name.

use object::elf::{self, RelocationType};

/// Size and alignment of a stub.
pub(super) const STUB: u64 = 16;

/// Size and alignment of a GOT slot.
pub(super) const SLOT: u64 = 8;

/// What fills text that is no code: `int3`.
pub(super) const TRAP: u8 = 0xCC;

/// The alignment of each text section, whatever it asks for beneath that.
pub(super) const CODE_ALIGN: u64 = 16;

const REX_W: u8 = 0x48;
const REX_R: u8 = 0x04;
const NOP: u8 = 0x90;

/// What a relocation may take beside its own bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wants {
    /// Nothing.
    Nothing,
    /// That the GOT has an address.
    Base,
    /// A GOT slot.
    Slot,
    /// A stub with its slot, should the target be far.
    Stub,
}

/// A relocation in its surroundings.
pub(super) struct Site<'a> {
    /// The relocation's type.
    pub kind: RelocationType,
    /// The section's bytes before the field.
    pub before: &'a [u8],
    /// The address of the field (`P`).
    pub place: u64,
    /// Whether the section holds code.
    pub code: bool,
    /// The constant to add (`A`).
    pub addend: i64,
}

/// What a relocation refers to.
pub(super) struct Target {
    /// Its address (`S`).
    pub address: u64,
    /// Its size (`Z`), where the object knows it.
    pub size: Option<u64>,
}

/// The GOT and the stubs: made when first asked for.
pub(super) trait Tables {
    /// The address of the GOT.
    fn got(&self) -> u64;
    /// The address of the slot that holds the target's address.
    fn slot(&mut self) -> Result<u64, Fault>;
    /// The address of a stub that jumps to the target, if it may have one.
    fn stub(&mut self) -> Result<Option<u64>, Fault>;
}

/// Why a relocation could not be done. The caller knows the names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    Unsupported,
    OutOfRange(i128),
    Malformed(&'static str),
    Unresolved,
    Indirect,
}

/// Bytes to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Patch {
    /// How far before the field they begin.
    pub back: u8,
    len: u8,
    /// As a number, so that they stay in a register. The first is the lowest.
    bytes: u64,
}

impl Patch {
    fn new(back: u8, bytes: &[u8]) -> Self {
        let mut all = [0; 8];
        all[..bytes.len()].copy_from_slice(bytes);
        Self {
            back,
            len: bytes.len() as u8,
            bytes: u64::from_le_bytes(all),
        }
    }

    /// The field itself, of so many bytes.
    fn field(value: u64, width: usize) -> Self {
        Self {
            back: 0,
            len: width as u8,
            bytes: value,
        }
    }

    /// How many bytes there are.
    pub fn len(&self) -> usize {
        usize::from(self.len)
    }

    /// The bytes themselves, and what is of no meaning behind them.
    pub fn bytes(&self) -> [u8; 8] {
        self.bytes.to_le_bytes()
    }
}

/// The name of a relocation type, as the ABI spells it.
pub(super) fn name(kind: RelocationType) -> String {
    const NAMES: [&str; 52] = [
        "NONE",
        "64",
        "PC32",
        "GOT32",
        "PLT32",
        "COPY",
        "GLOB_DAT",
        "JUMP_SLOT",
        "RELATIVE",
        "GOTPCREL",
        "32",
        "32S",
        "16",
        "PC16",
        "8",
        "PC8",
        "DTPMOD64",
        "DTPOFF64",
        "TPOFF64",
        "TLSGD",
        "TLSLD",
        "DTPOFF32",
        "GOTTPOFF",
        "TPOFF32",
        "PC64",
        "GOTOFF64",
        "GOTPC32",
        "GOT64",
        "GOTPCREL64",
        "GOTPC64",
        "GOTPLT64",
        "PLTOFF64",
        "SIZE32",
        "SIZE64",
        "GOTPC32_TLSDESC",
        "TLSDESC_CALL",
        "TLSDESC",
        "IRELATIVE",
        "RELATIVE64",
        "39",
        "40",
        "GOTPCRELX",
        "REX_GOTPCRELX",
        "CODE_4_GOTPCRELX",
        "CODE_4_GOTTPOFF",
        "CODE_4_GOTPC32_TLSDESC",
        "CODE_5_GOTPCRELX",
        "CODE_5_GOTTPOFF",
        "CODE_5_GOTPC32_TLSDESC",
        "CODE_6_GOTPCRELX",
        "CODE_6_GOTTPOFF",
        "CODE_6_GOTPC32_TLSDESC",
    ];
    match NAMES.get(kind.0 as usize) {
        Some(name) => format!("R_X86_64_{name}"),
        None => format!("R_X86_64_{}", kind.0),
    }
}

/// How many bytes the relocation's field has; `None` for a kind not done here.
pub(super) fn width(kind: RelocationType) -> Option<usize> {
    Some(match kind {
        elf::R_X86_64_NONE => 0,
        elf::R_X86_64_8 | elf::R_X86_64_PC8 => 1,
        elf::R_X86_64_16 | elf::R_X86_64_PC16 => 2,
        elf::R_X86_64_32
        | elf::R_X86_64_32S
        | elf::R_X86_64_PC32
        | elf::R_X86_64_PLT32
        | elf::R_X86_64_GOT32
        | elf::R_X86_64_GOTPC32
        | elf::R_X86_64_GOTPCREL
        | elf::R_X86_64_GOTPCRELX
        | elf::R_X86_64_REX_GOTPCRELX
        | elf::R_X86_64_CODE_4_GOTPCRELX
        | elf::R_X86_64_CODE_5_GOTPCRELX
        | elf::R_X86_64_CODE_6_GOTPCRELX
        | elf::R_X86_64_SIZE32 => 4,
        elf::R_X86_64_64
        | elf::R_X86_64_PC64
        | elf::R_X86_64_GOT64
        | elf::R_X86_64_GOTPLT64
        | elf::R_X86_64_GOTOFF64
        | elf::R_X86_64_GOTPC64
        | elf::R_X86_64_GOTPCREL64
        | elf::R_X86_64_PLTOFF64
        | elf::R_X86_64_SIZE64 => 8,
        _ => return None,
    })
}

/// Whether the value is relative to the field's address.
pub(super) fn is_relative(kind: RelocationType) -> bool {
    matches!(
        kind,
        elf::R_X86_64_PC8
            | elf::R_X86_64_PC16
            | elf::R_X86_64_PC32
            | elf::R_X86_64_PC64
            | elf::R_X86_64_PLT32
            | elf::R_X86_64_GOTPCREL
            | elf::R_X86_64_GOTPCRELX
            | elf::R_X86_64_REX_GOTPCRELX
            | elf::R_X86_64_CODE_4_GOTPCRELX
            | elf::R_X86_64_CODE_5_GOTPCRELX
            | elf::R_X86_64_CODE_6_GOTPCRELX
    )
}

/// Whether the relocation takes the target's address at all.
pub(super) fn needs_address(kind: RelocationType) -> bool {
    !matches!(
        kind,
        elf::R_X86_64_NONE
            | elf::R_X86_64_GOTPC32
            | elf::R_X86_64_GOTPC64
            | elf::R_X86_64_SIZE32
            | elf::R_X86_64_SIZE64
    )
}

/// What the relocation may take of GOT and stubs. Asked before any address is
/// known, to learn how large they can become.
pub(super) fn wants(site: &Site<'_>) -> Wants {
    match site.kind {
        elf::R_X86_64_GOT32
        | elf::R_X86_64_GOT64
        | elf::R_X86_64_GOTPLT64
        | elf::R_X86_64_GOTPCREL
        | elf::R_X86_64_GOTPCREL64
        | elf::R_X86_64_GOTPCRELX
        | elf::R_X86_64_REX_GOTPCRELX
        | elf::R_X86_64_CODE_4_GOTPCRELX
        | elf::R_X86_64_CODE_5_GOTPCRELX
        | elf::R_X86_64_CODE_6_GOTPCRELX => Wants::Slot,
        elf::R_X86_64_GOTPC32
        | elf::R_X86_64_GOTPC64
        | elf::R_X86_64_GOTOFF64
        | elf::R_X86_64_PLTOFF64 => Wants::Base,
        elf::R_X86_64_PLT32 => Wants::Stub,
        elf::R_X86_64_PC32 if is_branch(site) => Wants::Stub,
        _ => Wants::Nothing,
    }
}

/// How many bytes before the field belong to an instruction that may be relaxed.
pub(super) fn relaxable(site: &Site<'_>) -> usize {
    let len = match site.kind {
        elf::R_X86_64_GOTPCRELX => 2,
        elf::R_X86_64_REX_GOTPCRELX => 3,
        _ => 0,
    };
    match site.code && site.addend == -4 && site.before.len() >= len {
        true => len,
        false => 0,
    }
}

/// Whether the field is the target of a call, a jump or a conditional jump.
fn is_branch(site: &Site<'_>) -> bool {
    site.code
        && site.addend == -4
        && match *site.before {
            [.., 0x0F, op] if op & 0xF0 == 0x80 => true,
            [.., op] => matches!(op, 0xE8 | 0xE9),
            [] => false,
        }
}

/// The bytes that the relocation writes.
pub(super) fn patch(
    site: &Site<'_>,
    target: &Target,
    tables: &mut impl Tables,
) -> Result<Option<Patch>, Fault> {
    let s = i128::from(target.address);
    let a = i128::from(site.addend);
    let p = i128::from(site.place);
    let size = || target.size.map(i128::from).ok_or(Fault::Unresolved);
    let patch = match site.kind {
        elf::R_X86_64_NONE => return Ok(None),
        elf::R_X86_64_8 => either(s + a, 1)?,
        elf::R_X86_64_16 => either(s + a, 2)?,
        elf::R_X86_64_32 => unsigned(s + a)?,
        elf::R_X86_64_32S => signed(s + a, 4)?,
        elf::R_X86_64_64 => whole(s + a),
        elf::R_X86_64_PC8 => signed(s + a - p, 1)?,
        elf::R_X86_64_PC16 => signed(s + a - p, 2)?,
        elf::R_X86_64_PC32 if !is_branch(site) => signed(s + a - p, 4)?,
        elf::R_X86_64_PC32 | elf::R_X86_64_PLT32 => branch(s + a - p, a - p, tables)?,
        elf::R_X86_64_PC64 => whole(s + a - p),
        elf::R_X86_64_GOT32 => {
            let slot = i128::from(tables.slot()?);
            signed(slot - i128::from(tables.got()) + a, 4)?
        }
        elf::R_X86_64_GOT64 | elf::R_X86_64_GOTPLT64 => {
            let slot = i128::from(tables.slot()?);
            whole(slot - i128::from(tables.got()) + a)
        }
        // The last three have prefixes (REX2, EVEX) under which nothing is relaxed.
        elf::R_X86_64_GOTPCREL
        | elf::R_X86_64_CODE_4_GOTPCRELX
        | elf::R_X86_64_CODE_5_GOTPCRELX
        | elf::R_X86_64_CODE_6_GOTPCRELX => signed(i128::from(tables.slot()?) + a - p, 4)?,
        elf::R_X86_64_GOTPCREL64 => whole(i128::from(tables.slot()?) + a - p),
        elf::R_X86_64_GOTPCRELX | elf::R_X86_64_REX_GOTPCRELX => {
            match relax(site, target.address) {
                Some(patch) => patch,
                None => signed(i128::from(tables.slot()?) + a - p, 4)?,
            }
        }
        elf::R_X86_64_GOTPC32 => signed(i128::from(tables.got()) + a - p, 4)?,
        elf::R_X86_64_GOTPC64 => whole(i128::from(tables.got()) + a - p),
        // There is no procedure linkage table: `L` is the function itself,
        // which 64 bits always reach.
        elf::R_X86_64_GOTOFF64 | elf::R_X86_64_PLTOFF64 => whole(s + a - i128::from(tables.got())),
        elf::R_X86_64_SIZE32 => unsigned(size()? + a)?,
        elf::R_X86_64_SIZE64 => whole(size()? + a),
        _ => return Err(Fault::Unsupported),
    };
    Ok(Some(patch))
}

/// A direct branch, or one through a stub where that is too far.
fn branch(direct: i128, from: i128, tables: &mut impl Tables) -> Result<Patch, Fault> {
    match signed(direct, 4) {
        Ok(patch) => Ok(patch),
        Err(far) => match tables.stub()? {
            Some(stub) => signed(i128::from(stub) + from, 4),
            None => Err(far),
        },
    }
}

/// A stub at `stub` that jumps to what `slot` holds.
pub(super) fn stub(stub: u64, slot: u64) -> Result<[u8; STUB as usize], Fault> {
    // jmp *[rip + slot]: relative to the end of its six bytes.
    let distance = i128::from(slot) - (i128::from(stub) + 6);
    let distance = i32::try_from(distance).map_err(|_| Fault::OutOfRange(distance))?;
    let mut bytes = [TRAP; STUB as usize];
    bytes[..2].copy_from_slice(&[0xFF, 0x25]);
    bytes[2..6].copy_from_slice(&distance.to_le_bytes());
    Ok(bytes)
}

/// The instruction around a GOT load, rewritten so that it needs no GOT; `None`
/// if the form is not known, or the target out of reach.
fn relax(site: &Site<'_>, target: u64) -> Option<Patch> {
    // Another addend would mean to load something beside the slot.
    if !site.code || site.addend != -4 {
        return None;
    }
    let &[.., op, modrm] = site.before else {
        return None;
    };
    let rex = match site.kind {
        elf::R_X86_64_REX_GOTPCRELX => match *site.before {
            [.., rex, _, _] if rex & 0xF0 == 0x40 => Some(rex),
            _ => return None,
        },
        elf::R_X86_64_GOTPCRELX => None,
        _ => return None,
    };
    // Only [rip + disp32] is relaxed.
    if modrm & 0xC7 != 0x05 {
        return None;
    }
    let near = |end: u64| i32::try_from(i128::from(target) - i128::from(end)).ok();
    let end = site.place.checked_add(4)?;
    match (op, modrm, rex) {
        (0xFF, 0x15, None) => {
            let [b0, b1, b2, b3] = near(end)?.to_le_bytes();
            Some(Patch::new(2, &[0x67, 0xE8, b0, b1, b2, b3]))
        }
        (0xFF, 0x25, None) => {
            let [b0, b1, b2, b3] = near(end - 1)?.to_le_bytes();
            Some(Patch::new(2, &[0xE9, b0, b1, b2, b3, NOP]))
        }
        (0x8B, _, _) => match near(end) {
            Some(distance) => {
                let [b0, b1, b2, b3] = distance.to_le_bytes();
                Some(Patch::new(2, &[0x8D, modrm, b0, b1, b2, b3]))
            }
            None => immediate(0xC7, 0, modrm, rex, target),
        },
        (0x85, _, _) => immediate(0xF7, 0, modrm, rex, target),
        // adc sub and so on: eight operations, each its own opcode row.
        (op, _, _) if op & 0xC7 == 0x03 => immediate(0x81, op >> 3, modrm, rex, target),
        _ => None,
    }
}

/// `op reg, imm32`: the register moves from the reg field (and REX.R) to the r/m
/// field (and REX.B). The immediate is sign-extended.
fn immediate(op: u8, digit: u8, modrm: u8, rex: Option<u8>, target: u64) -> Option<Patch> {
    let [b0, b1, b2, b3] = i32::try_from(target).ok()?.to_le_bytes();
    let modrm = 0xC0 | digit << 3 | (modrm >> 3 & 7);
    Some(match rex {
        Some(rex) => {
            let rex = rex & REX_W | (rex & REX_R) >> 2;
            Patch::new(3, &[rex, op, modrm, b0, b1, b2, b3])
        }
        None => Patch::new(2, &[op, modrm, b0, b1, b2, b3]),
    })
}

/// A field of 64 bits. It wraps around: addresses do, too.
fn whole(value: i128) -> Patch {
    Patch::field(value as u64, 8)
}

fn signed(value: i128, width: usize) -> Result<Patch, Fault> {
    let limit = 1i128 << (8 * width - 1);
    narrow(value, -limit, limit, width)
}

fn unsigned(value: i128) -> Result<Patch, Fault> {
    narrow(value, 0, 1 << 32, 4)
}

/// Fields of 8 and 16 bits may be read with or without a sign.
fn either(value: i128, width: usize) -> Result<Patch, Fault> {
    let limit = 1i128 << (8 * width);
    narrow(value, -(limit / 2), limit, width)
}

fn narrow(value: i128, low: i128, high: i128, width: usize) -> Result<Patch, Fault> {
    if !(low..high).contains(&value) {
        return Err(Fault::OutOfRange(value));
    }
    Ok(Patch::field(value as u64, width))
}
