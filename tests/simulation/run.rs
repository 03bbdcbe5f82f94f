//! Runs simulations: which thread goes on is the seed's to say.

use std::cell::{Cell, RefCell};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use inkpot::__simulation::{memory, thread_dies, world};
use inkpot::Participant;
use shuttle::scheduler::{PctScheduler, Schedule, Scheduler, Task, TaskId};
use shuttle::{Config, FailurePersistence, MaxSteps, Runner};

use crate::synthetic::Random;

/// A run that takes more steps than this goes round in circles.
const STEPS: usize = 3_000_000;
/// Debug builds have large frames.
const STACK: usize = 512 << 10;

/// How the next thread is chosen.
#[derive(Clone, Copy)]
enum Way {
    /// Any.
    Uniform,
    /// Mostly the one that runs, so that others are far behind.
    Sticky(u32),
    /// The one of the highest priority; one in so many times the priorities change. (As in probabilistic concurrency
    /// testing: what takes few switches, in the wrong places, is found so.)
    Priorities(u32),
}

struct Seeded {
    seeds: Range<u64>,
    random: Random,
    way: Way,
    /// By the threads' numbers. The lowest goes on.
    priorities: Vec<u64>,
}

std::thread_local! {
    static SEED: Cell<u64> = const { Cell::new(0) };
    static LEAKED: RefCell<Vec<Participant>> = const { RefCell::new(Vec::new()) };
}

/// The thread that has this participant ends, and it with its pin. It keeps the cache until the run is over.
pub fn leak(participant: Participant) {
    thread_dies();
    LEAKED.with_borrow_mut(|leaked| leaked.push(participant));
}

/// What was leaked lets go of the cache, when its threads have been buried. (All threads of a run are one thread to the system.)
pub fn end_leaks() {
    drop(LEAKED.take());
}

/// The seed of the run that goes on.
pub fn seed() -> u64 {
    SEED.get()
}

impl Seeded {
    fn new(seeds: Range<u64>) -> Self {
        Self {
            seeds,
            random: Random::new(0),
            way: Way::Uniform,
            priorities: Vec::new(),
        }
    }

    fn priority(&mut self, thread: TaskId) -> u64 {
        let thread = usize::from(thread);
        while self.priorities.len() <= thread {
            self.priorities.push(self.random.next());
        }
        self.priorities[thread]
    }
}

impl Scheduler for Seeded {
    fn new_execution(&mut self) -> Option<Schedule> {
        let seed = self.seeds.next()?;
        SEED.set(seed);
        self.random = Random::new(seed);
        self.priorities.clear();
        self.way = match self.random.below(4) {
            0 => Way::Uniform,
            1 => Way::Sticky(4),
            2 => Way::Sticky(30),
            _ => Way::Priorities(50 << self.random.below(5)),
        };
        Some(Schedule::new(seed))
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        is_yielding: bool,
    ) -> Option<TaskId> {
        let any = runnable[self.random.below(runnable.len() as u32) as usize].id();
        let stays = |current: &TaskId| !is_yielding && runnable.iter().any(|t| t.id() == *current);
        match self.way {
            Way::Uniform => Some(any),
            Way::Sticky(n) => match current.filter(stays) {
                Some(current) if self.random.below(n) != 0 => Some(current),
                _ => Some(any),
            },
            Way::Priorities(n) => {
                if let Some(current) = current
                    && (is_yielding || self.random.below(n) == 0)
                {
                    self.priority(current);
                    let lowest = self
                        .priorities
                        .iter()
                        .max()
                        .map_or(0, |p| p.saturating_add(1));
                    self.priorities[usize::from(current)] = lowest;
                }
                let ids: Vec<TaskId> = runnable.iter().map(|task| task.id()).collect();
                ids.into_iter().min_by_key(|&id| self.priority(id))
            }
        }
    }

    fn next_u64(&mut self) -> u64 {
        self.random.next()
    }
}

/// Runs `body` once for each seed, each time in a world of its own. Returns what the last run's world noted, as a number.
///
/// # Panics
/// If one fails: with its seed, by which it fails again.
pub fn run(seeds: Range<u64>, body: impl Fn(&mut Random) + Send + Sync + 'static) -> u64 {
    match attempt(seeds, body) {
        Ok(trace) => trace,
        Err((seed, why)) => panic!("seed {seed} fails: {why}\n(INKPOT_SEED={seed} repeats it)"),
    }
}

/// The same; a failure is returned, with its seed.
pub fn attempt(
    seeds: Range<u64>,
    body: impl Fn(&mut Random) + Send + Sync + 'static,
) -> Result<u64, (u64, String)> {
    with(Seeded::new(seeds), body)
}

/// Runs `body` so many times by shuttle's own scheduler of priorities.
///
/// # Panics
/// If one fails. All of them are repeated by running as many again.
pub fn by_priorities(times: usize, body: impl Fn(&mut Random) + Send + Sync + 'static) {
    const DEPTH: usize = 4;
    if times == 0 {
        return;
    }
    SEED.set(0);
    let scheduler = PctScheduler::new_from_seed(1, DEPTH, times);
    let counted = move |random: &mut Random| {
        body(random);
        SEED.set(seed() + 1);
    };
    if let Err((run, why)) = with(scheduler, counted) {
        panic!("run {run} by priorities fails: {why}");
    }
}

fn with(
    scheduler: impl Scheduler + 'static,
    body: impl Fn(&mut Random) + Send + Sync + 'static,
) -> Result<u64, (u64, String)> {
    let mut config = Config::new();
    config.stack_size = STACK;
    config.failure_persistence = FailurePersistence::None;
    config.max_steps = MaxSteps::FailAfter(STEPS);
    config.silence_warnings = true;
    let runner = Runner::new(scheduler, config);
    let ran = catch_unwind(AssertUnwindSafe(|| runner.run(move || one(&body))));
    match ran {
        Ok(_) => Ok(world::trace()),
        Err(panic) => {
            // There is no run any more in which the cache could end.
            std::mem::forget(LEAKED.take());
            let why = panic.downcast_ref::<String>().cloned();
            let why = why.or_else(|| panic.downcast_ref::<&str>().map(|&why| why.to_owned()));
            let mut why = why.unwrap_or_else(|| "a panic without words".to_owned());
            for broken in world::end() {
                why = format!("{why}\n{broken}");
            }
            Err((seed(), why))
        }
    }
}

fn one(body: &impl Fn(&mut Random)) {
    let mut random = Random::new(seed() ^ 0x0dd0_5eed);
    memory::forget();
    world::begin(world::Settings {
        seed: seed(),
        switches: 1 << random.below(5),
        refusals: 0,
    });
    let clock = shuttle::thread::spawn(world::keep_time);
    body(&mut random);
    let broken = world::end();
    clock.join().expect("the clock's thread only keeps time");
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    assert_eq!(memory::pages(), 0, "memory that nobody has given back");
}
