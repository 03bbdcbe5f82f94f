//! Synthetic code: calls of all kinds against all that takes code away.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use inkpot::evict::Sieve;
use inkpot::{Assumption, Cache, Error, Event, Guard, Lease, Participant, Quarantine};

use super::support::fibre::Fibre;
use super::support::synthetic::{Code, Counts, How, Random, Synthetic, Unary, inside, method};
use super::support::wait_until;
use super::tally::Tally;
use super::{Ends, Stage};

/// More fibres than this are never suspended at once.
const FIBRES: usize = 24;

pub struct Engine {
    cache: Cache<Code>,
    tally: Arc<Tally>,
    counts: Arc<Counts>,
    /// What methods of each remainder rely on; fallen ones are replaced.
    assumptions: Arc<Mutex<Vec<Assumption>>>,
    seed: u64,
}

type Run<'a> = Box<dyn FnOnce() + Send + 'a>;

/// One of the methods that come and go.
fn code(random: &mut Random) -> Code {
    let hows = [
        How::Leaf,
        How::Call,
        How::Jump,
        How::CallAddress,
        How::Host,
        How::CallHost,
    ];
    let how = hows[random.below(6) as usize];
    let code = Code::new(random.below(60), how).framed();
    match random.below(10) {
        0 => code.padded(20_000),
        1..4 => code.depth(1 + random.below(3) as u8),
        _ => code,
    }
}

impl Engine {
    pub fn new(seed: u64) -> Self {
        let assumptions: Vec<_> = (0..8).map(|_| Assumption::new()).collect();
        let assumptions = Arc::new(Mutex::new(assumptions));
        let relied_on = assumptions.clone();
        let mut backend = Synthetic::relying(move |code| {
            let all = relied_on.lock().unwrap();
            vec![all[code.n as usize % 8].clone()]
        });
        backend.groups = 3;
        let counts = backend.counts.clone();
        let tally = Arc::new(Tally::default());
        let hears = tally.clone();
        let cache = Cache::with_backend(backend)
            .name("soak")
            .workers(2)
            .policy(Sieve::new())
            .code_budget(1 << 20)
            .generation_methods(12)
            .quarantine(Quarantine {
                bytes: 64 << 20,
                time: Duration::MAX,
            })
            .retry_after(Duration::ZERO, Duration::ZERO)
            .listener(move |event: &Event<'_, Code>| hears.hear(event))
            .build()
            .unwrap();
        Self {
            cache,
            tally,
            counts,
            assumptions,
            seed,
        }
    }

    pub fn threads<'a>(&'a self, stage: &'a Stage) -> Vec<Run<'a>> {
        vec![
            Box::new(|| self.call(stage, 1)),
            Box::new(|| self.call(stage, 2)),
            Box::new(|| self.call_from_outside(stage)),
            Box::new(|| self.switch(stage)),
            Box::new(|| self.take(stage)),
        ]
    }

    /// A participant's life, again and again.
    fn call(&self, stage: &Stage, number: u64) {
        let mut random = Random::new(self.seed ^ number);
        while !stage.is_over() {
            let _turn = stage.turn();
            let me = self.cache.participant("caller");
            let mut keeps = Vec::new();
            let mut leases: Vec<(Code, Lease<Unary>)> = Vec::new();
            let mut guard = me.pin();
            for _ in 0..random.below(60) {
                let code = code(&mut random);
                match random.below(40) {
                    0 => keeps.push(method(&self.cache, code).keep()),
                    1 => {
                        let lease = method(&self.cache, code).lease(&mut guard).unwrap();
                        leases.push((code, lease));
                    }
                    2 => self.fail(&mut guard, &mut random),
                    3 => guard.repin(),
                    // SAFETY: what is used afterwards is on the stack.
                    4 => unsafe { me.safepoint() },
                    5 => drop(method(&self.cache, code).request()),
                    6 => self.unwind(&mut guard, &mut random),
                    7 => self.stay(&me, &mut guard, &mut random),
                    8 => drop(guard.blocking(std::thread::yield_now)),
                    9 => self.by_address(&guard, code),
                    10..14 => self.by_key(&guard, code),
                    _ => self.call_one(&mut guard, code),
                }
                for (code, lease) in &leases {
                    // SAFETY: the type is right.
                    assert_eq!(unsafe { lease.entry(&guard).call(3) }, code.result(3));
                }
                if random.below(9) == 0 {
                    keeps.clear();
                    leases.clear();
                }
            }
        }
    }

    fn call_one(&self, guard: &mut Guard<'_>, code: Code) {
        let entry = method(&self.cache, code);
        let entry = entry.get(guard).unwrap();
        // SAFETY: the type is right.
        assert_eq!(unsafe { entry.call(7) }, code.result(7), "{code:?}");
        self.tally.called();
    }

    /// By the address that programs see; what is not there is compiled on the way.
    fn by_address(&self, _: &Guard<'_>, code: Code) {
        let handle = method(&self.cache, code);
        // SAFETY: the type is right; the thread is pinned. It is not given back: it is used in other places.
        let y = unsafe { std::mem::transmute::<*const (), Unary>(handle.address())(7) };
        assert_eq!(y, code.result(7), "{code:?}");
        self.tally.called();
    }

    /// By the key alone, if it has code.
    fn by_key(&self, guard: &Guard<'_>, code: Code) {
        // SAFETY: the type is right.
        if let Some(entry) = unsafe { self.cache.entry::<Unary>(&code, guard) } {
            // SAFETY: the type is right.
            assert_eq!(unsafe { entry.call(7) }, code.result(7), "{code:?}");
            self.tally.called();
        }
    }

    fn fail(&self, guard: &mut Guard<'_>, random: &mut Random) {
        let hows = [How::Refuse, How::GiveUp, How::Panic, How::Unresolved];
        let how = hows[random.below(4) as usize];
        let handle = method(&self.cache, Code::new(random.below(5), how));
        let error = handle.get(guard).map(drop).unwrap_err();
        let fits = match how {
            How::Refuse | How::GiveUp => matches!(error, Error::Codegen { .. }),
            How::Panic => matches!(error, Error::CompilePanicked { .. }),
            _ => matches!(error, Error::Link { .. }),
        };
        assert!(fits, "{how:?}: {error}");
    }

    /// A panic passes through frames of methods.
    fn unwind(&self, guard: &mut Guard<'_>, random: &mut Random) {
        let handle = method(&self.cache, Code::new(random.below(60), How::Host).framed());
        let entry = handle.get(guard).unwrap();
        // SAFETY: the type is right.
        let outcome = catch_unwind(AssertUnwindSafe(|| unsafe { entry.call(-9) }));
        assert_eq!(outcome.unwrap_err().downcast_ref(), Some(&-9_i64));
        self.tally.unwound.fetch_add(1, Ordering::Relaxed);
    }

    /// Inside of a method for a while, which is evicted, with safepoints.
    fn stay(&self, me: &Participant, guard: &mut Guard<'_>, random: &mut Random) {
        let code = Code::new(random.below(60), How::CallHost).framed();
        let handle = method(&self.cache, code);
        let entry = handle.get(guard).unwrap();
        let errand = || {
            self.cache.evict(&code);
            for _ in 0..3 {
                // SAFETY: what is used afterwards is on the stack.
                unsafe { me.safepoint() };
                std::thread::yield_now();
            }
        };
        // SAFETY: the type is right.
        let y = inside(errand, || unsafe { entry.call(7) });
        assert_eq!(y, code.result(7));
        self.tally.called();
    }

    /// Threads that the cache knows nothing of.
    fn call_from_outside(&self, stage: &Stage) {
        let mut random = Random::new(self.seed ^ 50);
        while !stage.is_over() {
            let _turn = stage.turn();
            let handles: Vec<_> = (0..6)
                .map(|_| method(&self.cache, code(&mut random)))
                .collect();
            for handle in &handles {
                let callback = handle.callback().unwrap() as usize;
                let result = handle.key().result(7);
                let call = move || {
                    // SAFETY: the type is right, and it is given back after the last call.
                    let callback = unsafe { std::mem::transmute::<usize, Unary>(callback) };
                    // SAFETY: as above.
                    (0..20).for_each(|_| assert_eq!(unsafe { callback(7) }, result));
                };
                match random.below(3) {
                    0 => std::thread::spawn(call).join().unwrap(),
                    _ => call(),
                }
                self.tally.calls.fetch_add(20, Ordering::Relaxed);
                // SAFETY: nobody calls it any more.
                unsafe { handle.release_callback() };
            }
        }
    }

    /// Fibres that are suspended inside of methods, and go on on whichever of two threads.
    fn switch(&self, stage: &Stage) {
        let waiting: Mutex<Vec<(Code, Fibre)>> = Mutex::default();
        let run = |number: u64| {
            let _ends = Ends(stage);
            let mut random = Random::new(self.seed ^ number);
            while !stage.is_over() {
                let _turn = stage.turn();
                let me = self.cache.participant("switches");
                let _guard = me.pin();
                for _ in 0..10 {
                    self.step(&me, &waiting, &mut random);
                }
            }
        };
        std::thread::scope(|threads| {
            threads.spawn(|| run(61));
            run(60);
        });
        let me = self.cache.participant("ends fibres");
        let _guard = me.pin();
        for (code, mut fibre) in waiting.into_inner().unwrap() {
            assert_eq!(fibre.resume(&me), Some(code.result(7)));
        }
    }

    fn step(&self, me: &Participant, waiting: &Mutex<Vec<(Code, Fibre)>>, random: &mut Random) {
        let mut all = waiting.lock().unwrap();
        let begins = all.len() < FIBRES && (all.is_empty() || random.below(2) == 0);
        let (code, mut fibre) = if begins {
            drop(all);
            let code = Code::new(random.below(60), How::Host).framed();
            let cache = self.cache.clone();
            let fibre = Fibre::new(move |fibre| {
                let address = method(&cache, code).address() as usize;
                let call = || {
                    // SAFETY: who resumes it is pinned, before and afterwards; the canonical address stays.
                    unsafe { std::mem::transmute::<usize, Unary>(address)(7) }
                };
                inside(|| fibre.pause(), call)
            });
            (code, fibre)
        } else {
            let at = random.below(all.len() as u32) as usize;
            all.swap_remove(at)
        };
        match fibre.resume(me) {
            None => waiting.lock().unwrap().push((code, fibre)),
            Some(y) => {
                assert_eq!(y, code.result(7));
                self.tally.called();
            }
        }
    }

    /// Takes away what others call.
    fn take(&self, stage: &Stage) {
        let mut random = Random::new(self.seed ^ 70);
        while !stage.is_over() {
            let _turn = stage.turn();
            let code = code(&mut random);
            match random.below(400) {
                0..8 => self.cache.seal(),
                8 => self.cache.evict_all(),
                9 => drop(self.cache.invalidate_if(|code| code.n.is_multiple_of(3))),
                10..20 => self.fall(&mut random),
                20..24 => drop(self.cache.compact()),
                24..28 => drop(self.cache.evacuate()),
                28..32 => {
                    let budgets = [64 << 10, 256 << 10, 1 << 20];
                    self.cache
                        .set_code_budget(budgets[random.below(3) as usize]);
                }
                32..36 => self.cache.invalidate(&code).wait().unwrap(),
                36..60 => drop(self.cache.invalidate(&code)),
                60..160 => drop(self.cache.evict(&code)),
                _ => std::thread::yield_now(),
            }
        }
    }

    /// An assumption falls, and another takes its place.
    fn fall(&self, random: &mut Random) {
        let at = random.below(8) as usize;
        let fallen =
            std::mem::replace(&mut self.assumptions.lock().unwrap()[at], Assumption::new());
        drop(fallen.invalidate());
    }

    pub fn check(&self) {
        self.tally.check(&self.cache);
        let s = self.cache.statistics();
        assert!(s.quarantined <= 64 << 20, "{s:#?}");
    }

    pub fn report(&self) {
        self.tally.report("synthetic", &self.cache.statistics());
    }

    /// All is freed, and nothing is left of it.
    pub fn finish(self) {
        self.check();
        self.report();
        let s = self.cache.statistics();
        assert!(
            s.evictions > 100 && s.generations_recycled > 20 && s.moves > 0,
            "{s:#?}"
        );
        wait_until("all is recycled", || {
            self.cache.seal();
            self.cache.evict_all();
            let s = self.cache.statistics();
            s.mapped_code_bytes + s.generations_fallow + s.bytes.unwind + s.bonds == 0
        });
        let s = self.cache.statistics();
        assert_eq!(
            (s.participants, s.leases, s.callbacks, s.methods_resident),
            (0, 0, 0, 0)
        );
        assert_eq!(s.generations_held, 0);
        drop(self.cache);
        assert_eq!(self.counts.contexts.load(Ordering::SeqCst), 0);
    }
}
