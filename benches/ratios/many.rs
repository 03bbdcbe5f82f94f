//! Many methods of a few bytes, without LLVM, for what depends on how many there are.

use std::sync::OnceLock;
use std::time::Duration;

use inkpot::{Backend, Batch, Builder, Cache, Error, Participant};
use object::write::{Object, Symbol, SymbolSection};
use object::{
    Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope,
};

/// All of them: method `n` adds `n`.
pub type Unary = unsafe extern "C" fn(u64) -> u64;

/// The numbers of methods that a table is measured with.
pub const FEW: u64 = 1_024;
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

/// Where the code of each of the methods `0..n` is: nothing moves it.
pub fn entries(cache: &Cache<u64>, me: &Participant, n: u64) -> Vec<u64> {
    let guard = me.pin();
    let entry = |key| {
        // SAFETY: the type is right; the pointer is called only while the method stays.
        unsafe { cache.entry::<Unary>(&key, &guard).map(|e| e.pointer()) }
    };
    let all = (0..n).map(|key| entry(key).expect("it is resident") as usize as u64);
    all.collect()
}

/// A cache with so many methods, made once.
pub fn cache_of(n: u64) -> &'static Cache<u64> {
    static CACHES: [OnceLock<Cache<u64>>; 2] = [const { OnceLock::new() }; 2];
    CACHES[usize::from(n == MANY)].get_or_init(|| {
        let cache = builder().evacuate(false).build().expect("a cache");
        fill(&cache, n);
        cache
    })
}

/// Numbers that look random, the same at each run.
pub struct Random(pub u64);

impl Random {
    /// SplitMix64.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }

    /// From 0 to 1.
    pub fn fraction(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// All keys below `n`, in an order that means nothing.
pub fn shuffled(n: u64, random: &mut Random) -> Vec<u64> {
    let mut all: Vec<u64> = (0..n).collect();
    for i in (1..all.len()).rev() {
        all.swap(i, random.below(i as u64 + 1) as usize);
    }
    all
}

/// How often which key is looked up.
#[derive(Clone, Copy, Debug)]
pub enum Often {
    /// All equally.
    Uniform,
    /// The k-th most frequent in proportion to 1/k.
    Zipf,
}

/// So many keys below `n`.
pub fn keys(often: Often, n: u64, many: usize) -> Vec<u64> {
    let mut random = Random(n);
    match often {
        Often::Uniform => (0..many).map(|_| random.below(n)).collect(),
        Often::Zipf => {
            let by_rank = shuffled(n, &mut random);
            let mut sum = 0.0;
            let sums = (1..=n).map(|rank| {
                sum += 1.0 / rank as f64;
                sum
            });
            let sums: Vec<f64> = sums.collect();
            let pick = |at: f64| sums.partition_point(|sum| *sum < at);
            let picked = (0..many).map(|_| pick(random.fraction() * sum));
            picked
                .map(|rank| by_rank[rank.min(by_rank.len() - 1)])
                .collect()
        }
    }
}
