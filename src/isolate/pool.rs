//! The helpers of one cache.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, Weak};

use super::process::{Failed, Link, Process};
use super::wire::Identity;
use super::{Helper, HelperFailure, Isolation, Part, VARIABLE, serve};
use crate::compile::OptLevel;
use crate::compile::llvm::{Job, Made, Workshop};
use crate::config::Config;
use crate::error::Error;
use crate::sync::plain::{Mutex, MutexGuard};

/// Helpers: one for each compile worker that ever compiled at once with others.
pub(crate) struct Pool {
    isolation: Isolation,
    /// The cache's, by which the processes of several can be told apart.
    name: String,
    /// Of the code generators that are in use.
    levels: Vec<OptLevel>,
    /// What a helper must be.
    identity: Identity,
    state: Mutex<State>,
    started: AtomicU64,
    failed: AtomicU64,
}

#[derive(Default)]
struct State {
    idle: Vec<Process>,
    /// All that were started, and may still run.
    links: Vec<Weak<Link>>,
    closed: bool,
}

impl Pool {
    /// Starts the helpers of a cache, and waits until the first is ready.
    pub(crate) fn start(isolation: Isolation, config: &Config) -> Result<Arc<Self>, Error> {
        let mut levels: Vec<_> = config.tiers.iter().map(|tier| tier.generator).collect();
        levels.dedup();
        check(&isolation)?;
        let pool = Arc::new(Self {
            isolation,
            name: config.name.clone(),
            levels,
            identity: Workshop::identity()?,
            state: Mutex::default(),
            started: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        });
        // Before the others: of a wrong program one is enough.
        let first = pool.take(false)?;
        pool.give_back(first);
        for _ in 1..config.workers {
            let process = pool.start_one()?;
            pool.give_back(process);
        }
        Ok(pool)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An object of a module, made by a helper. `part`: whose module it is.
    ///
    /// What LLVM says against the module is an [`Error::Codegen`], a failure of the process an
    /// [`Error::Isolated`], both without a name. [`Error::NoHelper`] and [`Error::ShuttingDown`] have
    /// nothing to do with this module.
    pub(crate) fn compile(&self, job: &Job<'_>, bitcode: &[u8], part: Part) -> Result<Made, Error> {
        // A method alone is tried twice: the first helper may have had something left behind by others, or been killed
        // from outside, and that just before it was given its first job.
        let mut fresh = false;
        loop {
            let mut process = self.take(fresh)?;
            let failure = match process.compile(&self.isolation, job, bitcode, part) {
                Ok(made) => {
                    self.give_back(process);
                    return Ok(made);
                }
                Err(Failed::Refused(message)) => {
                    self.give_back(process);
                    return Err(Error::Codegen {
                        method: String::new(),
                        message,
                    });
                }
                Err(Failed::Process(failure)) => failure,
            };
            drop(process);
            if self.lock().closed {
                return Err(Error::ShuttingDown);
            }
            self.failed.fetch_add(1, Ordering::Relaxed);
            // The next is wanted soon, and gets ready while this failure is dealt with. If it cannot be
            // started, that is told to whoever takes it.
            if let Ok(next) = self.start_one() {
                self.give_back(next);
            }
            let by_what_it_did = matches!(
                failure,
                HelperFailure::Died { .. } | HelperFailure::OutOfMemory { .. }
            );
            if part != Part::Alone || !by_what_it_did || fresh {
                return Err(Error::Isolated {
                    method: String::new(),
                    failure,
                });
            }
            fresh = true;
        }
    }

    /// A helper that is ready; if it is to be `fresh`, one that has compiled nothing.
    pub(super) fn take(&self, fresh: bool) -> Result<Process, Error> {
        loop {
            let idle = self.take_idle(fresh);
            let was_idle = idle.is_some();
            let mut process = match idle {
                Some(process) => process,
                None => self.start_one()?,
            };
            let ready = process.get_ready(&self.identity, self.isolation.memory_limit);
            match ready {
                // One may have ended while nobody looked, ready or not: that is no reason to fail.
                Ok(()) if was_idle && process.is_gone() => {}
                Ok(()) => return Ok(process),
                Err(_) if self.lock().closed => return Err(Error::ShuttingDown),
                Err(_) if was_idle => {}
                Err(problem) => return Err(self.no_helper(problem)),
            }
        }
    }

    fn take_idle(&self, fresh: bool) -> Option<Process> {
        let idle = &mut self.lock().idle;
        let place = idle.iter().rposition(|p| !fresh || p.jobs == 0)?;
        Some(idle.remove(place))
    }

    pub(super) fn give_back(&self, process: Process) {
        let mut state = self.lock();
        if state.closed {
            drop(state);
            drop(process); // waits
        } else {
            state.idle.push(process);
        }
    }

    fn start_one(&self) -> Result<Process, Error> {
        let process = Process::start(&self.isolation, &self.name, &self.levels)
            .map_err(|error| self.no_helper(format!("it cannot be started: {error}")))?;
        self.started.fetch_add(1, Ordering::Relaxed);
        let mut state = self.lock();
        if state.closed {
            drop(state);
            return Err(Error::ShuttingDown);
        }
        state.links.retain(|link| link.strong_count() > 0);
        state.links.push(Arc::downgrade(process.link()));
        Ok(process)
    }

    fn no_helper(&self, problem: String) -> Error {
        Error::NoHelper {
            program: self.isolation.program(),
            problem,
        }
    }

    /// In a forked child: the helpers are its parent's.
    pub(crate) fn forget_all(&self) {
        let State { idle, links, .. } = std::mem::take(&mut *self.lock());
        drop((idle, links));
    }

    /// Ends all helpers. Whoever waits for one is told [`Error::ShuttingDown`].
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let (idle, links) = (
            std::mem::take(&mut state.idle),
            std::mem::take(&mut state.links),
        );
        drop(state);
        // All at once, and then they are waited for: here, or by the workers that have them.
        links
            .iter()
            .filter_map(Weak::upgrade)
            .for_each(|l| l.kill());
        drop(idle);
    }

    /// Helpers that were started, and those that failed while they compiled.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let [started, failed] = [&self.started, &self.failed].map(|n| n.load(Ordering::Relaxed));
        (started, failed)
    }
}

fn check(isolation: &Isolation) -> Result<(), Error> {
    let wrong = |problem: &str| {
        Err(Error::Setting {
            setting: "isolation",
            problem: problem.to_owned(),
        })
    };
    if std::env::var_os(VARIABLE).is_some() {
        // Each would start the next, for ever.
        return wrong(
            "this process was started as a helper, and is none: it has to call helper::run_if_helper first",
        );
    }
    if matches!(isolation.helper, Helper::OwnExecutable) && !serve::is_able() {
        return wrong(
            "the own executable is a helper only if it calls helper::run_if_helper first in main",
        );
    }
    if isolation.time_limit.is_zero() {
        return wrong("nothing is compiled in no time");
    }
    Ok(())
}
