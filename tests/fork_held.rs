//! Forks of a thread that holds code: by a safepoint, by blocking, by a lease, by a suspended stack.
//! The parent then lets go of the code, which is evicted, has it recycled, and fills its place with
//! another method's. Only after that the child goes on: in it the code must be what it was.

mod support;

use std::io::{PipeReader, PipeWriter, Read, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use inkpot::{Cache, Error, Guard, Handle, Keep, Participant, Stress};
use support::child::{Forked, alone, fork, fork_here};
use support::fibre::Fibre;
use support::held::{HOST, X, churn_until_gone, churn_while, resident, scrub};
use support::synthetic::{Code, How, Synthetic, Unary, inside, method};
use support::{leaf, wait_until};

/// Each method is a generation, and addresses are used again at once.
fn cache() -> Cache<Code> {
    let builder = Cache::with_backend(Synthetic::default());
    builder.generation_methods(1).build().unwrap()
}

/// Ends a child that was forked where it stood.
fn end() -> ! {
    // SAFETY: ends the process at once.
    unsafe { libc::_exit(0) }
}

/// What was resident at the fork, and stays so, and what was not.
struct Known<'c> {
    cache: &'c Cache<Code>,
    stays: Handle<Code, Unary>,
    gone: Handle<Code, Unary>,
    _kept: [Keep<Code>; 2],
}

impl<'c> Known<'c> {
    const STAYS: Code = Code::new(40, How::Call).framed();

    fn new(cache: &'c Cache<Code>, me: &Participant) -> Self {
        let callee = Self::STAYS.callee().unwrap();
        resident(cache, &mut me.pin(), &[Self::STAYS, callee]);
        let stays = method(cache, Self::STAYS);
        Self {
            cache,
            _kept: [stays.keep(), method(cache, callee).keep()],
            stays,
            gone: leaf(cache, 99),
        }
    }

    /// A child calls what was resident. Everything else is an error, or does nothing.
    fn check_child(&self, me: &Participant, guard: &mut Guard<'_>) {
        for _ in 0..3 {
            let entry = self.stays.get(guard).unwrap();
            // SAFETY: the type is right.
            assert_eq!(unsafe { entry.call(X) }, Self::STAYS.result(X));
            // SAFETY: nothing is kept off the stack.
            unsafe { me.safepoint() };
            guard.repin();
            // SAFETY: as above.
            unsafe { me.blocking(|| ()) };
        }
        let refused = self.gone.get(guard).map(|_| ());
        assert!(matches!(refused, Err(Error::Forked)), "{refused:?}");
        let refused = self.gone.lease(guard).map(|_| ());
        assert!(matches!(refused, Err(Error::Forked)), "{refused:?}");
        self.cache.evict_all();
        assert!(!self.cache.maintain());
        assert!(self.cache.is_resident(&Self::STAYS));
    }
}

/// What the child waits at.
struct Gate {
    opened: PipeReader,
    open: PipeWriter,
}

impl Gate {
    fn new() -> Self {
        let (opened, open) = std::io::pipe().unwrap();
        Self { opened, open }
    }

    /// In the child.
    fn wait(&mut self) {
        self.opened.read_exact(&mut [0]).unwrap();
    }

    /// In the parent, which has let go: the code at `address` is recycled, other code comes to lie
    /// there, and the child goes on, to its end.
    fn open(mut self, known: &Known<'_>, me: &Participant, address: usize, forked: Forked) {
        scrub();
        let cache = known.cache;
        wait_until("nothing is held in the parent", || {
            cache.statistics().generations_fallow == 0
        });
        let taken = (1000..1200).any(|n| {
            let mut guard = me.pin();
            let entry = leaf(cache, n).get(&mut guard).unwrap();
            // SAFETY: only looked at.
            unsafe { entry.pointer() as usize == address }
        });
        assert!(taken, "nothing came to lie where the code was");
        self.open.write_all(&[1]).unwrap();
        forked.expect_code(0);
    }
}

/// Forks in a host function, below a frame of the code, after `hold` has made a safepoint or while
/// it blocks. Both processes return through the frame.
fn forks_inside(hold: fn(&Cache<Code>, &Participant, &mut dyn FnMut())) {
    let cache = cache();
    let me = cache.participant("both");
    let known = Known::new(&cache, &me);
    for _ in 0..3 {
        let mut gate = Gate::new();
        let mut forked = None;
        let mut guard = me.pin();
        let entry = method(&cache, HOST).get(&mut guard).unwrap();
        // SAFETY: only looked at.
        let address = unsafe { entry.pointer() } as usize;
        let errand = || {
            assert!(cache.evict(&HOST));
            hold(&cache, &me, &mut || {
                assert_eq!(cache.statistics().generations_held, 1);
                forked = fork_here();
                if forked.is_none() {
                    gate.wait();
                    known.check_child(&me, &mut me.pin());
                }
            });
        };
        // SAFETY: the type is right.
        let y = inside(errand, || unsafe { entry.call(X) });
        assert_eq!(y, HOST.result(X));
        let Some(forked) = forked else {
            known.check_child(&me, &mut guard);
            drop(guard);
            known.check_child(&me, &mut me.pin());
            end();
        };
        drop(guard);
        gate.open(&known, &me, address, forked);
    }
}

#[test]
fn held_by_a_safepoint() {
    alone("held_by_a_safepoint", || {
        forks_inside(|cache, me, forks| {
            churn_until_gone(cache, me, 1);
            forks();
        });
    });
}

#[test]
fn held_by_blocking() {
    alone("held_by_blocking", || {
        forks_inside(|cache, me, forks| {
            let wait = || {
                churn_while(cache, 1, || {});
                forks();
            };
            // SAFETY: nothing is kept off the stack.
            unsafe { me.blocking(wait) };
        });
    });
}

#[test]
fn held_by_a_lease() {
    alone("held_by_a_lease", || {
        let cache = cache();
        let me = cache.participant("both");
        let known = Known::new(&cache, &me);
        for by_exit in [false, true] {
            let mut gate = Gate::new();
            let mut lease = Some(method(&cache, HOST).lease(&mut me.pin()).unwrap());
            let address = lease.as_ref().unwrap().address() as usize;
            assert!(cache.evict(&HOST));
            churn_while(&cache, 1, || {});
            let forked = fork(by_exit, || {
                gate.wait();
                let lease = lease.take().unwrap();
                let mut guard = me.pin();
                for _ in 0..3 {
                    // SAFETY: the type is right.
                    assert_eq!(unsafe { lease.entry(&guard).call(X) }, HOST.result(X));
                    known.check_child(&me, &mut guard);
                }
                drop(lease);
                known.check_child(&me, &mut guard);
                0
            });
            drop(lease);
            gate.open(&known, &me, address, forked);
        }
    });
}

#[test]
fn held_by_a_suspended_stack() {
    alone("held_by_a_suspended_stack", || {
        let cache = cache();
        let me = cache.participant("both");
        let known = Known::new(&cache, &me);
        for _ in 0..2 {
            let mut gate = Gate::new();
            let mut guard = me.pin();
            let entry = method(&cache, HOST).get(&mut guard).unwrap();
            // SAFETY: called at once, on this thread, which is pinned.
            let pointer = unsafe { entry.pointer() };
            let mut fibre = Fibre::new(move |fibre| {
                // SAFETY: the type is right, and who resumes it is pinned.
                inside(|| fibre.pause(), || unsafe { pointer(X) })
            });
            assert!(fibre.resume(&me).is_none());
            drop(guard);
            assert!(cache.evict(&HOST));
            churn_while(&cache, 1, || {});
            let forked = fork(false, || {
                gate.wait();
                let mut guard = me.pin();
                assert_eq!(fibre.resume(&me), Some(HOST.result(X)));
                known.check_child(&me, &mut guard);
                0
            });
            let guard = me.pin();
            assert_eq!(fibre.resume(&me), Some(HOST.result(X)));
            drop(guard);
            gate.open(&known, &me, pointer as usize, forked);
        }
    });
}

/// Forks at any moment of others that make safepoints, block, and take and end leases, under
/// stress. The child has copies of what they hold, and none of them.
#[test]
fn others_hold_at_any_moment() {
    alone("others_hold_at_any_moment", || {
        static STOP: AtomicBool = AtomicBool::new(false);
        let builder = Cache::with_backend(Synthetic::default()).generation_methods(2);
        let cache = builder.stress(Stress::a_lot()).build().unwrap();
        let me = cache.participant("forks");
        let known = Known::new(&cache, &me);
        let lease = method(&cache, HOST).lease(&mut me.pin()).unwrap();
        let turns = AtomicU64::new(0);
        let holds = |number: u32| {
            let me = cache.participant("holds");
            let code = Code::new(200 + number, How::Host).framed();
            while !STOP.load(Ordering::Relaxed) {
                let mut guard = me.pin();
                let entry = method(&cache, code).get(&mut guard).unwrap();
                let errand = || {
                    cache.evict(&code);
                    // SAFETY: nothing is kept off the stack.
                    unsafe {
                        me.safepoint();
                        me.blocking(|| drop(leaf(&cache, number).lease(&mut me.pin()).unwrap()));
                    }
                };
                // SAFETY: the type is right.
                let y = inside(errand, || unsafe { entry.call(X) });
                assert_eq!(y, code.result(X));
                turns.fetch_add(1, Ordering::Relaxed);
            }
        };
        let holds = &holds;
        std::thread::scope(|scope| {
            /// Also when something fails: else the scope waits for ever.
            struct Stop;
            impl Drop for Stop {
                fn drop(&mut self) {
                    STOP.store(true, Ordering::Relaxed);
                }
            }
            let _stop = Stop;
            for number in 0..2 {
                scope.spawn(move || holds(number));
            }
            for round in 0..40 {
                let before = turns.load(Ordering::Relaxed);
                let forked = fork(round % 2 == 0, || {
                    let mut guard = me.pin();
                    // SAFETY: the type is right.
                    assert_eq!(unsafe { lease.entry(&guard).call(X) }, HOST.result(X));
                    known.check_child(&me, &mut guard);
                    drop(guard);
                    let another = cache.participant("of the child");
                    known.check_child(&another, &mut another.pin());
                    i32::from(cache.statistics().leases == 0)
                });
                forked.expect_code(0);
                wait_until("the parent goes on", || {
                    turns.load(Ordering::Relaxed) > before
                });
            }
        });
    });
}

/// A child says what there is, whatever a thread of its parent's was making at the fork.
#[test]
fn a_child_counts_while_others_intern() {
    inkpot::fallback! {
        unsafe extern "C" fn same(_word: usize, x: i64) -> i64 {
            x
        }
    }
    alone("a_child_counts_while_others_intern", || {
        static STOP: AtomicBool = AtomicBool::new(false);
        let builder = Cache::with_backend(Synthetic::default()).fallback(same as *const ());
        let cache = builder.build().unwrap();
        std::thread::scope(|threads| {
            /// Also when something fails: else the scope waits for ever.
            struct Stop;
            impl Drop for Stop {
                fn drop(&mut self) {
                    STOP.store(true, Ordering::Relaxed);
                }
            }
            let _stop = Stop;
            for thread in 0..3 {
                let cache = &cache;
                threads.spawn(move || {
                    for n in 0.. {
                        if STOP.load(Ordering::Relaxed) {
                            return;
                        }
                        leaf(cache, 4 * (n % 10_000) + thread);
                    }
                });
            }
            for _ in 0..300 {
                fork(false, || {
                    // SAFETY: the process ends by it.
                    unsafe { libc::alarm(5) };
                    i32::from(cache.statistics().compiles != 0)
                })
                .expect_code(0);
            }
        });
    });
}
