//! A front end whose methods are LLVM IR in words, for everything that a builder is too wordy for.

use std::collections::HashMap;
use std::sync::Mutex;

use inkpot::inkwell::context::Context;
use inkpot::inkwell::memory_buffer::MemoryBuffer;
use inkpot::{BoxError, Cache, Frontend, Handle, MethodType, Unit};

/// The name of a method: that of its text, and for texts with `$N` (or `$M`, which is one less) in
/// them a number: `add#7`. A text for one number alone goes before the general one.
pub type Name = String;

/// Methods by name. Each text is a module that defines `@self`; a function that it declares under
/// the name of a text (`@"add#7"`) is that method, everything else is an import.
#[derive(Default)]
pub struct Texts {
    texts: HashMap<&'static str, String>,
    bitcode: Mutex<HashMap<Name, Vec<u8>>>,
}

impl Texts {
    pub fn new<const N: usize>(texts: [(&'static str, &str); N]) -> Self {
        Self {
            texts: texts.into_iter().map(|(n, t)| (n, t.to_owned())).collect(),
            bitcode: Mutex::default(),
        }
    }

    pub fn insert(&mut self, name: &'static str, text: &str) {
        self.texts.insert(name, text.to_owned());
    }

    fn is_method(&self, name: &str) -> bool {
        self.text(name).is_some()
    }

    fn text(&self, name: &str) -> Option<&String> {
        let base = name.split('#').next().unwrap_or(name);
        self.texts.get(name).or_else(|| self.texts.get(base))
    }

    fn bitcode(&self, name: &Name) -> Result<Vec<u8>, BoxError> {
        let mut known = self.bitcode.lock().unwrap_or_else(|e| e.into_inner());
        if let Some(bitcode) = known.get(name) {
            return Ok(bitcode.clone());
        }
        let number = name
            .split_once('#')
            .map_or(0i64, |(_, n)| n.parse().unwrap_or(0));
        let text = self.text(name).ok_or("no such text")?;
        let text = text.replace("$N", &number.to_string());
        let bitcode = assemble(&text.replace("$M", &(number - 1).to_string()))?;
        known.insert(name.clone(), bitcode.clone());
        Ok(bitcode)
    }
}

fn assemble(text: &str) -> Result<Vec<u8>, BoxError> {
    let context = Context::create();
    let text = MemoryBuffer::create_from_memory_range_copy(text.as_bytes(), "text");
    let module = context
        .create_module_from_ir(text)
        .map_err(|e| e.to_string())?;
    Ok(module.write_bitcode_to_memory().as_slice().to_vec())
}

impl Frontend for Texts {
    type Key = Name;

    fn emit<'ctx>(&self, key: &Name, unit: &mut Unit<'_, 'ctx, Name>) -> Result<(), BoxError> {
        let bitcode = self.bitcode(key)?;
        let says = |what: &str| self.text(key).is_some_and(|text| text.contains(what));
        if says("; optimised") {
            unit.optimised();
        }
        let callee = &mut |name: &str| self.is_method(name).then(|| name.to_owned());
        if says("; allow data") {
            unit.allow_data();
        }
        if says("; inlinable") {
            unit.inlinable();
        }
        if says("; stay") {
            unit.stay();
        }
        unit.adopt(&bitcode, "self", callee)?;
        // `@local.N` is the thread-local number N.
        if says("@local.") {
            let number = &mut |name: &str| name.strip_prefix("local.")?.parse().ok();
            unit.thread_locals("host_local", number)?;
        }
        Ok(())
    }
}

/// The handle of a text.
pub fn text<F: MethodType>(cache: &Cache<Name>, name: &str) -> Handle<Name, F> {
    // SAFETY: whoever calls says the type that the text has.
    unsafe { cache.method(&name.to_owned()) }.expect("there are cells")
}
