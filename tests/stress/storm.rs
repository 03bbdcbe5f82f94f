//! Threads that call, and threads that take away what they call.

use std::fmt::Write as _;
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use inkpot::{Cache, Guard, Handle, Key, MethodType, Participant, Statistics};

use crate::support::synthetic::{self, Code, How, Random};
use crate::support::{self, Op};

/// A key whose method's results are known.
pub trait Work: Key {
    type F: MethodType;

    fn result(&self, x: i64) -> i64;

    /// Whether a call with a negative argument ends in a panic, through the method's frame.
    fn unwinds(&self) -> bool {
        false
    }

    /// # Safety
    /// `f` is the method's code, or its canonical address, and the thread is pinned since before
    /// it was loaded.
    unsafe fn run(f: Self::F, x: i64) -> i64;
}

impl Work for Code {
    type F = synthetic::Unary;

    fn result(&self, x: i64) -> i64 {
        Code::result(self, x)
    }

    fn unwinds(&self) -> bool {
        self.how == How::Host && self.frames
    }

    unsafe fn run(f: Self::F, x: i64) -> i64 {
        // SAFETY: the caller's promise.
        unsafe { f(x) }
    }
}

impl Work for Op {
    type F = support::Unary;

    fn result(&self, x: i64) -> i64 {
        match self {
            Op::Add(n) => x + n,
            Op::CallAdd(other, n) => other.result(x) + n,
            other => panic!("{other:?} is not used here"),
        }
    }

    unsafe fn run(f: Self::F, x: i64) -> i64 {
        // SAFETY: the caller's promise.
        unsafe { f(x) }
    }
}

/// What goes on, and for how long.
pub struct Storm<W: Work> {
    pub name: &'static str,
    pub caches: Vec<Cache<W>>,
    pub keys: Vec<W>,
    pub callers: usize,
    pub takers: usize,
    /// It is over after so many evictions, in all caches together.
    pub evictions: u64,
    /// Budgets that are set in turns; the last one at the end.
    pub budgets: Vec<u64>,
    /// Some callers end with a participant that they never drop, and a guard.
    pub some_die_pinned: bool,
    /// A thread of ours reclaims.
    pub by_hand: bool,
    pub seed: u64,
}

#[derive(Default)]
struct Tally {
    over: AtomicBool,
    lives: AtomicU64,
    calls: AtomicU64,
    late_calls: AtomicU64,
    unwound: AtomicU64,
    died_pinned: AtomicU64,
}

/// Never more than this, whatever else the machine does.
const PATIENCE: Duration = Duration::from_secs(3600);

impl<W: Work> Storm<W> {
    /// Runs it, sees to it that everything is freed afterwards, and prints what was done.
    pub fn run(self) {
        let started = Instant::now();
        // Straight to the terminal: should the process crash, the seed is known.
        let _ = writeln!(std::io::stderr(), "{}: seed {}", self.name, self.seed);
        let tally = Tally::default();
        std::thread::scope(|scope| {
            let mut threads = Vec::new();
            for i in 0..self.callers {
                let random = Random::new(self.seed ^ (1000 + i as u64));
                threads.push(scope.spawn(|| self.live_again_and_again(random, &tally)));
            }
            for i in 0..self.takers {
                let random = Random::new(self.seed ^ (2000 + i as u64));
                threads.push(scope.spawn(|| self.take(random, &tally)));
            }
            if self.by_hand {
                threads.push(scope.spawn(|| self.reclaim(&tally)));
            }
            while self.sum(|s| s.evictions) < self.evictions {
                if started.elapsed() > PATIENCE {
                    self.give_up();
                }
                std::thread::sleep(Duration::from_millis(5));
            }
            tally.over.store(true, Ordering::Relaxed);
            // Joined one by one: at a scope's end ThreadSanitizer sees nothing.
            threads
                .into_iter()
                .for_each(|thread| thread.join().unwrap());
        });
        self.settle();
        self.report(&tally, started.elapsed());
    }

    fn sum(&self, of: impl Fn(&Statistics) -> u64) -> u64 {
        self.caches
            .iter()
            .map(|cache| of(&cache.statistics()))
            .sum()
    }

    fn give_up(&self) -> ! {
        for cache in &self.caches {
            eprintln!("{:#?}", cache.statistics());
        }
        std::process::abort();
    }

    /// With no caller left everything can be freed, and is.
    fn settle(&self) {
        let started = Instant::now();
        for cache in &self.caches {
            loop {
                cache.seal();
                cache.evict_all();
                if self.by_hand {
                    cache.maintain();
                }
                let s = cache.statistics();
                let waiting = s.queued + s.methods_resident + s.generations_open;
                let dead = s.generations_dead + s.generations_fallow + s.generations_sealed;
                if waiting + dead + s.participants == 0 {
                    assert_eq!(
                        (s.mapped_code_bytes, s.bytes.unwind, s.bytes.retired),
                        (0, 0, 0)
                    );
                    assert_eq!(s.longest_pinned, None);
                    break;
                }
                if started.elapsed() > Duration::from_secs(120) {
                    self.give_up();
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }

    fn report(&self, tally: &Tally, took: Duration) {
        let mut line = format!("{}: {took:.1?}", self.name);
        let mut say = |what: &str, n: u64| {
            if n > 0 {
                let _ = write!(line, ", {n} {what}");
            }
        };
        say("evictions", self.sum(|s| s.evictions));
        say("invalidations", self.sum(|s| s.invalidations));
        say("compiles", self.sum(|s| s.compiles));
        say("compiled in vain", self.sum(|s| s.stale_compiles));
        say("generations recycled", self.sum(|s| s.generations_recycled));
        say("calls", tally.calls.load(Ordering::Relaxed));
        say(
            "of them after the eviction",
            tally.late_calls.load(Ordering::Relaxed),
        );
        say("unwound", tally.unwound.load(Ordering::Relaxed));
        say("threads", tally.lives.load(Ordering::Relaxed));
        say(
            "of them died pinned",
            tally.died_pinned.load(Ordering::Relaxed),
        );
        println!("{line}");
    }

    /// Reclaims by hand.
    fn reclaim(&self, tally: &Tally) {
        while !tally.over.load(Ordering::Relaxed) {
            self.caches.iter().for_each(|cache| {
                cache.maintain();
            });
            std::thread::yield_now();
        }
    }

    /// Takes methods away.
    fn take(&self, mut random: Random, tally: &Tally) {
        while !tally.over.load(Ordering::Relaxed) {
            let cache = self.pick(&self.caches, &mut random);
            match random.below(200) {
                0..4 => cache.seal(),
                4..6 => cache.evict_all(),
                6 => drop(cache.invalidate_all()),
                7 => {
                    let n = random.next();
                    drop(cache.invalidate_if(|key| {
                        self.keys
                            .iter()
                            .position(|k| k == key)
                            .is_some_and(|i| (n >> (i % 64)) & 1 == 1)
                    }));
                }
                8..20 => drop(cache.invalidate(self.pick(&self.keys, &mut random))),
                20 => cache
                    .invalidate(self.pick(&self.keys, &mut random))
                    .wait()
                    .unwrap(),
                21..24 if !self.budgets.is_empty() => {
                    cache.set_budget(*self.pick(&self.budgets, &mut random));
                }
                24..60 => std::thread::yield_now(),
                _ => {
                    cache.evict(self.pick(&self.keys, &mut random));
                }
            }
        }
        if let Some(&last) = self.budgets.last() {
            self.caches.iter().for_each(|cache| cache.set_budget(last));
        }
    }

    fn pick<'a, T>(&self, from: &'a [T], random: &mut Random) -> &'a T {
        &from[random.below(from.len() as u32) as usize]
    }

    /// A caller's thread after the other.
    fn live_again_and_again(&self, mut random: Random, tally: &Tally) {
        while !tally.over.load(Ordering::Relaxed) {
            let seed = random.next();
            std::thread::scope(|scope| {
                let one = scope.spawn(|| self.live(Random::new(seed), tally));
                // So that it has ended: the scope's own wait goes unseen by ThreadSanitizer.
                one.join().unwrap();
            });
            tally.lives.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One life: a participant of every cache, pinned in all while it works in one.
    fn live(&self, mut random: Random, tally: &Tally) {
        let participants: Vec<_> = self
            .caches
            .iter()
            .map(|c| c.participant("caller"))
            .collect();
        let mut guards: Vec<_> = participants.iter().map(Participant::pin).collect();
        for _ in 0..10 + random.below(40) {
            let i = random.below(self.caches.len() as u32) as usize;
            let mut quantum = Quantum {
                storm: self,
                cache: &self.caches[i],
                participant: &participants[i],
                held: [const { None }; 8],
                tally,
            };
            for _ in 0..1 + random.below(20) {
                quantum.act(&mut guards[i], &mut random);
            }
            if random.below(4) == 0 {
                guards.clear();
                guards.extend(participants.iter().map(Participant::pin));
            }
            guards.iter_mut().for_each(Guard::repin);
            if tally.over.load(Ordering::Relaxed) {
                break;
            }
        }
        match random.below(4) {
            // The participant's drop gives these up.
            0 => std::mem::forget(guards),
            1 if self.some_die_pinned => {
                std::mem::forget(guards);
                std::mem::forget(participants);
                tally.died_pinned.fetch_add(1, Ordering::Relaxed);
            }
            _ => {}
        }
    }
}

/// What runs under one guard that is not re-pinned.
struct Quantum<'s, W: Work> {
    storm: &'s Storm<W>,
    cache: &'s Cache<W>,
    participant: &'s Participant,
    /// Code that was loaded under the guard, whatever became of the methods since. On the stack, as
    /// bare pointers must be: calls come to safepoints when they find a callee without code.
    held: [Option<(W, W::F)>; 8],
    tally: &'s Tally,
}

impl<W: Work> Quantum<'_, W> {
    fn act(&mut self, guard: &mut Guard<'_>, random: &mut Random) {
        let key = self.storm.pick(&self.storm.keys, random).clone();
        // SAFETY: the type of all methods of this cache.
        let handle: Handle<W, W::F> = unsafe { self.cache.method(&key) }.unwrap();
        match random.below(100) {
            n @ 0..40 => {
                let entry = match n < 20 {
                    true => handle.entry(guard),
                    // SAFETY: the type of all methods of this cache, whose keys call nothing.
                    false => unsafe { self.cache.entry(&key, guard) },
                };
                match entry {
                    // SAFETY: the pointer is used under this guard only.
                    Some(entry) => self.call(key, unsafe { entry.pointer() }, true, random),
                    None => self.request_some(random),
                }
            }
            40..60 => {
                self.held = [const { None }; 8];
                let entry = handle.get(guard).unwrap();
                // SAFETY: as above.
                self.call(key, unsafe { entry.pointer() }, true, random);
            }
            60..65 => {
                // Waits pinned: what was loaded before may still be called.
                let mut inner = self.participant.pin();
                let entry = handle.get(&mut inner).unwrap();
                // SAFETY: as above; the thread stays pinned by the outer guard.
                self.call(key, unsafe { entry.pointer() }, true, random);
            }
            65..75 => {
                let address = handle.address();
                // SAFETY: the canonical address of a method of this type.
                let f = unsafe { std::mem::transmute_copy::<*const (), W::F>(&address) };
                self.call(key, f, false, random);
            }
            75..78 => {
                let _keep = handle.keep();
                self.held = [const { None }; 8];
                let entry = handle.get(guard).unwrap();
                // SAFETY: as above.
                self.call(key, unsafe { entry.pointer() }, true, random);
            }
            78..82 if key.unwinds() => {
                self.held = [const { None }; 8];
                let f = handle.get(guard).unwrap();
                // SAFETY: as above.
                let f = unsafe { f.pointer() };
                // SAFETY: as above.
                let call = || unsafe { W::run(f, -7) };
                catch_unwind(AssertUnwindSafe(call)).expect_err("it panics");
                self.tally.unwound.fetch_add(1, Ordering::Relaxed);
            }
            _ => self.call_held(random),
        }
    }

    fn call(&mut self, key: W, f: W::F, hold: bool, random: &mut Random) {
        let x = i64::from(random.below(1000));
        // SAFETY: pinned since before the pointer was loaded.
        assert_eq!(unsafe { W::run(f, x) }, key.result(x), "{key:?}({x})");
        self.tally.calls.fetch_add(1, Ordering::Relaxed);
        if let (true, Some(place)) = (hold, self.held.iter_mut().find(|h| h.is_none())) {
            *place = Some((key, f));
        }
    }

    /// Calls what was loaded some time ago.
    fn call_held(&mut self, random: &mut Random) {
        if random.below(8) == 0 {
            std::thread::yield_now();
        }
        for (key, f) in self.held.iter().flatten() {
            let x = i64::from(random.below(1000));
            // SAFETY: the guard under which it was loaded has not been re-pinned since.
            assert_eq!(unsafe { W::run(*f, x) }, key.result(x), "{key:?}({x})");
            self.tally.calls.fetch_add(1, Ordering::Relaxed);
            if !self.cache.is_resident(key) {
                self.tally.late_calls.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Asks for several methods: they are compiled together.
    fn request_some(&self, random: &mut Random) {
        for _ in 0..8 {
            let key = self.storm.pick(&self.storm.keys, random);
            // SAFETY: the type of all methods of this cache.
            let handle: Handle<W, W::F> = unsafe { self.cache.method(key) }.unwrap();
            handle.request().unwrap();
        }
    }
}
