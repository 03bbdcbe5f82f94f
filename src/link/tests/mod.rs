//! Tests of the linker, and what they share: an assembler of objects byte by
//! byte, memory with guards around it, memory that can be executed, and LLVM.

mod agreement;
mod corpus;
mod damaged;
mod exceptions;
mod faults;
mod fuzz;
mod groups;
mod layout;
mod models;
mod moving;
mod real;
mod recipes;
mod records;
mod relaxation;
mod relocations;
mod unwinding;

use ::object::elf::{self, RelocationType};
use inkwell::OptimizationLevel;
use inkwell::module::Module;
use inkwell::targets::{
    CodeModel, FileType, InitializationConfig, RelocMode, Target, TargetTriple,
};

use super::{Area, LinkError, Linked, Needs, Object, Place, Span, link};

pub(super) const ALLOC: u64 = elf::SHF_ALLOC.0;
pub(super) const WRITE: u64 = elf::SHF_WRITE.0;
pub(super) const EXEC: u64 = elf::SHF_EXECINSTR.0;
pub(super) const TLS: u64 = elf::SHF_TLS.0;

pub(super) const GLOBAL: u8 = 1 << 4;
pub(super) const WEAK: u8 = 2 << 4;
pub(super) const FUNC: u8 = 2;
pub(super) const SECTION: u8 = 3;

/// A section of an object to be.
pub(super) struct Part {
    pub name: &'static str,
    pub kind: u32,
    pub flags: u64,
    pub align: u64,
    pub bytes: Vec<u8>,
    /// Of `.bss`, instead of bytes.
    pub size: u64,
    /// The size of its entries, if they have one.
    pub entry: u64,
    /// Of a group: the symbol that it goes by.
    pub signature: u32,
    /// Offset, type, symbol, addend.
    pub relocations: Vec<(u64, RelocationType, u32, i64)>,
}

impl Part {
    pub fn new(name: &'static str, flags: u64, bytes: &[u8]) -> Self {
        Self {
            name,
            kind: elf::SHT_PROGBITS.0,
            flags,
            align: 1,
            bytes: bytes.to_vec(),
            size: 0,
            entry: 0,
            signature: 0,
            relocations: Vec::new(),
        }
    }

    pub fn text(bytes: &[u8]) -> Self {
        Self::new(".text", ALLOC | EXEC, bytes)
    }

    /// A comdat group of these sections.
    pub fn comdat(signature: u32, members: &[u16]) -> Self {
        let words = std::iter::once(1).chain(members.iter().map(|&m| u32::from(m)));
        let bytes: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
        let mut part = Self::new(".group", 0, &bytes).align(4);
        part.kind = elf::SHT_GROUP.0;
        part.signature = signature;
        part
    }

    pub fn align(mut self, align: u64) -> Self {
        self.align = align;
        self
    }

    pub fn at(mut self, offset: u64, kind: RelocationType, symbol: u32, addend: i64) -> Self {
        self.relocations.push((offset, kind, symbol, addend));
        self
    }
}

/// Writes objects. Sections are numbered from 1, symbols too.
#[derive(Default)]
pub(super) struct Assembler {
    parts: Vec<Part>,
    symbols: Vec<(String, u8, u16, u64, u64)>,
}

impl Assembler {
    pub fn part(&mut self, part: Part) -> u16 {
        self.parts.push(part);
        self.parts.len() as u16
    }

    pub fn symbol(&mut self, name: &str, info: u8, section: u16, value: u64, size: u64) -> u32 {
        let name = name.to_owned();
        self.symbols.push((name, info, section, value, size));
        self.symbols.len() as u32
    }

    pub fn function(&mut self, name: &str, section: u16, value: u64, size: u64) -> u32 {
        self.symbol(name, GLOBAL | FUNC, section, value, size)
    }

    pub fn import(&mut self, name: &str) -> u32 {
        self.symbol(name, GLOBAL, 0, 0, 0)
    }

    pub fn finish(&self) -> Vec<u8> {
        let mut out = vec![0; 64];
        let mut names = vec![0u8];
        let mut headers = vec![[0u64; 8]];
        let symtab = self.parts.len() as u64 + 1;
        for part in &self.parts {
            let at = append(&mut out, &part.bytes, part.align);
            let size = part.size + part.bytes.len() as u64;
            let name = string(&mut names, part.name);
            let link = match part.signature {
                0 => 0,
                signature => symtab | u64::from(signature) << 32,
            };
            let kind = part.kind.into();
            headers.push([
                name, kind, part.flags, at, size, link, part.align, part.entry,
            ]);
        }
        let mut strings = vec![0u8];
        let mut symbols = vec![0u8; 24];
        for (name, info, section, value, size) in &self.symbols {
            let name = string(&mut strings, name) as u32;
            symbols.extend(name.to_le_bytes());
            symbols.extend([*info, 0]);
            symbols.extend(section.to_le_bytes());
            symbols.extend(value.to_le_bytes());
            symbols.extend(size.to_le_bytes());
        }
        let at = append(&mut out, &symbols, 8);
        let name = string(&mut names, ".symtab");
        // Link (low half) to the strings; info (high half): all may be global.
        let link = (symtab + 1) | (1 << 32);
        headers.push([name, 2, 0, at, symbols.len() as u64, link, 8, 24]);
        let at = append(&mut out, &strings, 1);
        let name = string(&mut names, ".strtab");
        headers.push([name, 3, 0, at, strings.len() as u64, 0, 1, 0]);
        for (index, part) in self.parts.iter().enumerate() {
            let mut table = Vec::new();
            for (offset, kind, symbol, addend) in &part.relocations {
                table.extend(offset.to_le_bytes());
                table.extend((u64::from(*symbol) << 32 | u64::from(kind.0)).to_le_bytes());
                table.extend(addend.to_le_bytes());
            }
            if table.is_empty() {
                continue;
            }
            let at = append(&mut out, &table, 8);
            let name = string(&mut names, &format!(".rela{}", part.name));
            let link = symtab | (index as u64 + 1) << 32;
            headers.push([name, 4, 0, at, table.len() as u64, link, 8, 24]);
        }
        let name = string(&mut names, ".shstrtab");
        let at = append(&mut out, &names, 1);
        headers.push([name, 3, 0, at, names.len() as u64, 0, 1, 0]);
        finish_elf(out, &headers)
    }
}

fn finish_elf(mut out: Vec<u8>, headers: &[[u64; 8]]) -> Vec<u8> {
    let at = append(&mut out, &[], 8);
    for [name, kind, flags, at, size, link, align, entry] in headers {
        out.extend((*name as u32).to_le_bytes());
        out.extend((*kind as u32).to_le_bytes());
        out.extend(flags.to_le_bytes());
        out.extend(0u64.to_le_bytes());
        out.extend(at.to_le_bytes());
        out.extend(size.to_le_bytes());
        out.extend(link.to_le_bytes());
        out.extend(align.to_le_bytes());
        out.extend(entry.to_le_bytes());
    }
    out[..20].copy_from_slice(b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x01\0\x3e\0");
    out[20] = 1;
    out[40..48].copy_from_slice(&at.to_le_bytes());
    out[52] = 64;
    out[58] = 64;
    out[60..62].copy_from_slice(&(headers.len() as u16).to_le_bytes());
    out[62..64].copy_from_slice(&(headers.len() as u16 - 1).to_le_bytes());
    out
}

fn append(out: &mut Vec<u8>, bytes: &[u8], align: u64) -> u64 {
    out.resize(out.len().next_multiple_of(align.max(1) as usize), 0);
    let at = out.len() as u64;
    out.extend(bytes);
    at
}

fn string(table: &mut Vec<u8>, name: &str) -> u64 {
    let at = table.len() as u64;
    table.extend(name.bytes());
    table.push(0);
    at
}

/// Addresses for the areas of a test that executes nothing.
#[derive(Clone, Copy)]
pub(super) struct Addresses {
    pub text: u64,
    pub constants: u64,
    pub data: u64,
    pub unwind: u64,
}

pub(super) const NEAR: Addresses = Addresses {
    text: 0x7000_1000_0000,
    constants: 0x7000_1010_0000,
    data: 0x7000_1020_0000,
    unwind: 0x7000_1030_0000,
};

const GUARD: usize = 64;
const GUARD_BYTE: u8 = 0xA5;

/// The areas of an object, with guards around them.
pub(super) struct Memory {
    areas: [Vec<u8>; 4],
    pub at: Addresses,
}

impl Memory {
    pub fn new(needs: &Needs, at: Addresses) -> Self {
        let area = |area: &Area| vec![GUARD_BYTE; area.size as usize + 2 * GUARD];
        let areas = [&needs.text, &needs.constants, &needs.data, &needs.unwind].map(area);
        Self { areas, at }
    }

    pub fn place(&mut self) -> Place<'_> {
        let [text, constants, data, unwind] = &mut self.areas;
        let span = |bytes, address| Span {
            address,
            bytes: inner(bytes),
        };
        Place {
            text: span(text, self.at.text),
            constants: span(constants, self.at.constants),
            data: span(data, self.at.data),
            unwind: span(unwind, self.at.unwind),
        }
    }

    /// Panics if a guard was written to.
    pub fn check(&self) {
        for area in &self.areas {
            let (before, rest) = area.split_at(GUARD);
            let after = &rest[rest.len() - GUARD..];
            assert!(before.iter().chain(after).all(|&byte| byte == GUARD_BYTE));
        }
    }

    pub fn text(&self) -> &[u8] {
        &self.areas[0][GUARD..self.areas[0].len() - GUARD]
    }

    pub fn constants(&self) -> &[u8] {
        &self.areas[1][GUARD..self.areas[1].len() - GUARD]
    }

    pub fn data(&self) -> &[u8] {
        &self.areas[2][GUARD..self.areas[2].len() - GUARD]
    }

    pub fn unwind(&self) -> &[u8] {
        &self.areas[3][GUARD..self.areas[3].len() - GUARD]
    }
}

fn inner(bytes: &mut [u8]) -> &mut [u8] {
    let end = bytes.len() - GUARD;
    &mut bytes[GUARD..end]
}

/// Links into guarded memory; undefined symbols are looked up in a list.
pub(super) fn try_link_at(
    object: &[u8],
    at: Addresses,
    known: &[(&str, u64)],
) -> Result<(Linked, Memory), LinkError> {
    let object = Object::parse(object)?;
    let mut memory = Memory::new(object.needs(), at);
    let mut resolve = |name: &str| {
        let found = known.iter().find(|(known, _)| *known == name);
        found.map(|(_, address)| *address)
    };
    let linked = link(&object, memory.place(), &mut resolve, true);
    memory.check();
    Ok((linked?, memory))
}

pub(super) fn link_at(object: &[u8], at: Addresses, known: &[(&str, u64)]) -> (Linked, Memory) {
    try_link_at(object, at, known).expect("links")
}

/// Memory that is executable once linked: a page or more for each area.
pub(super) struct Executable {
    base: *mut u8,
    len: usize,
    /// Offset and length of text, constants, data, unwind.
    areas: [(usize, usize); 4],
}

impl Executable {
    /// Room for an object, or for several.
    pub fn new(needs: &Needs) -> Self {
        Self::with(needs, 0)
    }

    /// The same below 2 GiB, for code that is compiled for there.
    pub fn low(needs: &Needs) -> Self {
        Self::with(needs, libc::MAP_32BIT)
    }

    fn with(needs: &Needs, flags: i32) -> Self {
        let sizes = [&needs.text, &needs.constants, &needs.data, &needs.unwind];
        let sizes = sizes.map(|area| area.size as usize);
        let mut areas = [(0, 0); 4];
        let mut len = 0;
        for (area, size) in areas.iter_mut().zip(sizes) {
            *area = (len, size);
            len += size.next_multiple_of(4096).max(4096);
        }
        // SAFETY: a new mapping, of memory that is nobody's yet.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                len,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags,
                -1,
                0,
            )
        };
        assert_ne!(base, libc::MAP_FAILED);
        Self {
            base: base.cast(),
            len,
            areas,
        }
    }

    pub fn place(&mut self) -> Place<'_> {
        let span = |area: usize| {
            let (offset, len) = self.areas[area];
            Span {
                address: self.base as u64 + offset as u64,
                // SAFETY: the areas do not overlap, and the mapping is borrowed.
                bytes: unsafe { std::slice::from_raw_parts_mut(self.base.add(offset), len) },
            }
        };
        Place {
            text: span(0),
            constants: span(1),
            data: span(2),
            unwind: span(3),
        }
    }

    /// Makes text executable, and no more writable.
    pub fn seal(&mut self) {
        let len = self.areas[1].0;
        // SAFETY: the first area's pages, of which nobody holds a slice.
        let result =
            unsafe { libc::mprotect(self.base.cast(), len, libc::PROT_READ | libc::PROT_EXEC) };
        assert_eq!(result, 0);
    }
}

impl Drop for Executable {
    fn drop(&mut self) {
        // SAFETY: the whole mapping; tests call nothing in it any more.
        unsafe { libc::munmap(self.base.cast(), self.len) };
    }
}

/// What LLVM makes of textual IR, as inkpot has it made: PIC, small.
pub(super) fn compile(ir: &str, level: OptimizationLevel) -> Vec<u8> {
    compile_for(ir, level, RelocMode::PIC, CodeModel::Small)
}

/// What LLVM makes of textual IR.
pub(super) fn compile_for(
    ir: &str,
    level: OptimizationLevel,
    mode: RelocMode,
    model: CodeModel,
) -> Vec<u8> {
    compile_module(ir.as_bytes(), level, mode, model, |_| {})
}

/// What LLVM makes of IR in text or bitcode, once `change` has seen it.
pub(super) fn compile_module(
    ir: &[u8],
    level: OptimizationLevel,
    mode: RelocMode,
    model: CodeModel,
    change: impl FnOnce(&Module<'_>),
) -> Vec<u8> {
    Target::initialize_x86(&InitializationConfig::default());
    let context = inkwell::context::Context::create();
    let buffer = inkwell::memory_buffer::MemoryBuffer::create_from_memory_range_copy(ir, "ir");
    let module = context.create_module_from_ir(buffer).expect("parses");
    change(&module);
    let triple = TargetTriple::create("x86_64-unknown-linux-gnu");
    let target = Target::from_triple(&triple).expect("x86");
    let machine = target
        .create_target_machine(&triple, "x86-64", "", level, mode, model)
        .expect("a target machine");
    module.set_triple(&triple);
    let object = machine
        .write_to_memory_buffer(&module, FileType::Object)
        .expect("emits");
    object.as_slice().to_vec()
}
