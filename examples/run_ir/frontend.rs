//! The program as inkpot sees it: a key for each function, one for all that lives as long as the program.

use crate::normalise::Apart;
use crate::program::{GLOBALS, Program};
use crate::split::{Bitcode, Pieces};
use crate::thread_locals::RUNTIME;
use crate::{signals, stubs, symbols};
use inkpot::{BoxError, Cache, Frontend, Unit};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// What is compiled as one.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Key {
    /// The global variables, the constants whose addresses get about, and the functions that must stay.
    Globals,
    /// A function, by name.
    Function(Arc<str>),
}

/// The program, shared by the front end and by who starts it.
pub struct Source {
    globals: Bitcode,
    table: Vec<String>,
    methods: HashMap<String, Key>,
    pieces: Mutex<Pieces>,
    /// The numbers of the thread-local variables.
    thread_locals: HashMap<String, u64>,
    /// The host's functions. Looked up before the program starts: a thread of the program's may hold the dynamic
    /// linker's lock while it waits for a compilation.
    imports: HashMap<String, usize>,
    /// What the host sees to.
    pub apart: Apart,
    /// Whether `main` returns its exit code.
    pub main_returns: bool,
    /// Where the globals are; known once their piece has been compiled, before any function is.
    addresses: OnceLock<HashMap<String, usize>>,
    cache: OnceLock<Cache<Key>>,
}

impl Source {
    /// Gets a program ready to be compiled.
    pub fn new(program: Program) -> Arc<Source> {
        let key = |name: &String| (name.clone(), Key::Function(name.as_str().into()));
        Arc::new(Source {
            globals: program.globals,
            table: program.table,
            methods: program.methods.iter().map(key).collect(),
            pieces: Mutex::new(program.pieces),
            thread_locals: program.apart.thread_locals.numbers().collect(),
            imports: imports(&program.apart.imports),
            apart: program.apart,
            main_returns: program.main_returns,
            addresses: OnceLock::new(),
            cache: OnceLock::new(),
        })
    }

    /// Says which cache the program runs in: then the names of its functions resolve too.
    pub fn set_cache(&self, cache: Cache<Key>) {
        // The first stays: there is one cache.
        let _ = self.cache.set(cache);
    }

    /// Learns where the globals are.
    ///
    /// # Safety
    /// `table` is what the compiled globals' piece returned.
    pub unsafe fn set_addresses(&self, table: *const *const ()) {
        let address = |(index, name): (usize, &String)| {
            // SAFETY: by contract the table is as long as the list of names it was made from.
            (name.clone(), unsafe { *table.add(index) } as usize)
        };
        // The first stays: there is one program.
        let _ = self
            .addresses
            .set(self.table.iter().enumerate().map(address).collect());
    }

    /// Where a global variable or kept function is.
    pub fn address(&self, name: &str) -> Option<*const ()> {
        self.addresses
            .get()?
            .get(name)
            .map(|address| *address as *const ())
    }

    /// The key of a function.
    pub fn key(&self, name: &str) -> Option<Key> {
        self.methods.get(name).cloned()
    }

    fn piece(&self, key: &Key) -> Result<(Bitcode, String), String> {
        match key {
            Key::Globals => Ok((self.globals.clone(), GLOBALS.to_owned())),
            Key::Function(name) => {
                let mut pieces = self.pieces.lock().unwrap_or_else(PoisonError::into_inner);
                Ok((pieces.get(name)?, name.to_string()))
            }
        }
    }
}

/// The front end: a handle on the program.
pub struct ProgramFrontend(pub Arc<Source>);

impl Frontend for ProgramFrontend {
    type Key = Key;

    fn emit<'ctx>(&self, key: &Key, unit: &mut Unit<'_, 'ctx, Key>) -> Result<(), BoxError> {
        let (bitcode, function) = self.0.piece(key)?;
        if *key == Key::Globals {
            unit.allow_data();
            // The program has no end at which its data could go.
            unit.stay();
        }
        unit.adopt(&bitcode, &function, &mut |name| self.0.key(name))?;
        let numbers = &self.0.thread_locals;
        if !numbers.is_empty() {
            unit.thread_locals(RUNTIME, &mut |name| numbers.get(name).copied())?;
        }
        Ok(())
    }

    /// The optimiser may bring in names that no piece declared (`puts` for `printf`), which the program may
    /// define itself: then the method's address serves.
    fn resolve(&self, symbol: &str) -> Option<*const ()> {
        let method = |key: Key| {
            let cache = self.0.cache.get()?;
            // SAFETY: never called through this type; only its address is taken.
            let handle = unsafe { cache.method::<unsafe extern "C" fn()>(&key) }.ok()?;
            Some(handle.address())
        };
        self.0
            .address(symbol)
            .or_else(|| self.0.key(symbol).and_then(method))
            .or_else(|| Some(*self.0.imports.get(symbol)? as *const ()))
            .or_else(|| symbols::find(symbol))
    }
}

/// Where the host's functions are; behind stubs if the program handles signals.
fn imports(names: &[String]) -> HashMap<String, usize> {
    let handles_signals = names.iter().any(|name| signals::sets_handlers(name));
    let found = |name: &String| {
        let own = signals::supplied(name).filter(|_| handles_signals);
        let address = own.or_else(|| symbols::find(name))?;
        Some((name.clone(), address as usize))
    };
    let (names, targets): (Vec<_>, Vec<_>) = names.iter().filter_map(found).unzip();
    let targets = match handles_signals {
        true => stubs::before(targets),
        false => targets,
    };
    names.into_iter().zip(targets).collect()
}
