//! The settings of a cache, and the builder that makes one.

mod backlog;
mod hardening;
mod isolation;
mod wishes;

pub use self::backlog::Backlog;
pub(crate) use self::backlog::Settings as BacklogSettings;
pub(crate) use self::hardening::Hardening;

pub use self::wishes::TooLong;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::cache::Cache;
use crate::code::Quarantine;
use crate::compile::llvm::Llvm;
use crate::compile::{Backend, DebugInfo, ErasedBackend, Frontend, OptLevel};
use crate::error::Error;
use crate::evict::{Lru, Policy};
use crate::isolate::{Isolation, Pool};
use crate::method::Key;
use crate::observe::{Listener, Stall};
use crate::tier::{MOST_TIERS, Tier};

/// When a generation's LLVM context is disposed of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum ContextRelease {
    /// With the generation, when all its methods are gone: one rule for all that belongs to it.
    #[default]
    WithGeneration,
    /// As soon as the generation is sealed: least memory. Nothing of a method is left in LLVM
    /// then but its machine code.
    AtSealing,
}

/// Who reclaims.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Reclaimer {
    /// A thread of the cache's own, asleep while nothing waits.
    #[default]
    Thread,
    /// The embedder, by [`Cache::maintain`]: call it regularly, or memory only grows.
    Manual,
}

/// Who goes first when memory is short, among the methods that the policy has put on probation and
/// that nobody called since.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Victims {
    /// The coldest, wherever it is.
    Plain,
    /// Those whose generation gives most memory back for each method lost: the last cold ones of a
    /// generation go before one that has hot neighbours.
    #[default]
    Generation,
}

/// Makes rare events frequent, to find faults: for tests. All off by default.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Stress {
    /// Evict the called method itself, or another, after every so many look-ups; 0 is never.
    pub evict_every: u32,
    /// Invalidate the looked-up method after every so many look-ups; 0 is never.
    pub invalidate_every: u32,
    /// Seal the open generations after every so many look-ups; 0 is never.
    pub recycle_every: u32,
    /// Move all methods of the oldest sealed generation after every so many look-ups; 0 is never.
    pub move_every: u32,
    /// A [quarantine](Builder::quarantine) of 4 MiB, if no other was asked for: a late call is a
    /// crash, and not a call of something else.
    pub quarantine: bool,
}

impl Stress {
    /// Everything, often.
    pub fn a_lot() -> Self {
        Self {
            evict_every: 3,
            invalidate_every: 0,
            recycle_every: 29,
            move_every: 11,
            quarantine: true,
        }
    }

    /// As [`Stress::a_lot`], and invalidates too. For code whose methods may change at any time.
    pub fn a_lot_with_invalidation() -> Self {
        Self {
            invalidate_every: 7,
            ..Self::a_lot()
        }
    }
}

/// The numbers of a configuration. Defaults are what [`Builder`] documents.
#[derive(Clone)]
pub(crate) struct Config {
    pub(crate) name: String,
    pub(crate) budget: u64,
    pub(crate) code_budget: u64,
    pub(crate) hard_limit: u64,
    pub(crate) high: f64,
    pub(crate) low: f64,
    pub(crate) workers: usize,
    pub(crate) batch_limit: usize,
    pub(crate) batch_window: Duration,
    pub(crate) generation_methods: usize,
    pub(crate) generation_code: u64,
    pub(crate) generation_context: u64,
    pub(crate) generation_age: Duration,
    pub(crate) release: ContextRelease,
    pub(crate) reclaimer: Reclaimer,
    pub(crate) stress: Stress,
    /// At least one.
    pub(crate) tiers: Vec<Tier>,
    pub(crate) victims: Victims,
    pub(crate) evacuate: bool,
    pub(crate) evacuation_work: f64,
    pub(crate) groups: usize,
    pub(crate) polls: bool,
    pub(crate) debug_info: DebugInfo,
    pub(crate) keep_recipes: bool,
    pub(crate) on_poll: Option<unsafe extern "C" fn()>,
    pub(crate) imports: HashMap<String, usize>,
    pub(crate) failure_entry: Option<usize>,
    pub(crate) stall_after: Duration,
    pub(crate) stall_bytes: u64,
    pub(crate) quarantine: Option<Quarantine>,
    pub(crate) on_stall: Option<OnStall>,
    pub(crate) before_exit: Option<BeforeExit>,
    /// The helpers that compile, if this process does not.
    pub(crate) helpers: Option<Arc<Pool>>,
    pub(crate) wishes: wishes::Settings,
    pub(crate) backlog: backlog::Settings,
    pub(crate) hardening: hardening::Hardening,
}

/// What `Stress` takes if nothing else was asked for.
const STRESS_QUARANTINE: Quarantine = Quarantine {
    bytes: 4 << 20,
    time: Duration::MAX,
};

type OnStall = Arc<dyn Fn(&Stall) + Send + Sync>;
type BeforeExit = Arc<dyn Fn(i32) + Send + Sync>;

impl Config {
    pub(crate) fn quarantine(&self) -> Option<Quarantine> {
        let stress = self.stress.quarantine.then_some(STRESS_QUARANTINE);
        self.quarantine.or(stress)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "inkpot".to_owned(),
            budget: 256 << 20,
            code_budget: u64::MAX,
            hard_limit: u64::MAX,
            high: 1.0,
            low: 0.9,
            workers: 1,
            batch_limit: 64,
            batch_window: Duration::from_micros(100),
            generation_methods: 512,
            generation_code: 512 << 10,
            generation_context: 16 << 20,
            generation_age: Duration::from_secs(30),
            release: ContextRelease::WithGeneration,
            reclaimer: Reclaimer::Thread,
            stress: Stress::default(),
            tiers: vec![only(OptLevel::default())],
            victims: Victims::default(),
            evacuate: true,
            evacuation_work: 4.0,
            groups: 4,
            polls: false,
            debug_info: DebugInfo::default(),
            keep_recipes: true,
            on_poll: None,
            imports: HashMap::new(),
            failure_entry: None,
            stall_after: Duration::from_secs(10),
            stall_bytes: 256 << 20,
            quarantine: None,
            on_stall: None,
            before_exit: None,
            helpers: None,
            wishes: wishes::Settings::default(),
            backlog: backlog::Settings::default(),
            hardening: hardening::Hardening::default(),
        }
    }
}

/// The tier of a cache that has one.
fn only(level: OptLevel) -> Tier {
    Tier::new("only", level)
}

type MakeBackend<K> = Box<dyn FnOnce(&Config) -> Result<Box<dyn ErasedBackend<K>>, Error>>;

/// Settings of a cache, each with its default; [`Builder::build`] makes the cache.
pub struct Builder<K: Key> {
    config: Config,
    policy: Box<dyn Policy>,
    backend: MakeBackend<K>,
    listener: Option<Arc<dyn Listener<K>>>,
    isolation: Option<Isolation>,
}

impl<K: Key> Builder<K> {
    pub(crate) fn for_frontend<F: Frontend<Key = K>>(frontend: F) -> Self {
        Self::new(Box::new(|config| {
            let (tiers, helpers) = (config.tiers.clone(), config.helpers.clone());
            let llvm = Llvm::new(frontend, tiers, helpers, config.hardening)?;
            Ok(Box::new(llvm) as Box<dyn ErasedBackend<K>>)
        }))
    }

    pub(crate) fn for_backend<B: Backend<K>>(backend: B) -> Self {
        Self::new(Box::new(|config| {
            let wrong = |setting, problem: &str| {
                let problem = problem.to_owned();
                Err(Error::Setting { setting, problem })
            };
            if config.helpers.is_some() {
                return wrong("isolation", "only LLVM can be elsewhere");
            }
            if config.hardening.pool_constants {
                return wrong("pool_constants", "only LLVM's code is known");
            }
            Ok(Box::new(backend) as Box<dyn ErasedBackend<K>>)
        }))
    }

    fn new(backend: MakeBackend<K>) -> Self {
        Self {
            config: Config::default(),
            policy: Box::new(Lru::new()),
            backend,
            listener: None,
            isolation: None,
        }
    }

    /// What threads and messages call the cache. Default: `inkpot`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.config.name = name.into();
        self
    }

    /// Bytes that the cache may take: code memory, unwind tables, contexts (a spare one for each
    /// worker too) and bookkeeping.
    /// Default: 256 MiB.
    ///
    /// The budget is soft. What is kept, what threads are pinned in, and a method larger than the
    /// budget go beyond it; the excess stands in the statistics. Everything is charged as the
    /// memory that it really takes, whole slots of 16 KiB included.
    pub fn budget(mut self, bytes: u64) -> Self {
        self.config.budget = bytes;
        self
    }

    /// Bytes that text, constants and data alone may take. Default: no limit of their own.
    pub fn code_budget(mut self, bytes: u64) -> Self {
        self.config.code_budget = bytes;
        self
    }

    /// Bytes that the cache must not exceed, retired and not yet freed memory included. A method
    /// that does not fit, after eviction, is an [`Error::HardLimit`] for who asked, never a wait.
    /// What a context grows by is known only when it has grown, so the limit may be passed by what
    /// one batch leaves there; and by the spare context that each worker has. Default: none. A budget above it is lowered to it; better is a budget
    /// well below it, so that what waits to be freed has room.
    pub fn hard_limit(mut self, bytes: u64) -> Self {
        self.config.hard_limit = bytes;
        self
    }

    /// Fractions of the budgets at which eviction begins, and at which it stops. Default: 1.0 and
    /// 0.9. From the low mark on, the next victims are unlinked on probation: a call in that time
    /// links them again.
    pub fn water_marks(mut self, high: f64, low: f64) -> Self {
        (self.config.high, self.config.low) = (high, low);
        self
    }

    /// Which method goes first when memory is short. Default: [`Lru`].
    pub fn policy(mut self, policy: impl Policy) -> Self {
        self.policy = Box::new(policy);
        self
    }

    /// Threads that compile, each with an open generation of its own. Default: 1; 1,024 at most.
    ///
    /// With none, what is [requested](crate::Handle::request), or waited for by a
    /// [future](crate::Handle::compiled), is compiled where the embedder says:
    /// [`Cache::compile_some`]. Who waits in [`get`](crate::Handle::get), or by a call from compiled code, compiles
    /// himself, and what else is queued before it: on his own stack, which has to have room for LLVM
    /// (some hundred KiB, for large functions more). What workers do when they have nothing to do is done by
    /// [`Cache::compile_some`], and where memory is reclaimed.
    pub fn workers(mut self, workers: usize) -> Self {
        self.config.workers = workers;
        self
    }

    /// Methods that are compiled in one module, at most. Default: 64.
    pub fn batch_limit(mut self, methods: usize) -> Self {
        self.config.batch_limit = methods;
        self
    }

    /// How long a worker that finds more than one request waits for others to come along, at most: it does so while
    /// they come faster than one is compiled, and for a sixteenth of the time that it expects the batch to take. A
    /// lone request never waits. Default: 100 microseconds.
    pub fn batch_window(mut self, window: Duration) -> Self {
        self.config.batch_window = window;
        self
    }

    /// Methods after which a generation is sealed. Default: 512.
    pub fn generation_methods(mut self, methods: usize) -> Self {
        self.config.generation_methods = methods;
        self
    }

    /// Bytes of code memory after which a generation is sealed. Default: 512 KiB, and never more
    /// than an eighth of a budget.
    pub fn generation_code(mut self, bytes: u64) -> Self {
        self.config.generation_code = bytes;
        self
    }

    /// Bytes of context after which a generation is sealed. Default: 16 MiB, and never more than
    /// an eighth of the budget.
    pub fn generation_context(mut self, bytes: u64) -> Self {
        self.config.generation_context = bytes;
        self
    }

    /// Age at which a generation that is not full is sealed. Default: 30 seconds.
    pub fn generation_age(mut self, age: Duration) -> Self {
        self.config.generation_age = age;
        self
    }

    /// When contexts are disposed of. Default: with their generation.
    pub fn release_context(mut self, release: ContextRelease) -> Self {
        self.config.release = release;
        self
    }

    /// How much LLVM optimises: one [tier](Builder::tiers), of this level. Default: O1. (Other backends decide for
    /// themselves.)
    pub fn opt_level(mut self, level: OptLevel) -> Self {
        self.config.tiers = vec![only(level)];
        self
    }

    /// How methods are compiled at first, and how when they have shown that they are worth more:
    /// [`Tier::defaults`], say. At least one, and at most eight. Default: one tier, of [`OptLevel::O1`]. The last of this and
    /// [`Builder::opt_level`] counts.
    ///
    /// With several, a method comes soon, and becomes fast where that pays: what counts is promoted in the background, while
    /// its code of the tier before is called. Its IR is kept for that, charged to the budget, until it is in the last
    /// tier. Who is inside when it is promoted stays in the old code until it returns: a method that
    /// is called once, and loops for ever, is as fast as its first tier.
    pub fn tiers(mut self, tiers: impl IntoIterator<Item = Tier>) -> Self {
        self.config.tiers = tiers.into_iter().collect();
        self
    }

    /// Whether debug information is kept. Default: it is stripped.
    pub fn debug_info(mut self, debug_info: DebugInfo) -> Self {
        self.config.debug_info = debug_info;
        self
    }

    /// Whether what is needed to move a method without compiling it again is kept: a list of its relocations, some
    /// hundred bytes, charged to the budget. The code itself is copied from where it is. Default: true.
    ///
    /// Methods with variables of their own have none, nor do those that share private functions; for code of other
    /// [backends](crate::Backend) than LLVM's a method has one if what belongs to it alone is in sections of its own.
    pub fn keep_recipes(mut self, keep: bool) -> Self {
        self.config.keep_recipes = keep;
        self
    }

    /// Whether code polls: at the entry of each function, and on each way round a loop, it looks
    /// whether the reclaimer asks for a safepoint, and comes to one if so. Without polls a thread that
    /// stays in a method which calls nothing stops all reclamation until it leaves. Default: no.
    ///
    /// # Cost
    /// A load and a branch that is not taken: under a fifth of a loop of ten instructions. Polls are
    /// put in after optimisation, so that loops are still vectorised and unrolled, and have one poll
    /// for each turn that is left. While memory waits for somebody who is late, and polls are asked,
    /// each costs a call, and one of them a scan of the stack.
    ///
    /// # What is asked of the embedder
    /// With polls every call of a method may come to a [safepoint](crate::Participant::safepoint). So
    /// over a call an entry is kept on the stack, or loaded again afterwards (one that was kept
    /// elsewhere panics when it is called), and a bare pointer on the stack alone: see
    /// [`Entry::pointer`](crate::Entry::pointer).
    ///
    /// Backends other than LLVM's are told, and may poll: [`Batch::poll`](crate::Batch::poll).
    pub fn polls(mut self, polls: bool) -> Self {
        self.config.polls = polls;
        self
    }

    /// What code calls at a [poll](Builder::polls) that was asked for, after its safepoint: to run
    /// what a signal handler could not, to stop a thread, or to switch to another fibre. The
    /// embedder asks by [`Cache::ask_for_polls`]; the reclaimer's own asking comes here too.
    /// Default: none.
    ///
    /// It is called on the thread that polls, which is pinned, with frames of code below. It may
    /// call methods. It returns, or leaves by `longjmp` to a frame of code or below; it must not
    /// unwind.
    pub fn on_poll(mut self, hook: unsafe extern "C" fn()) -> Self {
        self.config.on_poll = Some(hook);
        self
    }

    /// Makes a host function, or variable, known to methods under a name; the last of several of
    /// one name counts. It must outlive the cache. Nothing of the process is searched by default.
    pub fn import(mut self, name: &str, address: *const ()) -> Self {
        self.config
            .imports
            .insert(name.to_owned(), address as usize);
        self
    }

    /// Where a call from jitted code goes when its callee cannot be compiled: a function without
    /// parameters and result that does not return. It can ask [`last_failure`](crate::last_failure)
    /// why. Default: prints the error and aborts.
    pub fn failure_entry(mut self, entry: unsafe extern "C" fn()) -> Self {
        self.config.failure_entry = Some(entry as *const () as usize);
        self
    }

    /// Who reclaims. Default: a thread of the cache's own.
    pub fn reclaimer(mut self, reclaimer: Reclaimer) -> Self {
        self.config.reclaimer = reclaimer;
        self
    }

    /// How long memory may wait for a thread that stays pinned before that is a [`Stall`]: it stands
    /// in the [`Statistics`](crate::Statistics), and is told. Default: 10 seconds.
    pub fn stall_after(mut self, age: Duration) -> Self {
        self.config.stall_after = age;
        self
    }

    /// Bytes that may be retired and not yet freed before that is a [`Stall`]. Default: 256 MiB.
    pub fn stall_bytes(mut self, bytes: u64) -> Self {
        self.config.stall_bytes = bytes;
        self
    }

    /// Is called when a [`Stall`] begins, or passes to another participant: on the reclaimer's
    /// thread, or in [`Cache::maintain`]. It must not wait for the participant, and may ask for
    /// statistics. Default: none.
    pub fn on_stall(mut self, listener: impl Fn(&Stall) + Send + Sync + 'static) -> Self {
        self.config.on_stall = Some(Arc::new(listener));
        self
    }

    /// Is called once when the process exits (`main` returns, or something calls `exit`), with the
    /// status, on the thread that exits, while methods can still be compiled: for exit handlers that
    /// run methods. One of the embedder's own by `atexit` may run when the compile workers have
    /// stopped. Not called in a forked child, nor where a compile worker exits. Default: none.
    pub fn before_exit(mut self, listener: impl Fn(i32) + Send + Sync + 'static) -> Self {
        self.config.before_exit = Some(Arc::new(listener));
        self
    }

    /// Keeps the addresses of code that has gone unused for a while, so that a call which comes too
    /// late is a crash where it happens. Default: none.
    pub fn quarantine(mut self, quarantine: Quarantine) -> Self {
        self.config.quarantine = Some(quarantine);
        self
    }

    /// Who goes first when memory is short. Default: [`Victims::Generation`].
    pub fn victims(mut self, victims: Victims) -> Self {
        self.config.victims = victims;
        self
    }

    /// Whether the survivors of sparse generations are moved together, so that these can go: a
    /// generation lives as long as its last method, and one that is called for ever would keep the
    /// memory of all that were compiled with it. Default: true.
    ///
    /// Compile workers do it, when memory is short or when they have nothing else to do. Callers notice
    /// nothing: a method that moves has its code all the time, its canonical address and its callback
    /// stay, and who is inside of the old code leaves it when it returns. A method is linked again at
    /// its new place, which takes microseconds, or compiled again where that cannot be
    /// ([`keep_recipes`](Builder::keep_recipes)).
    pub fn evacuate(mut self, evacuate: bool) -> Self {
        self.config.evacuate = evacuate;
        self
    }

    /// How many bytes of code may be moved for each byte that comes back: a generation is left when
    /// what lives in it is less than that. Without need, when workers have nothing else to do, an eighth of
    /// it. Default: 4, so that a generation is left when a fifth of it is dead. More keeps more code
    /// in the same memory, and moves it more often.
    pub fn evacuation_work(mut self, bytes_per_byte: f64) -> Self {
        self.config.evacuation_work = bytes_per_byte;
        self
    }

    /// How many generations each worker has open at most, for methods of different
    /// [groups](Frontend::group): more groups than that share them. Fewer are open while the budget is
    /// small: together they take a quarter of it at most, or are one. Default: 4; 1,024 at most.
    pub fn groups(mut self, groups: usize) -> Self {
        self.config.groups = groups;
        self
    }

    /// Makes rare events frequent, for tests. Default: off.
    pub fn stress(mut self, stress: Stress) -> Self {
        self.config.stress = stress;
        self
    }

    /// Makes the cache: reserves its address space, builds the first contexts, starts its
    /// threads.
    ///
    /// # Errors
    /// [`Error::Setting`] for a setting that makes no sense, [`Error::Memory`] when the system
    /// refuses address space or threads, [`Error::Prelude`] and [`Error::Target`] when no context
    /// can be made, [`Error::NoHelper`] when no [helper](Builder::isolation) can be started.
    pub fn build(self) -> Result<Cache<K>, Error> {
        let mut config = self.config;
        check(&config)?;
        if let Some(isolation) = self.isolation {
            config.helpers = Some(Pool::start(isolation, &config)?);
        }
        let backend = (self.backend)(&config)?;
        Cache::start(config, self.policy, backend.into(), self.listener)
    }
}

/// Where threads cannot be started any more the standard library aborts the process.
const MOST_WORKERS: usize = 1024;
/// And generations that each of them has open.
const MOST_GROUPS: usize = 1024;

fn check(config: &Config) -> Result<(), Error> {
    let wrong = |setting, problem: &str| {
        Err(Error::Setting {
            setting,
            problem: problem.to_owned(),
        })
    };
    if !(config.low > 0.0 && config.low <= config.high && config.high <= 1.0) {
        return wrong("water_marks", "0 < low <= high <= 1 must hold");
    }
    if config.workers > MOST_WORKERS {
        return wrong("workers", "more than 1024 threads");
    }
    if config.groups > MOST_GROUPS {
        return wrong("groups", "more than 1024 generations open for each worker");
    }
    if config.name.contains('\0') {
        return wrong("name", "a thread's name cannot hold a NUL byte");
    }
    if let Some((name, _)) = config.imports.iter().find(|(_, address)| **address == 0) {
        return wrong("import", &format!("{name} has the address 0"));
    }
    if config.batch_limit == 0 {
        return wrong("batch_limit", "a batch has at least one method");
    }
    if config.tiers.is_empty() || config.tiers.len() > MOST_TIERS {
        return wrong("tiers", "a cache has one to eight");
    }
    if config.backlog.limit == 0 {
        return wrong("backlog", "at least one request may wait");
    }
    if config.groups == 0 {
        return wrong("groups", "at least one generation must be open");
    }
    if config.wishes.fallback == Some(0) {
        return wrong("fallback", "it has the address 0");
    }
    let admission = config.wishes.admission;
    if admission.asks > 1 && admission.within.is_zero() {
        return wrong("admit_after", "no two requests come at the same time");
    }
    if !(config.evacuation_work > 0.0 && config.evacuation_work <= 1e6) {
        return wrong("evacuation_work", "0 < bytes <= 1,000,000 must hold");
    }
    if config.generation_methods == 0 {
        return wrong("generation_methods", "a generation has at least one method");
    }
    Ok(())
}
