//! What all handles, participants and threads of one cache share.

use std::any::Any;
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;
use thread::{JoinHandle, current};

use super::help::Seats;
use super::ledger::{Bonds, Choice, Ledger, Limits, Locked, bookkeeping_per_method};
use super::open::Slots;
use super::overtime::Overtime;
use super::recycle::{Reclaim, Ticket};
use super::tell::{Outbox, Told};
use super::{ask, exit, fork, quiet};
use crate::code::CodeSpace;
use crate::compile::{ErasedBackend, Queue, on_a_worker};
use crate::config::{Config, Reclaimer};
use crate::error::{Error, MapStep};
use crate::evict::Policy;
use crate::generation::{Context, Pool};
use crate::invalidate::Relying;
use crate::method::{CALLBACK_BYTES, Key, ResolveContext, Table};
use crate::observe::Listener;
use crate::reclaim::{Domain, Holds};
use crate::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use crate::sync::fault::kept;
use crate::sync::{Condvar, Mutex, MutexGuard, thread};

/// The engine of a cache. It ends (and with it all code) when neither a handle nor a participant
/// nor a thread of its own refers to it any more.
pub(crate) struct Core<K: Key> {
    pub(crate) config: Config,
    pub(crate) domain: Arc<Domain>,
    pub(crate) table: Arc<Table<K>>,
    pub(crate) queue: Arc<Queue<K>>,
    pub(crate) ledger: Mutex<Ledger<K>>,
    pub(crate) reclaim: Mutex<Reclaim<K>>,
    pub(crate) bell: Arc<Bell>,
    /// Generations that are open.
    pub(crate) open: Slots<K>,
    pub(crate) pool: Pool,
    /// For threads of the embedder's that compile.
    pub(crate) seats: Seats,
    pub(crate) backend: Arc<dyn ErasedBackend<K>>,
    pub(crate) space: Arc<CodeSpace>,
    /// This process is a child of the one that made the cache.
    pub(crate) forked: AtomicBool,
    pub(crate) look_ups: AtomicU32,
    /// Contexts that are of no use any more, for the reclaimer to dispose of.
    pub(crate) released_contexts: Mutex<Vec<Context>>,
    /// Wishes that were not granted.
    pub(crate) not_admitted: AtomicU64,
    pub(crate) damped: AtomicU64,
    pub(crate) overtime: Overtime<K>,
    /// Events for the listener, if there is one.
    pub(crate) outbox: Option<Arc<Outbox<K>>>,
    /// Waits for a grace period that the reclaimer has not seen yet.
    pub(crate) tickets: Mutex<Vec<Arc<Ticket>>>,
    /// What bonds with assumptions take.
    bonds_bytes: Arc<AtomicU64>,
    /// What IR takes that is kept.
    pub(crate) source_bytes: Arc<AtomicU64>,
    /// As assumptions list it.
    pub(crate) relying: Weak<dyn Relying>,
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Wakes the reclaimer's thread.
#[derive(Default)]
pub(crate) struct Bell {
    rung: Mutex<bool>,
    heard: Condvar,
}

impl Bell {
    pub(crate) fn ring(&self) {
        *lock(&self.rung) = kept("bell.rung");
        if kept("bell.notify") {
            self.heard.notify_one();
        }
    }

    /// Waits for a ring, or until `patience` is over.
    pub(crate) fn wait(&self, patience: Duration) {
        let mut rung = lock(&self.rung);
        if !*rung {
            rung = self
                .heard
                .wait_timeout(rung, patience)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        *rung = false;
    }
}

impl<K: Key> Core<K> {
    fn new(
        mut config: Config,
        policy: Box<dyn Policy>,
        backend: Arc<dyn ErasedBackend<K>>,
        listener: Option<Arc<dyn Listener<K>>>,
    ) -> Result<Arc<Self>, Error> {
        config.budget = config.budget.min(config.hard_limit);
        let limits = Limits {
            budget: config.budget,
            code_budget: config.code_budget,
            hard_limit: config.hard_limit,
            high: config.high,
            low: config.low,
        };
        let choice = Choice {
            victims: config.victims,
            work: config.evacuate.then_some(config.evacuation_work),
            patience: config.wishes.patience,
            damping: config.wishes.damping,
        };
        let space = Arc::new(CodeSpace::new(&config.name, config.quarantine())?);
        let context = ResolveContext::new(ask::resolve_call::<K>);
        let counts = config.tiers.iter().any(|tier| tier.promote_after.is_some());
        let domain = Arc::new(Domain::new(Holds::new(&space), counts));
        let common = config.wishes.fallback;
        // Records may outlive the cache; the front end does not.
        let asked = Arc::downgrade(&backend);
        let fallback_of = move |key: &K| asked.upgrade()?.fallback(key).resolve(common);
        let bell = Arc::<Bell>::default();
        let of_table = bell.clone();
        let table = Table::new(
            space.clone(),
            context,
            domain.clone(),
            Box::new(fallback_of),
            Box::new(move || of_table.ring()),
            config.hardening.branch_targets,
        )?;
        let table = Arc::new(table);
        let bonds_bytes = Arc::<AtomicU64>::default();
        let bonds = Bonds::new(bonds_bytes.clone());
        let queue = Arc::new(Queue::new());
        let outbox = listener.map(|listener| Arc::new(Outbox::new(listener)));
        let mut ledger = Ledger::new(limits, choice, policy, space.clone(), bonds, queue.clone());
        ledger.outbox = outbox.clone();
        let core = Arc::new_cyclic(|core: &Weak<Self>| Self {
            table,
            queue,
            ledger: Mutex::new(ledger),
            reclaim: Mutex::new(Reclaim::new(&domain)),
            bell,
            open: Slots::new(config.workers, config.groups * config.tiers.len()),
            pool: Pool::new(config.workers.max(1)),
            seats: Seats::new(config.workers),
            backend,
            space,
            forked: AtomicBool::new(false),
            look_ups: AtomicU32::new(0),
            released_contexts: Mutex::default(),
            not_admitted: AtomicU64::new(0),
            damped: AtomicU64::new(0),
            overtime: Overtime::new(config.wishes.compile_limit),
            outbox,
            tickets: Mutex::default(),
            bonds_bytes,
            source_bytes: Arc::default(),
            relying: core.clone(),
            domain,
            config,
        });
        core.table.context().set_owner(Arc::as_ptr(&core).cast());
        Ok(core)
    }

    pub(crate) fn ledger(&self) -> Locked<'_, K> {
        Locked::new(lock(&self.ledger))
    }

    /// Something has happened; the caller may hold any locks.
    pub(crate) fn put(&self, told: impl FnOnce() -> Told<K>) {
        if let Some(outbox) = &self.outbox {
            outbox.put(told());
        }
    }

    /// An error where nothing may be compiled or changed: in a forked child.
    pub(crate) fn check_fork(&self) -> Result<(), Error> {
        if self.forked.load(Ordering::Relaxed) {
            Err(Error::Forked)
        } else {
            Ok(())
        }
    }

    pub(crate) fn is_stressed(&self) -> bool {
        let stress = self.config.stress;
        let every = [
            stress.evict_every,
            stress.invalidate_every,
            stress.recycle_every,
            stress.move_every,
        ];
        every.iter().any(|n| *n != 0)
    }

    /// Bytes that the records of all methods take, what was given out of them, names of code, and bonds
    /// with assumptions.
    pub(crate) fn bookkeeping(&self) -> u64 {
        self.table.len() as u64 * bookkeeping_per_method::<K>()
            + self.table.callbacks() as u64 * CALLBACK_BYTES
            + self.space.symbols().bytes()
            + self.bonds_bytes.load(Ordering::Relaxed)
            + self.table.fallback_bytes()
            + self.table.forgotten_bytes()
    }

    /// Bytes of IR that is kept.
    pub(crate) fn sources(&self) -> u64 {
        self.source_bytes.load(Ordering::Relaxed)
    }

    /// What the budget is charged besides generations: records, IR, and contexts that are kept ready.
    pub(crate) fn beside_generations(&self) -> u64 {
        self.bookkeeping() + self.sources() + self.pool.spare().1
    }

    /// A context with the prelude, ready or made now.
    pub(crate) fn context(&self) -> Result<Context, Error> {
        let ready = self.pool.take();
        if self.pool.wants_more() {
            self.bell.ring();
        }
        ready.map_or_else(|| self.open_context(), Ok)
    }

    pub(super) fn open_context(&self) -> Result<Context, Error> {
        let _inside = quiet::go_inside();
        self.backend.open()
    }
}

impl<K: Key> Life<K> {
    /// In a forked child: another cache of the same settings, front end, policy and listener.
    pub(crate) fn after_fork(&self) -> Result<Arc<Self>, Error> {
        let core = &self.core;
        if quiet::is_spoilt() {
            return Err(Error::Forked);
        }
        let policy = core.ledger().give_policy_up();
        // The helpers are the parent's. Nobody was inside of this when the process was forked.
        if let Some(helpers) = &core.config.helpers {
            helpers.forget_all();
        }
        let listener = core.outbox.as_ref().map(|outbox| outbox.listener());
        Self::start(core.config.clone(), policy, core.backend.clone(), listener)
    }
}

impl<K: Key> Drop for Core<K> {
    fn drop(&mut self) {
        if self.forked.load(Ordering::Relaxed) {
            // The parent's threads were in the middle of things; the child leaves it all alone.
            return;
        }
        self.tear_down();
    }
}

/// The public side's hold on the engine.
pub(crate) struct Life<K: Key> {
    pub(crate) core: Arc<Core<K>>,
    threads: Arc<Threads<K>>,
}

/// What keeps the engine running: the public side, and threads that are inside by a callback. When
/// the last of these goes, the cache's threads are stopped.
struct Threads<K: Key> {
    core: Arc<Core<K>>,
    handles: Mutex<Vec<JoinHandle<()>>>,
    /// The thread that tells the listener.
    teller: Mutex<Option<JoinHandle<()>>>,
}

impl<K: Key> Life<K> {
    pub(crate) fn start(
        config: Config,
        policy: Box<dyn Policy>,
        backend: Arc<dyn ErasedBackend<K>>,
        listener: Option<Arc<dyn Listener<K>>>,
    ) -> Result<Arc<Self>, Error> {
        let core = Core::new(config, policy, backend, listener)?;
        // Errors of the front end's prelude show here, and not at the first method.
        while core.pool.wants_more() {
            core.pool.put(core.open_context()?);
        }
        let threads = Arc::new(Threads {
            core: core.clone(),
            handles: Mutex::default(),
            teller: Mutex::default(),
        });
        let running: Arc<dyn Any + Send + Sync> = threads.clone();
        core.domain.set_keep(Arc::downgrade(&running));
        let life = Arc::new(Self {
            core: core.clone(),
            threads,
        });
        fork::register(&core);
        exit::register(&core);
        for worker in 0..core.config.workers {
            let of_worker = core.clone();
            life.spawn(
                format!("{}-compile-{worker}", core.config.name),
                move || {
                    of_worker.work(worker);
                },
            )?;
        }
        if core.config.reclaimer == Reclaimer::Thread {
            let of_reclaimer = core.clone();
            life.spawn(format!("{}-reclaim", core.config.name), move || {
                of_reclaimer.reclaim_until_closed();
            })?;
            if let Some(outbox) = core.outbox.clone() {
                life.tell(outbox)?;
            }
        }
        Ok(life)
    }

    /// Starts the thread that tells the listener. It holds no cache, and may wait for one: so may a listener.
    fn tell(&self, outbox: Arc<Outbox<K>>) -> Result<(), Error> {
        let name = format!("{}-tell", self.core.config.name);
        let thread = thread::Builder::new().name(name);
        let thread = thread.spawn(move || outbox.tell_until_closed());
        let thread = thread.map_err(|e| Error::map(MapStep::Thread, 0, e))?;
        *lock(&self.threads.teller) = Some(thread);
        Ok(())
    }

    fn spawn(&self, name: String, run: impl FnOnce() + Send + 'static) -> Result<(), Error> {
        let serving = exit::Serving::begins();
        let core = self.core.clone();
        let thread = thread::Builder::new().name(name).spawn(move || {
            // Last of all: if this thread is the last to hold the cache, it takes it apart.
            let _serving = serving;
            let _core = core;
            crate::compile::set_on_a_worker(true);
            run();
        });
        let thread = thread.map_err(|e| Error::map(MapStep::Thread, 0, e))?;
        lock(&self.threads.handles).push(thread);
        Ok(())
    }

    /// As a participant keeps it.
    pub(crate) fn erased(self: &Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self.clone()
    }
}

impl<K: Key> Drop for Life<K> {
    fn drop(&mut self) {
        if !self.core.forked.load(Ordering::Relaxed) {
            drop(self.core.domain.close());
        }
    }
}

impl<K: Key> Drop for Threads<K> {
    fn drop(&mut self) {
        let threads = std::mem::take(
            self.handles
                .get_mut()
                .unwrap_or_else(PoisonError::into_inner),
        );
        let teller = self.teller.get_mut();
        let teller = teller.unwrap_or_else(PoisonError::into_inner).take();
        if self.core.forked.load(Ordering::Relaxed) {
            // The threads are the parent's, and may have held any lock.
            threads.into_iter().chain(teller).for_each(std::mem::forget);
            return;
        }
        self.core.close();
        // A front end may have held the last handle: a worker does not wait for itself (nor for
        // the others, which may wait for it). The last thread tears the cache down then.
        if !on_a_worker() {
            for thread in threads {
                let _ = thread.join(); // a panic was reported when it happened
            }
        }
        let Some(outbox) = &self.core.outbox else {
            return;
        };
        outbox.close();
        match teller {
            // A listener may wait for a worker, and may have held the last handle itself.
            Some(teller) if on_a_worker() || teller.thread().id() == current().id() => {}
            Some(teller) => drop(teller.join()),
            None => outbox.tell(),
        }
    }
}
