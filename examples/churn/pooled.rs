//! The strategy with a cache: inkpot.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use inkpot::evict::{Lru, Sieve};
use inkpot::inkwell::context::Context;
use inkpot::inkwell::module::Module;
use inkpot::inkwell::values::FunctionValue;
use inkpot::{
    BoxError, Cache, ContextRelease, Fallback, Frontend, Guard, Handle, Occupancy, OptLevel, Tier,
    Unit,
};

use crate::again::Again;
use crate::emit::{self, emit};
use crate::guest;
use crate::options::{Guest, Options, stress};
use crate::prelude;
use crate::runtime::{MethodFn, Thread, Value, functions};
use crate::settings::{Policy, Victims};
use crate::strategy::{Body, Caller, Fallible, Figures, Strategy};
use crate::types::Types;
use crate::warm;
use crate::world::{GUEST, Key};

/// The method language, as the cache sees it.
struct Language {
    seed: u64,
    groups: bool,
    again: Arc<Again>,
    types: Arc<Types>,
}

impl Frontend for Language {
    type Key = Key;

    fn prelude<'ctx>(&self, context: &'ctx Context, module: &Module<'ctx>) -> Result<(), BoxError> {
        prelude::declare(context, module);
        Ok(())
    }

    fn emit<'ctx>(&self, key: &Key, unit: &mut Unit<'_, 'ctx, Key>) -> Result<(), BoxError> {
        if key.family == GUEST {
            return guest::emit(self.seed, key, unit);
        }
        // A method of an earlier version relies on the types as they are now, and goes when they change: it
        // is right for its key all the same.
        if !key.stays() {
            unit.assume(&self.types.stay(key.family));
        }
        emit(self.seed, key, &mut InUnit(unit))?;
        self.again.compiled(key);
        Ok(())
    }

    fn fallback(&self, key: &Key) -> Fallback {
        Fallback::with_word(warm::word_of(key))
    }

    fn group(&self, key: &Key) -> u64 {
        u64::from(self.groups && key.stays())
    }
}

struct InUnit<'a, 'b, 'ctx>(&'a mut Unit<'b, 'ctx, Key>);

impl<'ctx> emit::Target<'ctx> for InUnit<'_, '_, 'ctx> {
    fn context(&self) -> &'ctx Context {
        self.0.context()
    }

    fn define(&mut self) -> FunctionValue<'ctx> {
        self.0.define(prelude::method_type(self.0.context()))
    }

    fn callee(&mut self, key: &Key) -> Fallible<FunctionValue<'ctx>> {
        Ok(self.0.callee(key, prelude::method_type(self.0.context())))
    }

    fn runtime(&mut self, name: &str) -> Fallible<FunctionValue<'ctx>> {
        Ok(self
            .0
            .declared(name)
            .ok_or_else(|| format!("no runtime function {name}"))?)
    }
}

pub struct Pooled {
    cache: Cache<Key>,
    again: Arc<Again>,
    types: Arc<Types>,
    seed: u64,
    guest: Guest,
}

impl Pooled {
    pub fn new(options: &Options) -> Fallible<Self> {
        Self::with(options, false)
    }

    /// A cache that evicts nothing, with an interpreter for what has no code.
    pub fn warming(options: &Options) -> Fallible<Self> {
        Self::with(options, true)
    }

    pub fn cache(&self) -> &Cache<Key> {
        &self.cache
    }

    fn with(options: &Options, warming: bool) -> Fallible<Self> {
        let again = Arc::<Again>::default();
        let types = Arc::<Types>::default();
        let settings = options.settings;
        let language = Language {
            seed: options.seed,
            groups: settings.groups,
            again: again.clone(),
            types: types.clone(),
        };
        let mut builder = Cache::builder(language)
            .name("churn")
            .evacuate(settings.evacuate)
            .victims(match settings.victims {
                Victims::Plain => inkpot::Victims::Plain,
                Victims::Generation => inkpot::Victims::Generation,
            })
            .opt_level(match options.opt {
                0 => OptLevel::O0,
                1 => OptLevel::O1,
                2 => OptLevel::O2,
                _ => OptLevel::O3,
            });
        builder = match settings.policy {
            Policy::Lru => builder.policy(Lru::new()),
            Policy::Sieve => builder.policy(Sieve::new()),
        };
        if settings.tiers {
            builder = builder.tiers(Tier::defaults());
        }
        if warming {
            builder = builder.fallback(warm::interpret as *const ());
        }
        if let Some(work) = settings.work {
            builder = builder.evacuation_work(work);
        }
        // The code budget is what limits this workload; with `--keep-all` nothing does.
        builder = builder.budget(u64::MAX);
        builder = builder.code_budget(if options.keep_all || warming {
            u64::MAX
        } else {
            options.code_budget
        });
        for (name, _, address) in functions() {
            builder = builder.import(name, address);
        }
        if options.guest != Guest::None {
            builder = builder.import(guest::IMPORT.0, guest::IMPORT.1);
        }
        builder = builder.polls(options.guest == Guest::Poll);
        if options.release_at_sealing {
            builder = builder.release_context(ContextRelease::AtSealing);
        }
        if let Some(modes) = &options.stress {
            builder = builder.stress(stress(modes)?);
        }
        Ok(Self {
            cache: builder.build()?,
            again,
            types,
            seed: options.seed,
            guest: options.guest,
        })
    }
}

impl Strategy for Pooled {
    type Site = Handle<Key, MethodFn>;

    fn site(&self, key: &Key) -> Fallible<Self::Site> {
        // SAFETY: every method is emitted with this type.
        Ok(unsafe { self.cache.method(key) }?)
    }

    fn request(&self, site: &Self::Site) -> Fallible<()> {
        Ok(site.request()?)
    }

    fn invalidate(&self, keys: &[Key]) {
        // All are of one family.
        if let Some(key) = keys.first() {
            self.again.changed(key.family, key.version);
            self.types.change(key.family);
        }
    }

    fn figures(&self) -> Figures {
        let now = self.cache.statistics();
        let generations = now.generations_open
            + now.generations_sealed
            + now.generations_dead
            + now.generations_fallow;
        Figures {
            compiles: now.compiles,
            recompilations: self.again.count(),
            moves: now.moves,
            evacuations: now.evacuations,
            moved_by_compiling: now.moved_by_compiling,
            recipes: now.bytes.recipes,
            contexts: now.contexts,
            generations,
            recycled: now.generations_recycled,
            evictions: now.evictions,
            relinks: now.relinks,
            invalidations: now.invalidations + now.unlinked_by_assumptions,
            mapped_code_peak: now.mapped_code_bytes_peak,
            grace_p99_us: now.grace_p99.as_micros() as u64,
            grace_max_us: now.grace_max.as_micros() as u64,
            grace_oldest_us: now.grace_oldest.as_micros() as u64,
            held: now.generations_held,
        }
    }

    fn occupancy(&self) -> Vec<Occupancy> {
        self.cache.occupancy()
    }

    fn enter(&self, name: &str, body: &mut Body<'_, Self::Site>) -> Fallible<()> {
        let participant = self.cache.participant(name);
        body(&mut Pinned {
            guard: participant.pin(),
        })
    }

    fn be_a_guest(&self, stop: &AtomicBool) -> Fallible<u64> {
        let stay = guest::Stay {
            cache: &self.cache,
            seed: self.seed,
            stop,
        };
        stay.stay(self.guest)
    }
}

struct Pinned<'p> {
    guard: Guard<'p>,
}

impl Caller<Handle<Key, MethodFn>> for Pinned<'_> {
    fn call(
        &mut self,
        site: &Handle<Key, MethodFn>,
        thread: &mut Thread,
        left: Value,
        right: Value,
    ) -> Fallible<Value> {
        let entry = site.get(&mut self.guard)?;
        // SAFETY: the thread's state and the objects outlive the call.
        Ok(unsafe { entry.call(thread, left, right) })
    }

    fn call_resident(
        &mut self,
        site: &Handle<Key, MethodFn>,
        thread: &mut Thread,
        left: Value,
        right: Value,
    ) -> Option<Value> {
        let entry = site.entry(&self.guard)?;
        // SAFETY: as above.
        Some(unsafe { entry.call(thread, left, right) })
    }

    fn rest(&mut self) {
        self.guard.repin();
    }
}
