//! The workload: threads that call methods, and one that changes the types under them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::interpreter::{Core, Program};
use crate::runtime::{Object, Thread, integer};
use crate::strategy::{Caller, Fallible, Strategy};
use crate::world::{CLASSES, Class, Key, PARTS, PUBLIC_PARTS, Random, SURVIVORS, World};

/// Families that a thread asks for ahead of calling them, so that methods are compiled in batches.
const AHEAD: usize = 4;
/// Families whose call sites a thread keeps.
const FAVOURITES: usize = 8;
/// Families that survive and whose methods a thread calls with each visit, in turn: more often than it
/// comes to any other.
const SURVIVORS_CALLED: usize = 4;
/// Calls of each method in a visit.
const CALLS: usize = 4;
/// Changes of type for each hundred visits.
const CHANGES: u64 = 100;

/// Wrong results that are shown and not only counted.
const SHOWN: u64 = 20;

/// What the threads have in common.
pub struct Workload<'a, S> {
    pub world: &'a World,
    pub strategy: &'a S,
    pub core: &'a Core,
    pub progress: &'a Progress,
}

#[derive(Default)]
pub struct Progress {
    pub stop: AtomicBool,
    pub visits: AtomicU64,
    pub calls: AtomicU64,
    pub wrong: AtomicU64,
}

impl Progress {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}

/// A family as a thread has met it: its call sites, and what the interpreter needs.
struct Visit<'a, Site> {
    program: Program<'a>,
    sites: Vec<Site>,
}

impl<S: Strategy> Workload<'_, S> {
    /// A thread that calls methods until it is told to stop.
    pub fn call_methods(&self, number: u64) -> Fallible<()> {
        self.strategy
            .enter(&format!("caller {number}"), &mut |caller| {
                let visitor = Visitor {
                    load: self,
                    caller,
                    random: Random::of(self.world.seed, &[17, number]),
                    favourites: VecDeque::new(),
                    survivors: VecDeque::new(),
                };
                visitor.run()
            })
    }

    /// A thread that stays in one method, if there is to be one.
    pub fn be_a_guest(&self) -> Fallible<()> {
        let wrong = self.strategy.be_a_guest(&self.progress.stop)?;
        self.progress.wrong.fetch_add(wrong, Ordering::Relaxed);
        Ok(())
    }

    /// Changes types in step with the visits: what was compiled for them is no longer valid.
    pub fn change_types(&self) {
        let mut random = Random::of(self.world.seed, &[19]);
        let mut changed = 0;
        while !self.progress.stopped() {
            let due = self.progress.visits.load(Ordering::Relaxed) * CHANGES / 100;
            while changed < due {
                let Some((family, version)) = self.world.change(&mut random) else {
                    return;
                };
                let keys: [Key; PARTS as usize] = std::array::from_fn(|part| Key {
                    family,
                    version,
                    part: part as u8,
                });
                self.strategy.invalidate(&keys);
                changed += 1;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

struct Visitor<'w, 'a, 'c, S: Strategy> {
    load: &'w Workload<'a, S>,
    caller: &'c mut dyn Caller<S::Site>,
    random: Random,
    /// Call sites that are kept over many visits, and see their methods go and come back.
    favourites: VecDeque<Visit<'a, S::Site>>,
    /// Those of the families that survive, as far as they have been born.
    survivors: VecDeque<Visit<'a, S::Site>>,
}

impl<'a, S: Strategy> Visitor<'_, 'a, '_, S> {
    fn run(mut self) -> Fallible<()> {
        let mut ahead = VecDeque::new();
        while !self.load.progress.stopped() {
            while ahead.len() < AHEAD {
                let (family, version) = self.load.world.pick(&mut self.random);
                ahead.push_back(self.approach(family, version)?);
            }
            let Some(visit) = ahead.pop_front() else {
                break;
            };
            self.visit(&visit)?;
            if self.favourites.len() < FAVOURITES || self.random.chance(10) {
                self.favourites.push_front(visit);
                self.favourites.truncate(FAVOURITES);
            }
            self.call_favourite()?;
            self.call_survivors()?;
            self.caller.rest();
            self.load.progress.visits.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Meets a family: takes its call sites, and asks for the methods that will be called.
    fn approach(&self, family: u32, version: u32) -> Fallible<Visit<'a, S::Site>> {
        let load = self.load;
        let program = Program::new(load.core, family, version);
        let mut sites = Vec::with_capacity(PUBLIC_PARTS.into());
        for part in 0..PUBLIC_PARTS {
            let site = load.strategy.site(&program.key(part))?;
            load.strategy.request(&site)?;
            sites.push(site);
        }
        Ok(Visit { program, sites })
    }

    fn visit(&mut self, visit: &Visit<'a, S::Site>) -> Fallible<()> {
        for (part, site) in (0..).zip(&visit.sites) {
            for _ in 0..CALLS {
                self.check(&visit.program, part, |caller, thread, left, right| {
                    caller.call(site, thread, left, right).map(Some)
                })?;
            }
        }
        Ok(())
    }

    /// Calls at a family's sites that have been kept: what is resident is called, what is not is asked for.
    fn call_again(&mut self, visit: &Visit<'a, S::Site>) -> Fallible<()> {
        for (part, site) in (0..).zip(&visit.sites) {
            let resident = self.check(&visit.program, part, |caller, thread, left, right| {
                Ok(caller.call_resident(site, thread, left, right))
            })?;
            if !resident {
                self.load.strategy.request(site)?;
            }
        }
        Ok(())
    }

    fn call_survivors(&mut self) -> Fallible<()> {
        let born = self.load.world.survivors();
        for family in self.survivors.len() as u32..born {
            let visit = self.approach(SURVIVORS + family, 0)?;
            self.survivors.push_front(visit);
        }
        for _ in 0..SURVIVORS_CALLED.min(self.survivors.len()) {
            let Some(visit) = self.survivors.pop_back() else {
                break;
            };
            self.call_again(&visit)?;
            self.survivors.push_front(visit);
        }
        Ok(())
    }

    fn call_favourite(&mut self) -> Fallible<()> {
        let Some(visit) = self.favourites.pop_back() else {
            return Ok(());
        };
        if !self.load.world.is_current(visit.program.key(0)) {
            return Ok(());
        }
        self.call_again(&visit)?;
        self.favourites.push_front(visit);
        Ok(())
    }

    /// Makes up arguments, calls, and compares with the interpreter. False if nothing was called.
    fn check(
        &mut self,
        program: &Program<'a>,
        part: u8,
        call: impl FnOnce(&mut dyn Caller<S::Site>, &mut Thread, i64, i64) -> Fallible<Option<i64>>,
    ) -> Fallible<bool> {
        let objects = [self.object(program), self.object(program)];
        let [left, right] = [(0, 10), (1, 50)].map(|(n, integers): (usize, usize)| {
            if self.random.chance(integers) {
                integer(self.random.next() as i64 >> self.random.below(64))
            } else {
                objects[n].value()
            }
        });
        let mut thread = Thread::NEW;
        let Some(result) = call(self.caller, &mut thread, left, right)? else {
            return Ok(false);
        };
        let mut expected_thread = Thread::NEW;
        let expected = program.call(part, &mut expected_thread, left, right);
        let progress = self.load.progress;
        progress.calls.fetch_add(1, Ordering::Relaxed);
        if result != expected || thread != expected_thread {
            let before = progress.wrong.fetch_add(1, Ordering::Relaxed);
            if before >= SHOWN {
                return Ok(true);
            }
            let key = program.key(part);
            eprintln!("churn: {key:?}: {result} {thread:?}, not {expected} {expected_thread:?}");
        }
        Ok(true)
    }

    /// An object of a class that the profile has seen, or, one time in ten, of another.
    fn object(&mut self, program: &Program<'a>) -> Object {
        let class = if self.random.chance(10) {
            Class {
                shape: self.random.next(),
            }
        } else {
            program.profile.classes[self.random.below(CLASSES)]
        };
        Object::new(class, &mut self.random)
    }
}
