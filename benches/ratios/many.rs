//! Many methods of a few bytes, without LLVM, for what depends on how many there are.

use std::time::Duration;

use inkpot::{Backend, Batch, Builder, Cache, Error};
use object::write::{Object, Symbol, SymbolSection};
use object::{
    Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope,
};

/// All of them: method `n` adds `n`.
pub type Unary = unsafe extern "C" fn(u64) -> u64;

/// So many.
pub const MANY: u64 = 1_000_000;

/// Writes ELF objects by itself.
pub struct Leaves;

impl Backend<u64> for Leaves {
    type Context = ();

    fn open(&self) -> Result<((), u64), Error> {
        Ok(((), 0))
    }

    fn compile(&self, _context: &mut (), batch: &mut Batch<'_, u64>) -> Result<Vec<u8>, Error> {
        let mut object = Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
        for i in 0..batch.len() {
            let name = format!(".text.{i}").into_bytes();
            let section = object.add_section(Vec::new(), name, SectionKind::Text);
            let mut code = vec![0x48, 0x8d, 0x87]; // lea rax, [rdi + n]
            code.extend((*batch.key(i) as u32).to_le_bytes());
            code.push(0xc3); // ret
            object.append_section_data(section, &code, 16);
            object.add_symbol(Symbol {
                name: batch.symbol(i).into_bytes(),
                value: 0,
                size: code.len() as u64,
                kind: SymbolKind::Text,
                scope: SymbolScope::Linkage,
                weak: false,
                section: SymbolSection::Section(section),
                flags: SymbolFlags::None,
            });
        }
        Ok(object.write().expect("the object is well formed"))
    }
}

/// A cache of such methods in which nothing is evicted by itself.
pub fn builder() -> Builder<u64> {
    Cache::with_backend(Leaves).budget(8 << 30).workers(1)
}

/// Has the methods `0..n` compiled. They stay, and nobody has a handle.
pub fn fill(cache: &Cache<u64>, n: u64) {
    let handles: Vec<_> = (0..n)
        .map(|key| {
            // SAFETY: all methods have this type.
            let handle = unsafe { cache.method::<Unary>(&key) }.expect("there are cells");
            handle.request().expect("the cache is open");
            handle
        })
        .collect();
    while cache.statistics().methods_resident < n {
        std::thread::sleep(Duration::from_millis(1));
    }
    // Each is known to be in use from now on.
    let me = cache.participant("looks");
    let mut guard = me.pin();
    for handle in &handles {
        handle.get(&mut guard).expect("it is there");
    }
}
