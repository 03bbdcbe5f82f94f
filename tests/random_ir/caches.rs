//! The caches that programs go through, each with other settings, one program after the other.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use inkpot::inkwell::context::Context;
use inkpot::{
    BoxError, Builder, Cache, ContextRelease, Frontend, OptLevel, Participant, Statistics, Stress,
    Unit,
};

use crate::module::Piece;
use crate::reference::{Door, Memory, parse};

/// A function of a program, by the program's number and its own; behind the functions come their doors.
pub type Key = (u32, u32);

/// Functions as bitcode, by name.
type Bitcode = Vec<(String, Vec<u8>)>;

/// What is known of programs.
#[derive(Clone, Default)]
struct Programs(Arc<Mutex<HashMap<u32, Arc<Bitcode>>>>);

impl Frontend for Programs {
    type Key = Key;

    fn emit<'ctx>(&self, key: &Key, unit: &mut Unit<'_, 'ctx, Key>) -> Result<(), BoxError> {
        let (program, piece) = *key;
        // What is asked for ahead may be compiled late.
        let known = self.0.lock().unwrap().get(&program).cloned();
        let bitcode = known.ok_or("the program is done with")?;
        let (name, bitcode) = &bitcode[piece as usize];
        let mut callee = |name: &str| Some((program, name.strip_prefix('f')?.parse().ok()?));
        unit.adopt(bitcode, name, &mut callee)?;
        Ok(())
    }
}

/// A cache, and what it is called.
pub struct Setting {
    pub name: &'static str,
    /// All functions of a program are compiled at once, and not each when it is called.
    together: bool,
    cache: Cache<Key>,
    me: Participant,
}

pub struct Caches {
    programs: Programs,
    pub settings: Vec<Setting>,
    count: u32,
}

impl Caches {
    pub fn new() -> Self {
        let programs = Programs::default();
        let mut caches = Self {
            programs,
            settings: Vec::new(),
            count: 0,
        };
        caches.add("O0", false, |b| b.opt_level(OptLevel::O0));
        caches.add("O2, in batches", true, |b| b.opt_level(OptLevel::O2));
        caches.add("O1, stress, a small budget", false, |b| {
            b.code_budget(96 << 10).stress(Stress::a_lot())
        });
        caches.add("O3, invalidations, polls, contexts released", true, |b| {
            b.opt_level(OptLevel::O3)
                .stress(Stress::a_lot_with_invalidation())
                .polls(true)
                .release_context(ContextRelease::AtSealing)
        });
        caches
    }

    fn add(
        &mut self,
        name: &'static str,
        together: bool,
        set: impl FnOnce(Builder<Key>) -> Builder<Key>,
    ) {
        let cache = set(Cache::builder(self.programs.clone())).build().unwrap();
        let me = cache.participant("test");
        self.settings.push(Setting {
            name,
            together,
            cache,
            me,
        });
    }

    /// Takes a program in, and returns its number.
    pub fn learn(&mut self, pieces: &[Piece]) -> u32 {
        let context = Context::create();
        let bitcode = |piece: &Piece| {
            let module = parse(&context, &piece.module);
            let bitcode = module.write_bitcode_to_memory().as_slice().to_vec();
            (piece.name.clone(), bitcode)
        };
        let bitcode = pieces.iter().map(bitcode).collect();
        self.count += 1;
        self.programs
            .0
            .lock()
            .unwrap()
            .insert(self.count, Arc::new(bitcode));
        self.count
    }

    /// Nobody asks for a program any more.
    pub fn forget(&mut self, program: u32) {
        for setting in &self.settings {
            drop(setting.cache.invalidate_if(|key| key.0 == program));
        }
        self.programs.0.lock().unwrap().remove(&program);
    }
}

impl Setting {
    /// What is in memory after the calls; see `reference::results`.
    pub fn results(&self, program: u32, functions: usize, calls: &[(usize, u64)]) -> Vec<Memory> {
        let handle = |piece: usize| {
            // SAFETY: doors are defined with this type, and nothing else is called.
            unsafe { self.cache.method::<Door>(&(program, piece as u32)) }.unwrap()
        };
        if self.together {
            (0..2 * functions).for_each(|piece| handle(piece).request().unwrap());
        }
        let result = |&(function, seed): &(usize, u64)| {
            let mut memory = Memory::new(seed);
            let mut guard = self.me.pin();
            let entry = handle(functions + function);
            match entry.get(&mut guard) {
                // SAFETY: an entry is called while its guard lives, and is a door.
                Ok(entry) => unsafe { memory.call(entry.pointer()) },
                Err(error) => panic!("{}: {error}", self.name),
            }
            memory
        };
        calls.iter().map(result).collect()
    }

    pub fn statistics(&self) -> Statistics {
        self.cache.statistics()
    }
}
