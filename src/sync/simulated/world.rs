//! What all threads of one simulation share: its random numbers, its clock, and what it refuses.
//!
//! # Time
//!
//! The clock goes on a little with everything that a thread does. Who waits for a time has a timer; a thread of the
//! simulation's own ([`keep_time`]) now and then, and whenever nobody else can go on, lets the clock jump to the timer
//! that is due first. So waits end in their order, early or late, as the seed says.

use std::cell::RefCell;
use std::time::Duration;

use shuttle::thread::Thread;

/// What anything that a thread does takes.
const STEP: Duration = Duration::from_nanos(40);
/// One in so many times that the clock's thread comes round, time jumps, though others could go on.
const HASTE: u64 = 24;
/// A run that has come to this time waits for what does not come.
const LATE: Duration = Duration::from_secs(1000);
/// Times that the clock's thread comes round alone, without a timer, before that is a deadlock.
const DEADLOCK: u32 = 2000;

/// How a simulation is to be.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// What all that is random comes from.
    pub seed: u64,
    /// One in so many atomic accesses is a place where another thread may go on.
    pub switches: u64,
    /// One in so many calls of the system fails; 0 for none.
    pub refusals: u64,
}

struct Timer {
    due: Duration,
    /// Tells those apart that are due together.
    number: u64,
    thread: Thread,
}

struct World {
    settings: Settings,
    random: u64,
    now: Duration,
    /// What threads have done so far.
    steps: u64,
    timers: Vec<Timer>,
    numbers: u64,
    over: bool,
    /// All that happened, as a number.
    trace: u64,
    refused: u64,
    broken: Vec<String>,
    watched: Option<Vec<Touch>>,
}

// All threads of a simulation are one to the system.
std::thread_local! {
    static WORLD: RefCell<World> = const { RefCell::new(World::new(Settings {
        seed: 0,
        switches: 1,
        refusals: 0,
    })) };
}

impl World {
    const fn new(settings: Settings) -> Self {
        Self {
            settings,
            random: settings.seed,
            now: Duration::from_secs(1),
            steps: 0,
            timers: Vec::new(),
            numbers: 0,
            over: false,
            trace: 0,
            refused: 0,
            broken: Vec::new(),
            watched: None,
        }
    }

    /// SplitMix64.
    fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.random().is_multiple_of(n.max(1))
    }

    fn note(&mut self, what: u64) {
        self.trace = (self.trace.rotate_left(5) ^ what).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

fn with<R>(f: impl FnOnce(&mut World) -> R) -> R {
    WORLD.with_borrow_mut(f)
}

/// A new world. By the first thread of a simulation, before anything else.
pub fn begin(settings: Settings) {
    with(|world| *world = World::new(settings));
}

/// The simulation is over: time stops. Returns what went wrong.
pub fn end() -> Vec<String> {
    with(|world| {
        world.over = true;
        std::mem::take(&mut world.broken)
    })
}

/// A number that the seed determines.
pub fn random() -> u64 {
    with(World::random)
}

/// Something that shall be the same whenever the simulation is repeated.
pub fn note(what: u64) {
    with(|world| world.note(what));
}

/// What was noted so far, as one number.
pub fn trace() -> u64 {
    with(|world| world.trace)
}

/// A promise is broken. It is said at the end of the simulation: a panic here might be caught.
pub fn broken(what: String) {
    with(|world| world.broken.push(what));
}

/// What has gone wrong so far.
pub fn is_broken() -> bool {
    with(|world| !world.broken.is_empty())
}

/// Changes how often calls of the system fail.
pub fn set_refusals(refusals: u64) {
    with(|world| world.settings.refusals = refusals);
}

/// Calls of the system that have failed.
pub fn refused() -> u64 {
    with(|world| world.refused)
}

/// Whether a call of the system fails now.
pub(crate) fn refuses() -> bool {
    with(|world| {
        let n = world.settings.refusals;
        let refuses = n != 0 && world.one_in(n);
        world.refused += u64::from(refuses);
        refuses
    })
}

pub(in crate::sync) fn now() -> Duration {
    with(|world| {
        world.now += STEP;
        world.now
    })
}

/// A thread has read or written something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Touch {
    /// A number of the thread's own.
    pub thread: usize,
    /// Where.
    pub address: usize,
    /// It was written.
    pub writes: bool,
}

/// Keeps what atomics are touched from now on, or no more. Returns what was.
pub fn watch(begin: bool) -> Vec<Touch> {
    let new = begin.then(Vec::new);
    with(|world| std::mem::replace(&mut world.watched, new)).unwrap_or_default()
}

pub(super) fn touched<T>(what: *const T, writes: bool) {
    if with(|world| world.watched.is_none()) {
        return;
    }
    let Some(thread) = shuttle::current::try_get_current_task() else {
        return;
    };
    let touch = Touch {
        thread: thread.into(),
        address: what.addr(),
        writes,
    };
    with(|world| world.watched.as_mut().map(|watched| watched.push(touch)));
}

crate::sync::thread_local! {
    static INSIDE: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

/// The calling thread goes into a method, until it [comes out](come_out).
pub fn go_in() {
    INSIDE.set(INSIDE.get() + 1);
}

/// The calling thread comes out of a method.
pub fn come_out() {
    INSIDE.set(INSIDE.get() - 1);
}

/// Notes what only a thread may do that runs no method.
pub fn not_inside(what: &str) {
    // What is left of a failed simulation is dropped by nobody's thread.
    if is_inside() && INSIDE.get() > 0 {
        broken(format!("{what} on a thread that runs methods"));
    }
}

/// Whether the caller is a thread of a simulation: it is not when what is left of one is dropped.
fn is_inside() -> bool {
    shuttle::current::try_get_current_task().is_some()
}

/// Something was done that only the calling thread sees yet.
pub(super) fn step() {
    with(|world| {
        world.steps += 1;
        world.now += STEP;
    });
}

/// Before something that other threads can see: one of them may go on first.
pub fn point() {
    let switches = with(|world| {
        world.steps += 1;
        world.now += STEP;
        let switches = world.settings.switches;
        switches == 1 || world.one_in(switches)
    });
    // Not while a panic unwinds: to the system it is everybody's.
    if switches && !std::thread::panicking() && is_inside() {
        shuttle::thread::sleep(Duration::ZERO);
    }
}

/// Puts the calling thread into the list of those who wait for a time, until this is dropped.
pub(super) struct Alarm {
    due: Option<Duration>,
    number: u64,
}

impl Alarm {
    pub(super) fn after(patience: Duration) -> Self {
        let thread = shuttle::thread::current();
        with(|world| {
            world.numbers += 1;
            let number = world.numbers;
            let due = world.now.checked_add(patience);
            if let Some(due) = due {
                world.timers.push(Timer {
                    due,
                    number,
                    thread,
                });
            }
            Self { due, number }
        })
    }

    pub(super) fn is_over(&self) -> bool {
        let now = with(|world| world.now);
        self.due.is_some_and(|due| due <= now)
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        with(|world| world.timers.retain(|timer| timer.number != self.number));
    }
}

/// The life of the thread that keeps the time.
pub fn keep_time() {
    let (mut seen, mut alone) = (0, 0);
    loop {
        shuttle::thread::yield_now();
        let due = with(|world| {
            assert!(world.now < LATE, "somebody waits for what does not come");
            if world.over {
                return Err(());
            }
            let others_go_on = std::mem::replace(&mut seen, world.steps) != world.steps;
            alone = if others_go_on { 0 } else { alone + 1 };
            if others_go_on && !world.one_in(HASTE) {
                return Ok(None);
            }
            let first = (0..world.timers.len()).min_by_key(|&i| {
                let timer = &world.timers[i];
                (timer.due, timer.number)
            });
            Ok(first.map(|first| {
                let timer = world.timers.swap_remove(first);
                world.now = world.now.max(timer.due);
                timer.thread
            }))
        });
        match due {
            Err(()) => return,
            Ok(Some(thread)) => {
                alone = 0;
                thread.unpark();
            }
            Ok(None) => assert!(
                alone < DEADLOCK,
                "nobody goes on, and nobody waits for a time"
            ),
        }
    }
}
