//! A backend for models, and what plays the processor: a method's code is a return, and a number.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use object::write::{Object, Symbol, SymbolSection};
use object::{
    Architecture, BinaryFormat, Endianness, SectionKind, SymbolFlags, SymbolKind, SymbolScope,
};

use crate::code::memory;
use crate::{
    Assumption, Backend, Batch, Builder, Cache, Entry, Error, Handle, OptLevel, Reclaimer, Tier,
};

/// All methods of models.
pub(crate) type Method = unsafe extern "C" fn(i64) -> i64;

/// What a method is about: a number that its code has as it was when the method was emitted.
pub(crate) trait About: Send + Sync + 'static {
    fn number(&self) -> u8;
}

/// One that nobody changes while a model runs, but between its steps: loom does not know of it.
#[derive(Default)]
pub(crate) struct Plain(pub(crate) AtomicUsize);

impl About for Plain {
    fn number(&self) -> u8 {
        self.0.load(Ordering::Relaxed) as u8
    }
}

/// Something that nothing but what is checked orders.
#[derive(Default)]
pub(crate) struct Loose(loom::sync::atomic::AtomicUsize);

impl Loose {
    /// From 0 to 1.
    pub(crate) fn change(&self) {
        self.0.store(1, Ordering::Relaxed);
    }
}

impl About for Loose {
    fn number(&self) -> u8 {
        self.0.load(Ordering::Relaxed) as u8
    }
}

/// What a model's methods are about, what they rely on, and how often they were compiled.
pub(crate) struct Stub<A> {
    pub(crate) about: A,
    pub(crate) relies_on: Option<Assumption>,
    /// Loom does not know of it.
    pub(crate) compiled: AtomicUsize,
    /// Whether methods cannot be compiled.
    pub(crate) fails: bool,
}

impl<A: Default> Default for Stub<A> {
    fn default() -> Self {
        Self {
            about: A::default(),
            relies_on: None,
            compiled: AtomicUsize::new(0),
            fails: false,
        }
    }
}

impl<A: Default> Stub<A> {
    pub(crate) fn failing() -> Self {
        Self {
            fails: true,
            ..Self::default()
        }
    }

    pub(crate) fn relying_on(assumption: &Assumption) -> Self {
        Self {
            relies_on: Some(assumption.clone()),
            ..Self::default()
        }
    }
}

/// A stub, as a cache has it.
pub(crate) struct Of<A>(pub(crate) Arc<Stub<A>>);

impl<A: About> Backend<u32> for Of<A> {
    type Context = ();

    fn open(&self) -> Result<((), u64), Error> {
        Ok(((), 1000))
    }

    fn compile(&self, _: &mut (), batch: &mut Batch<'_, u32>) -> Result<Vec<u8>, Error> {
        let mut object = Object::new(BinaryFormat::Elf, Architecture::X86_64, Endianness::Little);
        for i in 0..batch.len() {
            if !batch.is_wanted(i) {
                continue;
            }
            self.0.compiled.fetch_add(1, Ordering::Relaxed);
            if self.0.fails {
                let message = "on purpose".to_owned();
                let method = batch.key(i).to_string();
                batch.fail(i, Error::Codegen { method, message });
                continue;
            }
            if let Some(assumption) = &self.0.relies_on {
                batch.assume(i, assumption);
            }
            let code = [0xc3, self.0.about.number()];
            let name = format!(".text.{i}").into_bytes();
            let text = object.add_section(Vec::new(), name, SectionKind::Text);
            object.append_section_data(text, &code, 16);
            object.add_symbol(Symbol {
                name: batch.symbol(i).into_bytes(),
                value: 0,
                size: code.len() as u64,
                kind: SymbolKind::Text,
                scope: SymbolScope::Linkage,
                weak: false,
                section: SymbolSection::Section(text),
                flags: SymbolFlags::None,
            });
        }
        Ok(object.write().expect("it is well formed"))
    }
}

/// Calls a method's code: the number that it has.
#[track_caller]
pub(crate) fn call(entry: &Entry<'_, Method>) -> u8 {
    // SAFETY: it is not called, but looked at.
    let at = unsafe { entry.pointer() } as usize as u64;
    memory::call(at);
    let [number] = memory::read(at + 1).expect("it was called just now");
    number
}

/// A cache whose threads a model makes, with a generation for each method.
pub(crate) fn builder<A: About>(stub: &Arc<Stub<A>>) -> Builder<u32> {
    Cache::with_backend(Of(stub.clone()))
        .workers(0)
        .generation_methods(1)
        .evacuate(false)
        .reclaimer(Reclaimer::Manual)
}

/// That, and its method 1.
pub(crate) fn cache<A: About>(stub: &Arc<Stub<A>>) -> (Cache<u32>, Handle<u32, Method>) {
    let cache = builder(stub).build().expect("no model refuses memory");
    let method = method(&cache, 1);
    (cache, method)
}

/// The same with two tiers, of which nothing is promoted by itself.
pub(crate) fn tiered<A: About>(stub: &Arc<Stub<A>>) -> (Cache<u32>, Handle<u32, Method>) {
    let tiers = [("first", OptLevel::O0), ("second", OptLevel::O1)];
    let cache = builder(stub)
        .tiers(tiers.map(|(name, level)| Tier::new(name, level)))
        .build();
    let cache = cache.expect("no model refuses memory");
    let method = method(&cache, 1);
    (cache, method)
}

pub(crate) fn method(cache: &Cache<u32>, key: u32) -> Handle<u32, Method> {
    // SAFETY: all methods have this type.
    unsafe { cache.method(&key) }.expect("there are cells")
}

/// Compiles it, on this thread.
pub(crate) fn compile(cache: &Cache<u32>, method: &Handle<u32, Method>) {
    let me = cache.participant("first");
    method.get(&mut me.pin()).expect("it can be compiled");
}
