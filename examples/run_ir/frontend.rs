//! The program as inkpot sees it: a key for each function, one for all that lives as long as the program.

use crate::instance::Instance;
use crate::large::Large;
use crate::normalise::Apart;
use crate::program::{GLOBALS, Program};
use crate::split::{Bitcode, Piece, Pieces};
use crate::stubs::{self, Stub};
use crate::thread_locals::RUNTIME;
use crate::{shared, signals, symbols, unpinned, waits};
use inkpot::{BoxError, Cache, Frontend, Unit};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// A part of an instance of the program.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Key {
    pub instance: u32,
    pub part: Part,
}

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.part {
            Part::Globals => f.write_str("the globals")?,
            Part::Function(name) => f.write_str(name)?,
        }
        match self.instance {
            0 => Ok(()),
            number => write!(f, " of instance {number}"),
        }
    }
}

/// What is compiled as one.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Part {
    /// The global variables, the constants whose addresses get about, and the functions that must stay.
    Globals,
    /// A function, by name.
    Function(Arc<str>),
}

/// The program, shared by the front end and by who starts it.
pub struct Source {
    globals: Bitcode,
    /// What the table of addresses holds, in its order.
    pub table: Vec<String>,
    /// Large variables.
    pub large: Vec<Large>,
    /// The names of both.
    lasting: HashSet<String>,
    methods: HashMap<String, Part>,
    pieces: Mutex<Pieces>,
    /// The numbers of the thread-local variables.
    thread_locals: HashMap<String, u64>,
    /// The host's functions. Looked up before the program starts: a thread of the program's may hold the dynamic
    /// linker's lock while it waits for a compilation.
    imports: HashMap<String, usize>,
    /// What the host sees to.
    pub apart: Apart,
    /// Functions with inline assembly.
    pub assembly: Vec<String>,
    /// Whether `main` returns its exit code.
    pub main_returns: bool,
    instances: OnceLock<Vec<&'static Instance>>,
    cache: OnceLock<Cache<Key>>,
}

/// By what the names begin under which code refers to an instance's globals: the instance's number follows, a dot, and
/// the name.
const OWN: &str = "run_ir.global.";

impl Source {
    /// Gets a program ready to be compiled.
    ///
    /// `side_by_side`: there will be several instances.
    pub fn new(program: Program, side_by_side: bool) -> Arc<Source> {
        let part = |name: &String| (name.clone(), Part::Function(name.as_str().into()));
        Arc::new(Source {
            globals: program.globals,
            lasting: {
                let large = program.large.iter().map(|large| &large.name);
                program.table.iter().chain(large).cloned().collect()
            },
            large: program.large,
            table: program.table,
            methods: program.methods.iter().map(part).collect(),
            pieces: Mutex::new(program.pieces),
            thread_locals: program.apart.thread_locals.numbers().collect(),
            imports: imports(&program.apart.imports, side_by_side),
            apart: program.apart,
            assembly: program.assembly,
            main_returns: program.main_returns,
            instances: OnceLock::new(),
            cache: OnceLock::new(),
        })
    }

    /// Says which cache the program runs in: then the names of its functions resolve too.
    pub fn set_cache(&self, cache: Cache<Key>) {
        // The first stays: there is one cache.
        let _ = self.cache.set(cache);
    }

    pub fn cache(&self) -> Option<&Cache<Key>> {
        self.cache.get()
    }

    /// Makes the instances known.
    pub fn set_instances(&self, instances: Vec<&'static Instance>) {
        // The first stays, as for the cache.
        let _ = self.instances.set(instances);
    }

    fn instance(&self, number: u32) -> Option<&'static Instance> {
        self.instances.get()?.get(number as usize).copied()
    }

    /// Whether this is a name of a global variable or kept function.
    pub fn is_lasting(&self, name: &str) -> bool {
        self.lasting.contains(name)
    }

    /// The key of a function.
    pub fn key(&self, instance: u32, name: &str) -> Option<Key> {
        let part = self.methods.get(name)?.clone();
        Some(Key { instance, part })
    }

    fn piece(&self, part: &Part) -> Result<(Piece, String), String> {
        match part {
            Part::Globals => {
                let piece = Piece {
                    bitcode: self.globals.clone(),
                    optimised: false, // some may be
                };
                Ok((piece, GLOBALS.to_owned()))
            }
            Part::Function(name) => {
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
        let (piece, function) = self.0.piece(&key.part)?;
        if piece.optimised {
            unit.optimised();
        }
        if key.part == Part::Globals {
            unit.allow_data();
            // The program has no end at which its data could go.
            unit.stay();
        }
        let number = key.instance;
        let own = |name: &str| {
            let lasting = self.0.is_lasting(name);
            lasting.then(|| format!("{OWN}{number}.{name}"))
        };
        let callee = &mut |name: &str| self.0.key(number, name);
        unit.adopt_as(&piece.bitcode, &function, callee, &mut { own })?;
        let numbers = &self.0.thread_locals;
        if !numbers.is_empty() {
            unit.thread_locals(RUNTIME, &mut |name| numbers.get(name).copied())?;
        }
        Ok(())
    }

    /// The optimiser may bring in names that no piece declared (`puts` for `printf`), which the program may
    /// define itself: then the method's address serves. (Side by side there are no such programs.)
    fn resolve(&self, symbol: &str) -> Option<*const ()> {
        if let Some((number, name)) = symbol.strip_prefix(OWN).and_then(|own| own.split_once('.')) {
            return self.0.instance(number.parse().ok()?)?.address(name);
        }
        let method = |key: Key| {
            let cache = self.0.cache.get()?;
            // SAFETY: never called through this type; only its address is taken.
            let handle = unsafe { cache.method::<unsafe extern "C" fn()>(&key) }.ok()?;
            Some(handle.address())
        };
        let alone = || self.0.instance(0);
        alone()
            .and_then(|instance| instance.address(symbol))
            .or_else(|| self.0.key(0, symbol).and_then(method))
            .or_else(|| Some(*self.0.imports.get(symbol)? as *const ()))
            .or_else(|| symbols::find(symbol))
    }
}

/// Where the host's functions are: behind stubs if they wait, and all of them if the program handles signals.
fn imports(names: &[String], side_by_side: bool) -> HashMap<String, usize> {
    signals::look_at(names);
    let handles_signals = names.iter().any(|name| signals::sets_handlers(name));
    let mut found = HashMap::new();
    let (mut stubbed, mut stubs) = (Vec::new(), Vec::new());
    for name in names {
        let own = signals::supplied(name).filter(|_| handles_signals);
        let shared = || shared::supplied(name).filter(|_| side_by_side);
        // A handler may leave the function that it interrupts by `siglongjmp`: it must find the thread pinned there.
        if let Some(unpinned) = unpinned::supplied(name).filter(|_| !handles_signals) {
            found.insert(name.clone(), unpinned as usize);
            continue;
        }
        let Some(address) = own.or_else(shared).or_else(|| symbols::find(name)) else {
            continue;
        };
        let address = address as usize;
        let stub = match waits::waits(name) {
            true => Stub::Waits(address),
            false if handles_signals => Stub::Looks(address),
            false => {
                found.insert(name.clone(), address);
                continue;
            }
        };
        stubbed.push(name.clone());
        stubs.push(stub);
    }
    found.extend(stubbed.into_iter().zip(stubs::before(&stubs)));
    found
}
